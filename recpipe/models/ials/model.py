"""Implicit alternating least squares: vectors whose product is near 1 for what was taken, near 0 elsewhere.

    minimise  Σ_{u took i} (1 - w_u·h_i)² + α Σ_{u,i} (w_u·h_i)² + Σ_u λ_u |w_u|² + Σ_i λ_i |h_i|²
    λ_u = λ (items of u + α n_items)^ν,   λ_i = λ (users of i + α n_users)^ν

(Hu, Koren & Volinsky 2008, in the form of Rendle et al. 2022, "Revisiting the performance of
iALS on item recommendation benchmarks".) Each half step is exact, see `ials_solver`.

No user is stored: the vector of any user, seen in training or not, is the exact minimum for
their history. Users without a known item are recommended what is popular: the last coordinate
is 1 for them and popularity for items. Items unseen in training have the vector 0.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt

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

if TYPE_CHECKING:
    from recpipe.models.ials.solver import FixedSide
    from recpipe.models.tables import Float32
    from recpipe.models.taken_matrix import KnownItems


class IalsSettings(ModelSettings):
    """`train` for the model ials."""

    model: Literal["ials"] = "ials"
    """Name of the model."""

    hidden_dim: PositiveInt = 64
    """Length of the learned vectors."""

    n_epochs: PositiveInt = 16
    """Times that users and items are solved in turn."""

    unobserved_weight: PositiveFloat = 0.05
    """Weight of an item that was not taken, where one that was taken has 1."""

    regularization: PositiveFloat = 0.01
    """Weight of the squared length of the vectors."""

    regularization_exponent: Annotated[float, Field(ge=0.0, le=1.0)] = 1.0
    """How much more the vectors of frequent users and items are held back: 0 all alike, 1 in
    proportion to how often they count in the loss."""


class IalsModel(FactoredModel):
    """Dot product of vectors by alternating least squares; see the module."""

    def __init__(self, settings: IalsSettings) -> None:
        self.settings: IalsSettings = settings
        self._counts: ItemCounts | None = None
        self._known: KnownItems | None = None
        self._vectors: Float32 | None = None
        self._fixed: FixedSide | None = None

    def fit(self, data: TrainingData, context: FitContext) -> FitReport:
        import numpy as np
        import pyarrow as pa

        from recpipe.models.examples import gather_examples
        from recpipe.models.ials.solver import fit_item_vectors
        from recpipe.models.taken_matrix import taken_matrix

        settings = self.settings
        target = MODEL.target_for(settings, data)
        taken, seen = taken_matrix(gather_examples(data, target, positive_from=settings.positive_from))
        vectors = fit_item_vectors(
            taken,
            dim=settings.hidden_dim,
            n_epochs=settings.n_epochs,
            regularization=settings.regularization,
            exponent=settings.regularization_exponent,
            unobserved=settings.unobserved_weight,
            seed=context.seed,
        )
        ids = data.items.ids.take(pa.array(seen))
        self._learned(ItemCounts(ids, np.bincount(taken.indices, minlength=len(ids)).astype(np.int64)), vectors)
        return FitReport(target=target, counts={"users": data.n_users, "items": len(ids), "positives": taken.nnz})

    def user_vectors(self, profiles: Profiles, histories: Histories) -> UserVectors:
        import numpy as np

        from recpipe.models.ials.solver import penalties_of

        known, _, vectors = self._fitted()
        taken = known.taken(histories, self.settings.positive_from)
        lengths = np.diff(taken.indptr)
        penalties = penalties_of(
            lengths,
            len(known),
            regularization=self.settings.regularization,
            exponent=self.settings.regularization_exponent,
            unobserved=self.settings.unobserved_weight,
        )
        solved = self._fixed_side(vectors).solve(taken, penalties)
        fallback = (lengths == 0).astype(np.float32)[:, None]
        return UserVectors(np.concatenate([solved, fallback], axis=1), np.where(lengths > 0, MODEL.name, POPULARITY))

    def item_vectors(self, items: Items) -> Float32:
        import numpy as np

        known, counts, vectors = self._fitted()
        rows = known.rows(items)
        found = np.zeros((len(items), vectors.shape[1] + 1), dtype=np.float32)
        found[rows >= 0, :-1] = vectors[rows[rows >= 0]]
        found[:, -1] = counts.scores(items)
        return found

    def state(self) -> ModelState:
        known, counts, vectors = self._fitted()
        return ModelState(weights={"n_users": counts.n_users, "item_vectors": vectors}, item_ids=known.ids)

    def restore(self, state: ModelState) -> None:
        if state.item_ids is None:
            raise KeyError("item ids")
        counts = ItemCounts(state.item_ids, state.weights["n_users"].astype("int64"))
        self._learned(counts, state.weights["item_vectors"].astype("float32"))

    def _learned(self, counts: ItemCounts, vectors: Float32) -> None:
        from recpipe.models.taken_matrix import KnownItems

        self._counts = counts
        self._known = KnownItems(counts.item_ids)
        self._vectors = vectors
        self._fixed = None

    def _fitted(self) -> tuple[KnownItems, ItemCounts, Float32]:
        if self._known is None or self._counts is None or self._vectors is None:
            raise RuntimeError("fit or load the model first")
        return self._known, self._counts, self._vectors

    def _fixed_side(self, vectors: Float32) -> FixedSide:
        if self._fixed is None:
            from recpipe.models.ials.solver import FixedSide

            self._fixed = FixedSide.of(vectors, unobserved_weight=self.settings.unobserved_weight)
        return self._fixed


MODEL = ModelSpec(
    name="ials",
    summary="User vectors times item vectors by alternating least squares over everything taken and not taken.",
    settings=IalsSettings,
    factory=IalsModel,
    targets=("implicit",),
)
