"""The embedding cache: a text that was embedded once is not embedded again.

Immutable Parquet segments of (content key, vector, truncated) below `<cache>/<encoder key>/`. Any
number of writers add segments; a segment's name is the digest of its keys, so writing the
same twice changes nothing. Vectors of two encoder keys never meet: they are in two folders.

A damaged segment never gives a vector: pages carry checksums, and what cannot be read is
left out with a warning and computed again.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from recpipe import logs
from recpipe.store import publish
from recpipe.store.arrow import vector_array, vector_matrix

_KEY = "key"
_VECTOR = "vector"
_TRUNCATED = "truncated"


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


def content_keys(contents: Sequence[str]) -> NDArray[np.uint64]:
    """Return 128-bit keys of texts as (n, 2) uint64."""
    raw = b"".join(hashlib.blake2b(content.encode(), digest_size=16).digest() for content in contents)
    return np.frombuffer(raw, dtype="<u8").reshape(-1, 2)


class EmbeddingCache:
    """Vectors by content, for one encoder key.

    Memory: 24 bytes a cached vector for the index; the vectors themselves stay on disk.
    """

    def __init__(self, folder: Path, encoder_key: str) -> None:
        self._folder = folder / encoder_key
        self._paths: list[Path] = []
        self._keys = np.zeros((0, 2), np.uint64)
        self._segment = np.zeros(0, np.int32)
        self._row = np.zeros(0, np.int32)
        self._damaged: set[Path] = set()
        for path in sorted(self._folder.glob("*.parquet")):
            if path.name.startswith(publish.TEMPORARY):  # glob finds hidden files: somebody is writing this one
                continue
            keys = self._read(path, [_KEY])
            if keys is not None:
                self._index(path, _as_keys(keys.column(_KEY)))
        self._sort()
        self._dim = int(pq.read_schema(self._paths[0]).field(_VECTOR).type.list_size) if self._paths else None

    def _read(self, path: Path, columns: list[str]) -> pa.Table | None:
        """Read columns of a segment; None, with a warning, where it is damaged."""
        try:
            schema = pq.read_schema(path)
            if all(schema.get_field_index(name) >= 0 for name in (_KEY, _VECTOR, _TRUNCATED)):
                return pq.read_table(
                    path, columns=columns, memory_map=True, partitioning=None, page_checksum_verification=True
                )
            problem = "it is no cache segment"
        except FileNotFoundError:
            return None  # removed by somebody who makes room
        except (pa.ArrowException, OSError) as error:
            problem = str(error)
        logs.get().warning("cache segment left out, its texts are encoded again; delete it: %s: %s", path, problem)
        self._damaged.add(path)
        return None

    def _forget(self, segment: int) -> None:
        kept = self._segment != segment
        self._keys, self._segment, self._row = self._keys[kept], self._segment[kept], self._row[kept]

    def _index(self, path: Path, keys: NDArray[np.uint64]) -> None:
        self._keys = np.concatenate([self._keys, keys])
        self._segment = np.concatenate([self._segment, np.full(len(keys), len(self._paths), np.int32)])
        self._row = np.concatenate([self._row, np.arange(len(keys), dtype=np.int32)])
        self._paths.append(path)

    def _sort(self) -> None:
        order = np.argsort(self._keys[:, 0], kind="stable")
        self._keys, self._segment, self._row = self._keys[order], self._segment[order], self._row[order]

    @property
    def dim(self) -> int | None:
        """Length of the cached vectors; None while there are none."""
        return self._dim

    def lookup(self, keys: NDArray[np.uint64]) -> Cached:
        """Find contents by their keys (n, 2)."""
        vectors = np.zeros((len(keys), self.dim or 0), np.float32)
        truncated = np.zeros(len(keys), bool)
        found = np.zeros(len(keys), bool)
        # equal first halves are a 2^-64 accident: the full key is compared at one place, and a miss only costs time
        place = np.searchsorted(self._keys[:, 0], keys[:, 0])
        inside = place < len(self._keys)
        found[inside] = (self._keys[place[inside]] == keys[inside]).all(axis=1)
        hits = np.flatnonzero(found)
        for segment in np.unique(self._segment[place[hits]]):
            self._touch(self._paths[segment])
            mine = hits[self._segment[place[hits]] == segment]
            table = self._read(self._paths[segment], [_VECTOR, _TRUNCATED])
            if table is None:
                self._forget(segment)
                return self.lookup(keys)  # another segment may hold them
            rows = self._row[place[mine]]
            vectors[mine] = vector_matrix(table.column(_VECTOR))[0][rows]
            truncated[mine] = table.column(_TRUNCATED).to_numpy()[rows]
        return Cached(vectors, truncated, found)

    @staticmethod
    def _touch(path: Path) -> None:
        """Mark a segment as used: `shrink` removes the least recently used ones."""
        with suppress(FileNotFoundError):
            os.utime(path)

    def add(self, keys: NDArray[np.uint64], vectors: NDArray[np.float32], truncated: NDArray[np.bool_]) -> None:
        """Publish a new segment and make it visible to this process."""
        if not len(keys):
            return
        digest = hashlib.blake2b(keys.tobytes(), digest_size=16).hexdigest()
        path = self._folder / f"{digest}.parquet"
        if path in self._damaged or not path.exists():
            raw = pa.array(keys.astype("<u8").tobytes()[i : i + 16] for i in range(0, 16 * len(keys), 16))
            table = pa.table(
                {_KEY: raw.cast(pa.binary(16)), _VECTOR: vector_array(vectors), _TRUNCATED: pa.array(truncated)}
            )
            with publish.replacing(path) as temporary:
                pq.write_table(table, temporary, compression="NONE", use_dictionary=False, write_page_checksum=True)
            self._damaged.discard(path)
        self._index(path, keys)
        self._sort()
        self._dim = vectors.shape[1]


def _as_keys(column: pa.ChunkedArray) -> NDArray[np.uint64]:
    return np.frombuffer(b"".join(column.to_pylist()), dtype="<u8").reshape(-1, 2)


def shrink(folder: Path, *, max_bytes: int) -> int:
    """Remove the least recently used segments of all encoders until the cache fits.

    Returns:
        How many were removed.
    """
    segments = []
    for path in folder.glob("*/*.parquet"):
        if path.name.startswith(publish.TEMPORARY):  # the cache may be shared: somebody is writing this one
            continue
        try:
            state = path.stat()
        except FileNotFoundError:
            continue  # removed by somebody else who makes room
        segments.append((state.st_mtime_ns, state.st_size, path))
    total = sum(size for _, size, _ in segments)
    removed = 0
    for _, size, path in sorted(segments):
        if total <= max_bytes:
            break
        path.unlink(missing_ok=True)
        total -= size
        removed += 1
    return removed
