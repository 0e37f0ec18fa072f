"""Seeded random numbers that belong to a user, an item or a row, and sets of hashes.

A number drawn for an id, not for a place in a stream, does not depend on the order or the
batches in which the ids come by.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from recpipe.ingest.ids import hash_ids
from recpipe.seeding import derive_seed

Hashes = npt.NDArray[np.uint64]

_GAMMA = np.uint64(0x9E3779B97F4A7C15)
_MIX_1, _MIX_2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_PENDING = 1 << 20


def mix(values: Hashes) -> Hashes:
    """Scatter 64-bit values: the finaliser of SplitMix64 (Steele, Lea & Flood 2014), a bijection."""
    values = (values ^ (values >> np.uint64(30))) * _MIX_1
    values = (values ^ (values >> np.uint64(27))) * _MIX_2
    return values ^ (values >> np.uint64(31))


def seeded(hashes: Hashes, seed: int, *purpose: str) -> Hashes:
    """Return a random uint64 for each hash, one stream a seed and purpose."""
    return mix(mix(hashes + _GAMMA) ^ np.uint64(derive_seed(seed, *purpose)))


def nth(keys: Hashes, numbers: npt.NDArray[np.int64]) -> Hashes:
    """Return value number `numbers` of each key's own stream (SplitMix64 with the key as its state)."""
    return mix(keys + (numbers.astype(np.uint64) + np.uint64(1)) * _GAMMA)


def combine(hashes: Hashes, others: Hashes) -> Hashes:
    """Return one hash a pair; (a, b) and (b, a) differ."""
    return mix(mix(hashes + _GAMMA) ^ others)


def uniform(keys: Hashes) -> npt.NDArray[np.float64]:
    """Turn random uint64 into float64 in [0, 1)."""
    return (keys >> np.uint64(11)).astype(np.float64) * 2.0**-53


def hash_column(ids: pa.Array) -> tuple[Hashes, npt.NDArray[np.int64]]:
    """Hash the distinct ids of a column once.

    Returns:
        uint64 (n_distinct,) and, for each row, its place there: int64 (n_rows,).
    """
    encoded = ids.dictionary_encode()
    return hash_ids(encoded.dictionary), np.asarray(encoded.indices.to_numpy(), np.int64)


class HashSet:
    """A growing set of 64-bit hashes: 8 bytes each, and as much again while it grows."""

    def __init__(self) -> None:
        self._sorted: Hashes = np.empty(0, np.uint64)
        self._pending: list[Hashes] = []
        self._n_pending = 0

    def add(self, hashes: Hashes) -> None:
        """Add hashes, any number of times each."""
        self._pending.append(hashes)
        self._n_pending += len(hashes)
        # sorting again only when as much is new keeps all sorts together linear, but for a logarithm
        if self._n_pending > max(_PENDING, len(self._sorted)):
            self._merge()

    def values(self) -> Hashes:
        """Return the distinct hashes, ascending."""
        self._merge()
        return self._sorted

    def _merge(self) -> None:
        if self._pending:
            self._sorted = np.unique(np.concatenate([self._sorted, *self._pending]))
            self._pending, self._n_pending = [], 0
