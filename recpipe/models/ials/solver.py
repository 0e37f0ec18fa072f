"""Exact half steps of implicit alternating least squares.

One side is held fixed, h_j (n_columns, dim); each row u of the other side minimises

    Σ_{j taken} (1 - w·h_j)² + α Σ_j (w·h_j)² + λ_u w·w

so that w = (X'X + αH'H + λ_u)⁻¹ X'1 with X the vectors of what u took. In the basis of
H'H's eigenvectors α H'H + λ_u = D is diagonal, and a row with fewer items than dimensions is
solved in the space of its items: w = D⁻¹X'(1 + X D⁻¹X')⁻¹ 1 (Woodbury). Most rows are short,
so this saves most of the work, without the error of a few steps of conjugate gradients.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from recpipe.seeding import generator

if TYPE_CHECKING:
    from collections.abc import Iterator

    from recpipe.models.tables import Float32, Int64
    from recpipe.models.taken_matrix import Matrix

BLOCK_NUMBERS = 4_000_000
"""Most float32 numbers in an array of a group of rows."""

CHUNK_ROWS = 65_536
PADDING = 1.25
"""A group's longest row is at most so many times its shortest."""


@dataclass(frozen=True, slots=True)
class FixedSide:
    """The side held fixed, in the basis where its Gram is diagonal.

    Attributes:
        basis: float32 (dim, dim), the eigenvectors in columns.
        rotated: float32 (n_columns, dim), the vectors in that basis.
        spectrum: float32 (dim,), α times the eigenvalues, not negative.
    """

    basis: Float32
    rotated: Float32
    spectrum: Float32

    @classmethod
    def of(cls, vectors: Float32, *, unobserved_weight: float) -> FixedSide:
        """Decompose float32 (n_columns, dim)."""
        gram = np.zeros((vectors.shape[1], vectors.shape[1]))
        for start in range(0, len(vectors), CHUNK_ROWS):  # float32 sums drift past 1e6 rows
            chunk = vectors[start : start + CHUNK_ROWS]
            gram += chunk.T @ chunk
        eigenvalues, basis = np.linalg.eigh(gram)
        spectrum = unobserved_weight * np.maximum(eigenvalues, 0.0)
        basis = basis.astype(np.float32)
        return cls(basis, vectors @ basis, spectrum.astype(np.float32))

    def solve(self, taken: Matrix, penalties: Float32) -> Float32:
        """Return the best vector of each row.

        Args:
            taken: csr (n_rows, n_columns), ones.
            penalties: float32 (n_rows,): λ_u, above 0.

        Returns:
            float32 (n_rows, dim); zeros for a row without items.
        """
        n_rows, dim = taken.shape[0], len(self.spectrum)
        solved = np.zeros((n_rows, dim), dtype=np.float32)
        lengths = np.diff(taken.indptr)
        for rows in _groups(lengths, dim):
            diagonal = self.spectrum + penalties[rows, None]  # (n, dim)
            short = lengths[rows[-1]] < dim
            solved[rows] = (self._short if short else self._long)(taken, rows, diagonal)
        return np.asarray(solved @ self.basis.T, dtype=np.float32)

    def _short(self, taken: Matrix, rows: Int64, diagonal: Float32) -> Float32:
        """Solve rows with fewer items than dimensions, in the space of their items."""
        starts = taken.indptr[rows]
        lengths = taken.indptr[rows + 1] - starts
        steps = np.arange(lengths[-1])
        there = steps < lengths[:, None]  # (n, longest)
        columns = taken.indices[np.where(there, starts[:, None] + steps, 0)]
        vectors = self.rotated[columns] * there[..., None]  # (n, longest, dim)
        scaled = vectors / diagonal[:, None, :]
        kernel = scaled @ vectors.transpose(0, 2, 1)  # (n, longest, longest)
        kernel[:, steps, steps] += 1.0
        weights = np.linalg.solve(kernel, there[..., None].astype(np.float32))  # (n, longest, 1)
        solved: Float32 = (scaled.transpose(0, 2, 1) @ weights)[..., 0]
        return solved

    def _long(self, taken: Matrix, rows: Int64, diagonal: Float32) -> Float32:
        """Solve the normal equations of the other rows."""
        dim = len(self.spectrum)
        normal = np.zeros((len(rows), dim, dim), dtype=np.float32)
        sums = np.zeros((len(rows), dim, 1), dtype=np.float32)
        for place, row in enumerate(rows):
            columns = taken.indices[taken.indptr[row] : taken.indptr[row + 1]]
            for start in range(0, len(columns), CHUNK_ROWS):
                vectors = self.rotated[columns[start : start + CHUNK_ROWS]]
                normal[place] += vectors.T @ vectors
                sums[place, :, 0] += vectors.sum(axis=0)
        steps = np.arange(dim)
        normal[:, steps, steps] += diagonal
        solved: Float32 = np.linalg.solve(normal, sums)[..., 0]
        return solved


def _groups(lengths: Int64, dim: int) -> Iterator[Int64]:
    """Rows of similar length, ascending: all shorter than `dim` or all not; rows without items are left out."""
    order = np.argsort(lengths, kind="stable")
    sorted_lengths = lengths[order]
    start = int(np.searchsorted(sorted_lengths, 1))
    while start < len(order):
        shortest = int(sorted_lengths[start])
        if shortest < dim:
            longest = min(int(shortest * PADDING), dim - 1)
            room = BLOCK_NUMBERS // (longest * dim)
        else:
            longest = int(sorted_lengths[-1])
            room = BLOCK_NUMBERS // dim**2
        end = int(np.searchsorted(sorted_lengths, longest, side="right"))
        stop = min(end, start + max(room, 1))
        yield order[start:stop]
        start = stop


def penalties_of(counts: Int64, n_others: int, *, regularization: float, exponent: float, unobserved: float) -> Float32:
    """Return λ (count + α n_others) ** exponent: float32 (n_rows,); who has more data needs more against it."""
    return np.asarray(regularization * (counts + unobserved * n_others) ** exponent, dtype=np.float32)


def fit_item_vectors(
    taken: Matrix, *, dim: int, n_epochs: int, regularization: float, exponent: float, unobserved: float, seed: int
) -> Float32:
    """Alternate between users and items; users can be solved from the items at any time.

    Args:
        taken: csr (n_users, n_items), ones.
        dim: Length of the vectors.
        unobserved: α, the weight of what was not taken.

    Returns:
        float32 (n_items, dim).
    """
    n_users, n_items = taken.shape
    by_item = taken.T.tocsr()
    user_penalties, item_penalties = (
        penalties_of(
            np.diff(side.indptr), n_others, regularization=regularization, exponent=exponent, unobserved=unobserved
        )
        for side, n_others in ((taken, n_items), (by_item, n_users))
    )
    # products of new vectors are of the order of 0.1, whatever the dimension
    drawn = generator(seed, "ials", "items").standard_normal((n_items, dim), dtype=np.float32)
    items: Float32 = drawn * np.float32(0.1 / np.sqrt(dim))
    for _ in range(n_epochs):
        users = FixedSide.of(items, unobserved_weight=unobserved).solve(taken, user_penalties)
        items = FixedSide.of(users, unobserved_weight=unobserved).solve(by_item, item_penalties)
    return items
