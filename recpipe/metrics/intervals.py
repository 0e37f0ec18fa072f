"""Intervals of means over users, and of paired differences between two models, by resampling users.

The percentile bootstrap (Efron & Tibshirani 1993, "An introduction to the bootstrap", 13.3):
n users are drawn with replacement n_draws times, the figure is computed for each draw, and
the interval holds the middle `level` of them. No p-values: a difference is real when its
interval excludes 0, and not otherwise.

A draw is a vector of weights (how often each user was drawn, Σ = n), made by counting n
random rows; all figures of a draw are one matrix product. 100,000 users × 1,000 draws take
about a second, and memory is a few draws' weights.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from recpipe.seeding import generator

if TYPE_CHECKING:
    import numpy.typing as npt

    Float64 = npt.NDArray[np.float64]
    Int64 = npt.NDArray[np.int64]
    Bool = npt.NDArray[np.bool_]

MIN_USERS = 10
"""Fewer users have a value but no interval: resampling so few says nothing about others like them."""


@dataclass(frozen=True, slots=True)
class Estimates:
    """Figures with their intervals, one entry for each column.

    Attributes:
        value: float64 (n_columns,); NaN where nobody has a value.
        low: float64 (n_columns,); NaN with fewer than `MIN_USERS` users.
        high: the same.
        n_users: int64 (n_columns,): users with a value.
    """

    value: Float64
    low: Float64
    high: Float64
    n_users: Int64


def is_real(low: float, high: float) -> bool:
    """Tell whether the interval of a difference excludes 0; without an interval (NaN), no."""
    return low > 0 or high < 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Bootstrap:
    """How users are resampled.

    Attributes:
        n_draws: resamples.
        level: confidence level, e.g. 0.95.
        seed: the same seed and number of users give the same draws, whatever is measured.
        block_bytes: weights held at a time; the draws do not depend on it.
    """

    n_draws: int = 1000
    level: float = 0.95
    seed: int = 42
    block_bytes: int = 16 << 20

    def means(self, values: Float64) -> Estimates:
        """Return the mean of each column over the users who have a value.

        Args:
            values: float64 (n_users, n_columns), NaN where a user has none.
        """
        n_columns = values.shape[1]
        value, low, high = (np.full(n_columns, np.nan) for _ in range(3))
        n_users = np.zeros(n_columns, dtype=np.int64)
        for columns, users in _same_users(~np.isnan(values)):
            part = values[np.ix_(users, columns)]
            n_users[columns] = len(part)
            if len(part):
                value[columns] = part.mean(axis=0)
            if len(part) >= MIN_USERS:
                (sums,) = self.resampled_sums([part])
                low[columns], high[columns] = self.bounds(sums / len(part))
        return Estimates(value, low, high, n_users)

    def differences(self, values: Float64, reference: Float64) -> Estimates:
        """Return mean(values − reference) over the users who have both, column by column.

        Args:
            values: float64 (n_users, n_columns) of one model.
            reference: the same of another, the same users in the same order.

        Raises:
            ValueError: The shapes differ.
        """
        if values.shape != reference.shape:
            raise ValueError(f"paired values {values.shape} and {reference.shape} are not of the same users")
        return self.means(values - reference)

    def resampled_sums(self, tables: Sequence[Float64]) -> list[Float64]:
        """Return the column sums of tables (n_users, n_columns) in every draw: float64 (n_draws, n_columns) each.

        All tables are of the same users and see the same draws.
        """
        n_users = len(tables[0])
        rng = generator(self.seed, "bootstrap")
        sums = [np.empty((self.n_draws, table.shape[1])) for table in tables]
        step = max(1, self.block_bytes // (8 * max(n_users, 1)))
        weights = np.empty((min(step, self.n_draws), n_users))
        for start in range(0, self.n_draws, step):
            block = weights[: min(step, self.n_draws - start)]
            for draw in block:
                draw[:] = np.bincount(rng.integers(0, n_users, size=n_users), minlength=n_users)
            for found, table in zip(sums, tables, strict=True):
                np.matmul(block, table, out=found[start : start + len(block)])
        return sums

    def bounds(self, draws: Float64) -> tuple[Float64, Float64]:
        """Return the ends of the middle `level` of the draws (n_draws, n_columns): two float64 (n_columns,)."""
        tail = (1.0 - self.level) / 2.0
        low, high = np.quantile(draws, [tail, 1.0 - tail], axis=0)
        return low, high


def _same_users(defined: Bool) -> Iterator[tuple[Int64, Int64]]:
    """Yield (columns, users) of the columns that are defined for the same users, so that each has draws of its own.

    Resampling all users would leave draws without a single user for a column that few have.
    """
    if not defined.shape[1]:
        return
    patterns, inverse = np.unique(np.packbits(defined, axis=0), axis=1, return_inverse=True)
    for number in range(patterns.shape[1]):
        columns = np.flatnonzero(inverse.reshape(-1) == number)
        yield columns, np.flatnonzero(defined[:, columns[0]])
