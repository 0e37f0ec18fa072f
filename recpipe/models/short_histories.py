"""Choosing a hyper-parameter of models for users with few events, on users the model did not see.

The long histories of the users it learned from say little about that. So a fifth of the users
is left out of a first fit; of each of them the last few events are all that is known, the
events held out are to be found again, and the value that ranks these best is kept for the fit
to everybody. How few is dealt out in turn, so that a user is ranked for once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse

from recpipe.seeding import generator

if TYPE_CHECKING:
    from recpipe.models.examples import Examples
    from recpipe.models.tables import Bool, Float32, Int64, TrainingData
    from recpipe.models.taken_matrix import Matrix

LENGTHS = (1, 3, 5, 10)
"""Events known of the users to choose by."""

MAX_JUDGED = 2000
"""Most users to choose by."""

JUDGED_SHARE = 0.2

MIN_JUDGED = 20
"""With fewer users to choose by, chance would choose."""

BLOCK_USERS = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class ShortHistories:
    """Users to choose by, and those left to learn from.

    Attributes:
        fitted: bool (n_users,): the model may learn from the user.
        judged: int64 (n_judged,): rows of the users to rank for.
        known: (n_judged, n_items): the last few items they took, all the model is told.
        seen: (n_judged, n_items): all they took, never recommended.
        wanted: (n_judged, n_items): the items to be found again.
    """

    fitted: Bool
    judged: Int64
    known: Matrix
    seen: Matrix
    wanted: Matrix

    def ndcg(self, score: Callable[[Int64, Matrix], Float32]) -> float:
        """Return the mean NDCG over the whole ranking; equal scores share the mean of their ranks.

        Args:
            score: Takes int64 (n,), user rows, and what is known of them (n, n_items); gives scores (n, n_items).
        """
        total = 0.0
        for start in range(0, len(self.judged), BLOCK_USERS):
            block = slice(start, start + BLOCK_USERS)
            scores = np.array(score(self.judged[block], self.known[block]))  # (n, n_items)
            seen = self.seen[block]
            scores[np.repeat(np.arange(len(scores)), np.diff(seen.indptr)), seen.indices] = -np.inf
            wanted = self.wanted[block]
            for row, ranked in enumerate(scores):
                own = ranked[wanted.indices[wanted.indptr[row] : wanted.indptr[row + 1]]][:, None]
                ranks = (ranked > own).sum(axis=1) + ((ranked == own).sum(axis=1) + 1) / 2  # 1 is best
                ideal = np.log2(np.arange(2, len(own) + 2))
                total += (1 / np.log2(ranks + 1)).sum() / (1 / ideal).sum()
        return float(total / len(self.judged))


def short_histories(
    examples: Examples,
    seen_items: Int64,
    *,
    held_out: TrainingData | None,
    positive_from: float | None,
    lengths: Sequence[int] = LENGTHS,
    seed: int,
) -> ShortHistories | None:
    """Draw users to choose by.

    Args:
        examples: What the model learns from.
        seen_items: int64 (n_items,), ascending: the catalogue's rows that the columns stand for.
        held_out: Events to be found again, block by block the same users; None: each user's last event.
        lengths: Events known of a user, dealt out in turn.

    Returns:
        The users, or None where there are fewer than MIN_JUDGED.
    """
    ends = examples.offsets[1:].copy()
    if held_out is None:
        wanted_users = np.flatnonzero(examples.user_counts > 1)
        ends[wanted_users] -= 1
        wanted_items = examples.item_rows[ends[wanted_users]].astype(np.int64)
    else:
        wanted_users, wanted_items = _events(held_out, positive_from)
    usable = np.isin(wanted_items, seen_items) & ~_taken_before(examples, ends, wanted_users, wanted_items)
    usable &= ends[wanted_users] > examples.offsets[wanted_users]
    candidates = np.unique(wanted_users[usable])
    n_judged = min(round(len(candidates) * JUDGED_SHARE), MAX_JUDGED)
    if n_judged < MIN_JUDGED:
        return None
    judged = np.sort(generator(seed, "short histories").choice(candidates, size=n_judged, replace=False))
    fitted = np.ones(examples.n_users, dtype=np.bool_)
    fitted[judged] = False
    usable &= ~fitted[wanted_users]
    columns = np.searchsorted(seen_items, examples.item_rows)
    begins, ends = examples.offsets[judged], ends[judged]
    starts = np.maximum(ends - np.resize(np.asarray(lengths), n_judged), begins)
    shape = (n_judged, len(seen_items))
    owners = np.searchsorted(judged, wanted_users[usable])
    return ShortHistories(
        fitted=fitted,
        judged=judged,
        known=_events_between(columns, starts, ends, shape),
        seen=_events_between(columns, begins, ends, shape),
        wanted=_binary(owners, np.searchsorted(seen_items, wanted_items[usable]), shape),
    )


def _events(data: TrainingData, positive_from: float | None) -> tuple[Int64, Int64]:
    """Return the user and the catalogue's row of every positive event: int64 (n,) each."""
    users: list[Int64] = []
    items: list[Int64] = []
    start = 0
    for _, histories in data.blocks():
        positive = histories.positive(positive_from)
        users.append(histories.user_rows()[positive] + start)
        items.append(histories.item_rows[histories.events()][positive].astype(np.int64))
        start += len(histories)
    empty = np.zeros(0, np.int64)
    return np.concatenate([empty, *users]), np.concatenate([empty, *items])


def _taken_before(examples: Examples, ends: Int64, users: Int64, items: Int64) -> Bool:
    """Tell which of the events repeat one of the same user before `ends`: bool (n,)."""
    before = np.arange(len(examples)) < ends[examples.user_rows]
    keys = examples.user_rows[before].astype(np.int64) * examples.n_items + examples.item_rows[before]
    repeated: Bool = np.isin(users * examples.n_items + items, keys)
    return repeated


def _events_between(columns: Int64, starts: Int64, ends: Int64, shape: tuple[int, int]) -> Matrix:
    counts = ends - starts
    owners = np.repeat(np.arange(len(counts)), counts)
    places = np.arange(len(owners)) + np.repeat(starts - np.append(0, np.cumsum(counts)[:-1]), counts)
    return _binary(owners, columns[places], shape)


def _binary(rows: Int64, columns: Int64, shape: tuple[int, int]) -> Matrix:
    matrix = sparse.csr_matrix((np.ones(len(rows), np.float32), (rows, columns)), shape=shape)
    matrix.data[:] = 1.0  # repeats were summed
    return matrix
