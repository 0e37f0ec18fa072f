"""The interactions a model learns from, as flat arrays: 12 bytes each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from recpipe.errors import DataError
from recpipe.models.settings import Target
from recpipe.models.tables import TrainingData

if TYPE_CHECKING:
    from recpipe.models.tables import Bool, Float32, Int32, Int64


@dataclass(frozen=True, slots=True, kw_only=True)
class Examples:
    """Interactions in the order of the training data: users together, each oldest first.

    Attributes:
        target: what they teach; of implicit feedback the positive ones are here, of ratings the rated ones.
        n_users: users of the training data.
        n_items: items of the catalogue.
        user_rows: int32 (n,): users in the order of the training data's blocks.
        item_rows: int32 (n,): rows of the catalogue.
        ratings: float32 (n,), empty for implicit feedback.
        offsets: int64 (n_users + 1,): the interactions of user i are offsets[i]:offsets[i + 1].
    """

    target: Target
    n_users: int
    n_items: int
    user_rows: Int32
    item_rows: Int32
    ratings: Float32
    offsets: Int64

    def __len__(self) -> int:
        return len(self.item_rows)

    @property
    def item_counts(self) -> Int64:
        """Interactions of each item: int64 (n_items,)."""
        return np.bincount(self.item_rows, minlength=self.n_items).astype(np.int64)

    @property
    def user_counts(self) -> Int64:
        """Interactions of each user: int64 (n_users,)."""
        return np.diff(self.offsets)


def taught(histories_ratings: Float32 | None, positive: Bool, target: Target) -> Bool:
    """Return which events teach: the positive ones, or for the target rating the rated ones."""
    if target == "implicit":
        return positive
    if histories_ratings is None:
        return np.zeros(len(positive), dtype=np.bool_)
    return np.isfinite(histories_ratings)


def gather_examples(data: TrainingData, target: Target, *, positive_from: float | None) -> Examples:
    """Read all interactions that teach `target`, in one pass.

    Raises:
        DataError: There is none.
    """
    items: list[Int32] = []
    ratings: list[Float32] = []
    counts: list[Int64] = []
    for _, histories in data.blocks():
        events = histories.events()
        block_ratings = None if histories.ratings is None else histories.ratings[events]
        positive = histories.positive(positive_from if target == "implicit" else None)
        chosen = taught(block_ratings, positive, target)
        items.append(histories.item_rows[events][chosen])
        if block_ratings is not None and target == "rating":
            ratings.append(block_ratings[chosen])
        counts.append(np.bincount(histories.user_rows()[chosen], minlength=len(histories)).astype(np.int64))
    per_user = np.concatenate(counts) if counts else np.zeros(0, np.int64)
    item_rows = np.concatenate(items) if items else np.zeros(0, np.int32)
    if len(item_rows) == 0:
        kind = "rated" if target == "rating" else "positive"
        raise DataError(
            f"there is no {kind} interaction to learn from",
            where="interactions",
            next_step="check data.interactions and train.positive_from",
        )
    return Examples(
        target=target,
        n_users=len(per_user),
        n_items=len(data.items),
        user_rows=np.repeat(np.arange(len(per_user), dtype=np.int32), per_user),
        item_rows=item_rows.astype(np.int32, copy=False),
        ratings=np.concatenate(ratings).astype(np.float32, copy=False) if ratings else np.zeros(0, np.float32),
        offsets=np.append(0, np.cumsum(per_user)).astype(np.int64),
    )
