"""The table `recommendations`, from a fitted model and blocks of users."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from recpipe.models.base import Histories, Items, Model, Profiles
from recpipe.schemas import ITEM_ID, PREDICTED_RATING, RANK, RECOMMENDED_TITLE, SCORE, SOURCE, USER_ID
from recpipe.scoring.ranker import Ranker, seen
from recpipe.scoring.settings import ScoreSettings
from recpipe.scoring.topn import TopN

if TYPE_CHECKING:
    from recpipe.models.base import Words
    from recpipe.models.tables import Float32

SCHEMA = pa.schema(
    [
        pa.field(USER_ID.name, pa.string(), nullable=False),
        pa.field(RANK.name, pa.int32(), nullable=False),
        pa.field(ITEM_ID.name, pa.string(), nullable=False),
        pa.field(RECOMMENDED_TITLE.name, pa.string()),
        pa.field(SCORE.name, pa.float32(), nullable=False),
        pa.field(SOURCE.name, pa.string(), nullable=False),
        pa.field(PREDICTED_RATING.name, pa.float32()),
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
        self._ranker = Ranker(model, items, device=device)

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
        step = self._settings.block_users
        tables = [
            self._block(profiles.rows(start, start + step), histories.rows(start, start + step))
            for start in range(0, len(profiles), step)
        ]
        return pa.concat_tables(tables) if tables else SCHEMA.empty_table()

    def _block(self, profiles: Profiles, histories: Histories) -> pa.Table:
        excluded = seen(histories) if self._settings.exclude_seen else None
        ranked = self._ranker.rank(profiles, histories, n=self._settings.top_n, excluded=excluded)
        return to_table(
            profiles.user_ids,
            self._items,
            lists=ranked.lists,
            user_sources=ranked.source,
            item_sources=self._item_sources,
            predicted=self._predicted(profiles, histories, ranked.lists),
        )

    def _predicted(self, profiles: Profiles, histories: Histories, lists: TopN) -> Float32 | None:
        """Return the predicted ratings of the listed pairs, in the order of the table; None without."""
        if not self._model.predicts_ratings:
            return None
        user_rows, places = np.nonzero(lists.rows >= 0)
        item_rows = lists.rows[user_rows, places].astype(np.int64)
        return self._model.predict_rating(
            profiles, histories, self._items, user_rows=user_rows.astype(np.int64), item_rows=item_rows
        )


def to_table(
    user_ids: pa.StringArray,
    items: Items,
    *,
    lists: TopN,
    user_sources: Words,
    item_sources: Words | None = None,
    predicted: Float32 | None = None,
) -> pa.Table:
    """Return lists as rows of `recommendations`: user_id, rank, item_id, title, score, source, predicted_rating.

    Args:
        user_ids: (n_users,).
        items: The catalogue that `lists.rows` points into.
        user_sources: str (n_users,): the path of each user's list.
        item_sources: str (n_items,): the path of items that do not take the user's, "" for the rest.
        predicted: float32, the predicted rating of each listed pair, by user, then rank; None: null.
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
        pa.nulls(len(taken), pa.float32()) if predicted is None else pa.array(predicted, pa.float32()),
    ]
    return pa.Table.from_arrays(
        [column.cast(field.type) for column, field in zip(columns, SCHEMA, strict=True)], schema=SCHEMA
    )
