"""Content: items whose embedding points where the user's does. Nothing is learned about ids.

Score = cos(z_i, v_j) for a user with an embedding z, cos(centre of the segment, v_j) for one
without, popularity for one with neither. With `centred`, the mean of the items' and the mean
of the users' embeddings are subtracted first: what all texts share points everywhere and
hides what sets them apart.

Everything is one dot product. With d = dim, the vectors have d + 2 coordinates:

    user   [direction, 1, 0]   or, by popularity,   [0, 0, 1]
    item   [direction, 0, pop] or, without embedding, [0, -2 + pop / (2 max pop), pop]

so that for the first kind of user, items without embedding come after all others (a cosine
is never below -1), the popular ones first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from recpipe.errors import DataError
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
from recpipe.schemas import ITEM_EMBEDDINGS, USER_EMBEDDINGS, USER_PROFILES

if TYPE_CHECKING:
    from recpipe.models.base import Words
    from recpipe.models.tables import Bool, Float32

SEGMENT_PRIOR = "segment"
"""The `source` of what the centre of the user's segment recommends."""


class ContentSettings(ModelSettings):
    """`train` for the model content."""

    model: Literal["content"] = "content"
    """Name of the model."""

    centred: bool = True
    """Subtract the mean of the users' and of the items' embeddings before the cosine.
    False: the cosine of the embeddings as they are."""


class ContentModel(FactoredModel):
    """Cosine of user and item embeddings; see the module."""

    def __init__(self, settings: ContentSettings) -> None:
        self.settings: ContentSettings = settings
        self._counts: ItemCounts | None = None
        self._item_mean: Float32 | None = None
        self._user_mean: Float32 | None = None

    def fit(self, data: TrainingData, context: FitContext) -> FitReport:
        import numpy as np

        target = MODEL.target_for(self.settings, data)
        items = data.items
        dim = items.embeddings.shape[1]
        self._counts = ItemCounts.of(data, self.settings.positive_from)
        user_sum = np.zeros(dim, dtype=np.float64)
        n_embedded = 0
        for profiles, _ in data.blocks():
            if profiles.embedded.any():
                self._check_width(profiles.embeddings, dim, "user embeddings")
                user_sum += profiles.embeddings[profiles.embedded].sum(axis=0, dtype=np.float64)
                n_embedded += int(profiles.embedded.sum())
        n_items_embedded = int(items.embedded.sum())
        item_sum = items.embeddings[items.embedded].sum(axis=0, dtype=np.float64)
        self._item_mean = (item_sum / max(n_items_embedded, 1)).astype(np.float32)
        self._user_mean = (user_sum / max(n_embedded, 1)).astype(np.float32)
        counts = {"users": data.n_users, "embedded_users": n_embedded, "embedded_items": n_items_embedded}
        return FitReport(target=target, counts=counts)

    def user_vectors(self, profiles: Profiles, histories: Histories) -> UserVectors:
        import numpy as np

        _, _, user_mean = self._fitted()
        dim = len(user_mean)
        vectors = np.zeros((len(profiles), dim + 2), dtype=np.float32)
        source = np.full(len(profiles), POPULARITY, dtype="<U10")
        # The centre of segment -1 is the mean of all users: centred, nothing but rounding is left of it.
        known = ~profiles.embedded & ((profiles.segments >= 0) | (not self.settings.centred))
        for rows, embeddings, name in (
            (profiles.embedded, profiles.embeddings, MODEL.name),
            (known, profiles.centres, SEGMENT_PRIOR),
        ):
            if not rows.any() or embeddings.shape[1] == 0:
                continue
            self._check_width(embeddings, dim, "user embeddings")
            directions, pointing = self._directions(embeddings[rows], user_mean)
            chosen = np.flatnonzero(rows)[pointing]
            vectors[chosen, :dim] = directions[pointing]
            vectors[chosen, dim] = 1.0
            source[chosen] = name
        vectors[source == POPULARITY, dim + 1] = 1.0
        return UserVectors(vectors, source)

    def item_vectors(self, items: Items) -> Float32:
        import numpy as np

        counts, item_mean, _ = self._fitted()
        dim = len(item_mean)
        popularity = counts.scores(items)
        vectors = np.zeros((len(items), dim + 2), dtype=np.float32)
        placed = self._placed(items)
        if placed.any():
            vectors[placed, :dim] = self._directions(items.embeddings[placed], item_mean)[0]
        share = popularity / max(counts.highest, 1.0)
        vectors[:, dim] = np.where(placed, 0.0, -2.0 + share / 2.0)
        vectors[:, dim + 1] = popularity
        return vectors

    def item_sources(self, items: Items) -> Words | None:
        import numpy as np

        return np.where(self._placed(items), "", POPULARITY)

    def state(self) -> ModelState:
        counts, item_mean, user_mean = self._fitted()
        return ModelState(
            weights={"n_users": counts.n_users, "item_mean": item_mean, "user_mean": user_mean},
            item_ids=counts.item_ids,
        )

    def restore(self, state: ModelState) -> None:
        if state.item_ids is None:
            raise KeyError("item ids")
        self._counts = ItemCounts(state.item_ids, state.weights["n_users"].astype("int64"))
        self._item_mean = state.weights["item_mean"].astype("float32")
        self._user_mean = state.weights["user_mean"].astype("float32")

    def _fitted(self) -> tuple[ItemCounts, Float32, Float32]:
        if self._counts is None or self._item_mean is None or self._user_mean is None:
            raise RuntimeError("fit or load the model first")
        return self._counts, self._item_mean, self._user_mean

    def _placed(self, items: Items) -> Bool:
        """Which items have a direction: bool (n_items,)."""
        import numpy as np

        _, item_mean, _ = self._fitted()
        placed = np.zeros(len(items), dtype=np.bool_)
        if items.embedded.any():
            self._check_width(items.embeddings, len(item_mean), "item embeddings")
            placed[items.embedded] = self._directions(items.embeddings[items.embedded], item_mean)[1]
        return placed

    def _directions(self, embeddings: Float32, mean: Float32) -> tuple[Float32, Bool]:
        """Return unit vectors (n, dim) and which rows point anywhere: what lies at the mean says nothing."""
        import numpy as np

        shifted = embeddings - mean if self.settings.centred else embeddings
        norms = np.linalg.norm(shifted, axis=1, keepdims=True)
        pointing = norms[:, 0] > 1e-4  # embeddings have length 1: this is far above float32 rounding
        return (shifted / np.maximum(norms, 1e-4)).astype(np.float32), pointing

    def _check_width(self, embeddings: Float32, dim: int, what: str) -> None:
        if embeddings.shape[1] != dim:
            raise DataError(
                f"{what} have {embeddings.shape[1]} dimensions, the model's items {dim}",
                next_step="embed users and items with one encoder, then run: recpipe train",
            )


MODEL = ModelSpec(
    name="content",
    summary="Items whose embedding is nearest to the user's; popularity for users and items without one.",
    settings=ContentSettings,
    factory=ContentModel,
    targets=("implicit",),
    reads=(ITEM_EMBEDDINGS.name, USER_EMBEDDINGS.name, USER_PROFILES.name),
)
