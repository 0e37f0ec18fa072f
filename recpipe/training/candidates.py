"""Held-out interactions among the items that could stand before them, with the score by each part of a model.

Weights are chosen by trying many; so the scores of the parts are gathered once, for the items
that come first by any part and for what is to be found: whatever else there is stands behind
those for every sum of the parts worth trying.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING

import numpy as np

from recpipe.models.hybrid.model import HybridModel
from recpipe.models.tables import Histories, Profiles
from recpipe.training.validation import take_histories, take_profiles

if TYPE_CHECKING:
    from recpipe.models.tables import Bool, Float32, Int32, Int64

DEPTH = 200
"""First items of each part that are gathered."""

CUT_OFF = 100
"""Items of a list that count."""

BLOCK_NUMBERS = 5_000_000
"""Scores of one part held at a time."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Users, what they took before, and what is to be found.

    Attributes:
        profiles: Of the users.
        histories: What the parts are told.
        taken: What the users took, which is not ranked.
        offsets: int64 (n_users + 1,): the items to find of user i are offsets[i]:offsets[i + 1].
        item_rows: int32 (n_wanted,).
    """

    profiles: Profiles
    histories: Histories
    taken: Histories
    offsets: Int64
    item_rows: Int32

    def __len__(self) -> int:
        return len(self.profiles)

    def rows(self, start: int, stop: int) -> Wanted:
        """The users from `start` to before `stop`."""
        return Wanted(
            self.profiles.rows(start, stop),
            self.histories.rows(start, stop),
            self.taken.rows(start, stop),
            self.offsets[start : stop + 1],
            self.item_rows,
        )

    def users(self) -> Int64:
        """The user of each item to find, int64 (n_wanted,)."""
        return np.repeat(np.arange(len(self), dtype=np.int64), np.diff(self.offsets))

    @property
    def own(self) -> Int32:
        """The items to find of these users: int32 (n_wanted,)."""
        return self.item_rows[self.offsets[0] : self.offsets[-1]]


@dataclass(frozen=True, slots=True)
class Candidates:
    """Items that could stand first, padded to equal width.

    Attributes:
        scores: float32 (n_users, width, n_parts): z-scores; -inf where there is no item.
        wanted: bool (n_users, width).
        classes: int64 (n_users,), of the history the parts were told.
    """

    scores: Float32
    wanted: Bool
    classes: Int64

    def __len__(self) -> int:
        return len(self.scores)

    def of(self, users: Bool) -> Candidates:
        """Those of some users."""
        return Candidates(*(getattr(self, field.name)[users] for field in fields(self)))

    def ndcg(self, weights: Float32) -> Float32:
        """Return NDCG@100 of each user, float32 (n_users,), by the sum of the parts with these weights (n_parts,).

        Items with equal scores share the mean of their ranks.
        """
        used = np.flatnonzero(weights)
        there = self.scores[:, :, 0] > -np.inf
        scores = np.zeros(self.wanted.shape, np.float32)
        for part in used:
            scores += weights[part] * np.where(there, self.scores[:, :, part], np.float32(0.0))
        users, places = np.nonzero(self.wanted)
        ranks = np.empty(len(users), np.float32)
        for start in range(0, len(users), 4096):
            rows = users[start : start + 4096]
            own = scores[rows, places[start : start + 4096]][:, None]
            above = ((scores[rows] > own) & there[rows]).sum(axis=1)
            equal = ((scores[rows] == own) & there[rows]).sum(axis=1)
            ranks[start : start + 4096] = above + (equal + 1) / 2.0
        gains = np.bincount(users, np.where(ranks <= CUT_OFF, 1.0 / np.log2(ranks + 1.0), 0.0), minlength=len(self))
        return np.asarray(gains / self._ideal(), np.float32)

    def _ideal(self) -> Float32:
        counts = np.minimum(self.wanted.sum(axis=1), CUT_OFF)
        best = np.append(0.0, np.cumsum(1.0 / np.log2(np.arange(2, CUT_OFF + 2))))
        return np.asarray(np.maximum(best[counts], 1e-9), np.float32)


def joined(several: Sequence[Candidates]) -> Candidates:
    """Put users one after the other."""
    width = max(one.scores.shape[1] for one in several)

    def wide(array: np.ndarray, fill: float) -> np.ndarray:
        padding = [(0, 0), (0, width - array.shape[1])] + [(0, 0)] * (array.ndim - 2)
        return np.pad(array, padding, constant_values=fill)

    return Candidates(
        np.concatenate([wide(one.scores, -np.inf) for one in several]),
        np.concatenate([wide(one.wanted, 0) for one in several]),
        np.concatenate([one.classes for one in several]),
    )


def gather_candidates(model: HybridModel, wanted: Wanted) -> Candidates:
    """Gather the first items of each part and those to find, of items somebody took."""
    items = wanted.histories.items
    block_users = max(BLOCK_NUMBERS // max(len(items), 1), 1)
    item_vectors = {name: part.items(items) for name, part in model.fused.items()}
    hidden = np.flatnonzero(model.is_new(items))
    blocks = []
    for start in range(0, len(wanted), block_users):
        block = wanted.rows(start, min(start + block_users, len(wanted)))
        scores = [
            model.fused[name].users(block.profiles, block.histories)[0] @ vectors.T
            for name, vectors in item_vectors.items()
        ]
        for part_scores in scores:
            part_scores[:, hidden] = -np.inf
            part_scores[block.taken.user_rows(), block.taken.item_rows[block.taken.events()]] = -np.inf
        blocks.append(_block(scores, block, model.classes(block.histories)))
    return joined(blocks)


def _block(scores: list[Float32], block: Wanted, classes: Int64) -> Candidates:
    """Gather of the whole scores (n_users, n_items) of each part."""
    n_users, n_items = scores[0].shape
    chosen = np.zeros((n_users, n_items), bool)
    depth = min(DEPTH, n_items)
    for part_scores in scores:
        first = np.argpartition(-part_scores, depth - 1, axis=1)[:, :depth]
        np.put_along_axis(chosen, first, True, axis=1)
    found = np.zeros((n_users, n_items), bool)
    found[block.users(), block.own] = True
    chosen |= found
    chosen &= scores[0] > -np.inf
    width = int(chosen.sum(axis=1).max(initial=1))
    # stable: chosen columns first, in their order
    columns = np.argsort(~chosen, axis=1, kind="stable")[:, :width]
    there = np.take_along_axis(chosen, columns, axis=1)
    stacked = np.stack([np.take_along_axis(part, columns, axis=1) for part in scores], axis=2)
    stacked[~there] = -np.inf
    return Candidates(stacked, np.take_along_axis(found, columns, axis=1) & there, classes)


def some(wanted: Wanted, users: Int64) -> Wanted:
    """Return some users, int64 (n,)."""
    counts = np.diff(wanted.offsets)
    starts = np.repeat(wanted.offsets[users] - np.append(0, np.cumsum(counts[users])[:-1]), counts[users])
    return Wanted(
        take_profiles(wanted.profiles, users),
        take_histories(wanted.histories, users),
        take_histories(wanted.taken, users),
        np.append(0, np.cumsum(counts[users])).astype(np.int64),
        wanted.item_rows[np.arange(len(starts)) + starts],
    )


def shortened(wanted: Wanted, users: Int64, lengths: Int64) -> Wanted:
    """Return some users as if only their last `lengths` events and their attributes were known, int64 (n,) both.

    What is to be found stays the same, and what they took before stays left out.
    """
    chosen = some(wanted, users)
    histories = chosen.histories
    counts = np.minimum(lengths, np.diff(histories.offsets))
    offsets = np.append(0, np.cumsum(counts)).astype(np.int64)
    places = np.arange(offsets[-1]) + np.repeat(histories.offsets[1:] - offsets[1:], counts)
    profiles = replace(Profiles.bare(chosen.profiles.user_ids), attributes=chosen.profiles.attributes)
    short = replace(
        histories,
        offsets=offsets,
        item_rows=histories.item_rows[places],
        ratings=None if histories.ratings is None else histories.ratings[places],
        timestamps_us=None if histories.timestamps_us is None else histories.timestamps_us[places],
    )
    return replace(chosen, profiles=profiles, histories=short)
