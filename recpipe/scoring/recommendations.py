"""The table `recommendations`, from a fitted model and blocks of users."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from recpipe.models.base import Histories, Items, Model, Profiles
from recpipe.schemas import (
    ITEM_ID,
    PREDICTED_RATING,
    PREDICTED_RATING_HIGH,
    PREDICTED_RATING_LOW,
    RANK,
    RECOMMENDED_TITLE,
    SCORE,
    SOURCE,
    USER_ID,
)
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
        pa.field(PREDICTED_RATING_LOW.name, pa.float32()),
        pa.field(PREDICTED_RATING_HIGH.name, pa.float32()),
    ]
)


@dataclass(frozen=True, slots=True)
class PredictedRatings:
    """Predicted ratings of listed pairs, float32 (n,) each.

    Attributes:
        ratings: What the model expects.
        low: Lower ends of their intervals; None where the model gives none.
        high: Upper ends.
    """

    ratings: Float32
    low: Float32 | None = None
    high: Float32 | None = None


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

    def _predicted(self, profiles: Profiles, histories: Histories, lists: TopN) -> PredictedRatings | None:
        """Return the predicted ratings of the listed pairs, in the order of the table; None without."""
        if not self._model.predicts_ratings:
            return None
        found = np.nonzero(lists.rows >= 0)
        user_rows, item_rows = found[0].astype(np.int64), lists.rows[found].astype(np.int64)
        ratings = self._model.predict_rating(profiles, histories, self._items, user_rows=user_rows, item_rows=item_rows)
        interval = self._model.rating_interval(
            profiles, histories, self._items, user_rows=user_rows, item_rows=item_rows
        )
        low, high = interval or (None, None)
        return PredictedRatings(ratings, low, high)


def to_table(
    user_ids: pa.StringArray,
    items: Items,
    *,
    lists: TopN,
    user_sources: Words,
    item_sources: Words | None = None,
    predicted: PredictedRatings | None = None,
) -> pa.Table:
    """Return lists as rows of `recommendations`, columns as in `SCHEMA`.

    Args:
        user_ids: (n_users,).
        items: The catalogue that `lists.rows` points into.
        user_sources: str (n_users,): the path of each user's list.
        item_sources: str (n_items,): the path of items that do not take the user's, "" for the rest.
        predicted: Predicted rating of each listed pair, by user, then rank; None: null.
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
        *(
            pa.nulls(len(taken), pa.float32()) if column is None else pa.array(column, pa.float32())
            for column in (
                (None, None, None) if predicted is None else (predicted.ratings, predicted.low, predicted.high)
            )
        ),
    ]
    return pa.Table.from_arrays(
        [column.cast(field.type) for column, field in zip(columns, SCHEMA, strict=True)], schema=SCHEMA
    )
