"""Rows of ids: how a model finds what it learned about an item it is shown again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

if TYPE_CHECKING:
    from recpipe.models.tables import Int64


def rows_of(ids: pa.StringArray, known: pa.StringArray) -> Int64:
    """Return int64 (n_ids,): the row of each id in `known`, -1 for an unknown one."""
    rows: Int64 = (
        pc.index_in(ids.cast(pa.string()), value_set=known.cast(pa.string()))
        .cast(pa.int64())
        .fill_null(-1)
        .to_numpy(zero_copy_only=False)
    )
    return rows
