"""A small world whose preferences can be learned: users like items whose embedding points their way."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from recpipe.models.base import Histories, Items, Profiles, TrainingData


@dataclass(frozen=True)
class SmallWorld:
    """Users, items and events; `data` and `held_out` are views of them."""

    items: Items
    profiles: Profiles
    train: Histories
    later: Histories

    @property
    def data(self) -> TrainingData:
        return self.in_blocks(self.train, 1000)

    @property
    def held_out(self) -> TrainingData:
        return self.in_blocks(self.later, 1000)

    def in_blocks(self, histories: Histories, size: int) -> TrainingData:
        """Histories of all users, `size` users at a time."""
        n_users = len(self.profiles)
        return TrainingData(
            items=self.items,
            open_blocks=lambda: (
                (
                    self.profiles.rows(start, min(start + size, n_users)),
                    histories.rows(start, min(start + size, n_users)),
                )
                for start in range(0, n_users, size)
            ),
            n_users=n_users,
            targets=frozenset({"implicit", "rating"}),
            as_of_us=10**15,
        )


def small_world(n_users: int = 40, n_items: int = 30, n_events: int = 12) -> SmallWorld:
    """Every user took `n_events` of the first `n_items - 3` items; the last two of them come later."""
    rng = np.random.default_rng(0)
    embeddings = rng.standard_normal((n_items, 4)).astype(np.float32)
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    items = Items(
        ids=pa.array([f"item{row}" for row in range(n_items)]), embeddings=embeddings, embedded=np.ones(n_items, bool)
    )
    tastes = rng.standard_normal((n_users, 4)).astype(np.float32)
    segments = (tastes[:, 0] > 0).astype(np.int32)
    centres = np.stack([tastes[segments == number].mean(axis=0) for number in (0, 1)])
    profiles = Profiles(
        user_ids=pa.array([f"user{row}" for row in range(n_users)]),
        embeddings=tastes,
        embedded=np.ones(n_users, bool),
        features=tastes * 2.0 + 1.0,
        segments=segments,
        centres=centres[segments],
    )
    likes = tastes @ embeddings[: n_items - 3].T
    taken = np.argsort(-likes - rng.gumbel(size=likes.shape), axis=1)[:, :n_events].astype(np.int32)
    rng.permuted(taken, axis=1, out=taken)
    ratings = np.clip(np.round(3 + 1.5 * np.take_along_axis(likes, taken, axis=1)), 1, 5).astype(np.float32)
    events = Histories(
        items=items,
        offsets=np.arange(n_users + 1, dtype=np.int64) * n_events,
        item_rows=taken.reshape(-1),
        ratings=ratings.reshape(-1),
        timestamps_us=np.tile(np.arange(n_events, dtype=np.int64), n_users),
        as_of_us=10**15,
    )
    late = np.tile(np.arange(n_events) >= n_events - 2, n_users)
    return SmallWorld(items, profiles, _only(events, ~late, n_events - 2), _only(events, late, 2))


def _only(events: Histories, kept: np.ndarray, each: int) -> Histories:
    assert events.ratings is not None and events.timestamps_us is not None
    return replace(
        events,
        offsets=np.arange(len(events) + 1, dtype=np.int64) * each,
        item_rows=events.item_rows[kept],
        ratings=events.ratings[kept],
        timestamps_us=events.timestamps_us[kept],
    )
