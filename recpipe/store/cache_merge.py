"""Many small segments of an encoder key into few large ones.

A night in which little has changed adds a small segment a shard; opening the cache reads the
footer and the keys of each. What is merged is published before its sources go, so a kill in
the middle leaves rows twice and loses none.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from recpipe import logs
from recpipe.store.cache_folder import KeyFolder, SegmentFile
from recpipe.store.cache_index import KeyIndex
from recpipe.store.cache_segments import DamagedSegmentError, Rows, Segment, segment_name, write_segment

TARGET_BYTES = 64_000_000
"""Size of a merged segment: a whole one goes when the cache is pruned, and fits in memory several times."""

_CHUNK_ROWS = 8192


@dataclass
class Merged:
    """What merging did.

    Attributes:
        before: Segments before.
        after: Segments after.
        duplicates: Rows dropped because another segment had them.
        damaged: Rows dropped because they were not what was written.
        unreadable: Segments dropped because they could not be read at all.
    """

    before: int
    after: int = 0
    duplicates: int = 0
    damaged: int = 0
    unreadable: int = 0


def is_small(file: SegmentFile) -> bool:
    """Say whether a segment is worth merging."""
    return 2 * file.n_bytes < TARGET_BYTES


def merge_segments(folder: KeyFolder, *, thorough: bool = False) -> Merged:
    """Join the small segments of an encoder key; the caller holds its lock alone.

    Segments last used at about the same time are joined, and keep that time.

    Args:
        thorough: Read the large ones too, and write those anew that hold damaged rows or rows twice.
    """
    files = folder.files()
    merge = _Merge(folder, Merged(before=len(files)))
    merge.run([file for file in files if thorough or is_small(file)])
    merge.done.after = len(folder.files())
    if merge.done.after != merge.done.before:
        logs.get().info(
            "embedding cache: %d segments of encoder key %s merged into %d",
            merge.done.before, folder.key, merge.done.after,
        )  # fmt: skip
    return merge.done


@dataclass
class _Merge:
    """One pass over the segments of a folder.

    Attributes:
        seen: Sound rows met so far.
        pending: Rows to be written next.
        newest: When the segments of the pending rows were last used.
        consumed: Segments whose rows are written or pending.
        written: Segments written.
    """

    folder: KeyFolder
    done: Merged
    dim: int | None = None
    seen: KeyIndex = field(default_factory=KeyIndex)
    pending: list[Rows] = field(default_factory=list)
    newest: float = 0.0
    consumed: list[Path] = field(default_factory=list)
    written: set[Path] = field(default_factory=set)

    def run(self, files: list[SegmentFile]) -> None:
        small = [file for file in files if is_small(file)]
        stays = [file for file in files if len(small) == 1 or not is_small(file)]
        joined = [file for file in stays if not self._is_clean(file)] + (small if len(small) > 1 else [])
        for file in sorted(joined, key=lambda file: file.used_at):
            self._take(file)
        self._flush()

    def _open(self, file: SegmentFile) -> tuple[Segment, NDArray[np.uint64], NDArray[np.bool_]] | None:
        """Return a segment with its keys and flags; None where it cannot be read."""
        try:
            segment = Segment.open(file.path)
            self.dim = self.dim or segment.dim
            if segment.dim != self.dim:
                raise DamagedSegmentError(f"vectors of length {segment.dim} among {self.dim}", for_good=False)
            return segment, *segment.index()
        except FileNotFoundError:
            return None
        except DamagedSegmentError as error:
            self._drop(file, error)
            return None

    def _drop(self, file: SegmentFile, error: DamagedSegmentError) -> None:
        if error.for_good:
            logs.get().warning("damaged cache segment dropped: %s: %s", file.path, error)
            self.done.unreadable += 1
            file.path.unlink(missing_ok=True)
        else:
            logs.get().warning("left as it is: %s: %s", file.path, error)

    def _is_clean(self, file: SegmentFile) -> bool:
        """Say whether a segment can stay: every row sound, none met before. Its rows then count as seen."""
        opened = self._open(file)
        if opened is None:
            return True  # nothing to take
        segment, keys, truncated = opened
        if not segment.checked or self.seen.find(keys).found.any() or len(np.unique(keys, axis=0)) < len(keys):
            return False
        for chunk in _chunks(len(keys)):
            try:
                if not segment.read(chunk, keys=keys[chunk], truncated=truncated[chunk])[1].all():
                    return False
            except (DamagedSegmentError, FileNotFoundError):
                return False  # `_take` says why
        self.seen.add(keys, truncated, segment=0)
        return True

    def _take(self, file: SegmentFile) -> None:
        """Add a segment's rows to the pending ones: those that are sound and were not met before."""
        opened = self._open(file)
        if opened is None:
            return
        segment, keys, truncated = opened
        for chunk in _chunks(len(keys)):
            first = np.sort(np.unique(keys[chunk], axis=0, return_index=True)[1])
            fresh = chunk[first][~self.seen.find(keys[chunk[first]]).found]
            self.done.duplicates += len(chunk) - len(fresh)
            try:
                vectors, sound = segment.read(fresh, keys=keys[fresh], truncated=truncated[fresh])
            except FileNotFoundError:
                return
            except DamagedSegmentError as error:
                self._drop(file, error)
                return
            self.done.damaged += int((~sound).sum())
            rows = Rows(keys[fresh], vectors, truncated[fresh]).take(sound)
            self.seen.add(rows.keys, rows.truncated, segment=0)
            self.pending.append(rows)
            self.newest = max(self.newest, file.used_at)
            if sum(part.vectors.nbytes for part in self.pending) >= TARGET_BYTES:
                self._flush()
        self.consumed.append(file.path)

    def _flush(self) -> None:
        """Publish the pending rows, then remove the segments they came from."""
        rows = Rows.join(self.pending) if self.pending else None
        if rows is not None and len(rows):
            path = self.folder.path / segment_name(rows.keys)
            write_segment(path, rows)
            os.utime(path, (self.newest, self.newest))
            self.written.add(path)
        for path in self.consumed:
            if path not in self.written:
                path.unlink(missing_ok=True)
        self.pending, self.consumed, self.newest = [], [], 0.0


def _chunks(n_rows: int) -> list[NDArray[np.int64]]:
    return [np.arange(start, min(start + _CHUNK_ROWS, n_rows)) for start in range(0, n_rows, _CHUNK_ROWS)]
