"""The folder of one encoder key in the embedding cache: what lies in it, and who uses it.

    <cache>/<encoder key>/<digest>.parquet    segments
    <cache>/<encoder key>/encoder.json        which encoder the key stands for, for people
    <cache>/.locks/<encoder key>.lock         shared by those who read and add, exclusive to remove
    <cache>/.calibrated/                      int8 models that made vectors; never removed by upkeep

Whoever looks up or adds holds the lock shared as long as it lives, so what it has found stays
until it ends. Removing and merging need the lock alone and never wait for it.
"""

from __future__ import annotations

import json
import stat
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from recpipe import logs
from recpipe.store import locks, publish

CALIBRATED = ".calibrated"
_ABOUT = "encoder.json"
_LOCKS = ".locks"
_DAY_SECONDS = 86_400.0


@dataclass(frozen=True, slots=True)
class SegmentFile:
    """A segment's file.

    Attributes:
        used_at: When it was last used or written, seconds since the epoch.
    """

    path: Path
    n_bytes: int
    used_at: float


@dataclass(frozen=True, slots=True)
class KeyFolder:
    """The folder of one encoder key."""

    path: Path

    @property
    def key(self) -> str:
        """The encoder key."""
        return self.path.name

    def files(self) -> list[SegmentFile]:
        """Return the segments, by name; without those that somebody is writing."""
        found = []
        for path in sorted(self.path.glob("*.parquet")):
            if path.name.startswith(publish.TEMPORARY):  # glob finds hidden files
                continue
            try:
                state = path.stat()
            except FileNotFoundError:
                continue  # removed by somebody else who makes room
            if stat.S_ISREG(state.st_mode):
                found.append(SegmentFile(path, state.st_size, state.st_mtime))
        return found

    def shared(self) -> AbstractContextManager[None]:
        """Keep the segments from being removed; waits for one who is removing some."""
        return self._lock(exclusive=False)

    def alone(self) -> AbstractContextManager[None]:
        """Be the only one who uses the folder.

        Raises:
            LockedError: Somebody else uses it.
        """
        return self._lock(exclusive=True)

    def _lock(self, *, exclusive: bool) -> AbstractContextManager[None]:
        lock = self.path.parent / _LOCKS / f"{self.key}.lock"
        return locks.hold(lock, what=f"the cache of encoder key {self.key}", exclusive=exclusive, wait=not exclusive)

    def about(self) -> dict[str, list[str]]:
        """Return what is known of the encoder: values by name. Two roles may share a key, so may two names."""
        try:
            content = json.loads((self.path / _ABOUT).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            logs.get().warning("cannot be read, the vectors are not concerned: %s: %s", self.path / _ABOUT, error)
            return {}
        if not isinstance(content, dict):
            return {}
        return {name: [str(value) for value in values] for name, values in content.items() if isinstance(values, list)}

    def describe(self, about: Mapping[str, str]) -> None:
        """Write down what is new of the encoder."""
        known = self.about()
        told = {name: sorted({*known.get(name, []), value}) for name, value in about.items()}
        if any(known.get(name) != values for name, values in told.items()):
            publish.write_json(self.path / _ABOUT, {**known, **told})

    def sweep(self, *, alone: bool = False) -> None:
        """Remove temporary files that killed writers left.

        Args:
            alone: The caller holds the lock alone: nobody is writing. Otherwise those older than a day go.
        """
        if alone:
            publish.sweep(self.path)
            return
        oldest = time.time() - _DAY_SECONDS
        for leftover in self.path.glob(f"{publish.TEMPORARY}*"):
            try:
                if leftover.stat().st_mtime < oldest:
                    leftover.unlink()
            except FileNotFoundError:
                continue  # its writer lives and has finished it, or somebody else sweeps

    def remove_if_empty(self) -> None:
        """Remove the folder where no segment is left; the caller holds the lock alone."""
        if not self.files():
            (self.path / _ABOUT).unlink(missing_ok=True)
            if not any(self.path.iterdir()):
                self.path.rmdir()


def key_folders(cache: Path) -> list[KeyFolder]:
    """Return the folders of all encoder keys, by key."""
    if not cache.is_dir():
        return []
    return [KeyFolder(path) for path in sorted(cache.iterdir()) if path.is_dir() and not path.name.startswith(".")]
