"""Rows that stand together: the interactions of each user, found without a scan.

The interactions table keeps the rows of one user together. The index maps each user to a
row range, 32 bytes a user, so a shard of users reads its own rows and no others.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from recpipe.errors import DataError
from recpipe.schemas import Column
from recpipe.store.artifacts import ArtifactReader

_HASHED_AT_ONCE = 65_536


@dataclass(frozen=True, slots=True)
class Group:
    """The rows of some keys: `table` rows `offsets[i]` to `offsets[i + 1]` are key i's."""

    table: pa.Table
    offsets: NDArray[np.int64]


class KeyIndex:
    """Positions of keys, found in the time of the keys asked for.

    `pyarrow.compute.index_in` hashes all known keys at every call: over all shards of a
    table that is quadratic in its rows.
    """

    def __init__(self, keys: pa.Array) -> None:
        self._keys = keys
        hashes = _hashes(keys)
        self._order = np.argsort(hashes, kind="stable")
        self._hashes = hashes[self._order]

    def find(self, keys: pa.Array) -> NDArray[np.int64]:
        """Return the position of each key, -1 where it is unknown."""
        if not len(self._keys):
            return np.full(len(keys), -1, np.int64)
        wanted = _hashes(keys)
        place = np.minimum(np.searchsorted(self._hashes, wanted), len(self._keys) - 1)
        found = self._order[place]
        equal = pc.fill_null(pc.equal(self._keys.take(pa.array(found)), keys), False)
        same = np.asarray(equal.to_numpy(zero_copy_only=False), dtype=bool)
        if np.any(~same & (self._hashes[place] == wanted)):  # two keys of one hash
            return _index_in(keys, self._keys)
        return np.where(same, found, -1).astype(np.int64)


def _hashes(keys: pa.Array) -> NDArray[np.int64]:
    """Hash keys with this process's own hash; in slices, so that few are Python objects at once."""
    parts = [keys.slice(start, _HASHED_AT_ONCE) for start in range(0, len(keys), _HASHED_AT_ONCE)]
    return np.concatenate(
        [np.zeros(0, np.int64), *(np.fromiter(map(hash, part.to_pylist()), np.int64, len(part)) for part in parts)]
    )


def _index_in(keys: pa.Array, known: pa.Array) -> NDArray[np.int64]:
    place = pc.fill_null(pc.index_in(keys, known), -1)
    return np.asarray(place.to_numpy(zero_copy_only=False), dtype=np.int64)


class GroupedRows:
    """Finds the rows of given keys in a table that keeps each key's rows together.

    Raises:
        DataError: A key's rows do not stand together.
    """

    def __init__(self, reader: ArtifactReader, key: Column) -> None:
        self._reader = reader
        keys: list[pa.Array] = []
        starts: list[NDArray[np.int64]] = []
        row = 0
        last: str | None = None
        for batch in reader.batches([key.name]):
            column = batch.column(0).combine_chunks()
            encoded = pc.run_end_encode(column)
            values, ends = encoded.values, encoded.run_ends.to_numpy()
            begins = np.concatenate([[0], ends[:-1]]).astype(np.int64) + row
            if len(values) and values[0].as_py() == last:
                values, begins = values.slice(1), begins[1:]
            keys.append(values)
            starts.append(begins)
            row += len(column)
            last = column[-1].as_py()
        self._keys = pa.chunked_array(keys, pa.string()).combine_chunks()
        self._starts = np.concatenate([*starts, [row]]).astype(np.int64)
        if len(self._keys) != pc.count_distinct(self._keys).as_py():
            counts = pc.value_counts(self._keys)
            repeated = counts.field("values").filter(pc.greater(counts.field("counts"), 1))
            raise DataError(
                f"the rows of {key.name} {repeated[0].as_py()!r} do not stand together",
                where=str(reader.path),
                next_step="sort the table by user and time, or let recpipe read the source table (data.interactions)",
            )
        self._index = KeyIndex(self._keys)

    @property
    def keys(self) -> pa.Array:
        """The distinct keys, in the order of their rows."""
        return self._keys

    def rows_of(self, keys: pa.Array, columns: list[str]) -> Group:
        """Read the rows of the keys; a key without rows has an empty range."""
        place = self._index.find(keys)
        known = place >= 0
        begins = np.where(known, self._starts[place], 0)
        sizes = np.where(known, self._starts[place + 1] - self._starts[place], 0)
        offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        tables = [
            self._reader.row_range(int(start), int(stop), columns)
            for start, stop in _runs(begins[sizes > 0], sizes[sizes > 0])
        ]
        if not tables:
            return Group(self._reader.row_range(0, 0, columns), offsets)
        return Group(pa.concat_tables(tables), offsets)


def _runs(begins: NDArray[np.int64], sizes: NDArray[np.int64]) -> list[tuple[int, int]]:
    """Join ranges that follow each other, so that users in table order cost one read."""
    if not len(begins):
        return []
    ends = begins + sizes
    breaks = np.flatnonzero(begins[1:] != ends[:-1]) + 1
    firsts = np.concatenate([[0], breaks])
    lasts = np.concatenate([breaks - 1, [len(begins) - 1]])
    return [(int(begins[a]), int(ends[b])) for a, b in zip(firsts, lasts, strict=True)]
