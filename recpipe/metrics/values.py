"""Values of metrics for each user: what intervals, slices and paired differences are made from."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    Float64 = npt.NDArray[np.float64]
    Bool = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, order=True)
class Metric:
    """A metric and the length of list it looks at; k = 0 where there is no list."""

    name: str
    k: int = 0

    def __str__(self) -> str:
        return f"{self.name}@{self.k}" if self.k else self.name


@dataclass(frozen=True, slots=True)
class UserValues:
    """One value for each user and metric.

    Attributes:
        metrics: what each column holds.
        values: float64 (n_users, n_metrics); NaN: not defined for this user, who is left out of the mean.
    """

    metrics: tuple[Metric, ...]
    values: Float64

    def __post_init__(self) -> None:
        if self.values.ndim != 2 or self.values.shape[1] != len(self.metrics):
            raise ValueError(f"values {self.values.shape} do not fit {len(self.metrics)} metrics")

    def __len__(self) -> int:
        return len(self.values)

    @classmethod
    def of(cls, columns: dict[Metric, Float64]) -> UserValues:
        """Put columns (n_users,) beside each other."""
        return cls(tuple(columns), np.stack(list(columns.values()), axis=1))

    @classmethod
    def below(cls, blocks: Sequence[UserValues]) -> UserValues:
        """Put blocks of users below each other; all hold the same metrics. ValueError when they do not."""
        if not blocks or any(block.metrics != blocks[0].metrics for block in blocks):
            raise ValueError("blocks of users need the same metrics, and there must be one")
        return cls(blocks[0].metrics, np.concatenate([block.values for block in blocks]))

    def beside(self, other: UserValues) -> UserValues:
        """Put the metrics of the same users beside each other."""
        return UserValues(self.metrics + other.metrics, np.concatenate([self.values, other.values], axis=1))

    def column(self, metric: Metric) -> Float64:
        """Return one metric: float64 (n_users,). ValueError when it is not here."""
        return self.values[:, self.metrics.index(metric)]

    def only(self, metrics: Iterable[Metric]) -> UserValues:
        """Return these metrics, in this order."""
        chosen = tuple(metrics)
        return UserValues(chosen, self.values[:, [self.metrics.index(metric) for metric in chosen]])

    def users(self, mask: Bool) -> UserValues:
        """Return the users of a mask (n_users,)."""
        return UserValues(self.metrics, self.values[mask])

    def means(self) -> dict[Metric, float]:
        """Return the mean of each metric over the users it is defined for; NaN where it is for nobody."""
        defined = ~np.isnan(self.values)
        counts = defined.sum(axis=0)
        sums = np.where(defined, self.values, 0.0).sum(axis=0)
        means = np.divide(sums, counts, out=np.full(len(counts), np.nan), where=counts > 0)
        return dict(zip(self.metrics, means.tolist(), strict=True))
