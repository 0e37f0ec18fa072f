"""What lists are like, whether or not they hit: coverage, novelty, popularity, diversity.

With n_j = number of users who took item j in training, of U training users:

- novelty@k = mean over the list of −log2(n_j / U), in bits: the surprise of meeting somebody
  who knows the item (Zhou et al. 2010, "Solving the apparent diversity-accuracy dilemma of
  recommender systems"). An item nobody took counts as taken by one.
- popularity_percentile@k = mean over the list of the share of the catalogue that is less
  popular, equals counted half: 0 the least, 1 the most popular; random lists have 0.5.
- popularity_bias@k = mean n_j of the list / mean n_j over training interactions (Σ n_j² / Σ n_j):
  1 is as popular as what people take of their own accord; above 1 amplifies popularity
  (average recommended popularity, Yin et al. 2012, "Challenging the long tail recommendation").
- diversity@k = 1 − mean cosine of all pairs of the list, by item embeddings (Ziegler et al. 2005,
  "Improving recommendation lists through topic diversification"). Items without embedding are
  left out; a list with fewer than two has no value.
- coverage@k = share of the catalogue that stands in somebody's first k. It is a count of distinct
  items, which resampled users would understate, so that it has no interval.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from recpipe.metrics.values import Metric, UserValues
from recpipe.schemas import DIVERSITY, NOVELTY, POPULARITY_BIAS, POPULARITY_PERCENTILE

if TYPE_CHECKING:
    import numpy.typing as npt

    Float32 = npt.NDArray[np.float32]
    Float64 = npt.NDArray[np.float64]
    Int32 = npt.NDArray[np.int32]
    Int64 = npt.NDArray[np.int64]
    Bool = npt.NDArray[np.bool_]

LIST_METRICS = (NOVELTY.name, POPULARITY_PERCENTILE.name, POPULARITY_BIAS.name, DIVERSITY.name)
COVERAGE = "coverage"

BLOCK_BYTES = 32 << 20
"""Item embeddings gathered at a time."""


class ListProperties:
    """Novelty, popularity and diversity of lists, from what is known of the items."""

    def __init__(self, user_counts: Int64, *, n_users: int, embeddings: Float32 | None = None) -> None:
        """Prepare the items.

        Args:
            user_counts: int64 (n_items,): distinct users who took each item in training.
            n_users: users in training.
            embeddings: float32 (n_items, dim); a row of zeros where an item has none. None: no diversity.
        """
        if n_users < 1 or user_counts.max(initial=0) > n_users:
            raise ValueError(f"{n_users} users cannot have taken an item {user_counts.max(initial=0)} times")
        if embeddings is not None and len(embeddings) != len(user_counts):
            raise ValueError(f"{len(embeddings)} embeddings for {len(user_counts)} items")
        self._novelty = -np.log2(np.maximum(user_counts, 1) / n_users)
        self._percentile = percentiles(user_counts)
        taken = int(user_counts.sum())
        usual = float((user_counts.astype(np.float64) ** 2).sum() / taken) if taken else np.nan
        self._bias = user_counts / usual
        self._embeddings = embeddings
        self._scales = None if embeddings is None else _inverse_norms(embeddings)

    def per_user(self, ranked: Int32, ks: Sequence[int]) -> UserValues:
        """Return the properties of every user's list at every k; NaN for empty lists.

        Args:
            ranked: int32 (n_users, n): rows of the items, best first; -1 after the end of a shorter list.
        """
        if not ks or min(ks) < 1 or max(ks) > ranked.shape[1]:
            raise ValueError(f"lists of {ranked.shape[1]} items cannot be measured at k = {list(ks)}")
        columns: dict[Metric, Float64] = {}
        diversity = self._diversity(ranked, ks)
        for place, k in enumerate(ks):
            top = ranked[:, :k]
            columns[Metric(NOVELTY.name, k)] = _list_means(self._novelty, top)
            columns[Metric(POPULARITY_PERCENTILE.name, k)] = _list_means(self._percentile, top)
            columns[Metric(POPULARITY_BIAS.name, k)] = _list_means(self._bias, top)
            if diversity is not None:
                columns[Metric(DIVERSITY.name, k)] = diversity[:, place]
        return UserValues.of(columns)

    def _diversity(self, ranked: Int32, ks: Sequence[int]) -> Float64 | None:
        """Return float64 (n_users, n_ks)."""
        if self._embeddings is None or self._scales is None:
            return None
        longest, dim = max(ks), max(self._embeddings.shape[1], 1)
        found = np.full((len(ranked), len(ks)), np.nan)
        step = max(1, BLOCK_BYTES // (4 * longest * dim))
        for start in range(0, len(ranked), step):
            rows = ranked[start : start + step, :longest]
            scales = np.where(rows >= 0, self._scales[rows], np.float32(0))  # (users, longest)
            vectors = self._embeddings[rows] * scales[:, :, None]  # (users, longest, dim), unit length or zero
            for place, k in enumerate(ks):
                sums = vectors[:, :k].sum(axis=1)  # (users, dim)
                n = (scales[:, :k] > 0).sum(axis=1).astype(np.float64)
                n[n < 2] = np.nan
                # |Σ e|² holds every pair twice and every item once
                cosine = (np.einsum("ud,ud->u", sums, sums, dtype=np.float64) - n) / (n * (n - 1))
                found[start : start + step, place] = np.clip(1.0 - cosine, 0.0, 2.0)
        return found


def percentiles(user_counts: Int64) -> Float64:
    """Return the share of the other items that is less popular, equals counted half: float64 (n_items,)."""
    if len(user_counts) < 2:
        return np.full(len(user_counts), 0.5)
    _, inverse, sizes = np.unique(user_counts, return_inverse=True, return_counts=True)
    below = np.cumsum(sizes) - sizes
    return np.asarray((below + (sizes - 1) / 2)[inverse] / (len(user_counts) - 1), dtype=np.float64)


class Coverage:
    """Which items stood in a list, block after block."""

    def __init__(self, ks: Sequence[int], *, n_items: int) -> None:
        self.ks = tuple(ks)
        self.seen: Bool = np.zeros((len(self.ks), n_items), dtype=np.bool_)

    def add(self, ranked: Int32) -> None:
        """Take in lists: int32 (n_users, n), -1 after the end of a shorter one."""
        for place, k in enumerate(self.ks):
            top = ranked[:, :k]
            self.seen[place, top[top >= 0]] = True

    def merge(self, other: Coverage) -> None:
        """Take in what another shard saw."""
        if other.ks != self.ks or other.seen.shape != self.seen.shape:
            raise ValueError("coverage of other items or other lengths of list")
        self.seen |= other.seen

    def result(self) -> dict[Metric, float]:
        """Return the share of the catalogue seen, at each k."""
        shares = self.seen.mean(axis=1) if self.seen.size else np.full(len(self.ks), np.nan)
        return {Metric(COVERAGE, k): float(share) for k, share in zip(self.ks, shares, strict=True)}


def _list_means(item_values: Float64, ranked: Int32) -> Float64:
    """Return the mean over each list, its padding left out: float64 (n_users,)."""
    filled = ranked >= 0
    sums = np.where(filled, item_values[ranked], 0.0).sum(axis=1)
    n = filled.sum(axis=1)
    means: Float64 = np.divide(sums, n, out=np.full(len(ranked), np.nan), where=n > 0)
    return means


def _inverse_norms(embeddings: Float32) -> Float32:
    """Return 1 / norm of each row, 0 for a row of zeros: float32 (n_items,)."""
    norms = np.sqrt(np.einsum("id,id->i", embeddings, embeddings))
    inverse: Float32 = np.divide(1.0, norms, out=np.zeros(len(norms), dtype=np.float32), where=norms > 0)
    return inverse
