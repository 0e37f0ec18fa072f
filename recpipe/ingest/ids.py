"""Ids at eight bytes each: hashing, finding duplicates, looking rows up.

A 64-bit hash only proposes; the ids themselves decide, so a collision costs time, never
correctness.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

_BASE = np.uint64(0x100000001B3)
_MIX_1, _MIX_2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_SLICE_ROWS = 32_768


def hash_ids(ids: pa.Array) -> npt.NDArray[np.uint64]:
    """Hash strings to uint64, the same on every machine: a polynomial over the bytes, then SplitMix64's finaliser.

    Args:
        ids: string array (n,) without nulls.

    Returns:
        uint64 (n,).
    """
    if len(ids) <= _SLICE_ROWS:
        return _hash_slice(ids)
    slices = [_hash_slice(ids.slice(start, _SLICE_ROWS)) for start in range(0, len(ids), _SLICE_ROWS)]
    return np.concatenate(slices)


def _hash_slice(ids: pa.Array) -> npt.NDArray[np.uint64]:
    if ids.null_count:
        raise ValueError("ids hold nulls")
    if not len(ids):
        return np.empty(0, np.uint64)
    _, offset_buffer, data_buffer = ids.buffers()
    width = np.int64 if pa.types.is_large_string(ids.type) else np.int32
    offsets = np.frombuffer(offset_buffer, width)[ids.offset : ids.offset + len(ids) + 1].astype(np.int64)
    lengths = np.diff(offsets)
    total = int(offsets[-1] - offsets[0])
    if not total:
        return np.zeros(len(ids), np.uint64)
    data = np.frombuffer(data_buffer, np.uint8)[offsets[0] : offsets[-1]]
    starts = offsets[:-1] - offsets[0]
    powers = np.full(int(lengths.max()), _BASE, np.uint64).cumprod(dtype=np.uint64)
    terms = (data.astype(np.uint64) + np.uint64(1)) * powers[np.arange(total) - np.repeat(starts, lengths)]
    # the sentinel lets a last, empty id have a start
    sums = np.add.reduceat(np.append(terms, np.uint64(0)), starts)
    mixed: npt.NDArray[np.uint64] = np.where(lengths > 0, sums, np.uint64(0))
    mixed = (mixed ^ (mixed >> np.uint64(30))) * _MIX_1
    mixed = (mixed ^ (mixed >> np.uint64(27))) * _MIX_2
    return mixed ^ (mixed >> np.uint64(31))


def repeated_rows(hashes: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
    """Return the rows whose hash occurs more than once, ascending, int64."""
    order = np.argsort(hashes, kind="stable")
    ordered = hashes[order]
    same = ordered[1:] == ordered[:-1]
    member = np.zeros(len(hashes), bool)
    member[1:] |= same
    member[:-1] |= same
    return np.sort(order[member])


class IdIndex:
    """Finds the row of an id: 16 bytes an id besides the ids themselves.

    Args:
        ids: string array (n,), unique, without nulls.
    """

    def __init__(self, ids: pa.Array) -> None:
        self.ids = ids
        hashes = hash_ids(ids)
        self._order = np.argsort(hashes, kind="stable")
        self._hashes = hashes[self._order]

    def __len__(self) -> int:
        return len(self.ids)

    def rows_of(self, ids: pa.Array) -> npt.NDArray[np.int64]:
        """Return the row of each id, -1 where it is unknown: int64 (n_asked,)."""
        wanted = hash_ids(ids)
        rows = np.full(len(ids), -1, np.int64)
        places = np.searchsorted(self._hashes, wanted)
        open_ = np.arange(len(ids))
        while len(open_):
            inside = places[open_] < len(self._hashes)
            open_ = open_[inside]
            open_ = open_[self._hashes[places[open_]] == wanted[open_]]
            candidates = self._order[places[open_]]
            equal = pc.equal(ids.take(pa.array(open_)), self.ids.take(pa.array(candidates)))
            found = np.asarray(equal.to_numpy(zero_copy_only=False), bool)
            rows[open_[found]] = candidates[found]
            open_ = open_[~found]
            places[open_] += 1
        return rows
