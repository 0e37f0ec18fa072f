"""The level of a user's list: the score of what stands tenth among the items somebody took.

Items nobody took are placed by it. Scores of known items reach as high as a user's history is
telling, which differs far more from user to user than scores of new items do: with one offset
for all, new items would fill the first places of some lists and never show in others.

Where very many items are known, it is measured on those that most users took.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from recpipe.models.tables import Float32, Histories, Int64, Items

PLACE = 10
"""The place in the list whose score is the level."""

MAX_ITEMS = 10_000
"""Most items that it is measured on."""

BLOCK_USERS = 1024
"""Users whose scores are held at a time."""


@dataclass(frozen=True, slots=True)
class Leaders:
    """The items of a catalogue that levels are measured on.

    Attributes:
        items: the catalogue.
        rows: int64 (n,): rows of the catalogue.
        vectors: float32 (n, k).
    """

    items: Items
    rows: Int64
    vectors: Float32

    def levels(self, users: Float32, histories: Histories) -> Float32:
        """Return the level of each user: float32 (n_users,).

        Args:
            users: float32 (n_users, k).
            histories: What they took, which is not in their lists, in rows of this catalogue.
        """
        places = np.full(len(self.items), -1, np.int64)
        places[self.rows] = np.arange(len(self.rows))
        levels = np.empty(len(users), np.float32)
        for start in range(0, len(users), BLOCK_USERS):
            block = histories.rows(start, min(start + BLOCK_USERS, len(users)))
            scores = users[start : start + BLOCK_USERS] @ self.vectors.T
            taken = places[block.item_rows[block.events()]]
            scores[block.user_rows()[taken >= 0], taken[taken >= 0]] = -np.inf
            levels[start : start + len(block)] = levels_of(scores)
        return levels


def levels_of(scores: Float32) -> Float32:
    """Return the level of lists, (n_users, n_items) with -inf for what is not in them: float32 (n_users,).

    Of shorter lists it is the score of the last item, of empty ones 0.
    """
    if not scores.shape[1]:
        return np.zeros(len(scores), np.float32)
    depth = min(PLACE, scores.shape[1])
    first = -np.partition(-scores, depth - 1, axis=1)[:, :depth]
    last = np.where(first > -np.inf, first, np.inf).min(axis=1)
    return np.where(last < np.inf, last, 0.0).astype(np.float32)
