"""Taste: items that read like what the user took, all of it alike or the latest most.

    u_i = Σ_l d^l (c_l - c̄) / Σ_l d^l,   s_ij = u_i · (c_j - c̄)

c are content vectors of embedding and attributes (`item_content`), c_l that of the l-th last item
of the history, c̄ the mean over items somebody took. Nothing is learned about ids, so an item
nobody took is scored like any other. Unlike `content`, which compares the embeddings of users
and items, it reads the attributes too, and nothing of the user but the history.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, NonNegativeFloat, PositiveInt

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
from recpipe.models.popularity import POPULARITY, ItemCounts
from recpipe.models.settings import ModelSettings
from recpipe.schemas import ITEM_EMBEDDINGS

if TYPE_CHECKING:
    from recpipe.models.item_content import ItemContent
    from recpipe.models.tables import Float32


class TasteSettings(ModelSettings):
    """`train` for the model taste."""

    model: Literal["taste"] = "taste"
    """Name of the model."""

    history_decay: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    """How much an item of the history counts beside the next newer one."""

    history: PositiveInt = 500
    """Most recent interactions of a history that count."""

    category_weight: NonNegativeFloat = 1.0
    """Length of the vector of a category's values beside the embedding's of 1."""

    number_weight: NonNegativeFloat = 1.0
    """The same of a number."""


class TasteModel(FactoredModel):
    """Mean content of the history; see the module."""

    def __init__(self, settings: TasteSettings) -> None:
        self.settings: TasteSettings = settings
        self._counts: ItemCounts | None = None
        self._content: ItemContent | None = None
        self._mean: Float32 | None = None
        self._catalogue: tuple[Items, Float32] | None = None

    def fit(self, data: TrainingData, context: FitContext) -> FitReport:
        import numpy as np

        from recpipe.models.item_content import ItemContent

        settings = self.settings
        target = MODEL.target_for(settings, data)
        self._counts = ItemCounts.of(data, settings.positive_from)
        self._content = ItemContent.of(
            data.items,
            self._counts.n_users > 0,
            category_weight=settings.category_weight,
            number_weight=settings.number_weight,
        )
        taken = np.flatnonzero(self._counts.n_users)
        self._mean = self._content.encode(data.items.rows(taken)).mean(axis=0, dtype=np.float64).astype(np.float32)
        self._catalogue = None
        return FitReport(target=target, counts={"users": data.n_users, "items": len(taken)})

    def user_vectors(self, profiles: Profiles, histories: Histories) -> UserVectors:
        import numpy as np

        from recpipe.models.history_means import history_means

        settings = self.settings
        means, _ = history_means(
            histories,
            self._vectors(histories.items),
            decay=settings.history_decay,
            length=settings.history,
            positive_from=settings.positive_from,
        )
        known = means.any(axis=1)  # a history of items of which nothing is known says nothing
        popular = np.where(known, 0.0, 1.0).astype(np.float32)[:, None]
        return UserVectors(np.concatenate([means, popular], axis=1), np.where(known, MODEL.name, POPULARITY))

    def item_vectors(self, items: Items) -> Float32:
        import numpy as np

        assert self._counts is not None
        return np.concatenate([self._vectors(items), self._counts.scores(items)[:, None]], axis=1)

    def state(self) -> ModelState:
        content, mean = self._fitted()
        assert self._counts is not None
        return ModelState(
            weights={"n_users": self._counts.n_users, "taste_mean": mean, **content.weights()},
            values=content.values(),
            item_ids=self._counts.item_ids,
        )

    def restore(self, state: ModelState) -> None:
        from recpipe.models.item_content import ItemContent

        if state.item_ids is None:
            raise KeyError("item ids")
        self._counts = ItemCounts(state.item_ids, state.weights["n_users"].astype("int64"))
        self._content = ItemContent.from_state(state.weights, state.values)
        self._mean = state.weights["taste_mean"].astype("float32")
        self._catalogue = None

    def _vectors(self, items: Items) -> Float32:
        """Return centred content vectors, float32 (n_items, width), made once a catalogue; zeros: nothing is known."""
        import numpy as np

        if self._catalogue is None or self._catalogue[0] is not items:
            content, mean = self._fitted()
            vectors = content.encode(items)
            known = vectors.any(axis=1, keepdims=True)
            self._catalogue = (items, np.where(known, vectors - mean, np.float32(0.0)).astype(np.float32))
        return self._catalogue[1]

    def _fitted(self) -> tuple[ItemContent, Float32]:
        if self._content is None or self._mean is None:
            raise RuntimeError("fit or load the model first")
        return self._content, self._mean


MODEL = ModelSpec(
    name="taste",
    summary="Items that read like what the user took, by embeddings and attributes.",
    settings=TasteSettings,
    factory=TasteModel,
    targets=("implicit",),
    reads=(ITEM_EMBEDDINGS.name,),
    attributes=True,
    blocks=True,
)
