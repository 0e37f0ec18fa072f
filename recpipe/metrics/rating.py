"""Errors of predicted ratings, from sums for each user.

    rmse = sqrt(Σ_u Σ_j (r̂_uj − r_uj)² / Σ_u n_u)        mae = Σ_u Σ_j |r̂_uj − r_uj| / Σ_u n_u

over all held-out ratings: every rating counts once, as in the literature, so that users with
many weigh more. Where a model gives each prediction an interval,

    interval_coverage = share of the held-out ratings inside theirs

which a calibrated model brings near the level it promises. Intervals of rmse and mae
resample users with all their ratings, because the errors of one user hang together.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from recpipe.errors import DataError
from recpipe.metrics.intervals import MIN_USERS, Bootstrap, Estimates
from recpipe.metrics.values import Metric

if TYPE_CHECKING:
    import numpy.typing as npt

    Float = npt.NDArray[np.float32] | npt.NDArray[np.float64]
    Float64 = npt.NDArray[np.float64]
    Int64 = npt.NDArray[np.int64]
    Bool = npt.NDArray[np.bool_]

RMSE = Metric("rmse")
MAE = Metric("mae")
RATING_METRICS = (RMSE, MAE)
INTERVAL_COVERAGE = Metric("interval_coverage")


@dataclass(frozen=True, slots=True, kw_only=True)
class RatingErrors:
    """Sums of the errors of each user's held-out ratings.

    Attributes:
        counts: int64 (n_users,): ratings; 0 for users without.
        squared: float64 (n_users,): sum of squared errors.
        absolute: float64 (n_users,): sum of absolute errors.
    """

    counts: Int64
    squared: Float64
    absolute: Float64

    def __len__(self) -> int:
        return len(self.counts)

    def users(self, mask: Bool) -> RatingErrors:
        """Return the users of a mask (n_users,)."""
        return RatingErrors(counts=self.counts[mask], squared=self.squared[mask], absolute=self.absolute[mask])

    def figures(self) -> Float64:
        """Return rmse and mae over all ratings: float64 (2,); NaN without a rating."""
        n = int(self.counts.sum())
        if n == 0:
            return np.full(2, np.nan)
        return np.array([np.sqrt(self.squared.sum() / n), self.absolute.sum() / n])


class RatingAccumulator:
    """Collects the errors of block after block of users."""

    def __init__(self) -> None:
        self._blocks: list[RatingErrors] = []

    def add(self, offsets: Int64, predicted: Float, actual: Float) -> None:
        """Take in a block of users.

        Args:
            offsets: int64 (n_users + 1,) from 0: the ratings of user i are offsets[i]:offsets[i + 1].
            predicted: (n_ratings,), finite.
            actual: (n_ratings,); NaN where none was given, left out.

        Raises:
            DataError: A prediction is not finite.
        """
        if predicted.shape != actual.shape or int(offsets[0]) != 0 or int(offsets[-1]) != len(actual):
            raise ValueError(f"{predicted.shape} predictions, {actual.shape} ratings, offsets to {int(offsets[-1])}")
        if not np.isfinite(predicted).all():
            raise DataError("a predicted rating is not finite", next_step="train the model again")
        n_users = len(offsets) - 1
        given = ~np.isnan(actual)
        users = np.repeat(np.arange(n_users), np.diff(offsets))[given]
        errors = predicted[given].astype(np.float64) - actual[given].astype(np.float64)
        self._blocks.append(
            RatingErrors(
                counts=np.bincount(users, minlength=n_users).astype(np.int64),
                squared=np.bincount(users, weights=errors**2, minlength=n_users).astype(np.float64),
                absolute=np.bincount(users, weights=np.abs(errors), minlength=n_users).astype(np.float64),
            )
        )

    def result(self) -> RatingErrors:
        """Return the errors of all users so far, in order."""
        empty = RatingErrors(counts=np.empty(0, np.int64), squared=np.empty(0), absolute=np.empty(0))
        blocks = [empty, *self._blocks]
        return RatingErrors(
            counts=np.concatenate([block.counts for block in blocks]),
            squared=np.concatenate([block.squared for block in blocks]),
            absolute=np.concatenate([block.absolute for block in blocks]),
        )


class IntervalAccumulator:
    """Counts held-out ratings inside the intervals of their predictions, block after block."""

    def __init__(self) -> None:
        self._inside = 0
        self._given = 0

    def add(self, low: Float, high: Float, actual: Float) -> None:
        """Take in ratings, (n_ratings,) each; NaN where none was given, left out."""
        if not low.shape == high.shape == actual.shape:
            raise ValueError(f"intervals {low.shape} to {high.shape}, ratings {actual.shape}")
        given = ~np.isnan(actual)
        self._given += int(given.sum())
        self._inside += int(((actual >= low) & (actual <= high) & given).sum())

    def result(self) -> float:
        """Return the share inside; NaN without a rating."""
        return self._inside / self._given if self._given else float("nan")


def rating_estimates(errors: RatingErrors, bootstrap: Bootstrap) -> Estimates:
    """Return rmse and mae (two entries, `RATING_METRICS`) with intervals over users."""
    rated = errors.users(errors.counts > 0)
    low, high = _no_interval()
    if len(rated) >= MIN_USERS:
        low, high = bootstrap.bounds(_draws([rated], bootstrap)[0])
    return Estimates(rated.figures(), low, high, _twice(len(rated)))


def rating_differences(errors: RatingErrors, reference: RatingErrors, bootstrap: Bootstrap) -> Estimates:
    """Return rmse and mae minus the reference's, below 0 where `errors` are the smaller ones.

    Raises:
        ValueError: The two are not of the same ratings.
    """
    if not np.array_equal(errors.counts, reference.counts):
        raise ValueError("paired errors need the same ratings of the same users")
    rated = errors.counts > 0
    ours, theirs = errors.users(rated), reference.users(rated)
    low, high = _no_interval()
    if len(ours) >= MIN_USERS:
        our_draws, their_draws = _draws([ours, theirs], bootstrap)
        low, high = bootstrap.bounds(our_draws - their_draws)
    return Estimates(ours.figures() - theirs.figures(), low, high, _twice(len(ours)))


def _draws(models: list[RatingErrors], bootstrap: Bootstrap) -> list[Float64]:
    """Return rmse and mae of each model in the same draws: float64 (n_draws, 2) each."""
    tables = [
        np.stack([errors.squared, errors.absolute, errors.counts.astype(np.float64)], axis=1) for errors in models
    ]
    found = []
    for sums in bootstrap.resampled_sums(tables):
        means = sums[:, :2] / sums[:, 2:]
        found.append(np.stack([np.sqrt(means[:, 0]), means[:, 1]], axis=1))
    return found


def _no_interval() -> tuple[Float64, Float64]:
    return np.full(2, np.nan), np.full(2, np.nan)


def _twice(n_users: int) -> Int64:
    return np.full(2, n_users, dtype=np.int64)
