"""EASE: every item predicts every other one, by ridge regression in closed form (Steck 2019).

To this are added, each with a strength that held-out interactions choose where it is `auto`:

- recency: the l-th last item of a history counts history_decay^l;
- windows: items taken close to each other count more than items of the same user years apart;
- content: a kernel of embeddings and attributes in the Gram matrix, through which items that
  few or none took learn from those that read alike.

Items stand inside the matrix that is inverted as long as there are at most `max_items`; the
others are regressed on those. Formulas are in `weights`, the matrix in `gram`.

The score is one dot product, of the history and a column of the weights or of `rank`
coordinates; one more carries popularity, for users
without history.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from recpipe.models.base import (
    FactoredModel,
    FitContext,
    FitReport,
    Histories,
    Items,
    JsonValue,
    Measure,
    ModelSpec,
    ModelState,
    Profiles,
    SearchedModel,
    TrainingData,
    UserVectors,
)
from recpipe.models.popularity import POPULARITY
from recpipe.models.settings import ModelSettings
from recpipe.schemas import ITEM_EMBEDDINGS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from recpipe.models.ease.search import Problem
    from recpipe.models.ease.weights import FoldedWeights
    from recpipe.models.item_content import ItemContent
    from recpipe.models.tables import Float32
    from recpipe.models.taken_matrix import KnownItems, Matrix

WHOLE = 0
"""The rank that stands for columns of the weights as they are."""

DEFAULTS: Mapping[str, JsonValue] = {
    "l2": 300.0,
    "history_decay": 0.8,
    "window_weight": 0.0,
    "content_weight": 10.0,
    "rank": WHOLE,
}
"""What auto takes where nothing is held out, and where the search begins."""

NEGLIGIBLE = 1e-4
"""Weight in a history, of the newest's, below which an item is left out: it costs as much as any."""


class EaseSettings(ModelSettings):
    """`train` for the model ease."""

    model: Literal["ease"] = "ease"
    """Name of the model."""

    l2: Literal["auto"] | PositiveFloat = "auto"
    """λ, added to the diagonal of the Gram matrix, in interactions."""

    history_decay: Literal["auto"] | Annotated[float, Field(gt=0.0, le=1.0)] = "auto"
    """How much an item of the history counts beside the next newer one; 1 in plain EASE."""

    window_weight: Literal["auto"] | NonNegativeFloat = "auto"
    """How much items taken within one window count beside items taken by one user; 0 in plain EASE."""

    window: PositiveInt = 20
    """Interactions of a window."""

    content_weight: Literal["auto"] | NonNegativeFloat = "auto"
    """Weight of the content kernel, in interactions; 0 in plain EASE."""

    rank: Literal["auto"] | NonNegativeInt = "auto"
    """Coordinates of the vectors; 0: as many as items inside the matrix, which loses nothing. auto: 0
    for catalogues whose vectors then take 400 MB at most, else the fewest that rank held-out
    interactions as well as all."""

    history: PositiveInt = 500
    """Most recent interactions of a history that count."""

    max_items: PositiveInt = 10_000
    """Most items inside the inverted matrix, those with most users; time grows with the third
    power, memory (12 bytes) with the square."""

    search_items: PositiveInt = 4_000
    """The same while strengths are chosen."""


