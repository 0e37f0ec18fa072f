"""Real processes: signals, locks, and what a killed one leaves."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from conftest import World
from runs import copy_of_finished, finish, leftovers, manifest_of, start, wait_for, write_items

from recpipe.store import locks

N_ITEMS = 12 * 2048  # twelve shards


@pytest.fixture(scope="module")
def many_items(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_items(tmp_path_factory.mktemp("many") / "items.csv", N_ITEMS)


@pytest.mark.parametrize(
    ("number", "code", "word"), [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")]
)
def test_a_signal_ends_the_run_keeps_parts_and_frees_the_lock(
    number: signal.Signals, code: int, word: str, world: World, many_items: Path, run_cli, tmp_path: Path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    words = ("embed-items", "-c", world.config, "--items", many_items)
    process = start(*words, cwd=tmp_path)
    wait_for(lambda: len(list(tmp_path.glob("work/.parts/*/item_embeddings-*.parquet"))) >= 2, process)
    # a second run meanwhile is refused at once; another stage on another output is not
    begun = time.monotonic()
    result = run_cli(*words, expect=6)
    assert time.monotonic() - begun < 5
    assert "work/item_embeddings.parquet is in use by another run" in result.stderr
    assert f"pid {process.pid}" in result.stderr and "wait for it to finish" in result.stderr
    result = run_cli("run", "-c", world.config, expect=6)
    assert "work directory work is in use" in result.stderr
    assert process.poll() is None, "the run was over before it was interrupted: too few items"

    process.send_signal(number)
    exit_code, stdout, log = finish(process)
    assert exit_code == code
    assert f"error: {word}; finished parts are kept" in log
    assert "Traceback" not in log and stdout == ""
    assert not (tmp_path / "work" / "item_embeddings.parquet").exists()
    parts = list(tmp_path.glob("work/.parts/*/item_embeddings-*.parquet"))
    assert len(parts) >= 2
    assert not leftovers(tmp_path)

    with locks.hold(locks.workdir_lock(tmp_path / "work" / ".locks"), what="work", exclusive=True):
        pass  # free at once


def test_run_and_stages_refuse_each_other(world: World, run_cli, tmp_path: Path, monkeypatch):
    work = copy_of_finished(world, tmp_path)
    monkeypatch.chdir(tmp_path)
    lock = locks.workdir_lock(work / ".locks")
    with locks.hold(lock, what="work", exclusive=True):  # as `run` does
        for words in (("score", "--force"), ("run",)):
            result = run_cli(*words, "-c", world.config, expect=6)
            assert "work directory work is in use by another run" in result.stderr
            assert str(lock.relative_to(tmp_path)) in result.stderr and "taken by pid" in result.stderr
        for words in (("status",), ("segments",), ("recommend", "u01"), ("run", "--dry-run")):
            run_cli(*words, "-c", world.config)  # readers are never locked out
    with locks.hold(lock, what="work", exclusive=False):  # as another stage does
        run_cli("run", "-c", world.config, expect=6)
        run_cli("score", "-c", world.config, "--force")


def test_the_lock_of_a_dead_holder_is_free(world: World, run_cli, tmp_path: Path, monkeypatch):
    work = copy_of_finished(world, tmp_path)
    monkeypatch.chdir(tmp_path)
    program = (
        "import sys, time; from pathlib import Path; from recpipe.store import locks\n"
        f"with locks.hold(Path({str(locks.workdir_lock(work / '.locks'))!r}), what='work', exclusive=True):\n"
        "    print('held', flush=True); time.sleep(60)\n"
    )

    holder = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout is not None and holder.stdout.readline() == "held\n"
        run_cli("run", "-c", world.config, expect=6)
    finally:
        holder.kill()
        holder.communicate()
    assert run_cli("run", "-c", world.config).stdout == "up to date: work\n"


def test_two_stages_at_once_make_one_table_once(world: World, tmp_path: Path):
    """make -j2: both need the items; neither fails, both see the same table."""
    commands = ("embed-items", "train")
    processes = [
        start(
            command,
            "-c",
            world.config,
            *(("--set", "train.model=popularity") if command == "train" else ()),
            cwd=tmp_path,
        )
        for command in commands
    ]
    for process in processes:
        code, _, log = finish(process)
        assert code == 0, log
    table = manifest_of(tmp_path / "work" / "tables" / "items.parquet")
    for output in ("item_embeddings.parquet", "models/popularity"):
        assert manifest_of(tmp_path / "work" / output).inputs["items"] == table.fingerprint
    assert pq.read_metadata(tmp_path / "work" / "item_embeddings.parquet").num_rows == 60


def test_a_closed_pipe_is_no_error(world: World, tmp_path: Path):
    copy_of_finished(world, tmp_path)
    process = start("recommend", "--sample", "20", "--top", "5", "-c", world.config, cwd=tmp_path)
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    log = process.stderr.read()
    process.stderr.close()
    assert process.wait(60) == 0, log
    assert log == ""
