"""Measuring a model on held-out interactions while it trains.

Ratings: root mean squared error of the predicted ratings. Implicit feedback: NDCG over the
whole ranking, every item ranked, what the user took in training left out. Without a cut-off
every held-out item counts wherever it stands, which tells two epochs of a model apart on far
fewer users than NDCG@10 would.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np
import pyarrow as pa

from recpipe.errors import DataError
from recpipe.models.base import BlockScorer, FactoredModel, Model
from recpipe.models.examples import taught
from recpipe.models.settings import Target
from recpipe.models.tables import Histories, Items, Profiles, TrainingData, joined_blocks
from recpipe.seeding import generator

if TYPE_CHECKING:
    from recpipe.models.tables import Float32, Int32, Int64

Metric = Literal["rmse", "ndcg"]

BLOCK_USERS = 256


class Validator(Protocol):
    """What the training loop asks after each epoch."""

    @property
    def metric(self) -> Metric:
        """What is measured."""
        ...

    def measure(self, model: Model) -> float:
        """Return the metric's value."""
        ...


def better(metric: Metric, value: float, than: float | None) -> bool:
    """Return whether a value is better than another; any number is better than None, NaN than nothing."""
    if np.isnan(value):
        return False
    if than is None:
        return True
    return value < than if metric == "rmse" else value > than


@dataclass(frozen=True, slots=True)
class HeldOut:
    """Users with held-out interactions, at most as many as were asked for.

    Attributes:
        profiles: Of these users.
        histories: What they took in training.
        offsets: int64 (n_users + 1,): the held-out events of user i are offsets[i]:offsets[i + 1].
        item_rows: int32 (n_events,), rows of the catalogue.
        ratings: float32 (n_events,), empty for implicit feedback.
    """

    profiles: Profiles
    histories: Histories
    offsets: Int64
    item_rows: Int32
    ratings: Float32

    @property
    def items(self) -> Items:
        """The catalogue."""
        return self.histories.items

    @property
    def metric(self) -> Metric:
        """What is measured."""
        return "rmse" if len(self.ratings) else "ndcg"

    def measure(self, model: Model) -> float:
        """Return the metric's value."""
        return self._rmse(model) if len(self.ratings) else self.ndcg(model)

    def _rmse(self, model: Model) -> float:
        user_rows = np.repeat(np.arange(len(self.profiles), dtype=np.int64), np.diff(self.offsets))
        predicted = model.predict_rating(
            self.profiles,
            self.histories,
            self.items,
            user_rows=user_rows,
            item_rows=self.item_rows.astype(np.int64),
        )
        errors = predicted.astype(np.float64) - self.ratings
        return float(np.sqrt(np.mean(errors**2)))

    def ndcg(self, model: Model | BlockScorer) -> float:
        """Return the mean NDCG over the whole ranking, also of what is no model."""
        item_vectors = model.item_vectors(self.items) if isinstance(model, FactoredModel) else None
        total = 0.0
        for start in range(0, len(self.profiles), BLOCK_USERS):
            stop = min(start + BLOCK_USERS, len(self.profiles))
            profiles, histories = self.profiles.rows(start, stop), self.histories.rows(start, stop)
            if isinstance(model, FactoredModel) and item_vectors is not None:
                scores = model.user_vectors(profiles, histories).vectors @ item_vectors.T
            elif isinstance(model, BlockScorer):
                scores = model.score_block(profiles, histories, self.items).scores.copy()
            else:
                raise TypeError(f"{type(model).__name__} is neither factored nor pairwise")
            scores[histories.user_rows(), histories.item_rows[histories.events()]] = -np.inf
            for row in range(stop - start):
                wanted = self.item_rows[self.offsets[start + row] : self.offsets[start + row + 1]]
                total += ndcg(scores[row], wanted)
        return total / len(self.profiles)


def ndcg(scores: Float32, wanted: Int32) -> float:
    """Return the normalised discounted cumulative gain of one ranking (Järvelin & Kekäläinen 2002).

    Args:
        scores: float32 (n_items,); -inf: not ranked.
        wanted: rows of the relevant items; repeats count once.

    Returns:
        0 to 1; items with equal scores share the mean of their ranks.
    """
    relevant = np.unique(wanted)
    own = scores[relevant]
    own = own[own > -np.inf]
    if len(own) == 0:
        return 0.0
    ordered = np.sort(scores)
    above = len(ordered) - np.searchsorted(ordered, own, side="right")
    equal = len(ordered) - np.searchsorted(ordered, own, side="left") - above
    ranks = above + (equal + 1) / 2.0  # 1 is best
    ideal = np.log2(np.arange(2, len(relevant) + 2))
    return float((1.0 / np.log2(ranks + 1.0)).sum() / (1.0 / ideal).sum())


def gather_held_out(
    data: TrainingData,
    held_out: TrainingData,
    target: Target,
    *,
    positive_from: float | None,
    max_users: int,
    seed: int,
) -> HeldOut:
    """Collect the users to validate on.

    Args:
        data: What the model trains on.
        held_out: Block by block the same users, their histories the held-out events.
        positive_from: Rating from which an interaction counts as positive.
        max_users: Most users taken, drawn at random.

    Raises:
        DataError: Nothing that is held out can be measured.
        ValueError: The two do not hold the same users and items.
    """
    if not held_out.items.ids.equals(data.items.ids):
        raise ValueError("the held-out interactions point into another catalogue")
    chosen = _chosen_users(held_out, target, positive_from=positive_from, max_users=max_users, seed=seed)
    blocks: list[_Part] = []
    start = 0
    for (profiles, histories), (others, events) in zip(data.blocks(), held_out.blocks(), strict=True):
        if not profiles.user_ids.equals(others.user_ids):
            raise ValueError("the held-out interactions are of other users")
        here = chosen[(chosen >= start) & (chosen < start + len(profiles))] - start
        if len(here):
            kept, rated = _teaching(events, target, positive_from)
            _, places = _gather(events.offsets - events.offsets[0], here)
            places = places[kept[places]]
            owners = np.searchsorted(events.offsets - events.offsets[0], places, side="right") - 1
            counts = np.bincount(owners, minlength=len(profiles))[here].astype(np.int64)
            rows = events.item_rows[events.events()]
            blocks.append(
                _Part(
                    take_profiles(profiles, here),
                    take_histories(histories, here),
                    counts,
                    rows[places],
                    rated[places],
                )
            )
        start += len(profiles)
    return _joined(blocks, data.items, target)


