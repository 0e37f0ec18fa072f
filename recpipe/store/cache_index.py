"""Where the vector of a content key is: segment and row, for every row of the cache.

24 bytes a row, in sorted tiers each at least twice as long as the next, so that adding a
shard's rows never sorts everything again and a look-up searches few of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_FLAG = np.uint32(1 << 31)


@dataclass(frozen=True, slots=True)
class Places:
    """Where n keys are.

    Attributes:
        found: (n,) bool; the rest means nothing where it is false.
        segment: (n,) int32.
        row: (n,) int64.
        truncated: (n,) bool.
    """

    found: NDArray[np.bool_]
    segment: NDArray[np.int32]
    row: NDArray[np.int64]
    truncated: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class _Tier:
    """Sorted by the first half of the key; the flag is the highest bit of the row."""

    keys: NDArray[np.uint64]  # (n, 2)
    segment: NDArray[np.int32]
    row: NDArray[np.uint32]

    def take(self, rows: NDArray[np.int64] | NDArray[np.bool_]) -> _Tier:
        return _Tier(self.keys[rows], self.segment[rows], self.row[rows])

    def sorted(self) -> _Tier:
        return self.take(np.argsort(self.keys[:, 0], kind="stable"))

    def join(self, other: _Tier) -> _Tier:
        return _Tier(
            np.concatenate([self.keys, other.keys]),
            np.concatenate([self.segment, other.segment]),
            np.concatenate([self.row, other.row]),
        ).sorted()


class KeyIndex:
    """Finds segment and row of content keys. A key may be there several times; one of them is found."""

    def __init__(self) -> None:
        self._tiers: list[_Tier] = []

    def __len__(self) -> int:
        return sum(len(tier.row) for tier in self._tiers)

    def add(self, keys: NDArray[np.uint64], truncated: NDArray[np.bool_], *, segment: int) -> None:
        """Add all rows of a segment.

        Args:
            keys: (n, 2), of row 0 to n - 1.
            truncated: (n,)
            segment: Its number.
        """
        if not len(keys):
            return
        row = np.arange(len(keys), dtype=np.uint32) | np.where(truncated, _FLAG, np.uint32(0))
        self._tiers.append(_Tier(keys, np.full(len(keys), segment, np.int32), row).sorted())
        while len(self._tiers) > 1 and len(self._tiers[-2].row) < 2 * len(self._tiers[-1].row):
            last = self._tiers.pop()
            self._tiers[-1] = self._tiers[-1].join(last)

    def find(self, keys: NDArray[np.uint64]) -> Places:
        """Find keys (n, 2)."""
        found = np.zeros(len(keys), bool)
        segment, row = np.zeros(len(keys), np.int32), np.zeros(len(keys), np.uint32)
        for tier in self._tiers:
            wanted = np.flatnonzero(~found)
            # equal first halves are a 2^-64 accident: the full key is compared at one place, and a miss only costs time
            place = np.searchsorted(tier.keys[:, 0], keys[wanted, 0])
            place = np.minimum(place, len(tier.row) - 1)
            same = (tier.keys[place] == keys[wanted]).all(axis=1)
            hits, place = wanted[same], place[same]
            found[hits], segment[hits], row[hits] = True, tier.segment[place], tier.row[place]
        return Places(found, segment, (row & ~_FLAG).astype(np.int64), (row & _FLAG) != 0)

    def forget(self, segment: int, rows: NDArray[np.int64] | None = None) -> None:
        """Drop rows of a segment, all of them by default."""
        kept = []
        for tier in self._tiers:
            gone = tier.segment == segment
            if rows is not None:
                gone &= np.isin(tier.row & ~_FLAG, rows)
            if not gone.all():
                kept.append(tier.take(~gone) if gone.any() else tier)
        self._tiers = kept
