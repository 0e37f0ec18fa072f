"""A world with something for every part of a hybrid: topics that histories, texts, countries and times agree on.

Histories are of every length, none among them. Held out are two more items of each user's, and one
that nobody took in training.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from recpipe.models.base import FitContext, Histories, Items, Profiles, TrainingData
from recpipe.models.hybrid.fusion import FusionWeights
from recpipe.models.hybrid.model import HybridModel
from recpipe.models.hybrid.settings import HybridSettings
from recpipe.training.fitting import fit

N_TOPICS, DIM = 5, 8
LENGTHS = (0, 1, 2, 4, 8, 20)
"""Events in the histories of one user after the other, and again."""

N_LATER = 2
SETTLED: dict[str, dict[str, Any]] = {
    "ease": {"l2": 20.0, "history_decay": 0.9, "window_weight": 0.0, "content_weight": 5.0, "rank": 0},
    "segment_prior": {"tau": 1.0, "n_segments": 5, "svd_dim": 5},
}
"""Settings of parts that leave nothing to search."""

QUICK_PARTS = ("ease", "segment_prior", "recent_popularity", "content")
BY_CLASS = np.array(
    [[0.0, 0.5, 1.0, 1.5, 2.0], [1.0, 0.75, 0.5, 0.35, 0.2], [0.5, 0.0, 0.1, 0.2, 0.0], [0.0] * 5], np.float32
)
NEW = np.array([[0.5, 0.2], [0.0, 1.5], [0.0, 0.0], [0.7, 0.0]], np.float32)
FIXED = FusionWeights(QUICK_PARTS, BY_CLASS, NEW, 1.25)
"""Weights where content counts for new items only."""


@dataclass(frozen=True)
class Tastes:
    """Users, items and events.

    Attributes:
        train: what everybody took first.
        later: what they took after that, the last of each an item that nobody took before.
        item_topics: int64 (n_items,).
        user_topics: int64 (n_users,).
    """

    items: Items
    profiles: Profiles
    train: Histories
    later: Histories
    item_topics: np.ndarray
    user_topics: np.ndarray

    @property
    def data(self) -> TrainingData:
        return data_of(self.profiles, self.train)

    @property
    def held_out(self) -> TrainingData:
        return data_of(self.profiles, self.later)

    @property
    def is_new(self) -> np.ndarray:
        """Which items nobody took in training: bool (n_items,)."""
        new: np.ndarray = np.bincount(self.train.item_rows, minlength=len(self.items)) == 0
        return new

    @property
    def taken(self) -> np.ndarray:
        """What users took in training: bool (n_users, n_items)."""
        taken = np.zeros((len(self.profiles), len(self.items)), bool)
        taken[self.train.user_rows(), self.train.item_rows] = True
        return taken

    @property
    def wanted(self) -> np.ndarray:
        """What they took later: bool (n_users, n_items)."""
        wanted = np.zeros((len(self.profiles), len(self.items)), bool)
        wanted[self.later.user_rows(), self.later.item_rows] = True
        return wanted


def data_of(profiles: Profiles, histories: Histories, block_users: int = 150) -> TrainingData:
    """These users in blocks."""
    n_users = len(profiles)
    starts = range(0, n_users, block_users)
    return TrainingData(
        items=histories.items,
        open_blocks=lambda: (
            (
                profiles.rows(start, min(start + block_users, n_users)),
                histories.rows(start, min(start + block_users, n_users)),
            )
            for start in starts
        ),
        n_users=n_users,
        as_of_us=histories.as_of_us,
    )


def planted_tastes(n_users: int = 240, n_items: int = 80, n_new: int = 15, seed: int = 0) -> Tastes:
    """Make the world; the last `n_new` items are those nobody took in training."""
    rng = np.random.default_rng(seed)
    centres = np.linalg.qr(rng.standard_normal((DIM, DIM)))[0][:N_TOPICS]
    item_topics = np.arange(n_items) % N_TOPICS
    user_topics = rng.integers(0, N_TOPICS, n_users)
    items = Items(
        ids=pa.array([f"item{row}" for row in range(n_items)]),
        embeddings=_near(rng, centres[item_topics]),
        embedded=np.ones(n_items, bool),
    )
    users = pa.array([f"user{row}" for row in range(n_users)])
    countries = np.where(rng.random(n_users) < 0.8, user_topics, rng.integers(0, N_TOPICS, n_users))
    embeddings = _near(rng, centres[user_topics])
    profiles = replace(
        Profiles.bare(users),
        embeddings=embeddings,
        embedded=np.ones(n_users, bool),
        attributes=pa.table({"user_id": users, "country": [f"C{country}" for country in countries]}),
    )
    n_known = n_items - n_new
    popularity = 1.0 / (1.0 + np.arange(n_known) // N_TOPICS)
    rows, lengths = [], []
    for user, topic in enumerate(user_topics):
        weights = popularity * np.where(item_topics[:n_known] == topic, 0.9, 0.1 / (N_TOPICS - 1))
        length = LENGTHS[user % len(LENGTHS)]
        known = rng.choice(n_known, size=length + N_LATER, replace=False, p=weights / weights.sum())
        new = rng.choice(np.flatnonzero(item_topics[n_known:] == topic) + n_known) if n_new else known[:0]
        rows.append(np.append(known, new))
        lengths.append(length)
    train = [taken[:length] for taken, length in zip(rows, lengths, strict=True)]
    later = [taken[length:] for taken, length in zip(rows, lengths, strict=True)]
    return Tastes(items, profiles, histories_of(items, train), histories_of(items, later), item_topics, user_topics)


def histories_of(items: Items, rows: list[Any]) -> Histories:
    """What users took, one list of item rows each; the times rise from event to event."""
    offsets = np.append(0, np.cumsum([len(taken) for taken in rows])).astype(np.int64)
    item_rows = np.concatenate([np.asarray(taken, np.int32) for taken in rows]).astype(np.int32)
    times = np.concatenate([np.arange(len(taken), dtype=np.int64) for taken in rows])
    return Histories(items=items, offsets=offsets, item_rows=item_rows, timestamps_us=times * 10**6, as_of_us=10**9)


def hybrid(
    parts: tuple[str, ...] = QUICK_PARTS, part_settings: dict[str, dict[str, Any]] | None = None, **settings: Any
) -> HybridModel:
    """An unfitted hybrid of these parts, with nothing to search unless said otherwise."""
    return HybridModel(
        HybridSettings(parts=parts, part_settings=SETTLED if part_settings is None else part_settings, **settings)
    )


def weighed(tastes: Tastes, weights: FusionWeights) -> HybridModel:
    """A hybrid fitted with these weights."""
    model = hybrid(weights.parts)
    fit(model, tastes.data, FitContext(seed=3, choice=weights.choice()))
    return model


def scores_of(model: HybridModel, profiles: Profiles, histories: Histories) -> np.ndarray:
    """All scores: float32 (n_users, n_items)."""
    scores: np.ndarray = model.user_vectors(profiles, histories).vectors @ model.item_vectors(histories.items).T
    return scores


def _near(rng: np.random.Generator, centres: np.ndarray) -> np.ndarray:
    """Vectors of length 1 about these."""
    rows = centres + 0.25 * rng.standard_normal(centres.shape)
    near: np.ndarray = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    return near
