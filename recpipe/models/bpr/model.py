"""Bayesian personalised ranking: what was taken shall score above what was not (Rendle et al. 2009).

    s_ui = p_u·q_i + b_i
    minimise  mean over pairs of -log sigmoid(s_ui - s_uj) + λ (|p_u|² + |q_i|² + |q_j|² + b_i² + b_j²)

u took i, j is drawn from the items of the training interactions. Nothing but ids is used.

A user seen in training has the vector learned for them. For anybody else with a known item
it is estimated: p = M Σ_i q_i / √n over the n items of the history, M by ridge regression
from the histories of the training users to their learned vectors. Who has no known item is
recommended what is popular: the last coordinate is 1 for them and popularity for items, the
one before is 1 for all others and the bias for items. Items unseen in training score like an
item of vector 0 and the lowest bias.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import NonNegativeFloat, PositiveFloat

from recpipe.models.base import (
    FactoredModel,
    FitContext,
    Histories,
    Items,
    ModelSpec,
    ModelState,
    Profiles,
    TrainingData,
    UserVectors,
)
from recpipe.models.network_model import NetworkModel
from recpipe.models.popularity import POPULARITY, ItemCounts
from recpipe.models.settings import IterativeSettings

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    from recpipe.models.examples import Examples
    from recpipe.models.tables import Float32
    from recpipe.models.taken_matrix import KnownItems, Matrix

_PARAMETERS = ("user_vectors", "item_vectors", "item_biases")
_MAP = "history_map"


class BprSettings(IterativeSettings):
    """`train` for the model bpr."""

    model: Literal["bpr"] = "bpr"
    """Name of the model."""

    loss: Literal["bpr"] = "bpr"
    """How implicit feedback is learned: by pairs."""

    learning_rate: PositiveFloat = 0.01
    """Step size of Adam."""

    id_penalty: NonNegativeFloat = 0.005
    """Weight of the squared length of what is learned about single users and items, added to the
    loss once per interaction."""


class BprModel(NetworkModel, FactoredModel):
    """Dot product of vectors learned by pairs; see the module."""

    def __init__(self, settings: BprSettings) -> None:
        self.settings: BprSettings = settings
        self._counts: ItemCounts | None = None
        self._known: KnownItems | None = None
        self._user_ids: pa.StringArray | None = None
        self._taken: Matrix = None  # of the users that have vectors, while training

    def prepare(self, data: TrainingData, examples: Examples, context: FitContext) -> None:
        import numpy as np
        import pyarrow as pa

        from recpipe.models.bpr.network import BprNetwork
        from recpipe.models.taken_matrix import KnownItems, taken_matrix

        taken, seen = taken_matrix(examples)
        seen_users = np.flatnonzero(examples.user_counts)
        everybody = pa.concat_arrays([profiles.user_ids.cast(pa.string()) for profiles, _ in data.blocks()])
        self._user_ids = everybody.take(pa.array(seen_users))
        self._taken = taken[seen_users]
        ids = data.items.ids.take(pa.array(seen))
        self._known = KnownItems(ids)
        self._counts = ItemCounts(ids, np.bincount(taken.indices, minlength=len(ids)).astype(np.int64))
        self._network = BprNetwork(
            examples,
            hidden_dim=self.settings.hidden_dim,
            id_penalty=self.settings.id_penalty,
            seed=context.seed,
            device=context.device,
        )
        self._arrays = None

    def finish(self) -> None:
        super().finish()
        self._taken = None

    def user_vectors(self, profiles: Profiles, histories: Histories) -> UserVectors:
        import numpy as np

        from recpipe.models.bpr.folding import history_sums
        from recpipe.models.ids import rows_of

        known, _, arrays = self._fitted()
        assert self._user_ids is not None
        rows = rows_of(profiles.user_ids, self._user_ids)
        taken = known.taken(histories, self.settings.positive_from)
        dim = arrays["item_vectors"].shape[1]
        placed = (rows >= 0) | (np.diff(taken.indptr) > 0)
        vectors = np.zeros((len(profiles), dim + 2), dtype=np.float32)
        vectors[:, :dim] = history_sums(taken, arrays["item_vectors"]) @ arrays[_MAP]
        vectors[rows >= 0, :dim] = arrays["user_vectors"][rows[rows >= 0]]
        vectors[:, dim] = placed
        vectors[:, dim + 1] = ~placed
        return UserVectors(vectors, np.where(placed, MODEL.name, POPULARITY))

    def item_vectors(self, items: Items) -> Float32:
        import numpy as np

        known, counts, arrays = self._fitted()
        rows = known.rows(items)
        seen = rows >= 0
        dim = arrays["item_vectors"].shape[1]
        vectors = np.zeros((len(items), dim + 2), dtype=np.float32)
        vectors[seen, :dim] = arrays["item_vectors"][rows[seen]]
        vectors[:, dim] = arrays["item_biases"].min(initial=0.0)
        vectors[seen, dim] = arrays["item_biases"][rows[seen]]
        vectors[:, dim + 1] = counts.scores(items)
        return vectors

    def state(self) -> ModelState:
        known, counts, arrays = self._fitted()
        return ModelState(weights={"n_users": counts.n_users} | arrays, item_ids=known.ids, user_ids=self._user_ids)

    def restore(self, state: ModelState) -> None:
        from recpipe.models.taken_matrix import KnownItems

        if state.item_ids is None or state.user_ids is None:
            raise KeyError("ids")
        self._known = KnownItems(state.item_ids)
        self._counts = ItemCounts(state.item_ids, state.weights["n_users"].astype("int64"))
        self._user_ids = state.user_ids
        self._arrays = {name: state.weights[name].astype("float32") for name in (*_PARAMETERS, _MAP)}
        self._network = None

    def _fitted(self) -> tuple[KnownItems, ItemCounts, dict[str, np.ndarray]]:
        if self._known is None or self._counts is None:
            raise RuntimeError("fit or load the model first")
        return self._known, self._counts, self._parameter_arrays()

    def _as_arrays(self) -> dict[str, np.ndarray]:
        from recpipe.models.bpr.folding import history_map

        arrays = super()._as_arrays()
        return arrays | {_MAP: history_map(self._taken, arrays["item_vectors"], arrays["user_vectors"])}


MODEL = ModelSpec(
    name="bpr",
    summary="User vectors times item vectors, learned by pairs of an item taken and one not.",
    settings=BprSettings,
    factory=BprModel,
    targets=("implicit",),
)
