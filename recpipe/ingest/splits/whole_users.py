"""Interactions in blocks in which every user is whole."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from recpipe.schemas import USER_ID

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class UserBlock:
    """Some users with all their interactions.

    Attributes:
        table: Interactions, the rows of one user together, in the order of the interactions table.
        offsets: int64 (n_users + 1,): user i has rows offsets[i]:offsets[i + 1].
    """

    table: pa.Table
    offsets: Ints

    @property
    def lengths(self) -> Ints:
        """Number of rows of each user: int64 (n_users,)."""
        return np.diff(self.offsets)

    @property
    def user_of_row(self) -> Ints:
        """Number of the user within the block: int64 (n_rows,)."""
        return np.repeat(np.arange(len(self.offsets) - 1), self.lengths)

    @property
    def place_in_user(self) -> Ints:
        """Place of each row among the user's, from 0: int64 (n_rows,)."""
        return np.arange(self.table.num_rows) - np.repeat(self.offsets[:-1], self.lengths)

    def column(self, name: str) -> pa.Array:
        """Return a column as one array."""
        return one_array(self.table.column(name))

    def user_ids(self) -> pa.Array:
        """Return the id of each user: string (n_users,)."""
        return self.column(USER_ID.name).take(pa.array(self.offsets[:-1]))


def whole_users(batches: Iterable[pa.Table]) -> Iterator[UserBlock]:
    """Cut a stream of interactions between users, wherever the batches were cut.

    Holds one batch and the rows of the user it ends in.

    Args:
        batches: Interactions in the order of their table: the rows of one user stand together.
    """
    held: list[pa.Table] = []
    last: str | None = None
    for batch in batches:
        if not batch.num_rows:
            continue
        ids = one_array(batch.column(USER_ID.name))
        starts = _run_starts(ids)
        open_from = int(starts[-1])
        if held and (open_from or ids[0].as_py() != last):
            yield _block([*held, batch.slice(0, open_from)])
            held = []
        elif open_from:
            yield _block([batch.slice(0, open_from)])
        held.append(batch.slice(open_from))
        last = ids[-1].as_py()
    if held:
        yield _block(held)


def one_array(column: pa.ChunkedArray) -> pa.Array:
    """Return a column of a table as one array."""
    return column.chunk(0) if column.num_chunks == 1 else pa.concat_arrays(column.chunks or [pa.array([], column.type)])


def _block(tables: list[pa.Table]) -> UserBlock:
    table = pa.concat_tables(tables)
    starts = _run_starts(one_array(table.column(USER_ID.name)))
    return UserBlock(table, np.append(starts, table.num_rows).astype(np.int64))


def _run_starts(ids: pa.Array) -> Ints:
    """Return the first row of each run of equal ids."""
    changes = pc.not_equal(ids[1:], ids[:-1]).to_numpy(zero_copy_only=False)
    return np.append(0, np.flatnonzero(changes) + 1).astype(np.int64)
