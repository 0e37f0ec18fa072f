"""Drawing items in proportion to attraction, in time logarithmic in the number of items.

The weight of item i for topic k on day t is

    trait(i)_k attraction(i) (1 + boost exp(-(t - release(i)) / τ)),   t >= release(i),

a lasting part and a fresh part, and the fresh part is a factor of t times a factor of i.
With the items of a topic in the order of release, both parts of the mass on sale on any day
are prefix sums, so that one search in a prefix sum draws an item for any day exactly.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from recpipe.ingest.simulate.bank import N_TOPICS
from recpipe.ingest.simulate.catalogue import SECOND_WEIGHT, Catalogue, main_weight
from recpipe.ingest.simulate.settings import SimulateSettings


@dataclass(frozen=True, slots=True)
class _Shelf:
    """The items about one topic, oldest first, and prefix sums of their weights, starting with 0."""

    items: npt.NDArray[np.int64]
    lasting: npt.NDArray[np.float64]
    fresh: npt.NDArray[np.float64]


class Shelves:
    """The items of all topics, ready to be drawn from on any day of trading.

    Attributes:
        mass: Weight of all items on sale, per day and topic. (days, n_topics) float64
    """

    def __init__(self, catalogue: Catalogue, settings: SimulateSettings) -> None:
        days = np.arange(settings.days)
        # Relative to the last day: every exponent of an item stays below 0 and cannot overflow.
        self._decay = settings.freshness_boost * np.exp((settings.days - days) / settings.freshness_days)
        self._shelves: list[_Shelf] = []
        self._n_on_sale = np.empty((settings.days, N_TOPICS), dtype=np.int64)
        self.mass = np.empty((settings.days, N_TOPICS))
        for topic in range(N_TOPICS):
            shelf = _stock(topic, catalogue, settings)
            n_on_sale = np.searchsorted(catalogue.release_day[shelf.items], days, side="right")
            self._shelves.append(shelf)
            self._n_on_sale[:, topic] = n_on_sale
            self.mass[:, topic] = shelf.lasting[n_on_sale] + self._decay * shelf.fresh[n_on_sale]

    def draw(
        self, topics: npt.NDArray[np.int64], days: npt.NDArray[np.int64], rng: np.random.Generator
    ) -> npt.NDArray[np.int64]:
        """Draw an item for each pair of a topic with some mass and a day. (n,)"""
        items = np.empty(len(topics), dtype=np.int64)
        part, place = rng.random(len(topics)), rng.random(len(topics))
        order = np.argsort(topics, kind="stable")
        present, starts = np.unique(topics[order], return_index=True)
        for topic, rows in zip(present.tolist(), np.split(order, starts[1:]), strict=True):
            shelf, day = self._shelves[topic], days[rows]
            n_on_sale = self._n_on_sale[day, topic]
            is_lasting = part[rows] * self.mass[day, topic] < shelf.lasting[n_on_sale]
            found = np.where(
                is_lasting,
                _search(shelf.lasting, place[rows], n_on_sale),
                _search(shelf.fresh, place[rows], n_on_sale),
            )
            items[rows] = shelf.items[found]
        return items


def _stock(topic: int, catalogue: Catalogue, settings: SimulateSettings) -> _Shelf:
    items = np.flatnonzero((catalogue.topic == topic) | (catalogue.second == topic))
    items = items[np.argsort(catalogue.release_day[items], kind="stable")]
    is_main = catalogue.topic[items] == topic
    trait = main_weight(catalogue.second[items]) * np.where(is_main, 1.0, SECOND_WEIGHT)
    weight = trait * catalogue.attraction[items]
    fresh = weight * np.exp((catalogue.release_day[items] - settings.days) / settings.freshness_days)
    # One sum per topic and small weights first: early days keep their relative precision.
    return _Shelf(items, _prefix_sums(weight), _prefix_sums(fresh))


def _prefix_sums(weights: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.concatenate([[0.0], np.cumsum(weights)])


def _search(
    sums: npt.NDArray[np.float64], place: npt.NDArray[np.float64], n_on_sale: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """Return positions drawn in proportion to weight among the first `n_on_sale`. (n,)"""
    found = np.searchsorted(sums, place * sums[n_on_sale], side="right") - 1
    return np.minimum(found, n_on_sale - 1)  # place * sum may round up to the sum itself
