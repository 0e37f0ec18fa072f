"""Whole files or none: what this package writes by itself (quarantine, imports).

The names of temporary files are those of `recpipe.store.publish`, which this package may not
import, so that the sweep there finds what a killed run left.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path


def temporary_for(path: Path) -> Path:
    """Return a path in the folder of `path` to write to before `finish`; makes the folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.with_name(f".tmp-{os.getpid()}-{secrets.token_hex(4)}-{path.name}")


def finish(temporary: Path, path: Path) -> None:
    """Rename a written file over `path`; the data, then the name, are on disk (fsync)."""
    with temporary.open("rb") as written:
        os.fsync(written.fileno())
    temporary.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
