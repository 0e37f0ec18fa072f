"""Measures models on held-out interactions: one pass over the users, every model on each block."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recpipe import logs
from recpipe.errors import DataError
from recpipe.metrics.accumulator import RankingAccumulator, RankingResult
from recpipe.metrics.beyond_accuracy import ListProperties
from recpipe.metrics.ranking import Relevant
from recpipe.metrics.rating import IntervalAccumulator, RatingAccumulator, RatingErrors
from recpipe.metrics.settings import EvaluateSettings
from recpipe.metrics.summary import ALL, COLD_ITEMS, COLD_ITEMS_ONLY
from recpipe.metrics.user_table import MeasuredUsers
from recpipe.models.base import Model
from recpipe.models.popularity import ItemCounts
from recpipe.models.tables import Histories, Profiles, TrainingData
from recpipe.scoring.ranker import Ranker
from recpipe.scoring.topn import Excluded
from recpipe.stages.pipeline.events import UserEvents, column_array
from recpipe.stages.pipeline.population import BLOCK_USERS, Population


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldOut:
    """What a block of users took later.

    Attributes:
        relevant: Test items that can be listed: in the catalogue, not taken before.
        excluded: Items taken before: training and validation interactions.
        rated: Test events in the order of the users: offsets (n_users + 1,), item rows and ratings;
            None without ratings.
        n_repeats: Test events whose item the user had already taken.
    """

    relevant: Relevant
    excluded: Excluded
    rated: tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]] | None
    n_repeats: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What was measured of one model.

    Attributes:
        rankings: By item slice: all, cold_items, cold_items_only.
        errors: Of its predicted ratings; None where it predicts none or none was held out.
        interval_coverage: Share of the held-out ratings in the intervals of their predictions; NaN without.
    """

    rankings: Mapping[str, RankingResult]
    errors: RatingErrors | None
    interval_coverage: float = math.nan


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """All models on the same users.

    Attributes:
        n_relevant: By item slice, int64 (n_users,).
        counts: Users, held-out interactions, repeats left out, cold items; for the manifest.
    """

    models: Mapping[str, Measured]
    users: MeasuredUsers
    n_relevant: Mapping[str, NDArray[np.int64]]
    counts: Mapping[str, int]


class Measurer:
    """Measures models on the test interactions of one split.

    Args:
        population: The evaluation view's tables; histories are training interactions.
        test: The test interactions.
        validation: The validation interactions: neither relevant nor listed.
    """

    def __init__(
        self,
        population: Population,
        data: TrainingData,
        *,
        test: UserEvents,
        validation: UserEvents,
        settings: EvaluateSettings,
        device: str,
    ) -> None:
        self._population = population
        self._test = test
        self._validation = validation
        self._settings = settings
        self._device = device
        counts = ItemCounts.of(data, None).n_users
        self.cold = counts == 0  # (n_items,)
        items = population.items
        embeddings = items.embeddings if items.embeddings.shape[1] else None
        # users in training, not in the users table: those who come later say nothing about an item
        n_users = sum(int((np.diff(histories.offsets) > 0).sum()) for _, histories in data.blocks())
        self._properties = ListProperties(counts, n_users=max(n_users, 1), embeddings=embeddings)

    def measure(self, models: Mapping[str, Model]) -> Measurement:
        """Measure every model on every user with test interactions.

        Raises:
            DataError: No test interaction is left to measure on.
        """
        gauges = {name: _Gauge(model, self) for name, model in models.items()}
        ids: list[pa.Array] = []
        warm: list[NDArray[np.bool_]] = []
        segments: list[NDArray[np.int32]] = []
        relevant: dict[str, list[NDArray[np.int64]]] = {ALL: [], COLD_ITEMS: []}
        n_events = n_repeats = 0
        for profiles, histories in self._blocks():
            held_out = self._held_out(profiles, histories)
            n_events += int(held_out.relevant.counts().sum())
            n_repeats += held_out.n_repeats
            ids.append(profiles.user_ids)
            warm.append(np.diff(histories.offsets) > 0)
            segments.append(profiles.segments)
            relevant[ALL].append(held_out.relevant.counts())
            relevant[COLD_ITEMS].append(held_out.relevant.among(self.cold).counts())
            for gauge in gauges.values():
                gauge.add(profiles, histories, held_out)
        if not n_events:
            raise DataError(
                "no test interaction is left to measure on",
                where=f"test_interactions ({n_repeats} of them repeat what their users had taken before)",
                next_step="hold out more: split.test_share",
            )
        n_relevant = {name: np.concatenate(blocks) for name, blocks in relevant.items()}
        n_relevant[COLD_ITEMS_ONLY] = n_relevant[COLD_ITEMS]
        users = MeasuredUsers(
            user_ids=pa.concat_arrays(ids), warm=np.concatenate(warm), segments=np.concatenate(segments)
        )
        counts = {
            "users": int((n_relevant[ALL] > 0).sum()),
            "cold_users": int(((n_relevant[ALL] > 0) & ~users.warm).sum()),
            "test_items": n_events,
            "repeats_left_out": n_repeats,
            "cold_items": int(self.cold.sum()),
        }
        return Measurement(
            models={name: gauge.result() for name, gauge in gauges.items()},
            users=users,
            n_relevant=n_relevant,
            counts=counts,
        )

    def _blocks(self) -> Iterator[tuple[Profiles, Histories]]:
        """Yield the users with test interactions, some at a time."""
        users = self._population.users
        with logs.progress(users.rows, "evaluating", "users") as progress:
            for start in range(0, users.rows, BLOCK_USERS):
                stop = min(start + BLOCK_USERS, users.rows)
                key = users.artifact.key[0]
                found = self._test.of(column_array(users.row_range(start, stop, [key]), key))
                measured = np.diff(found.offsets) > 0
                if measured.any():
                    profiles, histories = self._population.block(start, stop, only=measured)
                    step = self._settings.block_users
                    for first in range(0, len(profiles), step):
                        yield profiles.rows(first, first + step), histories.rows(first, first + step)
                progress.advance(stop - start)

    def _held_out(self, profiles: Profiles, histories: Histories) -> HeldOut:
        n_items = len(self._population.items)
        test = self._test.of(profiles.user_ids)
        before = _pairs(histories, n_items)
        later = self._population.histories(self._validation.of(profiles.user_ids))
        taken = np.union1d(before, _pairs(later, n_items))
        user_rows = np.repeat(np.arange(len(profiles)), np.diff(test.offsets))
        known = test.item_rows >= 0
        pairs = user_rows * n_items + test.item_rows
        fresh = known & ~np.isin(pairs, taken)
        rated = None if test.ratings is None else _of_known(test.offsets, known, test.item_rows, test.ratings)
        return HeldOut(
            relevant=Relevant.distinct(user_rows[fresh], test.item_rows[fresh].astype(np.int32), n_users=len(profiles)),
            excluded=_excluded(taken, n_users=len(profiles), n_items=n_items),
            rated=rated,
            n_repeats=int((known & ~fresh).sum()),
        )


