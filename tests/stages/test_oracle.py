"""The oracle knows what users truly prefer on the day of their first held-out interaction."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recpipe.errors import DataError
from recpipe.ingest.simulate.files import write_world
from recpipe.ingest.simulate.settings import SimulateSettings
from recpipe.ingest.simulate.world import simulate
from recpipe.models.base import FitContext
from recpipe.models.tables import Histories, Items, Profiles, TrainingData
from recpipe.schemas import TEST_INTERACTIONS
from recpipe.scoring.ranker import Ranker
from recpipe.stages.pipeline.events import UserEvents
from recpipe.stages.pipeline.oracle import Oracle
from recpipe.store.artifacts import ArtifactReader

SETTINGS = SimulateSettings(n_users=30, n_items=70, n_interactions=200, seed=3, start=date(2024, 3, 1), days=100)


@pytest.fixture(scope="module")
def truth(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("truth")
    write_world(simulate(SETTINGS), folder)
    return folder


def rows_of(folder: Path, name: str) -> dict[str, dict[str, object]]:
    return {str(row[f"{name}_id"]): row for row in pq.read_table(folder / f"truth_{name}s.parquet").to_pylist()}


def held_out(folder: Path, items: pa.Array, days: dict[str, list[float]], *, timed: bool = True) -> UserEvents:
    """Test interactions on the given days, the rows of one user together, oldest first."""
    start = datetime(2024, 3, 1)
    rows = [(user, start + timedelta(days=day)) for user, found in days.items() for day in found]
    table = pa.table({
        "user_id": pa.array([user for user, _ in rows], pa.string()),
        "item_id": pa.array([items[0].as_py()] * len(rows), pa.string()),
        "timestamp": pa.array([time for _, time in rows], pa.timestamp("us")).cast(pa.timestamp("us", "UTC")),
    })  # fmt: skip
    path = folder / "test.parquet"
    pq.write_table(table if timed else table.drop_columns(["timestamp"]), path)
    return UserEvents(ArtifactReader(path, TEST_INTERACTIONS), items)


def test_it_ranks_by_the_truth(truth: Path, tmp_path: Path) -> None:
    users, items = rows_of(truth, "user"), rows_of(truth, "item")
    ids = pa.array(np.random.default_rng(0).permutation(list(items)).tolist(), pa.string())
    asked = [*users][:12][::-1]
    days = {user: [7.0 * number + 0.4, 99.9] for number, user in enumerate(asked)}
    oracle = Oracle(truth, held_out(tmp_path, ids, days))
    catalogue = Items.bare(ids)
    histories = Histories.empty(len(asked), catalogue)
    profiles = Profiles.bare(pa.array(asked, pa.string()))
    found = oracle.score_block(profiles, histories, catalogue)
    assert found.scores.shape == (12, 70)
    assert set(found.source) == {"oracle"}

    wanted = np.zeros((12, 70))
    for row, user in enumerate(asked):
        day = int(days[user][0])
        passed = day / SETTINGS.days
        start, end = (np.asarray(users[user][name], np.float64) for name in ("taste_start", "taste_end"))
        for column, item in enumerate(ids.to_pylist()):
            age = day - int(str(items[item]["release_day"]))
            fresh = 1 + SETTINGS.freshness_boost * np.exp(-age / SETTINGS.freshness_days) if age >= 0 else 0.0
            like = ((1 - passed) * start + passed * end) @ np.asarray(items[item]["trait"], np.float64)
            wanted[row, column] = like * float(str(items[item]["attraction"])) * fresh
    np.testing.assert_allclose(found.scores, wanted, rtol=1e-5)
    assert (wanted == 0).any()  # items that were not out yet
    lists = Ranker(oracle, catalogue).rank(profiles, histories, n=10, excluded=None).lists.rows
    np.testing.assert_array_equal(lists, np.argsort(-wanted, axis=1)[:, :10])


def test_the_truth_of_another_world(truth: Path, tmp_path: Path) -> None:
    ids = pa.array([*rows_of(truth, "item")], pa.string())
    user = next(iter(rows_of(truth, "user")))
    oracle = Oracle(truth, held_out(tmp_path, ids, {"nobody": [1.0], user: [1.0]}))
    catalogue = Items.bare(ids)
    with pytest.raises(DataError, match="that of another world") as caught:
        oracle.score_block(Profiles.bare(pa.array(["nobody"])), Histories.empty(1, catalogue), catalogue)
    assert "truth_users" in str(caught.value.where)
    other = Items.bare(pa.array(["no item"]))
    with pytest.raises(DataError, match="that of another world") as caught:
        oracle.score_block(Profiles.bare(pa.array([user])), Histories.empty(1, other), other)
    assert "truth_items" in str(caught.value.where)


def test_it_needs_times(truth: Path, tmp_path: Path) -> None:
    ids = pa.array([*rows_of(truth, "item")], pa.string())
    user = next(iter(rows_of(truth, "user")))
    oracle = Oracle(truth, held_out(tmp_path, ids, {user: [1.0]}, timed=False))
    catalogue = Items.bare(ids)
    with pytest.raises(DataError, match="the oracle needs times"):
        oracle.score_block(Profiles.bare(pa.array([user])), Histories.empty(1, catalogue), catalogue)


def test_nobody_trains_or_keeps_it(truth: Path, tmp_path: Path) -> None:
    ids = pa.array([*rows_of(truth, "item")], pa.string())
    oracle = Oracle(truth, held_out(tmp_path, ids, {"u": [1.0]}))
    catalogue = Items.bare(ids)
    data = TrainingData(
        items=catalogue, open_blocks=lambda: iter(()), n_users=0, targets=frozenset({"implicit"}), as_of_us=None
    )
    assert oracle.fit(data, FitContext(seed=1)).target == "implicit"
    with pytest.raises(TypeError):
        oracle.save(tmp_path / "kept")
