"""Atomic publication: a file is either the old one or the whole new one."""

from __future__ import annotations

import json
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

TEMPORARY = ".tmp-"


def temporary_for(path: Path) -> Path:
    """Return a path in the folder of `path` to write to before `finish`; makes the folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # not the process id alone: two containers that share a folder may have the same
    return path.with_name(f"{TEMPORARY}{os.getpid()}-{secrets.token_hex(4)}-{path.name}")


def finish(temporary: Path, path: Path) -> None:
    """Rename a written file over `path`.

    The data are on disk (fsync) before the name points at them, and so is the name.
    """
    with temporary.open("rb") as written:
        os.fsync(written.fileno())
    temporary.replace(path)
    sync_folder(path.parent)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path and publish it as `path` on success; on an exception drop it."""
    temporary = temporary_for(path)
    try:
        yield temporary
        finish(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Force a folder's entries to disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Publish a JSON file atomically, in ASCII: paths of files may hold bytes that are no UTF-8."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def sweep(folder: Path, name: str | None = None) -> None:
    """Remove temporary files that killed writers left in a folder, of all its files or of one.

    Only called while holding the lock of what the folder's files belong to.
    """
    # the whole name: `recommendations.parquet` ends another file's `popular_recommendations.parquet`
    pattern = re.compile(rf"{re.escape(TEMPORARY)}\d+-[0-9a-f]{{8}}-{'.*' if name is None else re.escape(name)}")
    if folder.is_dir():
        for leftover in folder.iterdir():
            if pattern.fullmatch(leftover.name) and leftover.is_file():
                leftover.unlink(missing_ok=True)
