"""The interactions of given users, as arrays: what histories are made from in every stage."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from recpipe.schemas import ITEM_ID, RATING, TIMESTAMP, USER_ID
from recpipe.store.artifacts import ArtifactReader
from recpipe.store.groups import GroupedRows, KeyIndex


@dataclass(frozen=True, slots=True)
class Events:
    """Interactions of some users, the rows of one user together, oldest first.

    Attributes:
        offsets: (n_users + 1,) int64; user i has rows offsets[i]:offsets[i + 1].
        item_rows: (n_events,) int64 row in the items table; -1 where it is not in it.
        ratings: (n_events,) float32, NaN where none was given; None without ratings.
        timestamps_us: (n_events,) int64, microseconds since 1970 UTC; None without times.
    """

    offsets: NDArray[np.int64]
    item_rows: NDArray[np.int64]
    ratings: NDArray[np.float32] | None
    timestamps_us: NDArray[np.int64] | None


class UserEvents:
    """Finds the interactions of any users, reading only their rows.

    Args:
        interactions: The interactions table, rows of one user together.
        item_ids: Ids in the order of the items table.
    """

    def __init__(self, interactions: ArtifactReader, item_ids: pa.Array) -> None:
        self._reader = interactions
        self._items = KeyIndex(item_ids)
        self._groups = GroupedRows(interactions, USER_ID)
        optional = [column.name for column in (RATING, TIMESTAMP) if interactions.has(column)]
        self._columns = [ITEM_ID.name, *optional]

    @property
    def has_ratings(self) -> bool:
        return RATING.name in self._columns

    @property
    def has_timestamps(self) -> bool:
        return TIMESTAMP.name in self._columns

    def of(self, user_ids: pa.Array) -> Events:
        """Return the interactions of the users, in the order of their ids."""
        group = self._groups.rows_of(user_ids, self._columns)
        table = group.table
        rows = self._items.find(column_array(table, ITEM_ID.name))
        ratings: NDArray[np.float32] | None = None
        if self.has_ratings:
            ratings = np.asarray(pc.fill_null(table.column(RATING.name), float("nan")).to_numpy(), dtype=np.float32)
        return Events(
            group.offsets,
            rows,
            ratings,
            table.column(TIMESTAMP.name).cast(pa.int64()).to_numpy() if self.has_timestamps else None,
        )

    @cached_property
    def newest_us(self) -> int | None:
        """The newest timestamp in microseconds since 1970; None without times."""
        if not self.has_timestamps:
            return None
        newest = [pc.max(batch.column(0)).cast(pa.int64()).as_py() for batch in self._reader.batches([TIMESTAMP.name])]
        return int(max(newest)) if newest else None

    def as_of_us(self, as_of: datetime | None) -> int:
        """Return "now": the setting, else the newest timestamp, else 0."""
        if as_of is not None:
            return int(as_of.timestamp() * 1_000_000)
        return self.newest_us or 0


def column_array(table: pa.Table, name: str) -> pa.Array:
    """Return a column as one array."""
    column = table.column(name).combine_chunks()
    return pa.concat_arrays(column.chunks) if isinstance(column, pa.ChunkedArray) else column
