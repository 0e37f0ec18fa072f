"""Two towers: items from content and a droppable id, users from the items they took and their profile.

    q_j = C y_j + e_j,   b_j = c·y_j + a_j
    s_ij = u_i·q_j + b_j,   u_i = m_i + F relu(E x_i + f)
    m_i = Σ_d M_d h_id + M r_i + P p_i,   x_i = [h_i1, ..., h_iD, r_i, P p_i]
    h_id = Σ_l d^l q_(l-th last item) / Σ_l d^l   for the decays d,   r_i = Σ_l q_l / √n

y_j: the item's embedding, centred, or its fused blocks (`ItemBlocks`), and its attributes;
p_i: the user's profile and attributes.
e_j and a_j belong to ids: there is none for an item unseen in training, and hiding them at
random during training (`train.id_dropout`) teaches content to do without. Users have no
parameters of their own, so that users unseen in training come in like everybody else.

The next item is learned by a softmax over the items of the batch and sampled ones, corrected
for how often each is drawn (Covington, Adams & Sargin 2016; Yi et al. 2019). Where order means
nothing (`train.history_order: set`), an item is found from any others of its user instead of
the earlier ones, and there is one average, of d = 1.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, PositiveInt

from recpipe.models.base import (
    FactoredModel,
    FitContext,
    Histories,
    Items,
    JsonValue,
    ModelSpec,
    ModelState,
    Profiles,
    TrainingData,
    UserVectors,
)
from recpipe.models.iterative import HistoryOrder
from recpipe.models.network_model import NetworkModel
from recpipe.models.settings import IterativeSettings
from recpipe.schemas import ITEM_EMBEDDINGS, USER_PROFILES

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np

    from recpipe.models.attribute_space import AttributeSpace
    from recpipe.models.examples import Examples
    from recpipe.models.item_blocks import ItemBlocks
    from recpipe.models.learned import Learned
    from recpipe.models.tables import Float32

DECAYS: Mapping[HistoryOrder, tuple[float, ...]] = {"sequence": (0.6, 0.9, 0.98), "set": (1.0,)}
"""How much less an item of the history counts than the next newer one; one average each."""

HISTORY_ORDER = "history_order"
"""Name of the order among the chosen hyper-parameters."""


class TwoTowerSettings(IterativeSettings):
    """`train` for the model two_tower."""

    model: Literal["two_tower"] = "two_tower"
    """Name of the model."""

    target: Literal["auto", "implicit"] = "auto"
    """What is learned: the items taken."""

    max_epochs: PositiveInt = 12
    """Passes of the schedule; auto keeps the best of them."""

    schedule: Literal["constant", "one_cycle"] = "one_cycle"
    """How the step size changes: not at all, or up and down to almost nothing within the passes
    set (`n_epochs`, or with auto `max_epochs`), from which auto then keeps the best."""

    history: PositiveInt = 100
    """Most recent interactions a user's vector is made of."""

    history_order: Literal["auto", "sequence", "set"] = "auto"
    """sequence: the next item is learned from those taken before, recent ones counting more; set:
    any item from any others of the user, for interactions without a meaningful order. auto: what
    does better on held-out interactions, sequence without any."""

    block_dropout: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.5
    """Share of the pictures, sounds and text fields hidden in a step, where items have such, so that
    the others learn to do without them."""


