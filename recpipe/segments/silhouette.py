"""How many clusters: the number with the highest mean silhouette on a sample of users."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from recpipe.seeding import generator
from recpipe.segments.kmeans import assign, count_distinct, fit_kmeans

MOST_CANDIDATES = 20
_TIE = 1e-6
_WORKING_MEMORY_MIB = 64


@dataclass(frozen=True, slots=True)
class SilhouetteCurve:
    """What a number of clusters was chosen by.

    Attributes:
        n_clusters: The choice.
        scores: Number of clusters and mean silhouette, by number; empty where nothing can be compared.
        n_rows: Points of the sample.
        n_distinct: Different ones among them, counted no further than needed.
    """

    n_clusters: int
    scores: tuple[tuple[int, float], ...]
    n_rows: int
    n_distinct: int

    def details(self) -> dict[str, object]:
        """Return plain values for a manifest."""
        return {
            "silhouette": {str(n_clusters): round(score, 6) for n_clusters, score in self.scores},
            "silhouette_users": self.n_rows,
        }


def choose_n_clusters(
    points: np.ndarray, *, low: int, high: int, max_rows: int, seed: int, n_init: int = 10, max_iter: int = 300
) -> SilhouetteCurve:
    """Choose the number of clusters between two bounds.

    For each candidate, K-means on a seeded sample and the mean over the sample of
    (b − a) / max(a, b), a being a point's mean distance to its own cluster and b to the
    nearest other one (Rousseeuw 1987). Scores within 1e-6 of the best are ties and go to the
    smallest number. With fewer distinct points than `low`, each is a cluster.

    Args:
        points: (n, dim) float, in the space that is clustered.
        low: Fewest clusters, at least 2.
        high: Most clusters; more than there are distinct points are not tried.
        max_rows: Points in the sample; time grows with its square, memory does not.
        seed: The run's seed.
        n_init: K-means restarts a candidate.
        max_iter: Most Lloyd iterations a restart.
    """
    assert points.ndim == 2 and len(points) and 2 <= low <= high
    sample = _sample(points, max_rows, seed)
    n_distinct = count_distinct(sample, enough=high)
    # a silhouette needs a cluster of two points at least
    numbers = [n for n in candidates(low, min(high, n_distinct)) if n < len(sample)]
    if not numbers:
        return SilhouetteCurve(min(low, n_distinct), (), len(sample), n_distinct)
    scores = []
    for n_clusters in numbers:
        centres = fit_kmeans(sample, n_clusters=n_clusters, seed=seed, n_init=n_init, max_iter=max_iter)
        scores.append((n_clusters, mean_silhouette(sample, assign(sample, centres)[0])))
    best = max(score for _, score in scores)
    chosen = next(n_clusters for n_clusters, score in scores if score >= best - _TIE)
    return SilhouetteCurve(chosen, tuple(scores), len(sample), n_distinct)


def candidates(low: int, high: int) -> tuple[int, ...]:
    """Return the numbers to try: all of them, or of a wide range a geometric ladder from low to high."""
    if high < low:
        return ()
    if high - low < MOST_CANDIDATES:
        return tuple(range(low, high + 1))
    ladder = np.unique(np.round(np.geomspace(low, high, MOST_CANDIDATES)).astype(int))
    return tuple(int(number) for number in ladder)


def mean_silhouette(points: np.ndarray, segments: np.ndarray) -> float:
    """Return the mean silhouette of a clustering: −1 to 1, and 0 for a cluster of one point.

    Args:
        points: (n, dim).
        segments: (n,), at least two different ones and fewer than n.
    """
    from sklearn import config_context
    from sklearn.metrics import silhouette_score
    from threadpoolctl import threadpool_limits

    # one thread, as in K-means: sums in one order give one choice on every machine
    with config_context(working_memory=_WORKING_MEMORY_MIB), threadpool_limits(limits=1):
        return float(silhouette_score(points, segments))


def _sample(points: np.ndarray, max_rows: int, seed: int) -> np.ndarray:
    if len(points) > max_rows:
        rows = generator(seed, "silhouette").choice(len(points), max_rows, replace=False)
        points = points[np.sort(rows)]
    return np.asarray(points, np.float64)
