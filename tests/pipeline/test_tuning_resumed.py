"""`recpipe tune` called again: it goes on, or begins a new study; kill -9 and Ctrl-C in the middle."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from conftest import World
from runs import copy_of_finished, copy_world, finish, leftovers, start, wait_for
from searches import CONTENT_SPACE, LEARNED, RunCli, fitted, space, trials, without_seconds


@pytest.fixture
def finished(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return copy_of_finished(world, tmp_path)


# going on ----------------------------------------------------------------------------------------


def test_a_second_call_goes_on_where_the_first_ended(
    finished: Path, world: World, run_cli: RunCli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("tune", "-c", world.config, *CONTENT_SPACE, "--set", "tune.startup_trials=2", "--set")
    run_cli(*words, "tune.n_trials=6")
    whole = trials(tmp_path)
    for path in finished.glob("tune/*/trials.parquet"):
        path.unlink()
    run_cli(*words, "tune.n_trials=3")
    first = trials(tmp_path)
    ran = fitted(monkeypatch)
    result = run_cli(*words, "tune.n_trials=6")
    assert "going on: 3 of 6 trials are done" in result.stderr
    assert ran == ["embed_users", "cluster", "train"] * 3
    assert trials(tmp_path)[:3] == first
    assert without_seconds(trials(tmp_path)) == without_seconds(whole)
    ran.clear()
    again = run_cli(*words, "tune.n_trials=6")
    assert not ran and again.stdout == result.stdout


def test_no_trial_starts_after_its_time(finished: Path, world: World, run_cli: RunCli, tmp_path: Path) -> None:
    words = ("tune", "-c", world.config, *CONTENT_SPACE, "--set", "tune.max_minutes=0.00001")
    run_cli(*words)
    run_cli(*words)
    assert len(trials(tmp_path)) == 1


def test_something_else_begins_a_new_study_and_says_so(finished: Path, world: World, run_cli: RunCli) -> None:
    def count() -> list[int]:
        return sorted(len(pq.read_table(path)) for path in finished.glob("tune/*/trials.parquet"))

    words = ("tune", "-c", world.config, *CONTENT_SPACE, "--set", "tune.n_trials=2")
    assert "a new study → work/tune/" in run_cli(*words).stderr
    for change, reason in (
        (("--set", "seed=7"), "seed 42 → 7"),
        (("--set", "train.centred=false"), "train.centred True → False"),
        (("--set", "split.by=random"), "split.by 'auto' → 'random'"),
        (("--set", "tune.space.users.half_life_days={float: [1, 9]}"), "tune.space.users.half_life_days"),
    ):
        log = run_cli(*words, *change).stderr
        assert "a new study → work/tune/" in log and reason in log and "the trials before stay in" in log
    assert count() == [2] * 5
    log = run_cli(*words, "--set", "tune.n_trials=3", "--set", "score.top_n=7").stderr  # the lists decide nothing here
    assert "going on: 2 of 3" in log and count() == [2, 2, 2, 2, 3]


def test_other_data_begin_a_new_study(world: World, run_cli: RunCli, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    copy = copy_world(world, tmp_path / "world", train={"model": "popularity"})
    words = ("tune", "-c", copy.config, *space("train.model", choice=["popularity", "random"]))
    run_cli(*words)
    lines = copy.interactions.read_text().splitlines()
    copy.interactions.write_text("\n".join(lines[:-5]) + "\n")
    assert "interactions changed" in run_cli(*words).stderr


@contextmanager
def searching(*words: object, cwd: Path, n_trials: int) -> Iterator[subprocess.Popen[str]]:
    """Search in a process of its own, which has finished so many trials and is killed at the latest at the end."""
    process = start("tune", *words, cwd=cwd)
    try:
        # minutes, not seconds: starting takes long where others use the machine
        wait_for(lambda: found(cwd) >= n_trials, process, seconds=200)
        yield process
    finally:
        process.kill()
        process.communicate()


def found(folder: Path) -> int:
    return len(trials(folder)) if list(folder.glob("work/tune/*/trials.parquet")) else 0


@pytest.mark.slow
@pytest.mark.parametrize("moment", range(3))
def test_killed_in_the_middle(
    moment: int, finished: Path, world: World, run_cli: RunCli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = (
        "-c", world.config, *LEARNED, *space("train.hidden_dim", int=[2, 64], log=True),
        *space("cluster.n_clusters", int=[2, 8]), "--set", "tune.startup_trials=3", "--set", "tune.n_trials=7",
    )  # fmt: skip
    run_cli("tune", *words, "--workdir", "expected/work")
    with searching(*words, cwd=tmp_path, n_trials=2) as process:
        time.sleep(0.3 * moment)
    assert process.returncode == -signal.SIGKILL, "it was over before it was killed"
    done = trials(tmp_path)
    result = run_cli("tune", *words)
    assert f"going on: {len(done)} of 7 trials are done" in result.stderr
    assert trials(tmp_path)[: len(done)] == done
    assert [row["settings"] for row in trials(tmp_path)] == [row["settings"] for row in trials(tmp_path / "expected")]
    for row, expected in zip(trials(tmp_path), trials(tmp_path / "expected"), strict=True):
        assert row["value"] == pytest.approx(expected["value"], abs=1e-6)
    assert not leftovers(tmp_path) and {path.name for path in tmp_path.glob("work/tune/*/*")} == {"trials.parquet"}


@pytest.mark.slow
def test_interrupted(finished: Path, world: World, tmp_path: Path) -> None:
    words = ("-c", world.config, *LEARNED, *space("train.hidden_dim", int=[2, 64]))
    with searching(*words, cwd=tmp_path, n_trials=1) as process:
        process.send_signal(signal.SIGINT)
        code, stdout, log = finish(process)
    assert (code, stdout) == (130, ""), log
    assert "interrupted; finished parts are kept" in log and trials(tmp_path)


@pytest.mark.slow
def test_two_searches_in_one_work_directory(finished: Path, world: World, run_cli: RunCli, tmp_path: Path) -> None:
    words = ("-c", world.config, *CONTENT_SPACE, "--set", "tune.n_trials=500")
    with searching(*words, cwd=tmp_path, n_trials=1):
        result = run_cli("tune", *words, expect=6)
    assert "work/tune is in use by another run" in result.stderr
