"""Metrics of ranked lists with binary relevance.

For a user with the held-out items R, and h_r = 1 where the item at rank r of the list is one
of them (0 elsewhere and after the end of a short list):

- ndcg@k = Σ_{r≤k} h_r / log2(r + 1)  /  Σ_{r≤min(k, |R|)} 1 / log2(r + 1)
  (Järvelin & Kekäläinen 2002, "Cumulated gain-based evaluation of IR techniques").
- recall@k = Σ_{r≤k} h_r / |R|. The denominator is |R|, also where |R| > k: then 1 is out of reach.
- hit_rate@k = 1 where a held-out item stands among the first k, else 0.
- mrr@k = 1 / rank of the first held-out item, 0 where that rank is beyond k
  (Voorhees 1999, "The TREC-8 question answering track report").
- map@k = Σ_{r≤k} h_r · precision@r / |R|. The denominator is |R| as in trec_eval, not min(k, |R|)
  (Manning, Raghavan & Schütze 2008, "Introduction to information retrieval", 8.4).

The figure reported is the mean over users with |R| > 0; the others have no value and are
counted. Relevance is binary: a rating decides whether an item is held out as relevant
(`train.positive_from`), not how much.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from recpipe.metrics.values import Metric, UserValues
from recpipe.schemas import HIT_RATE, MAP, MRR, NDCG, RECALL

if TYPE_CHECKING:
    import numpy.typing as npt

    Float64 = npt.NDArray[np.float64]
    Int32 = npt.NDArray[np.int32]
    Int64 = npt.NDArray[np.int64]
    Bool = npt.NDArray[np.bool_]

RANKING_METRICS = (NDCG.name, RECALL.name, HIT_RATE.name, MRR.name, MAP.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Relevant:
    """The held-out items of a block of users: those of user i are item_rows[offsets[i]:offsets[i + 1]].

    Attributes:
        offsets: int64 (n_users + 1,), not decreasing. It need not begin at 0 (see `rows`).
        item_rows: int32 (n,): rows of the items, each once for a user.
    """

    offsets: Int64
    item_rows: Int32

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @classmethod
    def distinct(cls, user_rows: Int64, item_rows: Int32, *, n_users: int) -> Relevant:
        """Collect held-out events (user, item), in any order, repeats allowed.

        Args:
            user_rows: integers (n_events,): rows of the users, from 0 to before n_users.
            item_rows: integers (n_events,): rows of the items.
        """
        pairs = np.unique(np.stack([user_rows.astype(np.int64), item_rows.astype(np.int64)], axis=1), axis=0)
        offsets = np.searchsorted(pairs[:, 0], np.arange(n_users + 1)).astype(np.int64)
        return cls(offsets=offsets, item_rows=pairs[:, 1].astype(np.int32))

    def rows(self, start: int, stop: int) -> Relevant:
        """The users from `start` to before `stop`, without copying."""
        return Relevant(offsets=self.offsets[start : stop + 1], item_rows=self.item_rows)

    def counts(self) -> Int64:
        """Return the number of held-out items: int64 (n_users,)."""
        return np.diff(self.offsets)

    def pairs(self) -> tuple[Int64, Int32]:
        """Return (user row, item row) of every held-out item of these users, by user."""
        users = np.repeat(np.arange(len(self), dtype=np.int64), self.counts())
        return users, self.item_rows[self.offsets[0] : self.offsets[-1]]

    def among(self, item_mask: Bool) -> Relevant:
        """Keep the held-out items of a mask (n_items,), e.g. the cold ones."""
        users, items = self.pairs()
        kept = item_mask[items]
        offsets = np.append(0, np.cumsum(np.bincount(users[kept], minlength=len(self)))).astype(np.int64)
        return Relevant(offsets=offsets, item_rows=items[kept])


def hits(ranked: Int32, relevant: Relevant) -> Bool:
    """Return where a held-out item stands in the lists: bool (n_users, n).

    Args:
        ranked: int32 (n_users, n): rows of the items, best first; -1 after the end of a shorter list.

    Raises:
        ValueError: The users do not match, or an item stands twice in a list or among the held-out ones.
    """
    if ranked.ndim != 2 or len(ranked) != len(relevant):
        raise ValueError(f"lists {ranked.shape} do not fit {len(relevant)} users with held-out items")
    users, items = relevant.pairs()
    width = 1 + max(int(ranked.max(initial=0)), int(items.max(initial=0)))
    # one int64 key for each (user, item): membership for all users in one search
    wanted = np.sort(users * width + items)
    if (wanted[1:] == wanted[:-1]).any():
        raise ValueError("an item is held out twice for one user; make them distinct with Relevant.distinct")
    in_order = np.sort(ranked, axis=1)
    if ((in_order[:, 1:] == in_order[:, :-1]) & (in_order[:, 1:] >= 0)).any():
        raise ValueError("an item stands twice in one list")
    if not len(wanted):
        return np.zeros(ranked.shape, dtype=np.bool_)
    keys = np.arange(len(ranked), dtype=np.int64)[:, None] * width + ranked
    places = np.minimum(np.searchsorted(wanted, keys), len(wanted) - 1)
    return np.asarray((wanted[places] == keys) & (ranked >= 0), dtype=np.bool_)


def per_user(ranked: Int32, relevant: Relevant, ks: Sequence[int]) -> UserValues:
    """Return ndcg, recall, hit_rate, mrr and map at every k, for every user.

    Args:
        ranked: int32 (n_users, n) with n at least the largest k: rows of the items, best first;
            -1 after the end of a shorter list.
        relevant: the held-out items of the same users.
        ks: lengths of list, from 1.

    Returns:
        Values between 0 and 1; NaN for users without held-out items.

    Raises:
        ValueError: The lists are shorter than k, or see `hits`.
    """
    if not ks or min(ks) < 1 or max(ks) > ranked.shape[1]:
        raise ValueError(f"lists of {ranked.shape[1]} items cannot be measured at k = {list(ks)}")
    hit = hits(ranked, relevant)[:, : max(ks)]  # (n_users, max k)
    n_relevant = relevant.counts()
    ranks = np.arange(1, hit.shape[1] + 1)
    discounts = 1.0 / np.log2(ranks + 1)
    n_hits = np.cumsum(hit, axis=1)
    gains = np.cumsum(hit * discounts, axis=1)
    precisions = np.cumsum(hit * (n_hits / ranks), axis=1)
    ideal = np.append(0.0, np.cumsum(discounts))  # of 0, 1, 2, ... held-out items
    first = np.where(n_hits[:, -1] > 0, hit.argmax(axis=1) + 1, np.inf)  # (n_users,): rank of the first hit
    denominator = np.where(n_relevant > 0, n_relevant, np.nan)
    columns: dict[Metric, Float64] = {}
    for k in ks:
        best = np.where(n_relevant > 0, ideal[np.minimum(n_relevant, k)], np.nan)
        columns[Metric(NDCG.name, k)] = gains[:, k - 1] / best
        columns[Metric(RECALL.name, k)] = n_hits[:, k - 1] / denominator
        columns[Metric(HIT_RATE.name, k)] = _defined(n_hits[:, k - 1] > 0, n_relevant)
        columns[Metric(MRR.name, k)] = _defined(np.where(first <= k, 1.0 / first, 0.0), n_relevant)
        columns[Metric(MAP.name, k)] = precisions[:, k - 1] / denominator
    return UserValues.of(columns)


def _defined(values: npt.NDArray[np.float64 | np.bool_], n_relevant: Int64) -> Float64:
    return np.where(n_relevant > 0, values.astype(np.float64), np.nan)
