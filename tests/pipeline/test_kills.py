"""kill -9 at random moments: a rerun gives the same artifact and repeats no finished part."""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from conftest import World
from runs import (
    assert_same_artifact,
    copy_of_finished,
    digests,
    finish,
    leftovers,
    manifest_of,
    snapshot,
    start,
    wait_for,
    write_items,
)

from recpipe.store import parts
from recpipe.store.model_folders import current_model

pytestmark = pytest.mark.slow

SHARDS = 12
N_ITEMS = SHARDS * 2048
N_USERS = SHARDS * 4096
OLDER_ROWS = 60


@pytest.fixture(scope="module")
def many_items(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_items(tmp_path_factory.mktemp("many") / "items.csv", N_ITEMS)


@pytest.fixture(scope="module")
def reference(many_items: Path, world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The artifact of a run nobody disturbed."""
    folder = tmp_path_factory.mktemp("reference")
    code, _, log = finish(start("embed-items", "-c", world.config, "--items", many_items, cwd=folder), timeout=300)
    assert code == 0, log
    return folder / "work" / "item_embeddings.parquet"


@pytest.fixture
def older(world: World, run_cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An artifact of last night, which the killed runs want to replace."""
    monkeypatch.chdir(tmp_path)
    run_cli("embed-items", "-c", world.config)
    path = tmp_path / "work" / "item_embeddings.parquet"
    assert manifest_of(path).rows == OLDER_ROWS
    return path


@pytest.fixture
def kept_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts stay where they are when the stage is done, to be compared."""
    monkeypatch.setattr(parts, "discard", lambda folder: None)


def _parts(folder: Path, name: str = "item_embeddings") -> list[Path]:
    return sorted(folder.glob(f"work/.parts/*/{name}-*.parquet"))


def _kill(process: subprocess.Popen[str]) -> bool:
    """Kill -9; say whether it was still running."""
    running = process.poll() is None
    process.kill()
    process.communicate()
    return running and process.returncode == -signal.SIGKILL


def _assert_whole(path: Path, rows: int) -> None:
    """Readable as any program reads it, with its manifest."""
    assert pq.read_table(path).num_rows == rows == manifest_of(path).rows


@pytest.mark.parametrize("moment", range(10))
def test_killed_while_embedding(
    moment: int, older: Path, reference: Path, many_items: Path, world: World, run_cli, tmp_path: Path, kept_parts
):
    words = ("embed-items", "-c", world.config, "--items", many_items)
    generator = random.Random(moment)
    n_finished = generator.randrange(SHARDS - 2)
    process = start(*words, cwd=tmp_path)
    folder_made = tmp_path / "work" / ".parts"
    wait_for(lambda: len(_parts(tmp_path)) >= n_finished and any(folder_made.glob("*")), process)
    time.sleep(generator.random() * 0.4)
    assert _kill(process), "it was over before it was killed"
    if manifest_of(older).rows == N_ITEMS:  # late: between publication and the end of the process
        _assert_whole(older, N_ITEMS)
        run_cli(*words)
        assert_same_artifact(older, reference)
        return
    _assert_whole(older, OLDER_ROWS)

    finished = _parts(tmp_path)
    assert n_finished <= len(finished) <= SHARDS
    before = digests(tmp_path, "work/.parts/*/item_embeddings-*.parquet")
    times = {path: path.stat().st_mtime_ns for path in finished}

    result = run_cli(*words)
    resumed = re.search(r"resuming: (\d+) of (\d+) items are done", result.stderr)
    assert (resumed is not None) == bool(finished)
    if resumed:
        assert (int(resumed[1]), int(resumed[2])) == (len(finished) * 2048, N_ITEMS)
    after = digests(tmp_path, "work/.parts/*/item_embeddings-*.parquet")
    assert len(after) == SHARDS
    assert {name: after[name] for name in before} == before, "a finished part has other bytes"
    assert {path: path.stat().st_mtime_ns for path in finished} == times, "a finished part was computed again"
    assert_same_artifact(tmp_path / "work" / "item_embeddings.parquet", reference)
    details = manifest_of(older).details
    assert details["encoded"] + details["cached"] == N_ITEMS
    assert not leftovers(tmp_path)


def test_the_parts_of_a_finished_run_are_removed(reference: Path):
    assert not list((reference.parent / ".parts").glob("*/*"))
    assert not leftovers(reference.parent)


def _while_publishing(process: subprocess.Popen[str], folder: Path, name: str) -> Iterator[None]:
    """Return as soon as the temporary file of an artifact appears."""
    while process.poll() is None:
        if any(entry.startswith(".tmp-") and entry.endswith(name) for entry in os.listdir(folder)):  # noqa: PTH208
            yield
            return


@pytest.mark.parametrize("moment", range(6))
def test_killed_while_publishing(
    moment: int, older: Path, reference: Path, many_items: Path, world: World, run_cli, tmp_path: Path, kept_parts
):
    words = ("embed-items", "-c", world.config, "--items", many_items)
    process = start(*words, cwd=tmp_path)
    # from the last part on, look without pause: publishing takes milliseconds
    wait_for(lambda: len(_parts(tmp_path)) >= SHARDS - 1, process)
    for _ in _while_publishing(process, tmp_path / "work", "item_embeddings.parquet"):
        time.sleep(random.Random(moment).random() * 0.02)
    _kill(process)

    rows = manifest_of(older).rows
    assert rows in (OLDER_ROWS, N_ITEMS)
    _assert_whole(older, rows)
    before = snapshot(tmp_path / "work" / ".parts")
    result = run_cli(*words)
    if rows == OLDER_ROWS:
        assert f"resuming: {N_ITEMS} of {N_ITEMS} items are done" in result.stderr
    else:
        assert "embed-items: up to date" in result.stderr or "resuming" in result.stderr
    after = snapshot(tmp_path / "work" / ".parts")
    assert {name: entry for name, entry in after.items() if name.endswith(".parquet") and name in before} == {
        name: entry for name, entry in before.items() if name.endswith(".parquet")
    }
    assert_same_artifact(older, reference)
    assert not leftovers(tmp_path)


@pytest.mark.parametrize("moment", range(3))
def test_killed_while_scoring(moment: int, world: World, run_cli, tmp_path: Path, monkeypatch, kept_parts):
    monkeypatch.chdir(tmp_path)
    users = tmp_path / "users.csv"
    known = world.users.read_text(encoding="utf-8")
    users.write_text(known + "".join(f"n{number},\n" for number in range(N_USERS - 40)), encoding="utf-8")
    common = ("-c", world.config, "--users", users, "--set", "train.model=popularity", "--set", "score.top_n=20")
    run_cli("train", *common)
    run_cli("score", *common, "--output", "work/expected.parquet")
    words = ("score", *common)
    for path in (tmp_path / "work" / ".parts").rglob("*.parquet"):
        path.unlink()  # of the run that gave the expected table
    process = start(*words, cwd=tmp_path)
    n_finished = (1, 5, 9)[moment]
    wait_for(lambda: len(_parts(tmp_path, "recommendations")) >= n_finished, process)
    assert _kill(process), "it was over before it was killed"
    assert not (tmp_path / "work" / "recommendations.parquet").exists()
    finished = {path: path.stat().st_mtime_ns for path in _parts(tmp_path, "recommendations")}

    result = run_cli(*words)
    assert f"resuming: {len(finished) * 4096} of {N_USERS} users are done" in result.stderr
    assert {path: path.stat().st_mtime_ns for path in finished} == finished
    assert_same_artifact(tmp_path / "work" / "recommendations.parquet", tmp_path / "work" / "expected.parquet")
    assert not leftovers(tmp_path)


EPOCHS = 200
LEARNED = (
    "--set", "train.model=factorization", "--set", "train.target=implicit", "--set", f"train.max_epochs={EPOCHS}",
    "--set", f"train.patience={EPOCHS}", "--set", "train.hidden_dim=8",
)  # fmt: skip
TRAINED = {  # how long, in which view, and how many epochs that is
    "number": ("production", ("--set", f"train.n_epochs={EPOCHS}")),
    "validated": ("evaluation", ()),
    "held-out": ("production", ()),  # epochs chosen on 10 %, then all of them again
}


def _checkpoints(folder: Path) -> list[Path]:
    return list(folder.glob("work/.parts/*/factorization/*.safetensors"))


@pytest.mark.parametrize("moment", range(2))
@pytest.mark.parametrize("trained", TRAINED)
def test_killed_while_training(
    trained: str, moment: int, world: World, run_cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Resumed from the checkpoint, the model is the one a run nobody disturbed gives."""
    monkeypatch.chdir(tmp_path)
    view, how_long = TRAINED[trained]
    copy_of_finished(world, tmp_path)
    (tmp_path / "work" / "evaluation" / "models" / "content" / "model_choice.parquet").unlink()
    words = ("train", "-c", world.config, *LEARNED, *how_long, "--view", view)
    choice = ("--model-choice-out", "expected_choice.parquet") if view == "evaluation" else ()
    run_cli(*words, "--model-out", "expected", *choice)
    root = tmp_path / "work" / ("evaluation" if view == "evaluation" else "") / "models" / "factorization"

    process = start(*words, cwd=tmp_path)
    wait_for(lambda: _checkpoints(tmp_path), process)
    time.sleep(random.Random(moment).random() * 0.5)
    assert _kill(process), "it was over before it was killed"
    assert not (root / "current.json").exists()
    assert _checkpoints(tmp_path), "the checkpoint went with the process"

    result = run_cli(*words)
    resumed = re.search(r"going on from a checkpoint after (\d+) epochs", result.stderr)
    assert resumed and int(resumed[1]) >= 1, result.stderr
    mine, theirs = (current_model(folder)[0] for folder in (root, Path("expected")))
    for name in ("weights.safetensors", "model.json"):
        assert (mine / name).read_bytes() == (theirs / name).read_bytes()
    assert_same_artifact(mine / "training_history.parquet", theirs / "training_history.parquet", without=("seconds",))
    if choice:
        assert_same_artifact(root / "model_choice.parquet", Path("expected_choice.parquet"))
    assert not _checkpoints(tmp_path) and not leftovers(tmp_path)


@pytest.mark.parametrize("moment", range(3))
def test_killed_while_evaluating(moment: int, world: World, run_cli, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    evaluation = copy_of_finished(world, tmp_path) / "evaluation"
    names = ("metrics", "metric_differences", "user_metrics")
    words = ("evaluate", "-c", world.config, "--set", "evaluate.n_bootstrap=30000", "--set", "evaluate.k=[5,10]")
    outputs = [word for name in names for word in (f"--{name.replace('_', '-')}-out", f"expected/{name}.parquet")]
    run_cli(*words, *outputs)
    older = {name: manifest_of(evaluation / f"{name}.parquet").fingerprint for name in names}

    process = start(*words, cwd=tmp_path)
    wait_for(lambda: any(str(process.pid) in path.read_text() for path in _metric_locks(tmp_path)), process)
    time.sleep(0.3 + random.Random(moment).random() * 1.5)
    assert _kill(process), "it was over before it was killed"
    for name in names:
        path = evaluation / f"{name}.parquet"
        _assert_whole(path, manifest_of(path).rows)
    assert manifest_of(evaluation / "metrics.parquet").fingerprint == older["metrics"]

    run_cli(*words)
    for name in names:
        assert_same_artifact(evaluation / f"{name}.parquet", Path("expected") / f"{name}.parquet")
    assert not leftovers(tmp_path)
    result = run_cli(*words)
    assert "evaluate: up to date" in result.stderr


def _metric_locks(folder: Path) -> list[Path]:
    return list(folder.glob("work/.locks/metrics.parquet-*.lock"))


def test_killed_run_can_be_run_again(world: World, run_cli, tmp_path: Path, monkeypatch):
    """`run` at whatever stage it was: the next one finishes what is left."""
    monkeypatch.chdir(tmp_path)
    run_cli("run", "-c", world.config, "--workdir", "expected")
    generator = random.Random(5)
    outputs = ("item_embeddings", "evaluation/metrics", "user_embeddings", "segments", "recommendations")
    for name in outputs:
        process = start("run", "-c", world.config, "--force", cwd=tmp_path)
        path = tmp_path / "work" / f"{name}.parquet"
        begun = path.stat().st_mtime_ns if path.exists() else 0
        wait_for(lambda path=path, begun=begun: path.exists() and path.stat().st_mtime_ns > begun, process)
        time.sleep(generator.random() * 0.1)
        _kill(process)
    run_cli("run", "-c", world.config)
    for name in (*outputs, "user_profiles"):
        assert_same_artifact(tmp_path / "work" / f"{name}.parquet", tmp_path / "expected" / f"{name}.parquet")
    assert not leftovers(tmp_path)
    assert run_cli("run", "-c", world.config).stdout == "up to date: work\n"