class EaseModel(SearchedModel, FactoredModel):
    """Item-to-item regression; see the module."""

    def __init__(self, settings: EaseSettings) -> None:
        self.settings: EaseSettings = settings
        self._inside: KnownItems | None = None
        self._known: KnownItems | None = None
        self._weights: Mapping[str, Float32] = {}
        self._content: ItemContent | None = None
        self._decay = 1.0

    @property
    def open_settings(self) -> tuple[str, ...]:
        return tuple(name for name in DEFAULTS if getattr(self.settings, name) == "auto")

    def search(self, data: TrainingData, context: FitContext, measure: Measure) -> Mapping[str, JsonValue]:
        from recpipe.models.ease.search import search

        return search(self.settings, data, context, measure)

    def fit(self, data: TrainingData, context: FitContext) -> FitReport:
        from recpipe.models.ease.search import Problem

        target = MODEL.target_for(self.settings, data)
        values = self._values(context.choice)
        problem = Problem(data, self.settings, n_items=self.settings.max_items)
        context.report(f"ease: inverting {problem.n_inside:,} of {problem.n_seen:,} items")
        exact = problem.solve(
            l2=values["l2"], window_weight=values["window_weight"], content_weight=values["content_weight"]
        )
        folded = problem.fold(exact, rank=int(values["rank"]), seed=context.seed)
        self.take(problem, folded, decay=values["history_decay"])
        counts = {"users": data.n_users, "items": problem.n_seen, "inside": problem.n_inside}
        choice: dict[str, JsonValue] = {name: values[name] for name in self.open_settings}
        if "rank" in choice:
            choice["rank"] = int(values["rank"])
        return FitReport(target=target, counts=counts, choice=choice)

    def user_vectors(self, profiles: Profiles, histories: Histories) -> UserVectors:
        import numpy as np

        onto = self._fitted().get("history_map")
        history = self._history(histories)
        vectors = history.toarray() if onto is None else np.asarray(history @ onto, dtype=np.float32)
        known = np.diff(history.indptr) > 0
        popular = np.where(known, 0.0, 1.0).astype(np.float32)[:, None]
        return UserVectors(np.concatenate([vectors, popular], axis=1), np.where(known, MODEL.name, POPULARITY))

    def item_vectors(self, items: Items) -> Float32:
        import numpy as np

        weights = self._fitted()
        assert self._known is not None and self._content is not None
        rows = self._known.rows(items)
        vectors = np.empty((len(items), weights["content_map"].shape[1] + 1), dtype=np.float32)
        known = rows >= 0
        vectors[known, :-1] = weights["item_vectors"][rows[known]]
        if not known.all():
            vectors[~known, :-1] = self._content.encode(items)[~known] @ weights["content_map"]
        vectors[:, -1] = np.append(weights["popularity"], np.float32(0.0))[rows]  # row -1: nobody took it
        return vectors

    def new_item_vectors(self, items: Items) -> Float32:
        """Return the vectors these items would have had nobody taken them: float32 (n_items, k).

        An item outside the matrix keeps what its content says, x. One inside leaves the matrix:
        by the inverse of a matrix without row and column j (Schur complement) its content then
        says x + x_j v_j, for users who did not take it; x_j is what x says of item j itself.
        """
        import numpy as np

        weights = self._fitted()
        assert self._known is not None and self._inside is not None and self._content is not None
        onto = weights.get("history_map")
        vectors = np.zeros((len(items), weights["content_map"].shape[1] + 1), dtype=np.float32)  # popularity 0
        np.matmul(self._content.encode(items), weights["content_map"], out=vectors[:, :-1])
        rows, columns = self._known.rows(items), self._inside.rows(items)
        for item in np.flatnonzero(columns >= 0):  # one by one: two whole vectors at a time, not two catalogues
            own = vectors[item, :-1]
            itself = own[columns[item]] if onto is None else onto[columns[item]] @ own
            own += itself * weights["item_vectors"][rows[item]]
            if onto is None:
                own[columns[item]] = 0.0
        return vectors

    def state(self) -> ModelState:
        from recpipe.models.ids import rows_of

        weights = self._fitted()
        assert self._known is not None and self._inside is not None and self._content is not None
        inside = rows_of(self._inside.ids, self._known.ids).astype("int32")
        return ModelState(
            weights={**weights, **self._content.weights(), "inside": inside},
            values={"history_decay": self._decay, **self._content.values()},
            item_ids=self._known.ids,
        )

    def restore(self, state: ModelState) -> None:
        import pyarrow as pa

        from recpipe.models.item_content import ItemContent
        from recpipe.models.taken_matrix import KnownItems

        if state.item_ids is None:
            raise KeyError("item ids")
        names = ["content_map", "item_vectors", "popularity"]
        if "history_map" in state.weights:
            names.append("history_map")
        self._weights = {name: state.weights[name].astype("float32") for name in names}
        self._known = KnownItems(state.item_ids)
        self._inside = KnownItems(state.item_ids.take(pa.array(state.weights["inside"])))
        self._content = ItemContent.from_state(state.weights, state.values)
        self._decay = float(state.values["history_decay"] or 1.0)

    def _values(self, choice: Mapping[str, JsonValue]) -> dict[str, float]:
        """Return the strengths: those set, those chosen earlier, or the defaults."""
        values: dict[str, float] = {}
        for name, default in DEFAULTS.items():
            own = getattr(self.settings, name)
            values[name] = float(choice.get(name, default) or 0.0) if own == "auto" else float(own)
        return values

    def take(self, problem: Problem, folded: FoldedWeights, *, decay: float) -> None:
        """Become the model of these weights."""
        import numpy as np

        from recpipe.models.taken_matrix import KnownItems

        vectors = np.empty((problem.n_seen, folded.rank), dtype=np.float32)
        vectors[problem.inside] = folded.inside
        vectors[problem.outside] = folded.outside
        self._known = KnownItems(problem.ids)
        self._inside = KnownItems(problem.inside_ids)
        self._content = problem.content
        self._decay = decay
        onto = folded.history_map
        self._weights = {
            **({} if onto is None else {"history_map": np.ascontiguousarray(onto)}),
            "content_map": np.ascontiguousarray(folded.content_map),
            "item_vectors": vectors,
            "popularity": np.log1p(problem.n_users).astype(np.float32),
        }

    def _history(self, histories: Histories) -> Matrix:
        from recpipe.models.history_means import history_matrix

        assert self._inside is not None
        return history_matrix(
            histories,
            self._inside.rows(histories.items),
            n_columns=len(self._inside),
            decay=self._decay,
            length=counted(self.settings.history, decay=self._decay),
            positive_from=self.settings.positive_from,
        )

    def _fitted(self) -> Mapping[str, Float32]:
        if not self._weights:
            raise RuntimeError("fit or load the model first")
        return self._weights


def counted(history: int, *, decay: float) -> int:
    """Return how many interactions of a history count at all: the weights of those left out sum to 0.0001 of all."""
    return history if decay == 1.0 else min(history, math.ceil(math.log(NEGLIGIBLE) / math.log(decay)))


MODEL = ModelSpec(
    name="ease",
    summary="Item-to-item ridge regression in closed form, with recency, windows and content as validation wants them.",
    settings=EaseSettings,
    factory=EaseModel,
    targets=("implicit",),
    reads=(ITEM_EMBEDDINGS.name,),
    attributes=True,
    blocks=True,
)
