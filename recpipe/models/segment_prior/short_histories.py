"""Choosing a hyper-parameter of models for users with few events, on users the model did not see.

The long histories of the users it learned from say little about that, and what comes at their
end still less. So a fifth of the users is left out of a first fit. Of each of them the first
few events are all that is known, the next ones are to be found, and the value that ranks these
best is kept for the fit to everybody.
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
    from recpipe.models.tables import Bool, Float32, Int64
    from recpipe.models.taken_matrix import Matrix

LENGTHS = (1, 3, 5, 10)
"""Events known of the users to choose by; a user with enough events is a case for each."""

N_WANTED = 5
"""Events after those to be found."""

LIST_LENGTH = 10
"""Cut-off of the NDCG."""

MAX_JUDGED = 1000
"""Most users to choose by."""

JUDGED_SHARE = 0.2

MIN_JUDGED = 20
"""With fewer users to choose by, chance would choose."""

BLOCK_USERS = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class ShortHistories:
    """Cases to choose by, and the users left to learn from.

    Attributes:
        fitted: bool (n_users,): the model may learn from the user.
        users: int64 (n_cases,): the user of each case.
        known: (n_cases, n_items): the items the user took first, all the model is told.
        wanted: (n_cases, n_items): the items taken next, at least one; none of the known ones.
    """

    fitted: Bool
    users: Int64
    known: Matrix
    wanted: Matrix

    def ndcg(self, score: Callable[[Int64, Matrix], Float32]) -> float:
        """Return the mean NDCG@10 over cases, known items not ranked; equal scores share the mean of their ranks.

        Args:
            score: Takes int64 (n,), users, and what is known of them (n, n_items); gives scores (n, n_items).
        """
        total = 0.0
        for start in range(0, len(self.users), BLOCK_USERS):
            block = slice(start, start + BLOCK_USERS)
            known, wanted = self.known[block], self.wanted[block]
            scores = np.array(score(self.users[block], known))  # (n, n_items)
            scores[np.repeat(np.arange(len(scores)), np.diff(known.indptr)), known.indices] = -np.inf
            for row, ranked in enumerate(scores):
                own = ranked[wanted.indices[wanted.indptr[row] : wanted.indptr[row + 1]]][:, None]
                ranks = (ranked > own).sum(axis=1) + ((ranked == own).sum(axis=1) + 1) / 2  # 1 is best
                gains = np.where(ranks <= LIST_LENGTH, 1 / np.log2(ranks + 1), 0.0)
                total += gains.sum() / (1 / np.log2(np.arange(2, len(own) + 2))).sum()
        return float(total / len(self.users))


def short_histories(
    examples: Examples, seen_items: Int64, *, lengths: Sequence[int] = LENGTHS, seed: int
) -> ShortHistories | None:
    """Draw users to choose by.

    Args:
        examples: What the model learns from.
        seen_items: int64 (n_items,), ascending: the rows of the catalogue that the columns stand for.
        lengths: Events known of a user.

    Returns:
        The cases, or None where there are fewer than MIN_JUDGED users to choose by.
    """
    candidates = np.flatnonzero(examples.user_counts > min(lengths))
    n_judged = min(round(len(candidates) * JUDGED_SHARE), MAX_JUDGED)
    if n_judged < MIN_JUDGED:
        return None
    judged = np.sort(generator(seed, "short histories").choice(candidates, size=n_judged, replace=False))
    fitted = np.ones(examples.n_users, dtype=np.bool_)
    fitted[judged] = False
    users = np.tile(judged, len(lengths))
    middles = examples.offsets[users] + np.repeat(lengths, n_judged)
    enough = middles < examples.offsets[users + 1]
    users, middles = users[enough], middles[enough]
    columns = np.searchsorted(seen_items, examples.item_rows)
    known = _between(columns, examples.offsets[users], middles, len(seen_items))
    stops = np.minimum(middles + N_WANTED, examples.offsets[users + 1])
    wanted = _between(columns, middles, stops, len(seen_items))
    wanted = (wanted - wanted.multiply(known)).tocsr()  # taken again: not to be recommended
    wanted.eliminate_zeros()
    asked = np.diff(wanted.indptr) > 0
    if not asked.any():
        return None
    return ShortHistories(fitted=fitted, users=users[asked], known=known[asked], wanted=wanted[asked])


def _between(columns: Int64, starts: Int64, stops: Int64, n_items: int) -> Matrix:
    """Return 1 at the columns that stand from `starts` to before `stops`: (n_cases, n_items)."""
    counts = stops - starts
    rows = np.repeat(np.arange(len(counts)), counts)
    places = np.arange(len(rows)) + np.repeat(starts - np.append(0, np.cumsum(counts)[:-1]), counts)
    matrix = sparse.csr_matrix((np.ones(len(rows), np.float32), (rows, columns[places])), shape=(len(counts), n_items))
    matrix.data[:] = 1.0  # repeats were summed
    return matrix
