"""Factorization: a user vector times an item vector, both from content and from ids.

Ratings, by squared error over those known (Koren, Bell & Volinsky 2009, with a content path):

    r̂_ij = b + (b_i + β·p_i) + (b_j + γ·v_j) + (W p_i + e_i)·(V v_j + e_j)

b is the mean rating; p_i the profile, v_j the item embedding. b_i, b_j, e_i and e_j belong to
ids and are dropped for ids unseen in training; hiding them at random during training
(`train.id_dropout`) teaches the content path to do without. Only the part that depends on
the item ranks: (W p_i + e_i)·(V v_j + e_j) + b_j + γ·v_j.

Implicit feedback has no user biases, and the user's history stands beside the profile:

    s_ij = (W p_i + e_i + Σ_d M_d h_d)·q_j + b_j + γ·v_j,   q_j = V v_j + e_j
    h_d = Σ_l d^l q_(l-th last item) / Σ_l d^l              for the decays d

In training an interaction sees only the items the user took before it. So the vector of a
user unseen in training follows from history and profile.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

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
from recpipe.models.settings import IterativeSettings
from recpipe.schemas import ITEM_EMBEDDINGS, USER_PROFILES

if TYPE_CHECKING:
    import numpy as np

    from recpipe.models.examples import Examples
    from recpipe.models.learned import Learned
    from recpipe.models.tables import Float32, Int64

DECAYS = (0.6, 0.9, 0.98)
"""How much less an item of the history counts than the next newer one."""


class FactorizationSettings(IterativeSettings):
    """`train` for the model factorization."""

    model: Literal["factorization"] = "factorization"
    """Name of the model."""


class FactorizationModel(NetworkModel, FactoredModel):
    """Dot product of learned vectors; see the module."""

    def __init__(self, settings: FactorizationSettings) -> None:
        self.settings: FactorizationSettings = settings
        self._learned: Learned | None = None

    @property
    def max_history(self) -> int:
        return self.settings.history

    @property
    def predicts_ratings(self) -> bool:
        return self._known()[0].target == "rating"

    def prepare(self, data: TrainingData, examples: Examples, context: FitContext) -> None:
        from recpipe.models.factorization.network import FactorizationNetwork
        from recpipe.models.item_space import embedding_mean
        from recpipe.models.learned import learned_from
        from recpipe.models.profile_space import gather_profiles

        users = gather_profiles(data)
        item_mean = embedding_mean(data.items)
        self._learned = learned_from(data, examples, users.space, item_mean)
        self._network = FactorizationNetwork(
            items=data.items,
            item_mean=item_mean,
            users=users,
            examples=examples,
            settings=self.settings,
            offset=self._learned.offset,
            decays=DECAYS if self.settings.history else (),
            seed=context.seed,
            device=context.device,
        )
        self.refresh()

    def user_vectors(self, profiles: Profiles, histories: Histories) -> UserVectors:
        import numpy as np

        from recpipe.models.learned import rows_or_zero, sources_of

        learned, arrays = self._known()
        rows = learned.known_users(profiles)
        vectors = rows_or_zero(arrays["user_ids"], rows)
        vectors += learned.space.encode(profiles) @ arrays["profile_map"]
        known = rows >= 0
        if learned.target == "implicit":
            from recpipe.models.history_means import history_means

            item_vectors = self._items(histories.items)[0]
            for decay, step in zip(DECAYS, arrays["history_maps"], strict=False):
                means, found = history_means(
                    histories,
                    item_vectors,
                    decay=decay,
                    length=self.settings.history,
                    positive_from=self.settings.positive_from,
                )
                vectors += means @ step
                known = known | found
        ones = np.ones((len(profiles), 1), dtype=np.float32)
        return UserVectors(np.concatenate([vectors, ones], axis=1), sources_of(known, profiles, MODEL.name))

    def item_vectors(self, items: Items) -> Float32:
        import numpy as np

        vectors, biases = self._items(items)
        return np.concatenate([vectors, biases[:, None]], axis=1)

    def predict_rating(
        self, profiles: Profiles, histories: Histories, items: Items, *, user_rows: Int64, item_rows: Int64
    ) -> Float32:
        import numpy as np

        from recpipe.models.learned import rows_or_zero

        learned, arrays = self._known()
        if learned.target != "rating":
            return super().predict_rating(profiles, histories, items, user_rows=user_rows, item_rows=item_rows)
        users = self.user_vectors(profiles, histories).vectors
        biases = rows_or_zero(arrays["user_id_biases"], learned.known_users(profiles))
        biases += learned.space.encode(profiles) @ arrays["profile_bias_map"] + np.float32(learned.offset)
        vectors, item_biases = self._items(items)
        products = np.einsum("nk,nk->n", users[user_rows, :-1], vectors[item_rows])
        predicted = products + biases[user_rows] + item_biases[item_rows]
        ratings: Float32 = np.clip(predicted, learned.lowest, learned.highest).astype(np.float32)
        return ratings

    def state(self) -> ModelState:
        learned, arrays = self._known()
        return ModelState(
            weights=learned.weights() | arrays,
            values=learned.values(),
            item_ids=learned.item_ids,
            user_ids=learned.user_ids,
        )

    def restore(self, state: ModelState) -> None:
        from recpipe.models.learned import Learned, parameters_of

        self._learned = Learned.from_state(state)
        names = ["user_ids", "item_ids", "item_id_biases", "profile_map", "item_map", "item_bias_map"]
        own = {"rating": ["user_id_biases", "profile_bias_map"], "implicit": ["history_maps"]}
        self._arrays = parameters_of(state, names + own[self._learned.target])
        self._catalogue = None
        self._network = None

    def _known(self) -> tuple[Learned, dict[str, np.ndarray]]:
        if self._learned is None:
            raise RuntimeError("fit or load the model first")
        return self._learned, self._parameter_arrays()

    def _items(self, items: Items) -> tuple[Float32, Float32]:
        """Vectors (n_items, hidden_dim) and biases (n_items,) of a catalogue, made once per catalogue."""
        if self._catalogue is None or self._catalogue[0] is not items:
            from recpipe.models.ids import rows_of
            from recpipe.models.item_space import centred
            from recpipe.models.learned import rows_or_zero

            learned, arrays = self._known()
            rows = rows_of(items.ids, learned.item_ids)
            content = centred(items, learned.item_mean)
            vectors = rows_or_zero(arrays["item_ids"], rows) + content @ arrays["item_map"]
            biases = rows_or_zero(arrays["item_id_biases"], rows) + content @ arrays["item_bias_map"]
            self._catalogue = (items, vectors, biases)
        return self._catalogue[1], self._catalogue[2]


MODEL = ModelSpec(
    name="factorization",
    summary="User vectors times item vectors, learned from content and ids; histories too where feedback is implicit.",
    settings=FactorizationSettings,
    factory=FactorizationModel,
    targets=("rating", "implicit"),
    reads=(ITEM_EMBEDDINGS.name, USER_PROFILES.name),
)
