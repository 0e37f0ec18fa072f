"""Two views of one world: evaluation learns from training interactions and from nothing else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from conftest import World
from runs import assert_same_artifact, copy_of_finished, copy_world, digests, manifest_of, vectors_of

from recpipe.store.arrow import vector_matrix

EVALUATED = {
    "train_interactions.parquet",
    "user_embeddings.parquet",
    "user_profiles.parquet",
    "profile_features.parquet",
    "segments.parquet",
    "segment_space.parquet",
    "recommendations.parquet",
    "popularity.parquet",
    "models/content/model_choice.parquet",
    "models/content/training_history.parquet",
    "models/popularity/item_vectors.parquet",
}
HELD_OUT = {
    f"{name}.parquet"
    for name in ("validation_interactions", "test_interactions", "metrics", "metric_differences", "user_metrics")
}
FINGERPRINT_LENGTH = 32
QUICK = ("--set", "evaluate.n_bootstrap=100", "--set", "evaluate.baselines=[popularity,recent_popularity]")
LEARNED = {  # models that learn in passes, stopped by validation
    "factorization": ("train.model=factorization", "train.target=implicit"),
    "deep": ("train.model=deep", "train.target=rating"),
}


def _evaluate(run_cli, config: Path, workdir: Path, *settings: str) -> Path:
    common = ("-c", config, "--workdir", workdir, *QUICK, "--set", "train.positive_from=4")
    common = (*common, *(word for setting in settings for word in ("--set", setting)))
    run_cli("embed-items", *common)
    run_cli("split", *common)
    for command in ("embed-users", "cluster", "train", "score"):
        run_cli(command, *common, "--view", "evaluation")
    run_cli("evaluate", *common)
    for command in () if settings else ("train", "score"):
        output = ("--output", workdir / "evaluation" / "popularity.parquet") if command == "score" else ()
        run_cli(command, *common, "--set", "train.model=popularity", "--view", "evaluation", *output)
    return workdir / "evaluation"


def _artifacts(evaluation: Path) -> dict[str, Path]:
    """Return all files of the view by path; the folder of a model's version is left out of it."""
    return {
        "/".join(part for part in path.relative_to(evaluation).parts if len(part) != FINGERPRINT_LENGTH): path
        for path in evaluation.rglob("*")
        if path.is_file() and path.name != "current.json"  # a manifest: it names its inputs by fingerprint
    }


def _assert_equal(evaluation: Path, other: Path) -> set[str]:
    """Compare everything that is learned; return the names of what was compared."""
    left, right = _artifacts(evaluation), _artifacts(other)
    assert left.keys() == right.keys()
    learned = left.keys() - HELD_OUT
    for name in learned:
        if name.endswith(".parquet"):
            timed = ("seconds",) if name.endswith("training_history.parquet") else ()
            assert_same_artifact(left[name], right[name], without=timed)
        else:
            assert left[name].read_bytes() == right[name].read_bytes(), name
    return learned


def _moved(user: str, item: str, rating: str, time: str) -> tuple[object, ...]:
    """Another item and another rating."""
    return user, f"i{(int(item[1:]) + 7) % 60:02d}", 6 - float(rating), time


def _rewrite(world: World, change) -> None:
    """Give every interaction (user, item, rating, time) to `change` and write what it returns."""
    header, *rows = world.interactions.read_text(encoding="utf-8").splitlines()
    changed = [",".join(map(str, change(*row.split(",")))) for row in rows]
    world.interactions.write_text("\n".join([header, *changed]) + "\n", encoding="utf-8")


def _first_time(evaluation: Path, name: str) -> int:
    return int(min(pq.read_table(evaluation / f"{name}.parquet").column("timestamp").to_pylist()).timestamp())


def _held_out_from(evaluation: Path) -> int:
    return _first_time(evaluation, "validation_interactions")


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
        return (user, item, rating, time) if int(time) < cut else _moved(user, item, rating, time)

    _rewrite(altered, change)
    other = _evaluate(run_cli, altered.config, tmp_path / "other")
    compared = _assert_equal(reference, other)
    assert compared >= EVALUATED
    assert {name for name in compared if name.endswith(".safetensors")}, "no weights were compared"
    _assert_altered(reference, other, "validation_interactions", "test_interactions")


