"""The embedding cache: a content that was embedded once is not embedded again.

Immutable segments of (content key, vector, truncated) below `<cache>/<encoder key>/`. Any
number of writers add segments; a segment's name is the digest of its keys, so writing the
same twice changes nothing. Vectors of two encoder keys never meet: they are in two folders.

A damaged row never gives a vector: rows carry checksums, and what cannot be read is left out
with a warning and computed again. Many small segments become few when the cache is opened.
"""

from __future__ import annotations

import hashlib
import os
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from recpipe import logs
from recpipe.errors import LockedError
from recpipe.store.cache_folder import KeyFolder
from recpipe.store.cache_index import KeyIndex
from recpipe.store.cache_merge import is_small, merge_segments
from recpipe.store.cache_segments import DamagedSegmentError, Rows, Segment, segment_name, write_segment
from recpipe.store.cache_upkeep import prune

MOST_SMALL_SEGMENTS = 64
"""Small segments of one encoder key above which they are merged when the cache is opened."""


@dataclass(frozen=True, slots=True)
class Cached:
    """What the cache knows of n contents.

    Attributes:
        vectors: (n, dim) float32; zero where not found.
        truncated: (n,) bool, the encoder read only the beginning.
        found: (n,) bool.
    """

    vectors: NDArray[np.float32]
    truncated: NDArray[np.bool_]
    found: NDArray[np.bool_]


def content_keys(contents: Sequence[str | bytes]) -> NDArray[np.uint64]:
    """Return 128-bit keys of texts, or of files' bytes, as (n, 2) uint64."""
    raw = b"".join(
        hashlib.blake2b(content.encode() if isinstance(content, str) else content, digest_size=16).digest()
        for content in contents
    )
    return np.frombuffer(raw, dtype="<u8").reshape(-1, 2)


class EmbeddingCache:
    """Vectors by content, for one encoder key.

    Memory: 24 bytes a cached vector for the index; the vectors themselves stay on disk. What it has
    found stays there as long as it lives: nobody prunes or merges an encoder key that is in use.

    Args:
        folder: The cache.
        encoder_key: Everything that decides a vector, as a digest.
        about: What the key stands for (model, role, pooling, precision, ...), kept beside the vectors for people.
    """

    def __init__(self, folder: Path, encoder_key: str, *, about: Mapping[str, str] | None = None) -> None:
        self._folder = KeyFolder(folder / encoder_key)
        self._about = about or {}
        self._described = False
        self._use = ExitStack()
        weakref.finalize(self, self._use.close)
        self._locked = False
        self._segments: list[Segment] = []
        self._damaged: set[Path] = set()
        self._index = KeyIndex()
        if self._folder.path.is_dir():
            self._tidy()
            self._lock()
            for file in self._folder.files():
                self._load(file.path)

    def _tidy(self) -> None:
        """Make many small segments few; a stage goes on where that cannot be."""
        if sum(map(is_small, self._folder.files())) <= MOST_SMALL_SEGMENTS:
            return
        try:
            with self._folder.alone():
                merge_segments(self._folder)
        except LockedError:
            return  # somebody uses them: the next one will
        except OSError as error:
            logs.get().warning("the embedding cache could not be merged: %s: %s", self._folder.path, error)

    def _lock(self) -> None:
        if self._locked:
            return
        self._locked = True
        with suppress(OSError):  # a cache that may only be read, or a file system without locks
            self._use.enter_context(self._folder.shared())
            self._folder.sweep()

    def _load(self, path: Path) -> None:
        """Take a segment into the index; with a warning, leave it out where it is damaged."""
        try:
            segment = Segment.open(path)
            if self.dim not in (None, segment.dim):
                raise DamagedSegmentError(f"vectors of length {segment.dim} among {self.dim}", for_good=False)
            keys, truncated = segment.index()
        except FileNotFoundError:
            return  # removed by somebody who makes room
        except DamagedSegmentError as error:
            self._leave_out(path, error)
            return
        self._index.add(keys, truncated, segment=len(self._segments))
        self._segments.append(segment)

    def _leave_out(self, path: Path, problem: object) -> None:
        logs.get().warning(
            "cache segment left out, what it held is encoded again (recpipe cache merge drops it): %s: %s",
            path, problem,
        )  # fmt: skip
        self._damaged.add(path)

    @property
    def dim(self) -> int | None:
        """Length of the cached vectors; None while there are none."""
        return self._segments[0].dim if self._segments else None

    def lookup(self, keys: NDArray[np.uint64]) -> Cached:
        """Find contents by their keys (n, 2)."""
        while True:
            places = self._index.find(keys)
            vectors = np.zeros((len(keys), self.dim or 0), np.float32)
            complete = True
            for number, mine in _by_segment(places.segment, places.found):
                found = self._read(number, places.row[mine], keys[mine], places.truncated[mine])
                if found is None:
                    complete = False  # another segment may hold what was lost
                else:
                    vectors[mine] = found
            if complete:
                return Cached(vectors, places.truncated & places.found, places.found)

    def _read(
        self, number: int, rows: NDArray[np.int64], keys: NDArray[np.uint64], truncated: NDArray[np.bool_]
    ) -> NDArray[np.float32] | None:
        """Return the vectors of rows of a segment; None where some are lost, which are forgotten."""
        segment = self._segments[number]
        try:
            vectors, sound = segment.read(rows, keys=keys, truncated=truncated)
        except FileNotFoundError:  # removed by hand: a miss
            self._index.forget(number)
            return None
        except DamagedSegmentError as error:
            self._leave_out(segment.path, error)
            self._index.forget(number)
            return None
        self._touch(segment.path)
        if sound.all():
            return vectors
        self._leave_out(segment.path, f"{int((~sound).sum())} rows are not what was written")
        self._index.forget(number, rows[~sound])
        return None

    @staticmethod
    def _touch(path: Path) -> None:
        """Mark a segment as used: the least recently used ones are removed first."""
        with suppress(FileNotFoundError, PermissionError):
            os.utime(path)

    def add(self, keys: NDArray[np.uint64], vectors: NDArray[np.float32], truncated: NDArray[np.bool_]) -> None:
        """Publish a new segment and make it visible to this process."""
        if not len(keys):
            return
        self._lock()
        path = self._folder.path / segment_name(keys)
        if path in self._damaged or not path.exists():
            write_segment(path, Rows(keys, vectors, truncated))
            self._damaged.discard(path)
        if not self._described:
            self._folder.describe(self._about)
            self._described = True
        self._load(path)


def _by_segment(segment: NDArray[np.int32], found: NDArray[np.bool_]) -> Iterator[tuple[int, NDArray[np.int64]]]:
    """Yield each segment's number with the positions that were found in it."""
    hits = np.flatnonzero(found)
    order = hits[np.argsort(segment[hits], kind="stable")]
    for mine in np.split(order, np.flatnonzero(np.diff(segment[order])) + 1):
        if len(mine):
            yield int(segment[mine[0]]), mine


def shrink(folder: Path, *, max_bytes: int) -> int:
    """Remove the least recently used segments of all encoders until the cache fits.

    Returns:
        How many were removed.
    """
    return sum(removed.segments for removed in prune(folder, max_bytes=max_bytes).removed.values())
