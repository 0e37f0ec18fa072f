"""Who took what as a sparse matrix, and the items a model learned about found again in any catalogue."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse

from recpipe.models.examples import Examples
from recpipe.models.ids import rows_of
from recpipe.models.tables import Histories, Items

if TYPE_CHECKING:
    import pyarrow as pa

    from recpipe.models.tables import Bool, Int64

Matrix = Any
"""`scipy.sparse.csr_matrix`, float32 (n_users, n_items): 1 where the user took the item, however often."""


def taken_matrix(examples: Examples) -> tuple[Matrix, Int64]:
    """Return what the training users took.

    Returns:
        The matrix (n_users, n_seen), of the items somebody took, and int64 (n_seen,): their
        rows in the catalogue, ascending.
    """
    seen = np.flatnonzero(examples.item_counts).astype(np.int64)
    columns = np.searchsorted(seen, examples.item_rows).astype(np.int32)
    return _ones(examples.offsets, columns, len(seen)), seen


class KnownItems:
    """The items a model learned about.

    Args:
        ids: `pa.StringArray` (n_known,), unique.
    """

    def __init__(self, ids: pa.StringArray) -> None:
        self.ids = ids
        self._catalogue: tuple[Items, Int64] | None = None

    def __len__(self) -> int:
        return len(self.ids)

    def rows(self, items: Items) -> Int64:
        """Return the place of each item among the known ones: int64 (n_items,), -1: unknown. Found once a catalogue."""
        if self._catalogue is None or self._catalogue[0] is not items:
            self._catalogue = (items, rows_of(items.ids, self.ids))
        return self._catalogue[1]

    def taken(self, histories: Histories, positive_from: float | None) -> Matrix:
        """Return the known items that users of any kind took: (n_users, n_known)."""
        positive = histories.positive(positive_from)
        columns = self.rows(histories.items)[histories.item_rows[histories.events()]]
        kept: Bool = positive & (columns >= 0)
        counts = np.bincount(histories.user_rows()[kept], minlength=len(histories))
        offsets = np.append(0, np.cumsum(counts)).astype(np.int64)
        return _ones(offsets, columns[kept].astype(np.int32), len(self))


def _ones(offsets: Int64, columns: np.ndarray, n_columns: int) -> Matrix:
    # a copy of the columns: summing duplicates sorts them in place
    matrix = sparse.csr_matrix(
        (np.ones(len(columns), np.float32), columns.copy(), offsets), shape=(len(offsets) - 1, n_columns)
    )
    matrix.sum_duplicates()
    matrix.data[:] = 1.0
    return matrix
