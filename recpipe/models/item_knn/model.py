"""Item-to-item nearest neighbours: what resembles the items of the history in who took it.

    score_uj = Σ_i s_ij over the items i of the user's history that have j among their neighbours

s_ij is the dot product of the items' weighted vectors over users (`train.weighting`), kept for
each item's `train.n_neighbors` nearest items alone (Sarwar et al. 2001; Deshpande & Karypis
2004). Weightings: cosine of who took them; tfidf, the cosine with each user weighted by how
few items they took; bm25, the same weight with the length of an item's list of users damped
instead of divided out.

No user is stored: whoever has a history has neighbours. Items that no neighbour reaches follow
after all others, the popular ones first; users without a known item are recommended what is
popular.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import PositiveInt

from recpipe.models.base import (
    FitContext,
    FitReport,
    Histories,
    Items,
    ModelSpec,
    ModelState,
    PairwiseModel,
    Profiles,
    ScoreBlock,
    TrainingData,
)
from recpipe.models.popularity import POPULARITY, ItemCounts
from recpipe.models.settings import ModelSettings

if TYPE_CHECKING:
    from recpipe.models.taken_matrix import KnownItems, Matrix


class ItemKnnSettings(ModelSettings):
    """`train` for the model item_knn."""

    model: Literal["item_knn"] = "item_knn"
    """Name of the model."""

    weighting: Literal["cosine", "tfidf", "bm25"] = "tfidf"
    """How the users of an item are weighted in its similarity to others."""

    n_neighbors: PositiveInt = 20
    """Nearest items kept for each item."""


class ItemKnnModel(PairwiseModel):
    """Sums of similarities to the history's items; see the module."""

    def __init__(self, settings: ItemKnnSettings) -> None:
        self.settings: ItemKnnSettings = settings
        self._counts: ItemCounts | None = None
        self._known: KnownItems | None = None
        self._nearest: Matrix = None

    def fit(self, data: TrainingData, context: FitContext) -> FitReport:
        import numpy as np
        import pyarrow as pa

        from recpipe.models.examples import gather_examples
        from recpipe.models.item_knn.matrix import nearest_items, weighted_items
        from recpipe.models.taken_matrix import KnownItems, taken_matrix

        target = MODEL.target_for(self.settings, data)
        taken, seen = taken_matrix(gather_examples(data, target, positive_from=self.settings.positive_from))
        ids = data.items.ids.take(pa.array(seen))
        self._nearest = nearest_items(
            weighted_items(taken, self.settings.weighting), n_neighbors=self.settings.n_neighbors
        )
        self._known = KnownItems(ids)
        self._counts = ItemCounts(ids, np.bincount(taken.indices, minlength=len(ids)).astype(np.int64))
        counts = {"users": data.n_users, "items": len(ids), "positives": taken.nnz, "similarities": self._nearest.nnz}
        return FitReport(target=target, counts=counts)

    def score_block(self, profiles: Profiles, histories: Histories, items: Items) -> ScoreBlock:
        import numpy as np

        known, counts, nearest = self._fitted()
        sums = (known.taken(histories, self.settings.positive_from) @ nearest).toarray()  # (n_users, n_known)
        reached = sums.any(axis=1)
        popularity = counts.scores(items)
        below = popularity / (popularity.max(initial=0.0) + 1.0) * np.float32(nearest.data.min(initial=1.0))
        rows = known.rows(items)
        scores = np.zeros((len(profiles), len(items)), dtype=np.float32)
        scores[:, rows >= 0] = sums[:, rows[rows >= 0]]
        scores = np.where(scores > 0, scores, np.where(reached[:, None], below, popularity)).astype(np.float32)
        return ScoreBlock(scores, np.where(reached, MODEL.name, POPULARITY))

    def state(self) -> ModelState:
        known, counts, nearest = self._fitted()
        return ModelState(
            weights={
                "n_users": counts.n_users,
                "similarities": nearest.data,
                "neighbors": nearest.indices.astype("int32"),
                "offsets": nearest.indptr.astype("int64"),
            },
            item_ids=known.ids,
        )

    def restore(self, state: ModelState) -> None:
        from scipy import sparse

        from recpipe.models.taken_matrix import KnownItems

        if state.item_ids is None:
            raise KeyError("item ids")
        self._known = KnownItems(state.item_ids)
        self._counts = ItemCounts(state.item_ids, state.weights["n_users"].astype("int64"))
        parts = tuple(state.weights[name] for name in ("similarities", "neighbors", "offsets"))
        self._nearest = sparse.csr_matrix(parts, shape=(len(state.item_ids), len(state.item_ids)))

    def _fitted(self) -> tuple[KnownItems, ItemCounts, Matrix]:
        if self._known is None or self._counts is None or self._nearest is None:
            raise RuntimeError("fit or load the model first")
        return self._known, self._counts, self._nearest


MODEL = ModelSpec(
    name="item_knn",
    summary="Nearest neighbours of the items in the history, by who took them.",
    settings=ItemKnnSettings,
    factory=ItemKnnModel,
    targets=("implicit",),
)
