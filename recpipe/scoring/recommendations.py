"""The table `recommendations`, from a fitted model and blocks of users."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from recpipe.models.base import FactoredModel, Histories, Items, Model, PairwiseModel, Profiles
from recpipe.schemas import ITEM_ID, RANK, RECOMMENDED_TITLE, SCORE, SOURCE, USER_ID
from recpipe.scoring.settings import ScoreSettings
from recpipe.scoring.ties import tie_order
from recpipe.scoring.topn import Excluded, ItemIndex, TopN, top_n_of_scores

if TYPE_CHECKING:
    from recpipe.models.base import Words

SCHEMA = pa.schema(
    [
        pa.field(USER_ID.name, pa.string(), nullable=False),
        pa.field(RANK.name, pa.int32(), nullable=False),
        pa.field(ITEM_ID.name, pa.string(), nullable=False),
        pa.field(RECOMMENDED_TITLE.name, pa.string()),
        pa.field(SCORE.name, pa.float32(), nullable=False),
        pa.field(SOURCE.name, pa.string(), nullable=False),
    ]
)


class Recommender:
    """A fitted model and a catalogue, ready to recommend to any users.

    What depends on the items alone (vectors, tie order) is made once, here.
    """

    def __init__(self, model: Model, items: Items, settings: ScoreSettings, *, device: str = "cpu") -> None:
        self._model = model
        self._items = items
        self._settings = settings
        self._item_sources = model.item_sources(items)
        self._tie_order = tie_order(items.ids)
        self._index: ItemIndex | None = None
        if isinstance(model, FactoredModel):
            self._index = ItemIndex(model.item_vectors(items), self._tie_order, device=device)

    def recommend(self, profiles: Profiles, histories: Histories) -> pa.Table:
        """Return the lists of these users, best first, as rows of `recommendations`.

        Users stay in their order; a user for whom nothing is left has no row. Memory beyond
        the result is bounded by `score.block_users`.

        Args:
            profiles: Users, any number, seen in training or not.
            histories: What they took; its `items` are the catalogue of this recommender.

        Raises:
            DataError: The model gave vectors or scores that are not finite.
        """
        if len(profiles) != len(histories):
            raise ValueError(f"{len(profiles)} profiles, {len(histories)} histories")
        if histories.items is not self._items:
            raise ValueError("the histories point into another catalogue")
        step = self._settings.block_users
        tables = [
            self._block(profiles.rows(start, start + step), histories.rows(start, start + step))
            for start in range(0, len(profiles), step)
        ]
        return pa.concat_tables(tables) if tables else SCHEMA.empty_table()

    def _block(self, profiles: Profiles, histories: Histories) -> pa.Table:
        excluded = None
        if self._settings.exclude_seen:
            excluded = Excluded(offsets=histories.offsets, item_rows=histories.item_rows)
        n = self._settings.top_n
        if isinstance(self._model, FactoredModel) and self._index is not None:
            users = self._model.user_vectors(profiles, histories)
            lists = self._index.top_n(users.vectors, n=n, excluded=excluded, block_users=self._settings.block_users)
            return to_table(
                profiles.user_ids, self._items, lists=lists, user_sources=users.source, item_sources=self._item_sources
            )
        if isinstance(self._model, PairwiseModel):
            block = self._model.score_block(profiles, histories, self._items)
            lists = top_n_of_scores(block.scores, n=n, tie_order=self._tie_order, excluded=excluded)
            return to_table(
                profiles.user_ids, self._items, lists=lists, user_sources=block.source, item_sources=self._item_sources
            )
        raise TypeError(f"{type(self._model).__name__} is neither factored nor pairwise")


def to_table(
    user_ids: pa.StringArray,
    items: Items,
    *,
    lists: TopN,
    user_sources: Words,
    item_sources: Words | None = None,
) -> pa.Table:
    """Return lists as rows of `recommendations`: user_id, rank, item_id, title, score, source.

    Args:
        user_ids: (n_users,).
        items: The catalogue that `lists.rows` points into.
        user_sources: str (n_users,): the path of each user's list.
        item_sources: str (n_items,): the path of items that do not take the user's, "" for the rest.
    """
    found = lists.rows >= 0  # (n_users, n)
    user_rows, places = np.nonzero(found)
    item_rows = lists.rows[found]
    taken = pa.array(item_rows)
    sources = user_sources[user_rows]
    if item_sources is not None:
        own = item_sources[item_rows]
        sources = np.where(own == "", sources, own)
    titles = pa.nulls(len(taken), pa.string()) if items.titles is None else items.titles.take(taken)
    columns = [
        user_ids.take(pa.array(user_rows)),
        pa.array((places + 1).astype(np.int32)),
        items.ids.take(taken),
        titles,
        pa.array(lists.scores[found]),
        pa.array(sources, type=pa.string()),
    ]
    return pa.Table.from_arrays(
        [column.cast(field.type) for column, field in zip(columns, SCHEMA, strict=True)], schema=SCHEMA
    )
