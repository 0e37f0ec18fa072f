"""K-means: fitted on a sample, settled by passes over all users.

`fit_kmeans` finds centres on a sample that fits in memory. Then each pass over the users
(`assign`, `CentreStatistics.update`) and `CentreStatistics.centres` is one Lloyd step
over all of them; when `settled` says so, every user is in the segment of the nearest
centre and every centre is the mean of its members.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse

from recpipe.errors import DataError
from recpipe.seeding import derive_seed

CELLS_PER_CHUNK = 4_000_000
"""Distances computed at a time: 32 MB."""


def fit_kmeans(points: np.ndarray, *, n_clusters: int, seed: int, n_init: int = 10, max_iter: int = 300) -> np.ndarray:
    """Fit K-means, k-means++ starts, the best of `n_init` runs, each until no point moves.

    Lloyd (1982), Arthur & Vassilvitskii (2007). One thread, so that sums have one order
    and the same points give the same centres on every machine.

    Args:
        points: (n, dim) float.
        seed: The run's seed.

    Returns:
        Centres (n_clusters, dim) float64, the largest cluster first.

    Raises:
        DataError: Fewer distinct points than clusters.
    """
    from sklearn.cluster import KMeans
    from threadpoolctl import threadpool_limits

    assert points.ndim == 2
    n_distinct = count_distinct(points, enough=n_clusters)
    if n_distinct < n_clusters:
        raise DataError(
            f"cluster.n_clusters is {n_clusters}, but only {n_distinct} users have an embedding of their own",
            where="user_embeddings",
            next_step=f"set cluster.n_clusters to {max(n_distinct, 1)} or less, or give more users",
        )
    model = KMeans(
        n_clusters,
        n_init=n_init,
        max_iter=max_iter,
        tol=0.0,
        algorithm="lloyd",
        random_state=derive_seed(seed, "kmeans") % 2**32,
    )
    with threadpool_limits(limits=1):
        model.fit(points)
    sizes = np.bincount(model.labels_, minlength=n_clusters)
    centres: np.ndarray = np.asarray(model.cluster_centers_, np.float64)
    return np.asarray(centres[order_by_size(sizes)])


def count_distinct(points: np.ndarray, *, enough: int) -> int:
    """Count distinct rows up to `enough`; rows equal to six decimals are equal."""
    seen: set[bytes] = set()
    for row in points:
        seen.add((np.round(row, 6) + 0.0).tobytes())  # + 0.0 makes -0.0 and 0.0 the same bytes
        if len(seen) >= enough:
            break
    return len(seen)


def order_by_size(sizes: np.ndarray) -> np.ndarray:
    """Return cluster numbers, the largest first, equal ones in their old order."""
    return np.asarray(np.argsort(-np.asarray(sizes, np.int64), kind="stable"))


def assign(points: np.ndarray, centres: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Find the nearest centre of each point; ties go to the lower number.

    Args:
        points: (n, dim).
        centres: (n_clusters, dim).

    Returns:
        Segments (n,) int32 and Euclidean distances (n,) float32.
    """
    assert points.ndim == 2 and centres.ndim == 2 and points.shape[1] == centres.shape[1]
    centres = np.asarray(centres, np.float64)
    half_norms = 0.5 * np.einsum("kd,kd->k", centres, centres)
    segments = np.empty(len(points), np.int32)
    distances = np.empty(len(points), np.float32)
    n_rows = max(1, CELLS_PER_CHUNK // max(len(centres), points.shape[1]))
    for start in range(0, len(points), n_rows):
        chunk = np.asarray(points[start : start + n_rows], np.float64)
        # argmin ‖x − c‖² = argmin ‖c‖²/2 − x·c: the norm of x is the same for all centres.
        nearest = (half_norms - chunk @ centres.T).argmin(axis=1)
        segments[start : start + n_rows] = nearest
        # From the difference: the expanded form loses all digits of a small distance.
        distances[start : start + n_rows] = np.linalg.norm(chunk - centres[nearest], axis=1)
    return segments, distances


@dataclass(slots=True)
class CentreStatistics:
    """Sums of the members' embeddings in the encoder's space, gathered batch by batch."""

    sums: np.ndarray  # (n_clusters, dim) float64
    counts: np.ndarray  # (n_clusters,) int64

    @classmethod
    def empty(cls, *, n_clusters: int, dim: int) -> CentreStatistics:
        """Return the statistics of no users."""
        return cls(np.zeros((n_clusters, dim)), np.zeros(n_clusters, np.int64))

    def update(self, embeddings: np.ndarray, segments: np.ndarray) -> None:
        """Add users with embeddings (n, dim) in segments (n,), none of them -1."""
        assert embeddings.shape == (len(segments), self.sums.shape[1])
        cells = (np.ones(len(segments)), (segments, np.arange(len(segments))))
        members = sparse.csr_matrix(cells, shape=(len(self.counts), len(segments)))
        self.sums += members @ np.asarray(embeddings, np.float64)
        self.counts += np.bincount(segments, minlength=len(self.counts))

    def merge(self, other: CentreStatistics) -> None:
        """Add the statistics of other users."""
        self.sums += other.sums
        self.counts += other.counts

    def centres(self, previous: np.ndarray) -> np.ndarray:
        """Return the members' means (n_clusters, dim) float64; a segment without members keeps its previous one.

        Args:
            previous: (n_clusters, dim), in the encoder's space.
        """
        means = self.sums / np.maximum(self.counts, 1)[:, None]
        return np.where(self.counts[:, None] > 0, means, previous)

    @property
    def mean(self) -> np.ndarray:
        """Mean of all embeddings, (dim,) float64: the centre of users who have none."""
        return np.asarray(self.sums.sum(axis=0) / max(int(self.counts.sum()), 1))

    def reordered(self, order: np.ndarray) -> CentreStatistics:
        """Return the same with segment order[i] as number i."""
        return CentreStatistics(self.sums[order], self.counts[order])


def settled(previous: CentreStatistics, current: CentreStatistics) -> bool:
    """Say whether two passes put the users in the same segments: equal sizes and equal sums up to rounding."""
    return bool(
        np.array_equal(previous.counts, current.counts)
        and np.allclose(previous.sums, current.sums, rtol=1e-9, atol=1e-9)
    )
