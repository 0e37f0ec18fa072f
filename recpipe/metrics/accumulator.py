"""Collects what is measured of one model's lists, block after block of users."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from recpipe.metrics.beyond_accuracy import Coverage, ListProperties
from recpipe.metrics.ranking import Relevant, per_user
from recpipe.metrics.values import Metric, UserValues
from recpipe.schemas import NDCG

if TYPE_CHECKING:
    import numpy.typing as npt

    Int32 = npt.NDArray[np.int32]


@dataclass(frozen=True, slots=True, kw_only=True)
class RankingResult:
    """What was measured of one model's lists.

    Attributes:
        values: of every user added, in order; all NaN for users without held-out items.
        coverage: share of the catalogue recommended to users with held-out items, at each k.
        n_users: users with held-out items.
        n_left_out: users without.
    """

    values: UserValues
    coverage: Mapping[Metric, float]
    n_users: int
    n_left_out: int


class RankingAccumulator:
    """Measures lists block by block; keeps 8 bytes for each user and metric.

    One accumulator measures one question asked of one model. Cold items found in the full
    list are `add(ranked, relevant.among(cold))` to an accumulator of their own; cold items
    ranked among themselves are that with lists of cold items only.
    """

    def __init__(self, ks: Sequence[int], *, n_items: int, properties: ListProperties | None = None) -> None:
        """Start with no users.

        Args:
            ks: lengths of list.
            n_items: size of the catalogue, for coverage.
            properties: measures novelty, popularity and diversity too.
        """
        self._ks = tuple(ks)
        self._properties = properties
        self._coverage = Coverage(ks, n_items=n_items)
        self._blocks: list[UserValues] = []

    def add(self, ranked: Int32, relevant: Relevant) -> None:
        """Take in the lists and held-out items of a block of users.

        Args:
            ranked: int32 (n_users, n), n at least the largest k: rows of the items, best first;
                -1 after the end of a shorter list.
            relevant: held-out items of the same users.

        Raises:
            ValueError: See `ranking.per_user`.
        """
        values = per_user(ranked, relevant, self._ks)
        measured = relevant.counts() > 0
        if self._properties is not None:
            listed = self._properties.per_user(ranked, self._ks)
            # every figure of a model is of the same users
            listed.values[~measured] = np.nan
            values = values.beside(listed)
        self._coverage.add(ranked[measured])
        self._blocks.append(values)

    def result(self) -> RankingResult:
        """Return what was measured so far. ValueError when nothing was added."""
        values = UserValues.below(self._blocks)
        measured = ~np.isnan(values.column(Metric(NDCG.name, self._ks[0])))
        n_users = int(measured.sum())
        return RankingResult(
            values=values, coverage=self._coverage.result(), n_users=n_users, n_left_out=len(values) - n_users
        )