class TwoTowerModel(NetworkModel, FactoredModel):
    """Dot product of learned vectors; see the module."""

    def __init__(self, settings: TwoTowerSettings) -> None:
        self.settings: TwoTowerSettings = settings
        self._order: HistoryOrder = "set" if settings.history_order == "set" else "sequence"
        self._learned: Learned | None = None
        self._item_space: AttributeSpace | None = None
        self._user_space: AttributeSpace | None = None
        self._blocks: ItemBlocks | None = None

    @property
    def max_history(self) -> int:
        return self.settings.history

    @property
    def history_order(self) -> HistoryOrder:
        return self._order

    @property
    def alternatives(self) -> tuple[Mapping[str, JsonValue], ...]:
        if self.settings.history_order != "auto":
            return ()
        return tuple({HISTORY_ORDER: order} for order in DECAYS)

    def settle(self, values: Mapping[str, JsonValue]) -> None:
        self._order = "set" if values[HISTORY_ORDER] == "set" else "sequence"

    def prepare(self, data: TrainingData, examples: Examples, context: FitContext) -> None:
        import numpy as np
        import pyarrow as pa

        from recpipe.models.attribute_space import AttributeSpace
        from recpipe.models.block_dropout import BlockDropout
        from recpipe.models.item_blocks import ItemBlocks
        from recpipe.models.item_space import centred, embedding_mean
        from recpipe.models.learned import learned_from
        from recpipe.models.profile_space import gather_profiles
        from recpipe.models.two_tower.network import TwoTowerNetwork
        from recpipe.models.user_attributes import gather_user_attributes

        users = gather_profiles(data)
        mean = embedding_mean(data.items)
        self._learned = replace(learned_from(data, examples, users.space, mean), user_ids=pa.array([], pa.string()))
        self._blocks = ItemBlocks.of(data.items, examples.item_counts > 0)
        self._item_space = AttributeSpace.of(data.items.attributes)
        self._user_space, user_attributes = gather_user_attributes(data)
        content = self._item_space.encode(data.items.attributes, len(data.items)).toarray()
        blocks = None
        if self._blocks is None:
            content = np.concatenate([centred(data.items, mean), content], axis=1)
        else:
            vectors = self._blocks.vectors(data.items)
            share = self.settings.block_dropout
            blocks = BlockDropout(self._blocks, vectors, share=share, device=context.device)
        self._network = TwoTowerNetwork(
            blocks=blocks,
            item_content=content,
            users=users,
            user_attributes=user_attributes,
            examples=examples,
            settings=self.settings,
            decays=DECAYS[self._order],
            seed=context.seed,
            device=context.device,
        )
        self.refresh()

    def user_vectors(self, profiles: Profiles, histories: Histories) -> UserVectors:
        import numpy as np

        from recpipe.models.learned import sources_of

        learned, arrays = self._known()
        parts = self._summaries(histories)
        known = self._lengths(histories) > 0
        product = learned.space.encode(profiles) @ arrays["profile_map"]
        product += self._spaces()[1].encode(profiles.attributes, len(profiles)) @ arrays["attribute_map"]
        vectors = product.copy()
        for part, step in zip(parts, arrays["history_maps"], strict=True):
            vectors += part @ step
        hidden = np.concatenate([*parts, product], axis=1) @ arrays["hidden_map"] + arrays["hidden_bias"]
        vectors += np.maximum(hidden, 0.0) @ arrays["output_map"]
        ones = np.ones((len(profiles), 1), dtype=np.float32)
        return UserVectors(np.concatenate([vectors, ones], axis=1), sources_of(known, profiles, MODEL.name))

    def item_vectors(self, items: Items) -> Float32:
        import numpy as np

        vectors, biases = self._items(items)
        return np.concatenate([vectors, biases[:, None]], axis=1)

    def state(self) -> ModelState:
        learned, arrays = self._known()
        item_space, user_space = self._spaces()
        return ModelState(
            weights=learned.weights() | arrays | ({} if self._blocks is None else self._blocks.weights()),
            values=learned.values()
            | {
                HISTORY_ORDER: self._order,
                "item_attributes": item_space.to_json(),
                "user_attributes": user_space.to_json(),
            }
            | ({} if self._blocks is None else self._blocks.values()),
            item_ids=learned.item_ids,
            user_ids=learned.user_ids,
        )

    def restore(self, state: ModelState) -> None:
        from recpipe.models.attribute_space import AttributeSpace
        from recpipe.models.item_blocks import ItemBlocks
        from recpipe.models.learned import Learned, parameters_of

        self._learned = Learned.from_state(state)
        self._blocks = ItemBlocks.from_state(state.weights, state.values)
        self.settle(state.values)
        self._item_space = AttributeSpace.from_json(str(state.values["item_attributes"]))
        self._user_space = AttributeSpace.from_json(str(state.values["user_attributes"]))
        items = ["item_ids", "item_id_biases", "content_map", "content_bias_map"]
        users = ["profile_map", "attribute_map", "history_maps", "hidden_map", "hidden_bias", "output_map"]
        self._arrays = parameters_of(state, items + users)
        self._catalogue = None
        self._network = None

    def _known(self) -> tuple[Learned, dict[str, np.ndarray]]:
        if self._learned is None:
            raise RuntimeError("fit or load the model first")
        return self._learned, self._parameter_arrays()

    def _spaces(self) -> tuple[AttributeSpace, AttributeSpace]:
        """Of item and of user attributes."""
        if self._item_space is None or self._user_space is None:
            raise RuntimeError("fit or load the model first")
        return self._item_space, self._user_space

    def _content(self, items: Items) -> Float32:
        """Return what of y comes from encoders: float32 (n_items, ...)."""
        from recpipe.models.item_space import centred

        if self._learned is None:
            raise RuntimeError("fit or load the model first")
        if self._blocks is None:
            return centred(items, self._learned.item_mean)
        return self._blocks.flagged(self._blocks.vectors(items))

    def _items(self, items: Items) -> tuple[Float32, Float32]:
        """Vectors (n_items, hidden_dim) and biases (n_items,) of a catalogue, made once per catalogue."""
        if self._catalogue is None or self._catalogue[0] is not items:
            from recpipe.models.ids import rows_of
            from recpipe.models.learned import rows_or_zero

            learned, arrays = self._known()
            rows = rows_of(items.ids, learned.item_ids)
            embeddings = self._content(items)
            attributes = self._spaces()[0].encode(items.attributes, len(items))
            vectors = rows_or_zero(arrays["item_ids"], rows)
            biases = rows_or_zero(arrays["item_id_biases"], rows)
            for result, name in ((vectors, "content_map"), (biases, "content_bias_map")):
                result += embeddings @ arrays[name][: embeddings.shape[1]]
                result += attributes @ arrays[name][embeddings.shape[1] :]
            self._catalogue = (items, vectors, biases)
        return self._catalogue[1], self._catalogue[2]

    def _summaries(self, histories: Histories) -> list[Float32]:
        """Return the averages of the histories and the sum / √n, each float32 (n_users, hidden_dim)."""
        import numpy as np

        from recpipe.models.history_means import history_means

        vectors = self._items(histories.items)[0]
        # of a set any items will do in training, where a step must end, and all are better than some
        length = self.settings.history if self._order == "sequence" else max(len(histories.item_rows), 1)
        parts = [
            history_means(histories, vectors, decay=decay, length=length, positive_from=self.settings.positive_from)[0]
            for decay in (*DECAYS[self._order], 1.0)
        ]
        counted = np.minimum(self._lengths(histories), self.settings.history)
        parts[-1] *= np.sqrt(counted)[:, None].astype(np.float32)  # √n times the mean is the sum / √n
        return parts

    def _lengths(self, histories: Histories) -> np.ndarray:
        """Return how many positive events each user has: int64 (n_users,)."""
        import numpy as np

        positive = histories.positive(self.settings.positive_from)
        return np.bincount(histories.user_rows()[positive], minlength=len(histories))


MODEL = ModelSpec(
    name="two_tower",
    summary="The next item from content, attributes, ids and averages of the history; for implicit feedback.",
    settings=TwoTowerSettings,
    factory=TwoTowerModel,
    targets=("implicit",),
    reads=(ITEM_EMBEDDINGS.name, USER_PROFILES.name),
    attributes=True,
    blocks=True,
)
