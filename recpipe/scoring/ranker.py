"""The best items of any users by any model: what scoring and evaluation share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from recpipe.models.base import FactoredModel, Histories, Items, Model, PairwiseModel, Profiles
from recpipe.scoring.ties import tie_order
from recpipe.scoring.topn import Excluded, ItemIndex, TopN, top_n_of_scores

if TYPE_CHECKING:
    from recpipe.models.base import Words
    from recpipe.models.tables import Bool


@dataclass(frozen=True, slots=True)
class RankedLists:
    """Lists of some users.

    Attributes:
        lists: rows and scores, best first.
        source: str (n_users,): the path of each user's list.
    """

    lists: TopN
    source: Words


class Ranker:
    """A fitted model and a catalogue, ready to rank for any users.

    What depends on the items alone (vectors, tie order) is made once, here.
    """

    def __init__(self, model: Model, items: Items, *, device: str = "cpu", candidates: Bool | None = None) -> None:
        """Prepare the catalogue.

        Args:
            candidates: bool (n_items,): the items that may be listed; None: all.
        """
        self._model = model
        self._items = items
        self._rows = np.arange(len(items)) if candidates is None else np.flatnonzero(candidates)
        self._places = np.full(len(items), -1, dtype=np.int32)  # row of an item among the candidates
        self._places[self._rows] = np.arange(len(self._rows), dtype=np.int32)
        self._tie_order = np.argsort(np.argsort(tie_order(items.ids)[self._rows])).astype(np.int32)
        self._index: ItemIndex | None = None
        if isinstance(model, FactoredModel):
            self._index = ItemIndex(model.item_vectors(items)[self._rows], self._tie_order, device=device)

    def rank(self, profiles: Profiles, histories: Histories, *, n: int, excluded: Excluded | None) -> RankedLists:
        """Return the best n candidates of every user; exact, ties by a hash of the id.

        Args:
            profiles: a block of users, seen in training or not; they are scored at once.
            histories: what they took, in rows of this catalogue.
            excluded: items each user must not get, in rows of this catalogue.

        Raises:
            DataError: The model gave vectors or scores that are not finite.
        """
        if len(profiles) != len(histories):
            raise ValueError(f"{len(profiles)} profiles, {len(histories)} histories")
        if histories.items is not self._items:
            raise ValueError("the histories point into another catalogue")
        among = None if excluded is None else self._among_candidates(excluded)
        if isinstance(self._model, FactoredModel) and self._index is not None:
            users = self._model.user_vectors(profiles, histories)
            block = max(len(profiles), 1)
            found = self._index.top_n(users.vectors, n=n, excluded=among, block_users=block)
            return RankedLists(self._in_catalogue(found), users.source)
        if isinstance(self._model, PairwiseModel):
            scored = self._model.score_block(profiles, histories, self._items)
            scores = scored.scores if len(self._rows) == len(self._items) else scored.scores[:, self._rows]
            found = top_n_of_scores(scores, n=n, tie_order=self._tie_order, excluded=among)
            return RankedLists(self._in_catalogue(found), scored.source)
        raise TypeError(f"{type(self._model).__name__} is neither factored nor pairwise")

    def _among_candidates(self, excluded: Excluded) -> Excluded:
        """Return the exclusions in rows of the candidates."""
        start, stop = int(excluded.offsets[0]), int(excluded.offsets[-1])
        places = self._places[excluded.item_rows[start:stop]]
        kept = np.concatenate([[0], np.cumsum(places >= 0)])
        return Excluded(offsets=kept[excluded.offsets - start], item_rows=places[places >= 0])

    def _in_catalogue(self, found: TopN) -> TopN:
        listed = found.rows >= 0
        rows = np.where(listed, self._rows[np.where(listed, found.rows, 0)], -1).astype(np.int32)
        return TopN(rows, found.scores)


def seen(histories: Histories) -> Excluded:
    """Return what users already took, as what they must not get."""
    return Excluded(offsets=histories.offsets, item_rows=histories.item_rows)
