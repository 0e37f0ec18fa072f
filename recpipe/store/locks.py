"""Locks on the work directory and on outputs, by flock.

The kernel drops a lock when its holder dies, so a dead holder's lock is free at once.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from recpipe.errors import LockedError


@contextmanager
def hold(lock: Path, *, what: str, exclusive: bool, wait: bool = False) -> Iterator[None]:
    """Hold a lock file while the block runs.

    Args:
        lock: The lock file; created where absent and never deleted.
        what: What it protects, for the message.
        exclusive: Nobody else may hold it; otherwise any number may share it.
        wait: Wait for the holder instead of failing at once.

    Raises:
        LockedError: Somebody else holds it.
    """
    lock.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        mode = fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH
        try:
            fcntl.flock(descriptor, mode if wait else mode | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(descriptor, 500, 0).decode(errors="replace").strip()
            raise LockedError(
                f"{what} is in use by another run",
                where=f"{lock}{f' (taken by {holder})' if holder else ''}",
                next_step="wait for it to finish; a lock whose holder died is free at once",
            ) from None
        os.ftruncate(descriptor, 0)  # whoever is named there is gone, or the lock would not be ours
        if exclusive:  # of several who share a lock, none can speak for the others
            command = " ".join([Path(sys.argv[0]).name, *sys.argv[1:]])
            os.pwrite(descriptor, f"pid {os.getpid()}: {command}\n".encode(), 0)
        try:
            yield
        finally:
            if exclusive:
                os.ftruncate(descriptor, 0)
    finally:
        os.close(descriptor)


def workdir_lock(locks: Path) -> Path:
    """Return the lock of the whole work directory: shared by stages, exclusive for `run`."""
    return locks / "workdir.lock"


def parts_lock(locks: Path, fingerprint: str) -> Path:
    """Return the lock of the parts of a fingerprint; few enough files that they need no cleaning."""
    return locks / f"parts-{fingerprint[:2]}.lock"


def output_lock(locks: Path, output: Path) -> Path:
    """Return the lock of one output, wherever it is written."""
    digest = hashlib.blake2b(str(output.resolve()).encode(), digest_size=6).hexdigest()
    return locks / f"{output.name}-{digest}.lock"
