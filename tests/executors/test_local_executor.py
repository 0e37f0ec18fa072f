from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from shard_tasks import Squares

from recpipe import logs
from recpipe.errors import DataError, RecpipeError, UnavailableError
from recpipe.executors.base import shards_of
from recpipe.executors.local import LocalExecutor, create
from recpipe.executors.settings import ExecutorSettings


def run(folder: Path, task: Squares, *, workers: int, n_rows: int = 10) -> dict[int, dict[str, int]]:
    folder.mkdir(exist_ok=True)
    shards = shards_of(n_rows, 3, folder, "x")
    return {shard.index: stats for shard, stats in LocalExecutor(workers).map_shards(task, shards)}


@given(n_rows=st.integers(0, 50), shard_rows=st.integers(1, 20))
def test_shards_cover_every_row_once_in_order(n_rows: int, shard_rows: int) -> None:
    shards = shards_of(n_rows, shard_rows, Path("parts"), "x")
    assert [row for shard in shards for row in range(shard.start, shard.stop)] == list(range(n_rows))
    assert all(0 < shard.rows <= shard_rows for shard in shards)
    assert all(shard.rows == shard_rows for shard in shards[:-1])
    assert [shard.index for shard in shards] == list(range(len(shards)))
    names = [shard.output.name for shard in shards]
    assert names == sorted(set(names))


def test_one_worker_and_two_give_the_same(tmp_path: Path) -> None:
    one = run(tmp_path / "one", Squares(), workers=1)
    two = run(tmp_path / "two", Squares(), workers=2)
    assert one == two
    assert sum(stats["total"] for stats in one.values()) == sum(row * row for row in range(10))
    files = [{path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in ("one", "two")]
    assert files[0] == files[1]
    assert len(files[0]) == 4


def test_setup_is_once_a_worker(tmp_path: Path) -> None:
    log = tmp_path / "setups"
    run(tmp_path / "out", Squares(log=log), workers=2)
    pids = log.read_text().split()
    assert len(set(pids)) == len(pids) <= 2


def test_no_shards_need_no_worker(tmp_path: Path) -> None:
    assert run(tmp_path, Squares(setup_fails=True), workers=2, n_rows=0) == {}


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_arrives_whole(tmp_path: Path, workers: int) -> None:
    with pytest.raises(DataError) as caught:
        run(tmp_path, Squares(failing=1), workers=workers)
    assert (caught.value.what, caught.value.where, caught.value.next_step) == ("bad row", "line 3", "mend it")


@pytest.mark.parametrize("workers", [1, 2])
def test_so_does_one_from_the_setup(tmp_path: Path, workers: int, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UnavailableError) as caught:
        run(tmp_path, Squares(setup_fails=True), workers=workers)
    assert (caught.value.what, caught.value.where, caught.value.next_step) == ("no such device", "here", "buy one")
    assert capfd.readouterr().err == ""  # no traceback of a worker


def test_a_bug_stays_what_it_is(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError, match="inner"):
        run(tmp_path, Squares(failing=0, failure="bug"), workers=2)


def test_a_killed_worker_is_an_error_not_a_hang(tmp_path: Path) -> None:
    started = time.monotonic()
    with pytest.raises(RecpipeError, match="a worker process died") as caught:
        run(tmp_path, Squares(failing=3, failure="killed"), workers=2)
    assert "finished parts are kept" in str(caught.value.next_step)
    assert caught.value.exit_code == 1
    assert time.monotonic() - started < 30
    assert not (tmp_path / "x-000003-9-10.parquet").exists()


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_log_as_the_command_does(tmp_path: Path, workers: int, capfd: pytest.CaptureFixture[str]) -> None:
    logger = logs.get()
    before = logger.handlers, logger.level, logger.propagate
    logs.configure("json")
    try:
        with logs.stage("score"):
            run(tmp_path, Squares(), workers=workers)
    finally:
        logger.handlers, logger.level, logger.propagate = before
    lines = [json.loads(line) for line in capfd.readouterr().err.splitlines()]
    assert sorted(line["message"] for line in lines) == ["shard 0", "shard 1", "shard 2", "shard 3"]
    assert {(line["stage"], line["level"]) for line in lines} == {("score", "warning")}


def test_an_interrupted_map_ends_its_workers_at_once(tmp_path: Path) -> None:
    results = LocalExecutor(2).map_shards(Squares(failing=3, failure="slow"), shards_of(30, 3, tmp_path, "x"))
    started = time.monotonic()
    next(results)
    results.close()  # type: ignore[attr-defined]
    assert time.monotonic() - started < 30
    assert multiprocessing.active_children() == []


RUN = """
import sys
from pathlib import Path
from shard_tasks import Squares
from recpipe.executors.base import shards_of
from recpipe.executors.local import LocalExecutor
if __name__ == "__main__":
    folder = Path(sys.argv[1])
    task = Squares(failing=0, failure="slow", log=folder / "pids")
    print(list(LocalExecutor(2).map_shards(task, shards_of(6, 3, folder, "x"))))
"""


def test_workers_of_a_killed_run_end_with_it(tmp_path: Path) -> None:
    script = tmp_path / "run.py"
    script.write_text(RUN)
    paths = [str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    with subprocess.Popen([sys.executable, str(script), str(tmp_path)], env=environment) as process:
        wait_until(lambda: (tmp_path / "x-000001-3-6.parquet").exists())
        pids = [int(line) for line in (tmp_path / "pids").read_text().split()]
        assert any(is_alive(pid) for pid in pids)
        process.send_signal(signal.SIGKILL)
    wait_until(lambda: not any(is_alive(pid) for pid in pids))


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and waits to be collected does not."""
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False


def test_auto_computes_in_this_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = tmp_path / "setups"
    shards = shards_of(10, 3, tmp_path, "x")
    assert len(list(create(ExecutorSettings()).map_shards(Squares(log=log), shards))) == 4
    assert log.read_text().split() == [str(os.getpid())]
    log.unlink()
    list(create(ExecutorSettings(workers=2)).map_shards(Squares(log=log), shards))
    assert str(os.getpid()) not in log.read_text().split()
