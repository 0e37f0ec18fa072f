"""Worlds as files, the truth read back from them, and the committed sample."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recpipe.errors import DataError, MissingInputError
from recpipe.ingest.simulate.columns import ATTRACTION, QUALITY
from recpipe.ingest.simulate.files import write_world
from recpipe.ingest.simulate.settings import SimulateSettings
from recpipe.ingest.simulate.truth import iterate_user_truth, load_truth, taste_at
from recpipe.ingest.simulate.world import simulate

SAMPLE = Path(__file__).parents[2] / "data" / "sample"
SMALL = SimulateSettings(n_users=300, n_items=80, n_interactions=1500, seed=7)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world") / "new" / "folder"
    write_world(simulate(SMALL), folder)
    return folder


def test_files_hold_what_the_world_holds(folder: Path) -> None:
    world = simulate(SMALL)
    with (folder / "users.csv").open(encoding="utf-8", newline="") as file:
        users = list(csv.DictReader(file))
    expected = pa.concat_tables(world.users()).to_pylist()
    assert users == [{**row, "text": row["text"] or ""} for row in expected]
    items = [json.loads(line) for line in (folder / "items.jsonl").read_text(encoding="utf-8").splitlines()]
    assert items == pa.concat_tables(world.items()).to_pylist()
    with (folder / "interactions.csv").open(encoding="utf-8", newline="") as file:
        interactions = list(csv.DictReader(file))
    assert [
        {
            "user_id": row["user_id"],
            "item_id": row["item_id"],
            "rating": f"{row['rating']:g}",
            "timestamp": row["timestamp"].strftime("%Y-%m-%dT%H:%M:%SZ"),
        }
        for row in pa.concat_tables(world.interactions()).to_pylist()
    ] == interactions


def test_the_same_settings_give_the_same_bytes_and_nothing_else(folder: Path, tmp_path: Path) -> None:
    written = write_world(simulate(SMALL), tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(path.name for path in written)
    for path in written:
        assert path.read_bytes() == (folder / path.name).read_bytes(), path.name


def test_the_truth_is_the_same_from_files_as_from_the_world(folder: Path) -> None:
    world, truth = simulate(SMALL), load_truth(folder)
    assert truth.settings == SMALL
    users = list(iterate_user_truth(folder, batch_rows=100))
    assert [len(batch.user_ids) for batch in users] == [100, 100, 100]
    tastes = np.concatenate(
        [taste_at(batch.taste_start, batch.taste_end, 40, days=SMALL.days) for batch in users]
    )  # (n_users, n_topics)
    rows = np.arange(SMALL.n_users)
    np.testing.assert_array_equal(tastes, world.tastes(rows, 40))
    np.testing.assert_array_equal(truth.preference(tastes), world.true_preference(rows, 40))
    np.testing.assert_array_equal(truth.choice(tastes, 40), world.truth().choice(tastes, 40))
    bias = np.concatenate([batch.rating_bias for batch in users])
    expected = truth.expected_rating(tastes, bias)[3, 5]
    assert expected == pytest.approx(2.9 + 2 * truth.preference(tastes)[3, 5] + bias[3])


def test_preference_by_hand(folder: Path) -> None:
    truth = load_truth(folder)
    tastes = np.zeros((1, truth.traits.shape[1]))
    topic = int(truth.traits[4].argmax())
    tastes[0, topic] = 0.5
    assert truth.preference(tastes)[0, 4] == pytest.approx(truth.traits[4, topic] + truth.quality[4])
    late = int(truth.release_day.argmax())
    assert truth.choice(tastes, int(truth.release_day[late]) - 1)[0, late] == 0
    tastes[0] = truth.traits[late]
    on_release = truth.choice(tastes, int(truth.release_day[late]))[0, late]
    assert on_release == pytest.approx(truth.attraction[late] * (1 + SMALL.freshness_boost), rel=1e-5)


def test_missing_and_foreign_truth_files_are_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match="truth_items"):
        load_truth(tmp_path)
    with pytest.raises(MissingInputError, match="truth_users"):
        next(iterate_user_truth(tmp_path))
    table = pq.read_table(folder / "truth_items.parquet")
    pq.write_table(table.replace_schema_metadata(None), tmp_path / "truth_items.parquet")
    with pytest.raises(DataError, match="not a truth file"):
        load_truth(tmp_path)
    pq.write_table(table.drop_columns([QUALITY.name, ATTRACTION.name]), tmp_path / "truth_items.parquet")
    with pytest.raises(DataError, match="not a truth file"):
        load_truth(tmp_path)


def test_the_committed_sample_is_what_the_simulator_writes(tmp_path: Path) -> None:
    for path in write_world(simulate(SimulateSettings()), tmp_path):
        committed = SAMPLE / path.name
        if path.suffix == ".parquet":  # their bytes name the version of the library that wrote them
            assert pq.read_table(path).equals(pq.read_table(committed), check_metadata=True), path.name
        else:
            assert path.read_bytes() == committed.read_bytes(), f"{path.name}: run recpipe simulate --to data/sample"


def test_the_sample_is_small_and_explained() -> None:
    assert sum(path.stat().st_size for path in SAMPLE.iterdir()) < 2_000_000
    readme = (SAMPLE / "README.md").read_text(encoding="utf-8")
    for path in SAMPLE.glob("[!R]*"):
        assert path.name in readme
    for table in ("truth_users.parquet", "truth_items.parquet"):
        for name in pq.read_schema(SAMPLE / table).names:
            assert f"`{name}`" in readme, name
    for field, value in SimulateSettings():
        assert f"`{field}`" in readme, field
        assert f"{value}" in readme, field