def _assert_altered(reference: Path, other: Path, *names: str) -> None:
    """The control: held-out rows do differ, and so do the metrics measured on them."""
    for name in names:
        mine, theirs = (pq.read_table(root / f"{name}.parquet") for root in (reference, other))
        assert mine.num_rows == theirs.num_rows > 20
        assert not mine.equals(theirs), "nothing was altered: the test proves nothing"
    assert not pq.read_table(reference / "user_metrics.parquet").equals(pq.read_table(other / "user_metrics.parquet"))


@pytest.mark.parametrize("model", LEARNED)
def test_test_rows_choose_no_epoch(model: str, world: World, run_cli, tmp_path: Path):
    """Validation rows say how many epochs; test rows must not, nor anything else."""
    settings = (*LEARNED[model], "train.max_epochs=4", "train.patience=2", "train.hidden_dim=8")
    reference = _evaluate(run_cli, world.config, tmp_path / "work", *settings)
    altered = copy_world(world, tmp_path / "altered")
    cut = _first_time(reference, "test_interactions")
    _rewrite(altered, lambda *row: _moved(*row) if int(row[3]) >= cut else row)
    other = _evaluate(run_cli, altered.config, tmp_path / "other", *settings)
    compared = _assert_equal(reference, other)
    assert f"models/{model}/training_history.parquet" in compared
    assert pq.read_table(reference / "models" / model / "model_choice.parquet").num_rows == 2
    _assert_altered(reference, other, "test_interactions")


def test_who_the_test_rows_belong_to_changes_nothing(evaluation: Path, world: World, run_cli, tmp_path: Path):
    """Users without a single training interaction turn up in the test: they stay what their text says."""
    altered = copy_world(world, tmp_path / "altered")
    cut = _first_time(evaluation, "test_interactions")

    def change(user: str, item: str, rating: str, time: str) -> tuple[object, ...]:
        return (
            ("u38" if int(item[1:]) % 2 else user, item, rating, time)
            if int(time) >= cut
            else (user, item, rating, time)
        )

    _rewrite(altered, change)
    other = _evaluate(run_cli, altered.config, tmp_path / "other")
    assert _assert_equal(evaluation, other) >= EVALUATED
    assert "u38" in pq.read_table(other / "test_interactions.parquet").column("user_id").to_pylist()
    _assert_altered(evaluation, other, "test_interactions")
    measured = manifest_of(other / "metrics.parquet").details
    assert measured["cold_users"] == manifest_of(evaluation / "metrics.parquet").details["cold_users"] + 1


def test_users_known_from_test_rows_alone_change_no_vector(world: World, run_cli, tmp_path: Path):
    """Without a users table they have a row, as everybody has, and it is empty."""
    bare = copy_world(world, tmp_path / "same", data={"users": None})
    reference = _evaluate(run_cli, bare.config, tmp_path / "work")
    altered = copy_world(world, tmp_path / "altered", data={"users": None})
    cut = _first_time(reference, "test_interactions")
    _rewrite(altered, lambda user, *row: (f"late{row[0]}" if int(row[2]) >= cut and row[0] < "i30" else user, *row))
    other = _evaluate(run_cli, altered.config, tmp_path / "other")
    assert_same_artifact(reference / "train_interactions.parquet", other / "train_interactions.parquet")
    assert_same_artifact(reference / "segment_space.parquet", other / "segment_space.parquet")
    for name, column in (("user_embeddings", "embedding"), ("user_profiles", "features"), ("user_profiles", "centre")):
        before, after = (vectors_of(root / f"{name}.parquet", column) for root in (reference, other))
        late = after.keys() - before.keys()
        assert late and all(user.startswith("late") for user in late)
        for user, vector in before.items():
            np.testing.assert_allclose(after[user], vector, atol=1e-5)
    centres = [vectors_of_segments(root) for root in (reference, other)]
    np.testing.assert_allclose(*centres, atol=1e-5)


def vectors_of_segments(evaluation: Path) -> np.ndarray:
    """Return the centres of the segments of an evaluation."""
    segments = pq.read_table(evaluation / "segments.parquet", filters=[("segment", ">=", 0)])
    return vector_matrix(segments.column("centre"))[0]


def test_training_rows_do_change_what_is_learned(evaluation: Path, world: World, run_cli, tmp_path: Path):
    """The control of the leak test: the same alteration before the cut is seen everywhere."""
    cut = _held_out_from(evaluation)
    altered = copy_world(world, tmp_path / "altered")

    def change(user: str, item: str, rating: str, time: str) -> tuple[object, ...]:
        return (user, item, rating, time) if int(time) >= cut else _moved(user, item, rating, time)

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
