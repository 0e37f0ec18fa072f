"""Two views of one world: evaluation learns from training interactions and from nothing else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from conftest import World
from runs import assert_same_artifact, copy_of_finished, copy_world, digests, manifest_of, vectors_of

from recpipe.store.arrow import vector_matrix

EVALUATED = (
    "train_interactions",
    "user_embeddings",
    "user_profiles",
    "profile_features",
    "segments",
    "segment_space",
    "recommendations",
)


def _evaluate(run_cli, config: Path, workdir: Path, *more: str) -> Path:
    common = ("-c", config, "--workdir", workdir, "--set", "train.positive_from=4", *more)
    run_cli("embed-items", *common)
    run_cli("split", *common)
    for command in ("embed-users", "cluster", "train", "score"):
        run_cli(command, *common, "--view", "evaluation")
    for model in ("popularity",):
        for command in ("train", "score"):
            named = ("--set", f"train.model={model}")
            output = ("--output", workdir / "evaluation" / f"{model}.parquet") if command == "score" else ()
            run_cli(command, *common, *named, "--view", "evaluation", *output)
    return workdir / "evaluation"


def _rewrite(world: World, change) -> None:
    """Give every interaction (user, item, rating, time) to `change` and write what it returns."""
    header, *rows = world.interactions.read_text(encoding="utf-8").splitlines()
    changed = [",".join(map(str, change(*row.split(",")))) for row in rows]
    world.interactions.write_text("\n".join([header, *changed]) + "\n", encoding="utf-8")


def _held_out_from(evaluation: Path) -> int:
    validation = pq.read_table(evaluation / "validation_interactions.parquet").column("timestamp")
    return int(min(validation.to_pylist()).timestamp())


@pytest.fixture(scope="module")
def evaluation(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from click.testing import CliRunner

    from recpipe.cli.app import main

    def run(*words: object) -> None:
        result = CliRunner().invoke(main, [str(word) for word in words])
        assert result.exit_code == 0, result.stderr

    return _evaluate(run, world.config, tmp_path_factory.mktemp("evaluated") / "work")


@pytest.mark.parametrize("with_users", [True, False])
def test_held_out_rows_change_nothing_that_was_learned(
    with_users: bool, evaluation: Path, world: World, run_cli, tmp_path: Path
):
    """The leak test: other items and ratings after the cut, equal artifacts before it."""
    sections = {} if with_users else {"data": {"users": None}}
    reference = evaluation
    if not with_users:
        reference = _evaluate(run_cli, copy_world(world, tmp_path / "same", **sections).config, tmp_path / "work")
    cut = _held_out_from(evaluation)
    altered = copy_world(world, tmp_path / "altered", **sections)

    def change(user: str, item: str, rating: str, time: str) -> tuple[object, ...]:
        if int(time) < cut:
            return user, item, rating, time
        return user, f"i{(int(item[1:]) + 7) % 60:02d}", 6 - float(rating), time

    _rewrite(altered, change)
    other = _evaluate(run_cli, altered.config, tmp_path / "other")
    for name in (*EVALUATED, "popularity"):
        assert_same_artifact(reference / f"{name}.parquet", other / f"{name}.parquet")
    for model in ("content", "popularity"):
        weights = [
            {Path(name).name: digest for name, digest in digests(root, f"models/{model}/*/*.safetensors").items()}
            for root in (reference, other)
        ]
        assert weights[0] == weights[1] != {}
    for name in ("validation_interactions", "test_interactions"):
        mine, theirs = (pq.read_table(root / f"{name}.parquet") for root in (reference, other))
        assert mine.num_rows == theirs.num_rows > 20
        assert not mine.equals(theirs), "nothing was altered: the test proves nothing"


def test_training_rows_do_change_what_is_learned(evaluation: Path, world: World, run_cli, tmp_path: Path):
    """The control of the leak test: the same alteration before the cut is seen everywhere."""
    cut = _held_out_from(evaluation)
    altered = copy_world(world, tmp_path / "altered")

    def change(user: str, item: str, rating: str, time: str) -> tuple[object, ...]:
        if int(time) >= cut:
            return user, item, rating, time
        return user, f"i{(int(item[1:]) + 7) % 60:02d}", 6 - float(rating), time

    _rewrite(altered, change)
    other = _evaluate(run_cli, altered.config, tmp_path / "other")
    for name in ("train_interactions", "user_embeddings", "user_profiles", "recommendations", "popularity"):
        with pytest.raises(AssertionError):
            assert_same_artifact(evaluation / f"{name}.parquet", other / f"{name}.parquet")


def test_split_is_by_time_and_loses_no_row(evaluation: Path):
    parts = [pq.read_table(evaluation / f"{name}_interactions.parquet") for name in ("train", "validation", "test")]
    everything = pq.read_table(evaluation.parent / "tables" / "interactions.parquet")
    assert sum(part.num_rows for part in parts) == everything.num_rows
    rows = [{tuple(row.values()) for row in part.to_pylist()} for part in parts]
    assert set.union(*rows) == {tuple(row.values()) for row in everything.to_pylist()}
    times = [part.column("timestamp").to_pylist() for part in parts]
    assert max(times[0]) < min(times[1]) and max(times[1]) < min(times[2])
    assert all(part.num_rows >= 0.05 * everything.num_rows for part in parts)


def test_item_embeddings_are_shared_and_nothing_of_production_is_written(evaluation: Path):
    production = {path.name for path in evaluation.parent.iterdir() if path.suffix == ".parquet"}
    assert production == {"item_embeddings.parquet"}
    assert not (evaluation / "item_embeddings.parquet").exists()
    assert not (evaluation.parent / "models").exists()
    used = manifest_of(evaluation / "user_embeddings.parquet").inputs["item_embeddings"]
    assert used == manifest_of(evaluation.parent / "item_embeddings.parquet").fingerprint


def test_evaluation_recommends_held_out_items_and_no_training_item(evaluation: Path):
    def pairs(name: str) -> set[tuple[str, str]]:
        rows = pq.read_table(evaluation / f"{name}.parquet").to_pylist()
        return {(row["user_id"], row["item_id"]) for row in rows}

    for lists in ("recommendations", "popularity"):
        assert not pairs(lists) & pairs("train_interactions")
        assert pairs(lists) & (pairs("test_interactions") | pairs("validation_interactions"))


def test_production_and_evaluation_differ(evaluation: Path, world: World, tmp_path: Path):
    production = copy_of_finished(world, tmp_path)
    with pytest.raises(AssertionError):
        assert_same_artifact(evaluation / "user_embeddings.parquet", production / "user_embeddings.parquet")


# cluster.fit: false --------------------------------------------------------------------------


def test_segments_stay_when_users_are_added(world: World, run_cli, tmp_path: Path, monkeypatch):
    work = copy_of_finished(world, tmp_path)
    monkeypatch.chdir(tmp_path)
    before = {row["user_id"]: row for row in pq.read_table(work / "user_profiles.parquet").to_pylist()}
    kept = digests(work, "seg*.parquet") | digests(work, "profile_features.parquet")
    grown = copy_world(world, tmp_path / "world", cluster={"fit": False})
    with grown.users.open("a", encoding="utf-8") as file:
        file.writelines(f"new{number},space robot war {number}\n" for number in range(25))
        file.write("mute,\n")

    result = run_cli("run", "-c", grown.config)
    assert "cluster: done" in result.stderr
    assert digests(work, "seg*.parquet") | digests(work, "profile_features.parquet") == kept
    profiles = pq.read_table(work / "user_profiles.parquet")
    after = {row["user_id"]: row for row in profiles.to_pylist()}
    assert len(after) == 40 + 26
    assert {user: row["segment"] for user, row in before.items()} == {user: after[user]["segment"] for user in before}
    for user, row in before.items():
        np.testing.assert_allclose(after[user]["centre"], row["centre"], atol=1e-6)

    # every user is in the segment whose centre is nearest in the clustered space
    assert after["mute"]["segment"] == -1
    segments = pq.read_table(work / "segments.parquet")
    centres, _ = vector_matrix(segments.column("centre"))
    numbers = segments.column("segment").to_pylist()
    basis, _ = vector_matrix(pq.read_table(work / "segment_space.parquet").column("vector"))
    vectors = vectors_of(work / "user_embeddings.parquet")
    for user in (name for name in after if name.startswith("new")):
        distances = {
            number: float(np.linalg.norm((vectors[user] - centre) @ basis.T))
            for number, centre in zip(numbers, centres, strict=True)
            if number >= 0
        }
        assert after[user]["segment"] == min(distances, key=distances.get)
        assert after[user]["distance"] == pytest.approx(min(distances.values()), abs=1e-4)
    lists = pq.read_table(work / "recommendations.parquet").to_pylist()
    assert {row["user_id"] for row in lists} == set(after)
    assert run_cli("run", "-c", grown.config).stdout == "up to date: work\n"


def test_fit_false_without_segments_names_what_is_missing(world: World, run_cli, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    work = copy_of_finished(world, tmp_path)
    (work / "segments.parquet").unlink()
    result = run_cli("cluster", "-c", world.config, "--set", "cluster.fit=false", expect=4)
    assert "segments missing" in result.stderr
    assert "run: recpipe cluster --set cluster.fit=true" in result.stderr