@dataclass(frozen=True, slots=True)
class _Part:
    """What one block gives to `HeldOut`."""

    profiles: Profiles
    histories: Histories
    counts: Int64
    item_rows: Int32
    ratings: Float32


def _teaching(events: Histories, target: Target, positive_from: float | None) -> tuple[np.ndarray, Float32]:
    """Which events in the block count, and their ratings (NaN without)."""
    here = events.events()
    ratings = None if events.ratings is None else events.ratings[here]
    positive = events.positive(positive_from if target == "implicit" else None)
    filled = np.full(here.stop - here.start, np.nan, np.float32) if ratings is None else ratings
    return taught(ratings, positive, target), filled


def _chosen_users(
    held_out: TrainingData, target: Target, *, positive_from: float | None, max_users: int, seed: int
) -> Int64:
    """Rows of the users to take, ascending: int64."""
    found: list[Int64] = []
    start = 0
    for profiles, events in held_out.blocks():
        kept, _ = _teaching(events, target, positive_from)
        found.append(np.unique(events.user_rows()[kept]) + start)
        start += len(profiles)
    users = np.concatenate(found) if found else np.zeros(0, np.int64)
    if len(users) == 0:
        raise DataError(
            "no held-out interaction can be used for validation",
            where="validation interactions",
            next_step="hold out more (split.validation_share), or set train.n_epochs to a number",
        )
    if len(users) > max_users:
        users = np.sort(generator(seed, "validation users").choice(users, size=max_users, replace=False))
    return users


def _gather(offsets: Int64, rows: Int64) -> tuple[Int64, Int64]:
    """Return offsets of the chosen rows' events and the places these events stand at."""
    counts = offsets[rows + 1] - offsets[rows]
    gathered = np.append(0, np.cumsum(counts)).astype(np.int64)
    places = np.arange(gathered[-1]) + np.repeat(offsets[rows] - gathered[:-1], counts)
    return gathered, places


def take_profiles(profiles: Profiles, rows: Int64) -> Profiles:
    """Return some users, in the order of `rows`."""
    indices = pa.array(rows)
    return Profiles(
        user_ids=profiles.user_ids.take(indices),
        embeddings=profiles.embeddings[rows],
        embedded=profiles.embedded[rows],
        features=profiles.features[rows],
        segments=profiles.segments[rows],
        centres=profiles.centres[rows],
        attributes=None if profiles.attributes is None else profiles.attributes.take(indices),
        blocks={name: block.rows(rows) for name, block in profiles.blocks.items()},
    )


def take_histories(histories: Histories, rows: Int64) -> Histories:
    """Return what some users took, in the order of `rows`."""
    offsets, places = _gather(histories.offsets, rows)
    return replace(
        histories,
        offsets=offsets,
        item_rows=histories.item_rows[places],
        ratings=None if histories.ratings is None else histories.ratings[places],
        timestamps_us=None if histories.timestamps_us is None else histories.timestamps_us[places],
    )


def _joined(parts: list[_Part], items: Items, target: Target) -> HeldOut:
    tables = [part.profiles for part in parts]
    attributes = [table.attributes for table in tables if table.attributes is not None]
    profiles = Profiles(
        user_ids=pa.concat_arrays([table.user_ids.cast(pa.string()) for table in tables]),
        embeddings=np.concatenate([table.embeddings for table in tables]),
        embedded=np.concatenate([table.embedded for table in tables]),
        features=np.concatenate([table.features for table in tables]),
        segments=np.concatenate([table.segments for table in tables]),
        centres=np.concatenate([table.centres for table in tables]),
        attributes=pa.concat_tables(attributes) if len(attributes) == len(tables) else None,
        blocks={name: joined_blocks([table.blocks[name] for table in tables]) for name in tables[0].blocks},
    )
    pasts = [part.histories for part in parts]
    counts = np.concatenate([np.diff(past.offsets) for past in pasts])
    ratings = [past.ratings for past in pasts if past.ratings is not None]
    times = [past.timestamps_us for past in pasts if past.timestamps_us is not None]
    histories = Histories(
        items=items,
        offsets=np.append(0, np.cumsum(counts)).astype(np.int64),
        item_rows=np.concatenate([past.item_rows for past in pasts]),
        ratings=np.concatenate(ratings) if len(ratings) == len(pasts) else None,
        timestamps_us=np.concatenate(times) if len(times) == len(pasts) else None,
        as_of_us=pasts[0].as_of_us,
    )
    held = np.concatenate([part.ratings for part in parts])
    return HeldOut(
        profiles,
        histories,
        np.append(0, np.cumsum(np.concatenate([part.counts for part in parts]))).astype(np.int64),
        np.concatenate([part.item_rows for part in parts]),
        held if target == "rating" else np.zeros(0, np.float32),
    )