class _Gauge:
    """One model's accumulators."""

    def __init__(self, model: Model, measurer: Measurer) -> None:
        items = measurer._population.items
        settings = measurer._settings
        self._model = model
        self._cold = measurer.cold
        self._items = items
        self._n = max(settings.k)
        self._ranker = Ranker(model, items, device=measurer._device)
        self._rankings = {
            ALL: RankingAccumulator(settings.k, n_items=len(items), properties=measurer._properties),
        }
        if "cold_items" in settings.slices and self._cold.any():
            self._rankings[COLD_ITEMS] = RankingAccumulator(settings.k, n_items=len(items))
        self._cold_ranker: Ranker | None = None
        if "cold_items_only" in settings.slices and self._cold.any():
            self._rankings[COLD_ITEMS_ONLY] = RankingAccumulator(settings.k, n_items=len(items))
            self._cold_ranker = Ranker(model, items, device=measurer._device, candidates=self._cold)
        self._errors = RatingAccumulator()
        self._inside = IntervalAccumulator()

    def add(self, profiles: Profiles, histories: Histories, held_out: HeldOut) -> None:
        ranked = self._ranker.rank(profiles, histories, n=self._n, excluded=held_out.excluded).lists.rows
        among_cold = held_out.relevant.among(self._cold)
        self._rankings[ALL].add(ranked, held_out.relevant)
        if COLD_ITEMS in self._rankings:
            self._rankings[COLD_ITEMS].add(ranked, among_cold)
        if self._cold_ranker is not None:
            cold_only = self._cold_ranker.rank(profiles, histories, n=self._n, excluded=held_out.excluded)
            self._rankings[COLD_ITEMS_ONLY].add(cold_only.lists.rows, among_cold)
        if self._model.predicts_ratings and held_out.rated is not None:
            offsets, item_rows, ratings = held_out.rated
            user_rows = np.repeat(np.arange(len(profiles), dtype=np.int64), np.diff(offsets))
            predicted = self._model.predict_rating(
                profiles, histories, self._items, user_rows=user_rows, item_rows=item_rows
            )
            self._errors.add(offsets, predicted, ratings)
            interval = self._model.rating_interval(
                profiles, histories, self._items, user_rows=user_rows, item_rows=item_rows
            )
            if interval is not None:
                self._inside.add(*interval, ratings)

    def result(self) -> Measured:
        errors = self._errors.result()
        return Measured(
            rankings={name: ranking.result() for name, ranking in self._rankings.items()},
            errors=errors if int(errors.counts.sum()) else None,
            interval_coverage=self._inside.result(),
        )


def _pairs(histories: Histories, n_items: int) -> NDArray[np.int64]:
    """Return user row · n_items + item row of every event, ascending, once each."""
    return np.unique(histories.user_rows() * n_items + histories.item_rows[histories.events()])


def _excluded(pairs: NDArray[np.int64], *, n_users: int, n_items: int) -> Excluded:
    offsets = np.searchsorted(pairs, np.arange(n_users + 1, dtype=np.int64) * n_items).astype(np.int64)
    return Excluded(offsets=offsets, item_rows=(pairs % n_items).astype(np.int32))


def _of_known(
    offsets: NDArray[np.int64], known: NDArray[np.bool_], item_rows: NDArray[np.int64], ratings: NDArray[np.float32]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """Leave out events of items the catalogue does not have."""
    kept = np.concatenate([[0], np.cumsum(known)])
    return kept[offsets].astype(np.int64), item_rows[known], ratings[known]
