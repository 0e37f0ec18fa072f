"""Vectors of many rows (users or items) given those of the other side: one small Gaussian each.

For a row with ratings r_j of others with vectors v_j, and prior N(μ, Λ⁻¹):

    precision Q = Λ + α Σ_j v_j v_jᵀ        mean Q⁻¹ (Λ μ + α Σ_j r_j v_j)

(Salakhutdinov & Mnih 2008, equations 12 and 13). The sums over all rows are two products of a
sparse matrix, one of them with the v_j v_jᵀ as vectors; Q = L Lᵀ is factorised in batches.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse

if TYPE_CHECKING:
    import numpy.typing as npt

    Float64 = npt.NDArray[np.float64]
    Int64 = npt.NDArray[np.int64]

BLOCK_ROWS = 1024
"""Rows at a time: their k × k matrices stay near the processor."""


@dataclass(frozen=True, slots=True)
class RatingBlock:
    """Consecutive rows of a matrix of ratings.

    Attributes:
        rows: Which.
        ratings: float64 csr (n_rows, n_others), centred; entries may repeat, each counts.
        given: the same with ones.
    """

    rows: slice
    ratings: sparse.csr_matrix
    given: sparse.csr_matrix


def blocks_of(ratings: sparse.csr_matrix) -> Iterator[RatingBlock]:
    """Yield the rows of a matrix of ratings, some at a time."""
    for start in range(0, ratings.shape[0], BLOCK_ROWS):
        rows = slice(start, min(start + BLOCK_ROWS, ratings.shape[0]))
        part = ratings[rows]
        given = sparse.csr_matrix((np.ones_like(part.data), part.indices, part.indptr), shape=part.shape)
        yield RatingBlock(rows, part, given)


class Others:
    """Vectors of the other side, float64 (n_others, k), and their products v_j v_jᵀ, made once for all blocks."""

    def __init__(self, vectors: Float64) -> None:
        self.vectors = vectors
        rows, columns = np.triu_indices(vectors.shape[1])
        self._pairs = (rows, columns)
        self.products = vectors[:, rows] * vectors[:, columns]  # (n_others, k (k + 1) / 2)
        n_factors = vectors.shape[1]
        places = np.empty((n_factors, n_factors), dtype=np.int64)
        places[rows, columns] = places[columns, rows] = np.arange(len(rows))
        self._places = places.ravel()

    def grams(self, given: sparse.csr_matrix) -> Float64:
        """Return Σ_j v_j v_jᵀ over the entries of each row: float64 (n_rows, k, k)."""
        n_factors = self.vectors.shape[1]
        grams: Float64 = np.take(given @ self.products, self._places, axis=1).reshape(-1, n_factors, n_factors)
        return grams


@dataclass(frozen=True, slots=True)
class Conditional:
    """Gaussians of some rows.

    Attributes:
        lower: float64 (n_rows, k, k): L, Cholesky factors of the precisions.
        half: float64 (n_rows, k): L⁻¹ times the right-hand side, so that the mean is L⁻ᵀ half.
    """

    lower: Float64
    half: Float64

    def means(self) -> Float64:
        """Return float64 (n_rows, k)."""
        return solve_transposed(self.lower, self.half)

    def draw(self, rng: np.random.Generator) -> Float64:
        """Return a draw of each row, float64 (n_rows, k)."""
        return solve_transposed(self.lower, self.half + rng.standard_normal(self.half.shape))

    def variances(self, rows: Int64, directions: Float64) -> Float64:
        """Return vᵀ Q⁻¹ v of row rows[n] along directions[n]: float64 (n,).

        Args:
            rows: int64 (n,).
            directions: float64 (n, k).
        """
        solved = solve(self.lower[rows], directions)
        variances: Float64 = np.einsum("nk,nk->n", solved, solved)
        return variances

    def covariance_traces(self, covariance: Float64) -> Float64:
        """Return trace(Q⁻¹ covariance) of each row, float64 (n_rows,); covariance is float64 (k, k)."""
        root = np.linalg.cholesky(covariance)  # tr(Q⁻¹ R Rᵀ) = Σ_c |L⁻¹ R_c|²
        traces = np.zeros(len(self.half))
        for column in root.T:
            solved = solve(self.lower, np.broadcast_to(column, self.half.shape))
            traces += np.einsum("nk,nk->n", solved, solved)
        return traces


def conditional(
    block: RatingBlock, others: Others, *, prior_means: Float64, precision: Float64, noise_precision: float
) -> Conditional:
    """Return the Gaussians of a block of rows given the other side.

    Args:
        prior_means: float64 (n_rows, k): μ of the block's rows.
        precision: float64 (k, k): Λ.
        noise_precision: α.
    """
    precisions = others.grams(block.given)
    precisions *= noise_precision
    precisions += precision
    lower: Float64 = np.linalg.cholesky(precisions).astype(np.float64, copy=False)
    towards = noise_precision * (block.ratings @ others.vectors) + prior_means @ precision
    return Conditional(lower, solve(lower, towards))


def solve(lower: Float64, right: Float64) -> Float64:
    """Return y with L y = right: float64 (n, k), from (n, k, k) and (n, k)."""
    solved = np.empty(right.shape)
    for row in range(right.shape[1]):
        known = np.einsum("nj,nj->n", lower[:, row, :row], solved[:, :row])
        solved[:, row] = (right[:, row] - known) / lower[:, row, row]
    return solved


def solve_transposed(lower: Float64, right: Float64) -> Float64:
    """Return x with Lᵀ x = right: float64 (n, k), from (n, k, k) and (n, k)."""
    solved = np.empty(right.shape)
    for row in range(right.shape[1] - 1, -1, -1):
        known = np.einsum("nj,nj->n", lower[:, row + 1 :, row], solved[:, row + 1 :])
        solved[:, row] = (right[:, row] - known) / lower[:, row, row]
    return solved
