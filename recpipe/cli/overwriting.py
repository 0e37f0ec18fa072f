"""Files written into folders of the user's: never over what somebody else wrote or changed."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from recpipe.errors import ConfigError

RECORD = ".recpipe-written.json"
"""Digests of the files that were written, by name; hidden, so that reading the folder as a table skips it."""


@contextmanager
def overwriting(
    folder: Path, names: Sequence[str], *, force: bool, ours: Callable[[Path], bool] | None = None
) -> Iterator[None]:
    """Refuse to replace foreign files, and remember what is written inside the context.

    A file is our own while it is what an earlier call remembered, byte for byte.

    Args:
        names: Files in the folder that are written, or deleted, inside.
        force: Replace whatever is there.
        ours: Says, where nothing is remembered, whether the folder's files are an earlier output.

    Raises:
        ConfigError: A file of such a name is there and not our own.
    """
    known = _read(folder)
    present = [name for name in names if (folder / name).exists()]
    if known or ours is None or not ours(folder):
        foreign = [name for name in present if known.get(name) != _digest(folder / name)]
    else:
        foreign = []
    if foreign and not force:
        raise ConfigError(
            f"would overwrite {', '.join(foreign)}, which this command did not write or which changed since",
            where=str(folder),
            next_step="name another folder with --to, or pass --force to replace them",
        )
    before = {name: _state(folder / name) for name in present}
    try:
        yield
    finally:
        # also when interrupted half way: what was replaced by then is our own
        there = [name for name in names if (folder / name).exists()]
        own = [name for name in there if name not in foreign or _state(folder / name) != before[name]]
        if own:
            _write(folder, {**known, **{name: _digest(folder / name) for name in own}})


def _state(path: Path) -> tuple[int, int, int]:
    found = path.stat()
    return found.st_ino, found.st_mtime_ns, found.st_size


def _digest(path: Path) -> str:
    if not path.is_file():
        return ""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read(folder: Path) -> dict[str, str]:
    try:
        content = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError:
        return {}  # damaged: then nothing is known to be our own
    return {str(name): str(digest) for name, digest in content.items()} if isinstance(content, dict) else {}


def _write(folder: Path, digests: dict[str, str]) -> None:
    temporary = folder / f"{RECORD}.{os.getpid()}.tmp"
    temporary.write_text(json.dumps(digests, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    temporary.replace(folder / RECORD)
