from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from recpipe.errors import LockedError
from recpipe.store import locks

HOLDER = """
import sys
from pathlib import Path
from recpipe.store import locks
with locks.hold(Path(sys.argv[1]), what="x", exclusive=sys.argv[2] == "exclusive"):
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def holder(lock: Path, mode: str) -> Iterator[subprocess.Popen[str]]:
    """A process that holds the lock until the block ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(lock), mode], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        if process.poll() is None:
            process.kill()


def is_free(lock: Path, *, exclusive: bool) -> bool:
    try:
        with locks.hold(lock, what="x", exclusive=exclusive):
            return True
    except LockedError:
        return False


def test_exclusive_shuts_everybody_out_and_shared_only_exclusive(tmp_path: Path) -> None:
    lock = tmp_path / "deep" / "x.lock"
    with holder(lock, "exclusive"):
        assert not is_free(lock, exclusive=True)
        assert not is_free(lock, exclusive=False)
    with holder(lock, "shared"):
        assert not is_free(lock, exclusive=True)
        assert is_free(lock, exclusive=False)
    assert is_free(lock, exclusive=True)


def test_a_killed_holder_frees_it(tmp_path: Path) -> None:
    lock = tmp_path / "x.lock"
    with holder(lock, "exclusive") as process:
        process.send_signal(signal.SIGKILL)
        process.wait(10)
        assert is_free(lock, exclusive=True)


def test_the_message_names_the_holder(tmp_path: Path) -> None:
    lock = tmp_path / "x.lock"
    with holder(lock, "exclusive") as process:
        with pytest.raises(LockedError, match="work directory w is in use") as caught, locks.hold(
            lock, what="work directory w", exclusive=True
        ):  # fmt: skip
            pass
        assert f"pid {process.pid}: " in str(caught.value.where)
        assert str(lock) in str(caught.value.where)
        assert caught.value.exit_code == 6
        # a refused attempt has not written itself over the holder
        assert f"pid {process.pid}: " in lock.read_text()


def text_after(lock: Path, mode: bool, error: type[BaseException] | None) -> str:
    try:
        with locks.hold(lock, what="x", exclusive=mode):
            if error is not None:
                raise error
    except RuntimeError:
        pass
    return lock.read_text()


@pytest.mark.parametrize("error", [None, RuntimeError])
def test_nobody_is_named_once_it_is_free(tmp_path: Path, error: type[BaseException] | None) -> None:
    assert text_after(tmp_path / "x.lock", True, error) == ""


def test_those_who_share_it_name_nobody(tmp_path: Path) -> None:
    lock = tmp_path / "x.lock"
    with holder(lock, "exclusive") as process:
        process.send_signal(signal.SIGKILL)
        process.wait(10)
    assert lock.read_text().startswith(f"pid {process.pid}: ")
    with holder(lock, "shared"):
        assert lock.read_text() == ""
        with pytest.raises(LockedError) as caught, locks.hold(lock, what="x", exclusive=True):
            pass
        assert caught.value.where == str(lock)


def test_waiting_takes_over_when_the_holder_is_done(tmp_path: Path) -> None:
    lock = tmp_path / "x.lock"
    with holder(lock, "exclusive") as first:
        second = subprocess.Popen(
            [sys.executable, "-c", HOLDER.replace("exclusive=", "wait=True, exclusive="), str(lock), "exclusive"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        with second:
            assert second.stdout is not None
            time.sleep(0.3)
            os.set_blocking(second.stdout.fileno(), False)
            assert not second.stdout.readline()
            os.set_blocking(second.stdout.fileno(), True)
            assert first.stdin is not None
            first.stdin.close()
            assert second.stdout.readline() == "held\n"
            second.kill()


def test_an_exception_inside_frees_it(tmp_path: Path) -> None:
    lock = tmp_path / "x.lock"
    with pytest.raises(RuntimeError), locks.hold(lock, what="x", exclusive=True):
        raise RuntimeError
    assert is_free(lock, exclusive=True)


def test_two_outputs_of_one_name_have_two_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / ".locks"
    here = locks.output_lock(folder, Path("a/x.parquet"))
    assert here == locks.output_lock(folder, tmp_path / "b" / ".." / "a" / "x.parquet")
    assert here != locks.output_lock(folder, Path("b/x.parquet"))
    assert here != locks.workdir_lock(folder)
    assert len({locks.parts_lock(folder, f"{number:032x}"[::-1]) for number in range(10_000)}) <= 256
    assert locks.parts_lock(folder, "ab" * 16) != locks.parts_lock(folder, "cd" * 16)
