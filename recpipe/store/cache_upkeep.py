"""The size of the embedding cache, and removing what was not used for longest."""

from __future__ import annotations

import shutil
import time
from collections.abc import Collection
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from recpipe.errors import LockedError
from recpipe.store.cache_folder import CALIBRATED, KeyFolder, SegmentFile, key_folders
from recpipe.store.cache_segments import DamagedSegmentError, Segment


@dataclass(frozen=True, slots=True)
class KeySize:
    """What the cache holds under one encoder key.

    Attributes:
        about: What is known of the encoder: values by name.
        unreadable: Segments that cannot be read; their vectors are not counted.
        used_at: When one of its segments was last used or written, seconds since the epoch; None without segments.
    """

    key: str
    about: dict[str, list[str]]
    segments: int
    vectors: int
    n_bytes: int
    unreadable: int
    used_at: float | None


@dataclass
class Removed:
    """What was removed of one encoder key."""

    segments: int = 0
    n_bytes: int = 0


@dataclass
class Pruned:
    """What pruning did.

    Attributes:
        removed: By encoder key; without those of which nothing was removed.
        in_use: Encoder keys that were left alone because somebody uses them.
        kept_bytes: What is left.
        models: Calibrated int8 models that were removed, and `models_bytes`, their size.
    """

    removed: dict[str, Removed] = field(default_factory=dict)
    in_use: list[str] = field(default_factory=list)
    kept_bytes: int = 0
    models: int = 0
    models_bytes: int = 0


def sizes(cache: Path) -> list[KeySize]:
    """Return what the cache holds, by encoder key. Reads footers only."""
    return [_size(folder) for folder in key_folders(cache)]


def calibrated_bytes(cache: Path) -> int:
    """Return the size of the int8 models that were calibrated on this machine, which are kept beside the vectors."""
    return sum(path.stat().st_size for path in (cache / CALIBRATED).rglob("*") if path.is_file())


def _size(folder: KeyFolder) -> KeySize:
    files = folder.files()
    vectors = unreadable = 0
    for file in files:
        try:
            vectors += Segment.open(file.path).rows
        except (DamagedSegmentError, FileNotFoundError):
            unreadable += 1
    used_at = max((file.used_at for file in files), default=None)
    n_bytes = sum(file.n_bytes for file in files)
    return KeySize(folder.key, folder.about(), len(files), vectors, n_bytes, unreadable, used_at)


def prune(
    cache: Path,
    *,
    max_bytes: int | None = None,
    unused_seconds: float | None = None,
    keys: Collection[str] | None = None,
    dry_run: bool = False,
) -> Pruned:
    """Remove segments: those unused for too long, then the least recently used ones until the rest fits.

    Without limits all of them. Encoder keys that somebody uses are left alone, and counted.
    Temporary files of killed writers go too. So do calibrated int8 models that were unused for too long,
    where no keys are named: for their size alone none goes, as all vectors made with it would be lost with it.

    Args:
        max_bytes: What may stay, of the encoder keys looked at.
        unused_seconds: How long a segment may have been unused.
        keys: Encoder keys to look at; all by default.
        dry_run: Change nothing.
    """
    result = Pruned()
    with ExitStack() as held:
        candidates: list[tuple[SegmentFile, KeyFolder]] = []
        free: list[KeyFolder] = []
        for folder in key_folders(cache):
            if keys is not None and folder.key not in keys:
                continue
            files = folder.files()
            result.kept_bytes += sum(file.n_bytes for file in files)
            try:
                held.enter_context(folder.alone())
            except (LockedError, OSError):  # OSError: it cannot be locked here, so nobody can say that it is free
                result.in_use.append(folder.key)
                continue
            free.append(folder)
            candidates += [(file, folder) for file in files]
        oldest = None if unused_seconds is None else time.time() - unused_seconds
        for file, folder in sorted(candidates, key=lambda entry: entry[0].used_at):
            unused = oldest is not None and file.used_at < oldest
            too_much = max_bytes is not None and result.kept_bytes > max_bytes
            if unused or too_much or (oldest is None and max_bytes is None):
                _remove(file, folder, result, dry_run=dry_run)
        for folder in () if dry_run else free:
            folder.sweep(alone=True)
            folder.remove_if_empty()
    if oldest is not None and keys is None:
        _remove_calibrated(cache, oldest, result, dry_run=dry_run)
    return result


def _remove_calibrated(cache: Path, oldest: float, result: Pruned, *, dry_run: bool) -> None:
    folders = [path for path in (cache / CALIBRATED).glob("*") if path.is_dir()]
    for folder in folders:
        states = [path.stat() for path in folder.iterdir() if path.is_file()]
        if max((state.st_mtime for state in states), default=0.0) < oldest:
            result.models += 1
            result.models_bytes += sum(state.st_size for state in states)
            if not dry_run:
                shutil.rmtree(folder, ignore_errors=True)


def _remove(file: SegmentFile, folder: KeyFolder, result: Pruned, *, dry_run: bool) -> None:
    if not dry_run:
        file.path.unlink(missing_ok=True)
    removed = result.removed.setdefault(folder.key, Removed())
    removed.segments += 1
    removed.n_bytes += file.n_bytes
    result.kept_bytes -= file.n_bytes
