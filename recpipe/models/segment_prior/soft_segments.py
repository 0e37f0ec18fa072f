"""Soft segments: groups of users by what they took, and the posterior over them of any history.

    p(c | a, h) ∝ p(c | a) Π_{i∈h} (q_ci / Σ_j q_cj)^τ
    q_ci = (n_ci + m g_i) / (n_c + m)

n_c users are in segment c, n_ci of them took item i, and g_i is the share of all users who did;
m is the smoothing. It is naive Bayes (McCallum & Nigam 1998, the multinomial event model) with
the evidence tempered by τ, since the items of a history do not speak independently.

Segments are K-means on unit rows of a truncated SVD of who took what; p(c | a) is multinomial
logistic regression on the users' attributes, and the segments' sizes for users without any.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from recpipe.seeding import derive_seed, generator

if TYPE_CHECKING:
    import numpy.typing as npt

    from recpipe.models.tables import Float32, Int64
    from recpipe.models.taken_matrix import Matrix

    Float64 = npt.NDArray[np.float64]

MAX_CLUSTERED = 50_000
"""Most users that centres are fitted to; the others are assigned to the nearest."""

MAX_REGRESSED = 20_000
"""Most users that the regression on attributes is fitted to."""

USERS_A_SEGMENT = 10
"""Fewer users on average say little about what a segment takes."""

BLOCK_USERS = 10_000


@dataclass(frozen=True, slots=True)
class SoftSegments:
    """What is learned about segments.

    Attributes:
        shares: float32 (n_segments, n_items): q, above 0 for items somebody took.
        log_sizes: float64 (n_segments,): log of the share of the users in each.
        slopes: float64 (width, n_segments): of the attributes' coordinates in the logit of each segment.
        intercepts: float64 (n_segments,).
    """

    shares: Float32
    log_sizes: Float64
    slopes: Float64
    intercepts: Float64

    def posterior(self, attributes: Matrix, taken: Matrix, tau: float) -> Float32:
        """Return p(c | a, h), float32 (n_users, n_segments), rows sum to 1.

        Args:
            attributes: Coordinates (n_users, width); a row of zeros: nothing is known.
            taken: 1 where the user took the item (n_users, n_items).
            tau: Weight of the history's log likelihood.
        """
        log_weights = self._log_prior(attributes)
        shares = np.maximum(self.shares.astype(np.float64), np.finfo(np.float32).tiny)
        log_items = np.log(shares) - np.log(shares.sum(axis=1, keepdims=True))
        log_weights += tau * (taken @ log_items.T)
        log_weights -= log_weights.max(axis=1, keepdims=True)  # a long history's likelihood is below any float
        weights = np.exp(log_weights)
        posterior: Float32 = (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
        return posterior

    def _log_prior(self, attributes: Matrix) -> Float64:
        known = np.diff(attributes.indptr) > 0
        logits = attributes @ self.slopes + self.intercepts
        logits -= logits.max(axis=1, keepdims=True)
        logits -= np.log(np.exp(logits).sum(axis=1, keepdims=True))
        prior: Float64 = np.where(known[:, None], logits, self.log_sizes)
        return prior


def fit_segments(
    taken: Matrix, attributes: Matrix, *, n_segments: int, svd_dim: int, smoothing: float, seed: int
) -> SoftSegments:
    """Learn segments; users who took nothing are in none.

    Args:
        taken: 1 where the user took the item, float32 (n_users, n_items), n_items ≥ 1 and somebody took something.
        attributes: float32 (n_users, width).
        n_segments: Fewer where there are not USERS_A_SEGMENT users to each.
        svd_dim: Dimensions to cluster in.
        smoothing: m, in users.
    """
    active = np.flatnonzero(np.diff(taken.indptr))
    taken, attributes = taken[active], attributes[active]
    segments = _cluster(taken, n_segments=n_segments, svd_dim=svd_dim, seed=seed)
    n_found = int(segments.max()) + 1
    sizes = np.bincount(segments, minlength=n_found).astype(np.float64)
    n_users = len(active)
    counts = np.zeros((n_found, taken.shape[1]), dtype=np.float64)
    for start, block in _blocks(taken):
        rows = segments[start : start + block.shape[0]]
        np.add.at(counts, (np.repeat(rows, np.diff(block.indptr)), block.indices), 1.0)
    overall = counts.sum(axis=0) / n_users
    shares = (counts + smoothing * overall) / (sizes + smoothing)[:, None]
    log_sizes = np.log(sizes / n_users)
    slopes, intercepts = _regress(attributes, segments, log_sizes, seed)
    return SoftSegments(shares.astype(np.float32), log_sizes, slopes, intercepts)


def _cluster(taken: Matrix, *, n_segments: int, svd_dim: int, seed: int) -> Int64:
    """Return the segment of each user, int64 (n_users,), numbered from 0 without gaps."""
    from sklearn.cluster import KMeans
    from sklearn.decomposition import TruncatedSVD

    n_users, n_items = taken.shape
    if min(n_segments, n_users // USERS_A_SEGMENT, n_items) < 2:
        return np.zeros(n_users, dtype=np.int64)
    chosen = _sample(n_users, MAX_CLUSTERED, seed, "clustered users")
    random_state = derive_seed(seed, "segments") % 2**32
    reduction = TruncatedSVD(min(svd_dim, n_items, len(chosen)), n_iter=5, random_state=random_state)
    points = _unit(reduction.fit_transform(taken[chosen]))
    n_points = len(np.unique(points.round(5), axis=0))  # K-means complains about more centres than points
    k_means = KMeans(min(n_segments, n_users // USERS_A_SEGMENT, n_points), n_init=4, random_state=random_state)
    k_means.fit(points)
    found = [k_means.predict(_unit(reduction.transform(block))) for _, block in _blocks(taken)]
    segments: Int64 = np.unique(np.concatenate(found), return_inverse=True)[1].astype(np.int64)
    return segments


def _regress(attributes: Matrix, segments: Int64, log_sizes: Float64, seed: int) -> tuple[Float64, Float64]:
    """Return slopes (width, n_segments) and intercepts (n_segments,) of the segments' logits."""
    from sklearn.linear_model import LogisticRegression

    slopes = np.zeros((attributes.shape[1], len(log_sizes)))
    intercepts = log_sizes.copy()
    known = np.flatnonzero(np.diff(attributes.indptr))
    chosen = known[_sample(len(known), MAX_REGRESSED, seed, "regressed users")]
    present = np.unique(segments[chosen])
    if len(present) < 2:
        return slopes, intercepts
    regression = LogisticRegression(max_iter=1000, tol=1e-3).fit(attributes[chosen], segments[chosen])
    if len(present) == 2:  # one row of coefficients, of the second class against the first
        slopes[:, present[1]] = regression.coef_[0]
        intercepts[present] = [0.0, regression.intercept_[0]]
    else:
        slopes[:, present] = regression.coef_.T
        intercepts[present] = regression.intercept_
    missing = np.ones(len(log_sizes), dtype=np.bool_)
    missing[present] = False
    intercepts[missing] = intercepts[present].min() - 1.0  # nobody with attributes is in it
    return slopes, intercepts


def _sample(n_rows: int, at_most: int, seed: int, purpose: str) -> Int64:
    if n_rows <= at_most:
        return np.arange(n_rows)
    return np.sort(generator(seed, purpose).choice(n_rows, size=at_most, replace=False))


def _blocks(matrix: Matrix) -> Iterator[tuple[int, Matrix]]:
    for start in range(0, matrix.shape[0], BLOCK_USERS):
        yield start, matrix[start : start + BLOCK_USERS]


def _unit(points: Float64) -> Float64:
    norms: Float64 = np.linalg.norm(points, axis=1, keepdims=True)
    return points / np.maximum(norms, 1e-9)
