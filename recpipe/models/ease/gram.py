"""Which items were taken together: the Gram matrix of EASE, and what is left outside of it.

    G = XᵀX + β WᵀW,  X: users × items,  W: windows × items

A window is a stretch of `length` interactions of one user, the next one beginning half a
window later; so items taken close to each other count more (what sessions are to a linear
model; compare Choi et al. 2021). Only the items with most users stand inside the matrix, as
the cost of its inverse grows with their third power. The other items are predicted from
those inside: their co-occurrences stay sparse.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse

from recpipe.models.examples import Examples
from recpipe.models.taken_matrix import Matrix, taken_matrix

if TYPE_CHECKING:
    from recpipe.models.tables import Float32, Int64

STRIP = 1024
"""Rows of the Gram matrix made at a time: a sparse product of all would not fit."""

PRODUCT = 2**25
"""Most numbers (128 MB) of a product of users and windows with something dense."""


@dataclass(frozen=True, slots=True)
class Neighbours:
    """Co-occurrences AᵀB of items inside the matrix with others, left as the product they are.

    Multiplied they are hundreds of times as many numbers: a rare item was taken by few users,
    and by these with all the rest of their histories.

    Attributes:
        inside: csr float32 (n_rows, n_inside): A, what users and windows that took one of the others took inside.
        others: csr float32 (n_rows, n_others): B, what they took of the others.
    """

    inside: Matrix
    others: Matrix

    def of(self, rows: Float32) -> Float32:
        """Return R AᵀB, float32 (m, n_others), for R (m, n_inside)."""
        found = np.empty((len(rows), self.others.shape[1]), dtype=np.float32)
        block = max(1, PRODUCT // max(1, *self.inside.shape))
        for start in range(0, len(rows), block):
            shared = self.inside @ rows[start : start + block].T  # (n_rows, block)
            found[start : start + block] = (self.others.T @ shared).T
        return found

    def widened(self, n_more: int) -> Neighbours:
        """Append other items that nobody took."""
        n_rows, n_others = self.others.shape
        wider = sparse.csr_matrix(
            (self.others.data, self.others.indices, self.others.indptr), (n_rows, n_others + n_more)
        )
        return Neighbours(self.inside, wider)


@dataclass(frozen=True, slots=True)
class CoOccurrence:
    """Who took what, by users and by windows, over the items somebody took.

    Attributes:
        users: csr float32 (n_users, n_seen), 0 or 1.
        windows: csr float32 (n_windows, n_seen), 0 or 1.
        seen: int64 (n_seen,): rows of these items in the catalogue, ascending.
    """

    users: Matrix
    windows: Matrix
    seen: Int64

    @classmethod
    def of(cls, examples: Examples, *, window: int) -> CoOccurrence:
        """Collect it from the interactions, users together, each oldest first."""
        users, seen = taken_matrix(examples)
        columns = np.searchsorted(seen, examples.item_rows)
        return cls(users, _windows(examples.offsets, columns, len(seen), length=window), seen)

    @property
    def n_users(self) -> Int64:
        """Users of each item: int64 (n_seen,)."""
        counts: Int64 = np.bincount(self.users.indices, minlength=len(self.seen)).astype(np.int64)
        return counts

    def most_taken(self, n_items: int) -> Int64:
        """Return the columns of the items with most users, ascending: int64 (at most n_items,).

        Items of a single user stay out where others are in: they predict nothing but that user.
        """
        n_users = self.n_users
        order = np.argsort(-n_users, kind="stable")[:n_items]
        shared = order[n_users[order] > 1]
        return np.sort(shared if len(shared) else order).astype(np.int64)

    def inside(self, columns: Int64, *, window_weight: float) -> Float32:
        """Return G of some items, dense: float32 (n, n)."""
        rows = self._stacked(window_weight)[:, columns].tocsc()
        gram = np.empty((len(columns), len(columns)), dtype=np.float32)
        for start in range(0, len(columns), STRIP):
            strip = rows[:, start : start + STRIP]
            gram[start : start + STRIP] = (strip.T @ rows).toarray()
        return gram

    def outside(self, columns: Int64, others: Int64, *, window_weight: float) -> Neighbours:
        """Return how often other items were taken with these."""
        rows = self._stacked(window_weight)
        taken = rows[:, others]
        used = np.flatnonzero(np.diff(taken.indptr))
        return Neighbours(rows[used][:, columns], taken[used])

    def _stacked(self, window_weight: float) -> Matrix:
        if window_weight == 0.0:
            return self.users
        return sparse.vstack([self.users, self.windows * np.float32(window_weight**0.5)], format="csr")


def _windows(offsets: Int64, columns: Int64, n_columns: int, *, length: int) -> Matrix:
    """Return the windows of all users: csr float32 (n_windows, n_columns), 0 or 1."""
    step = max(length // 2, 1)
    counts = np.diff(offsets)
    places = np.arange(offsets[-1]) - np.repeat(offsets[:-1], counts)
    n_windows = np.maximum(-(-counts // step), 1)
    first = np.append(0, np.cumsum(n_windows))
    own = np.repeat(first[:-1], counts) + places // step
    shared = places >= step  # the window that began half a window before holds it too
    rows = np.concatenate([own, own[shared] - 1])
    taken = np.concatenate([columns, columns[shared]])
    matrix = sparse.csr_matrix(
        (np.ones(len(rows), np.float32), (rows, taken)), shape=(int(first[-1]), n_columns), dtype=np.float32
    )
    matrix.sum_duplicates()
    matrix.data[:] = 1.0
    return matrix
