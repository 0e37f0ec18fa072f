"""Soft segments: what users like this one took, for users with few events or none.

    s_ui = Σ_c p(c | a, h) q_ci
    log p(c | a, h) = log p(c | a) + τ Σ_{i∈h} log(q_ci / Σ_j q_cj) + const

q_ci is the smoothed share of the users of segment c who took item i (see `soft_segments`), a
the user's attributes, h the history. The user vector is p(· | a, h), the item vector q_i; so
nothing is stored of a user, and users unseen in training come in like all others. Items unseen
in training have the vector 0.

τ is chosen on users left out of a first fit, their first events known and the next ones to be
found (see `short_histories`): events held out at the end of long histories do not tell what
the first few mean.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import PositiveFloat, PositiveInt

from recpipe.models.base import (
    FactoredModel,
    FitContext,
    FitReport,
    Histories,
    Items,
    JsonValue,
    ModelSpec,
    ModelState,
    Profiles,
    TrainingData,
    UserVectors,
)
from recpipe.models.popularity import POPULARITY
from recpipe.models.settings import ModelSettings

if TYPE_CHECKING:
    from recpipe.models.attribute_space import AttributeSpace
    from recpipe.models.segment_prior.short_histories import ShortHistories
    from recpipe.models.segment_prior.soft_segments import SoftSegments
    from recpipe.models.tables import Float32, Int64
    from recpipe.models.taken_matrix import KnownItems, Matrix

TAU = "tau"
"""Name of τ among the chosen hyper-parameters."""

TAUS = (0.25, 0.5, 1.0, 2.0, 4.0)
"""Values that auto chooses from."""

DEFAULT_TAU = 1.0
"""What auto takes where there are too few users to choose by: plain naive Bayes."""


class SegmentPriorSettings(ModelSettings):
    """`train` for the model segment_prior."""

    model: Literal["segment_prior"] = "segment_prior"
    """Name of the model."""

    n_segments: PositiveInt = 64
    """Segments; fewer where there are not ten users to each."""

    svd_dim: PositiveInt = 32
    """Dimensions of the truncated SVD in which users are clustered."""

    smoothing: PositiveFloat = 5.0
    """Users of average taste added to each segment."""

    tau: Literal["auto"] | PositiveFloat = "auto"
    """Weight of the history against what is known without it; auto: chosen on users left out."""


class SegmentPriorModel(FactoredModel):
    """Mixture of segments; see the module."""

    def __init__(self, settings: SegmentPriorSettings) -> None:
        self.settings: SegmentPriorSettings = settings
        self._known: KnownItems | None = None
        self._space: AttributeSpace | None = None
        self._segments: SoftSegments | None = None
        self._tau = DEFAULT_TAU

    def fit(self, data: TrainingData, context: FitContext) -> FitReport:
        import pyarrow as pa

        from recpipe.models.examples import gather_examples
        from recpipe.models.segment_prior.short_histories import short_histories
        from recpipe.models.taken_matrix import KnownItems, taken_matrix
        from recpipe.models.user_attributes import gather_user_attributes

        settings = self.settings
        target = MODEL.target_for(settings, data)
        examples = gather_examples(data, target, positive_from=settings.positive_from)
        taken, seen = taken_matrix(examples)
        self._space, attributes = gather_user_attributes(data)
        self._known = KnownItems(data.items.ids.take(pa.array(seen)))
        tau, validation = _tau_of(settings, context), None
        if tau is None:
            judged = short_histories(examples, seen, seed=context.seed)
            tau, validation = self._choose(judged, taken, attributes, context)
        self._tau = tau
        self._segments = self._fit_segments(taken, attributes, context.seed)
        counts = {"users": data.n_users, "items": len(seen), "segments": len(self._segments.log_sizes)}
        choice: dict[str, JsonValue] = {TAU: tau}
        metric = None if validation is None else "ndcg"
        return FitReport(target=target, counts=counts, choice=choice, metric=metric, validation=validation)

    def user_vectors(self, profiles: Profiles, histories: Histories) -> UserVectors:
        import numpy as np

        known, space, segments = self._fitted()
        taken = known.taken(histories, self.settings.positive_from)
        attributes = space.encode(profiles.attributes, len(profiles))
        told = (np.diff(taken.indptr) > 0) | (np.diff(attributes.indptr) > 0)
        return UserVectors(segments.posterior(attributes, taken, self._tau), np.where(told, MODEL.name, POPULARITY))

    def item_vectors(self, items: Items) -> Float32:
        import numpy as np

        known, _, segments = self._fitted()
        rows = known.rows(items)
        vectors = np.zeros((len(items), len(segments.shares)), dtype=np.float32)
        vectors[rows >= 0] = segments.shares.T[rows[rows >= 0]]
        return vectors

    def state(self) -> ModelState:
        known, space, segments = self._fitted()
        return ModelState(
            weights={
                "shares": segments.shares,
                "log_sizes": segments.log_sizes,
                "slopes": segments.slopes,
                "intercepts": segments.intercepts,
            },
            values={TAU: self._tau, "attributes": space.to_json()},
            item_ids=known.ids,
        )

    def restore(self, state: ModelState) -> None:
        from recpipe.models.attribute_space import AttributeSpace
        from recpipe.models.segment_prior.soft_segments import SoftSegments
        from recpipe.models.taken_matrix import KnownItems

        if state.item_ids is None:
            raise KeyError("item ids")
        weights = state.weights
        self._known = KnownItems(state.item_ids)
        self._space = AttributeSpace.from_json(str(state.values["attributes"]))
        self._segments = SoftSegments(
            weights["shares"].astype("float32"),
            weights["log_sizes"].astype("float64"),
            weights["slopes"].astype("float64"),
            weights["intercepts"].astype("float64"),
        )
        self._tau = float(str(state.values[TAU]))

    def _choose(
        self, judged: ShortHistories | None, taken: Matrix, attributes: Matrix, context: FitContext
    ) -> tuple[float, float | None]:
        """Return the τ that ranks best for users left out of a fit, and the NDCG at it."""
        if judged is None:
            context.report(f"too few users to choose tau by: {DEFAULT_TAU}")
            return DEFAULT_TAU, None
        segments = self._fit_segments(taken[judged.fitted], attributes[judged.fitted], context.seed)

        def measured(tau: float) -> float:
            def score(users: Int64, known: Matrix) -> Float32:
                scores: Float32 = segments.posterior(attributes[users], known, tau) @ segments.shares
                return scores

            return judged.ndcg(score)

        values = {tau: measured(tau) for tau in TAUS}
        best = max(TAUS, key=lambda tau: values[tau])
        context.report(f"tau {best}: NDCG {values[best]:.4f} on {(~judged.fitted).sum()} users with few events")
        return best, values[best]

    def _fit_segments(self, taken: Matrix, attributes: Matrix, seed: int) -> SoftSegments:
        from recpipe.models.segment_prior.soft_segments import fit_segments

        settings = self.settings
        return fit_segments(
            taken,
            attributes,
            n_segments=settings.n_segments,
            svd_dim=settings.svd_dim,
            smoothing=settings.smoothing,
            seed=seed,
        )

    def _fitted(self) -> tuple[KnownItems, AttributeSpace, SoftSegments]:
        if self._known is None or self._space is None or self._segments is None:
            raise RuntimeError("fit or load the model first")
        return self._known, self._space, self._segments


def _tau_of(settings: SegmentPriorSettings, context: FitContext) -> float | None:
    """Return the τ chosen by an earlier fit or set; None: it is to be chosen."""
    chosen = context.choice.get(TAU)
    if chosen is not None:
        if not isinstance(chosen, int | float) or isinstance(chosen, bool) or chosen <= 0:
            raise ValueError(f"{TAU} must be a positive number, not {chosen!r}")
        return float(chosen)
    return None if settings.tau == "auto" else settings.tau


MODEL = ModelSpec(
    name="segment_prior",
    summary="What a user's likely segments took, for users with few events or none.",
    settings=SegmentPriorSettings,
    factory=SegmentPriorModel,
    targets=("implicit",),
    attributes=True,
)
