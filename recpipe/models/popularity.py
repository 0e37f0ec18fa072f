"""Popularity: everybody is recommended what most users took.

Score = log(1 + number of users with a positive interaction). A user counts once per item,
however often they took it, so that one person's habit is no hit. Items unseen in training
have the score 0.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from recpipe.models.base import (
    FactoredModel,
    FitContext,
    FitReport,
    Histories,
    Items,
    ModelSpec,
    ModelState,
    Profiles,
    TrainingData,
    UserVectors,
)
from recpipe.models.settings import ModelSettings

if TYPE_CHECKING:
    import pyarrow as pa

    from recpipe.models.tables import Float32, Int64

POPULARITY = "popularity"
"""The `source` of what popularity recommends, here and as the fallback of other models."""


class PopularitySettings(ModelSettings):
    """`train` for the model popularity."""

    model: Literal["popularity"] = "popularity"
    """Name of the model."""


class ItemCounts:
    """How many users took each item in training; the last resort of every model that needs one.

    Attributes:
        item_ids: `pa.StringArray` (n_items,).
        n_users: int64 (n_items,): users with a positive interaction.
    """

    def __init__(self, item_ids: pa.StringArray, n_users: Int64) -> None:
        self.item_ids = item_ids
        self.n_users = n_users

    @classmethod
    def of(cls, data: TrainingData, positive_from: float | None) -> ItemCounts:
        """Count in one pass; memory holds the counts and one block."""
        import numpy as np

        n_items = len(data.items)
        n_users = np.zeros(n_items, dtype=np.int64)
        for _, histories in data.blocks():
            positive = histories.positive(positive_from)
            item_rows = histories.item_rows[histories.events()][positive]
            pairs = np.unique(histories.user_rows()[positive] * n_items + item_rows)
            n_users += np.bincount(pairs % max(n_items, 1), minlength=n_items)
        return cls(data.items.ids, n_users)

    def scores(self, items: Items) -> Float32:
        """Return log(1 + users), float32 (n_items,); 0 for items unseen in training."""
        import numpy as np

        from recpipe.models.ids import rows_of

        counts = np.append(self.n_users, 0)  # row -1: unseen
        scores: Float32 = np.log1p(counts[rows_of(items.ids, self.item_ids)]).astype(np.float32)
        return scores

    @property
    def highest(self) -> float:
        """The highest score of any item, of whatever catalogue the items asked for are; 0 without any."""
        import numpy as np

        return float(np.log1p(self.n_users.max(initial=0)).astype(np.float32))


class PopularityModel(FactoredModel):
    """The user vector is [1], the item vector the item's score."""

    def __init__(self, settings: PopularitySettings) -> None:
        self.settings = settings
        self._counts: ItemCounts | None = None

    def fit(self, data: TrainingData, context: FitContext) -> FitReport:
        target = MODEL.target_for(self.settings, data)
        self._counts = ItemCounts.of(data, self.settings.positive_from)
        return FitReport(target=target, counts={"users": data.n_users, "positives": int(self._counts.n_users.sum())})

    def user_vectors(self, profiles: Profiles, histories: Histories) -> UserVectors:
        import numpy as np

        return UserVectors(np.ones((len(profiles), 1), dtype=np.float32), np.full(len(profiles), POPULARITY))

    def item_vectors(self, items: Items) -> Float32:
        return self._fitted().scores(items)[:, None]

    def state(self) -> ModelState:
        counts = self._fitted()
        return ModelState(weights={"n_users": counts.n_users}, item_ids=counts.item_ids)

    def restore(self, state: ModelState) -> None:
        if state.item_ids is None:
            raise KeyError("item ids")
        self._counts = ItemCounts(state.item_ids, state.weights["n_users"].astype("int64"))

    def _fitted(self) -> ItemCounts:
        if self._counts is None:
            raise RuntimeError("fit or load the model first")
        return self._counts


MODEL = ModelSpec(
    name="popularity",
    summary="What most users took, the same for everybody.",
    settings=PopularitySettings,
    factory=PopularityModel,
    targets=("implicit",),
)
