"""EASE in closed form (Steck 2019), with a content kernel in the Gram matrix.

    P = (G + w K + λ I)⁻¹,  K = C Cᵀ,    B_ij = -P_ij / P_jj for i ≠ j, B_jj = 0

Scores are h B for a history h. An item j outside G is regressed on those inside:
b_j = P (g_j + w C c_j), g_j its co-occurrences; for an item nobody took g_j = 0, which leaves
kernel ridge regression on content.

That is one dot product of a history and a column of B. Where a column is too long, fewer
coordinates come from a truncated singular value decomposition of B whose rows are weighted by
the square root of how often their item stands in a history:

    D B ≈ U S Vᵀ,   user vector h D⁻¹ U √S,   item vector √S V_j,   outside √S⁻¹ Uᵀ D b_j
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.linalg import lapack

from recpipe.errors import DataError
from recpipe.models.ease.gram import Neighbours
from recpipe.models.taken_matrix import Matrix

if TYPE_CHECKING:
    from recpipe.models.tables import Float32

OVERSAMPLING = 32
POWER_ITERATIONS = 2


def regularised_inverse(gram: Float32, content: Float32, *, content_weight: float, l2: float) -> Float32:
    """Return P = (G + w C Cᵀ + λ I)⁻¹, float32 (n, n).

    Args:
        gram: float32 (n, n).
        content: float32 (n, width).

    Raises:
        DataError: The matrix is not positive definite in single and in double precision.
    """

    def matrix() -> Float32:
        made: Float32 = content @ content.T if content_weight else np.zeros_like(gram)
        made *= np.float32(content_weight)
        made += gram
        made[np.diag_indices_from(made)] += np.float32(l2)
        return made

    inverse = _inverse(matrix())
    if inverse is None:
        inverse = _inverse(matrix().astype(np.float64))
    if inverse is None:
        raise DataError(
            "the co-occurrences of the items cannot be inverted", where="train.l2", next_step="set a larger train.l2"
        )
    return inverse


def _inverse(matrix: np.ndarray) -> Float32 | None:
    """Invert a positive definite matrix in place; None when rounding made it indefinite."""
    factorise, invert = (lapack.spotrf, lapack.spotri) if matrix.dtype == np.float32 else (lapack.dpotrf, lapack.dpotri)
    # the transpose of a C-ordered symmetric matrix is itself, in the order LAPACK wants: no copy
    factor, failed = factorise(matrix.T, lower=0, overwrite_a=1, clean=0)
    if failed:
        return None
    upper, failed = invert(factor, lower=0, overwrite_c=1)
    if failed or not np.isfinite(upper).all():
        return None
    lower = upper.T  # C order; its lower triangle is filled
    for start in range(0, len(lower), 512):
        stop = min(start + 512, len(lower))
        lower[start:stop, stop:] = lower[stop:, start:stop].T
        block = np.tril(lower[start:stop, start:stop])
        lower[start:stop, start:stop] = block + np.tril(block, -1).T
    found: Float32 = lower.astype(np.float32, copy=False)
    return found


@dataclass(frozen=True, slots=True)
class ExactScores:
    """Scores by the whole matrix, for choosing hyper-parameters and for measuring what folding loses.

    Attributes:
        inverse: float32 (n, n): P of the items inside.
        outside: co-occurrences of the others.
        content: float32 (n, width), of the items inside.
        outside_content: float32 (n_outside, width).
        content_weight: w.
    """

    inverse: Float32
    outside: Neighbours
    content: Float32
    outside_content: Float32
    content_weight: float

    def of(self, histories: Matrix) -> tuple[Float32, Float32]:
        """Return scores of the items inside and outside: float32 (n_users, n), (n_users, n_outside)."""
        products = np.asarray(histories @ self.inverse, dtype=np.float32)
        inside = histories.toarray() - products / np.diag(self.inverse)
        outside = self.outside.of(products)
        if self.content_weight:
            outside += np.float32(self.content_weight) * ((products @ self.content) @ self.outside_content.T)
        return inside, outside


@dataclass(frozen=True, slots=True)
class FoldedWeights:
    """B as user and item vectors.

    Attributes:
        history_map: float32 (n, rank): a history times this is the user vector; None: the history is.
        inside: float32 (n, rank): vectors of the items inside.
        outside: float32 (n_outside, rank).
        content_map: float32 (width, rank): a content vector times this is the vector of an item nobody took.
    """

    history_map: Float32 | None
    inside: Float32
    outside: Float32
    content_map: Float32

    @property
    def rank(self) -> int:
        """Coordinates."""
        return int(self.inside.shape[1])

    def truncated(self, rank: int) -> FoldedWeights:
        """Return the first `rank` coordinates, those that say most. ValueError where nothing was folded."""
        if self.history_map is None:
            raise ValueError("these weights are whole")
        parts = (self.history_map, self.inside, self.outside, self.content_map)
        return FoldedWeights(*(part[:, :rank] for part in parts))


def whole(exact: ExactScores) -> FoldedWeights:
    """Return B as it is: the user vector is the history, the item vector a column of B."""
    columns = exact.inverse / -np.diag(exact.inverse)  # (n, n): B_ij, row i
    columns[np.diag_indices_from(columns)] = 0.0
    return _with_content(exact, onto=exact.inverse, history_map=None, inside=columns.T)


def fold(exact: ExactScores, n_users: Float32, *, rank: int, seed: int) -> FoldedWeights:
    """Return vectors of at most `rank` coordinates.

    Args:
        n_users: float32 (n,), users of each item inside.
    """
    inverse = exact.inverse
    frequency = np.sqrt(np.maximum(n_users, 1.0)).astype(np.float32)
    weighted = inverse * frequency[:, None]
    weighted /= -np.diag(inverse)
    weighted[np.diag_indices_from(weighted)] = 0.0
    left, singular, right = _truncated_svd(weighted, rank, seed=seed)
    root = np.sqrt(np.maximum(singular, singular.max(initial=0.0) * 1e-6 + 1e-12)).astype(np.float32)
    onto = ((left / root).T * frequency) @ inverse  # (rank, n): √S⁻¹ Uᵀ D P
    return _with_content(
        exact, onto=onto, history_map=left * root / frequency[:, None], inside=(right * root[:, None]).T
    )


def _with_content(exact: ExactScores, *, onto: Float32, history_map: Float32 | None, inside: Float32) -> FoldedWeights:
    """Complete the vectors by those of the items outside.

    Args:
        onto: float32 (rank, n): a vector of co-occurrences times this is an item vector.
    """
    content_map = np.float32(exact.content_weight) * (onto @ exact.content).T
    return FoldedWeights(
        history_map=history_map,
        inside=inside,
        outside=exact.outside.of(onto).T + exact.outside_content @ content_map,
        content_map=content_map,
    )


def _truncated_svd(matrix: Float32, rank: int, *, seed: int) -> tuple[Float32, Float32, Float32]:
    """Return U (n, rank), S (rank,), Vᵀ (rank, n) of the largest singular values (Halko et al. 2011)."""
    n = len(matrix)
    if rank + OVERSAMPLING >= n:
        left, singular, right = np.linalg.svd(matrix)
        return left[:, :rank], singular[:rank], right[:rank]
    from sklearn.utils.extmath import randomized_svd

    found: tuple[Float32, Float32, Float32] = randomized_svd(
        matrix, rank, n_oversamples=OVERSAMPLING, n_iter=POWER_ITERATIONS, random_state=seed
    )
    return found
