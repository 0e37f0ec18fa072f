"""Deep: one hidden layer over profile and item embedding.

    r̂_ij = w·relu(W_u p_i + W_v v_j + b) + b_i + b_j  (+ the mean rating)

p_i is the profile [x standardised, segment one-hot, centre, missing flag], v_j the item
embedding. Ratings are learned by squared error; implicit feedback by a softmax over sampled
items, without b_i, which ranks nothing. b_i and b_j are dropped for ids unseen in training.

Users differ only by their profile: as a ranking this is a refined popularity per segment, and
rating models rank badly anyway. Prefer it where the profile says much.

Where items have vectors apart (pictures, sounds, fields of their text), v_j is their fusion with
flags of what there is (`ItemBlocks`), and for implicit feedback W_h h_i is added inside the relu:
h_i is the same of the items a user took last, block by block, so that a taste that only
pictures show is learned, for users unseen in training as well (`block_inputs`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, PositiveInt

from recpipe.models.base import (
    FitContext,
    Histories,
    Items,
    ModelSpec,
    ModelState,
    PairwiseModel,
    Profiles,
    ScoreBlock,
    TrainingData,
)
from recpipe.models.network_model import NetworkModel
from recpipe.models.settings import IterativeSettings
from recpipe.schemas import ITEM_EMBEDDINGS, USER_PROFILES

if TYPE_CHECKING:
    import numpy as np

    from recpipe.models.examples import Examples
    from recpipe.models.item_blocks import BlockVectors, ItemBlocks
    from recpipe.models.learned import Learned
    from recpipe.models.tables import Bool, Float32, Int64

PAIRS_AT_ONCE = 65_536
"""Ratings predicted at a time: 16 MB of hidden values at 64 units."""


class DeepSettings(IterativeSettings):
    """`train` for the model deep."""

    model: Literal["deep"] = "deep"
    """Name of the model."""

    negatives: PositiveInt = 64
    """Items sampled per step of implicit feedback, from the items of the training interactions.
    Every one costs a pass through the network for each interaction of the batch."""

    batch_negatives: bool = False
    """The items of the other interactions in the batch are negatives as well (softmax only)."""

    block_dropout: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.5
    """Share of the pictures, sounds and text fields hidden in a step, where items have such, so that
    the others learn to do without them. Less is a little better where none is ever missing, and worse
    than no pictures at all where all go missing later."""


class DeepModel(NetworkModel, PairwiseModel):
    """One hidden layer; see the module."""

    def __init__(self, settings: DeepSettings) -> None:
        self.settings: DeepSettings = settings
        self._learned: Learned | None = None
        self._blocks: ItemBlocks | None = None
        self._block_vectors: tuple[Items, BlockVectors] | None = None

    @property
    def max_history(self) -> int:
        return 0 if self._blocks is None else self.settings.history

    @property
    def predicts_ratings(self) -> bool:
        return self._known()[0].target == "rating"

    def prepare(self, data: TrainingData, examples: Examples, context: FitContext) -> None:
        from recpipe.models.deep.block_inputs import BlockInputs
        from recpipe.models.deep.network import DeepNetwork
        from recpipe.models.item_blocks import ItemBlocks
        from recpipe.models.item_space import centred, embedding_mean
        from recpipe.models.learned import learned_from
        from recpipe.models.profile_space import gather_profiles

        users = gather_profiles(data)
        item_mean = embedding_mean(data.items)
        self._learned = learned_from(data, examples, users.space, item_mean)
        self._block_vectors = None
        blocks = self._blocks = ItemBlocks.of(data.items, examples.item_counts > 0)
        inputs = None
        if blocks is not None:
            vectors = blocks.vectors(data.items)
            share = self.settings.block_dropout
            inputs = BlockInputs(blocks, vectors, settings=self.settings, share=share, device=context.device)
        self._network = DeepNetwork(
            embeddings=centred(data.items, item_mean),
            blocks=inputs,
            users=users,
            examples=examples,
            settings=self.settings,
            offset=self._learned.offset,
            seed=context.seed,
            device=context.device,
        )
        self.refresh()

    def score_block(self, profiles: Profiles, histories: Histories, items: Items) -> ScoreBlock:
        from recpipe.models.deep.network import all_pairs
        from recpipe.models.learned import sources_of

        learned, arrays = self._known()
        hidden, biases = self._items(items)
        users, with_history = self._users(profiles, histories)
        scores = all_pairs(users, hidden, arrays["output"])
        scores += biases
        implicit = learned.target == "implicit"
        known = (profiles.segments >= 0) | with_history if implicit else learned.known_users(profiles) >= 0
        return ScoreBlock(scores, sources_of(known, profiles, MODEL.name))

    def predict_rating(
        self, profiles: Profiles, histories: Histories, items: Items, *, user_rows: Int64, item_rows: Int64
    ) -> Float32:
        import numpy as np

        from recpipe.models.learned import rows_or_zero

        learned, arrays = self._known()
        if learned.target != "rating":
            return super().predict_rating(profiles, histories, items, user_rows=user_rows, item_rows=item_rows)
        users, _ = self._users(profiles, histories)
        hidden, item_biases = self._items(items)
        user_biases = rows_or_zero(arrays["user_id_biases"], learned.known_users(profiles))
        predicted = user_biases[user_rows] + item_biases[item_rows] + np.float32(learned.offset)
        for start in range(0, len(user_rows), PAIRS_AT_ONCE):
            here = slice(start, start + PAIRS_AT_ONCE)
            both = users[user_rows[here]] + hidden[item_rows[here]]
            predicted[here] += np.maximum(both, 0.0) @ arrays["output"]
        ratings: Float32 = np.clip(predicted, learned.lowest, learned.highest).astype(np.float32)
        return ratings

    def state(self) -> ModelState:
        learned, arrays = self._known()
        return ModelState(
            weights=learned.weights() | arrays | ({} if self._blocks is None else self._blocks.weights()),
            values=learned.values() | ({} if self._blocks is None else self._blocks.values()),
            item_ids=learned.item_ids,
            user_ids=learned.user_ids,
        )

    def restore(self, state: ModelState) -> None:
        from recpipe.models.item_blocks import ItemBlocks
        from recpipe.models.learned import Learned, parameters_of

        self._learned = Learned.from_state(state)
        self._blocks = ItemBlocks.from_state(state.weights, state.values)
        self._block_vectors = None
        names = ["profile_map", "item_map", "hidden_bias", "output", "item_id_biases"]
        if self._learned.target == "rating":
            names.append("user_id_biases")
        elif self._blocks is not None:
            names.append("history_map")
        self._arrays = parameters_of(state, names)
        self._catalogue = None
        self._network = None

    def _known(self) -> tuple[Learned, dict[str, np.ndarray]]:
        if self._learned is None:
            raise RuntimeError("fit or load the model first")
        return self._learned, self._parameter_arrays()

    def _users(self, profiles: Profiles, histories: Histories) -> tuple[Float32, Bool]:
        """W_u p + W_h h + b: float32 (n_users, hidden_dim); and bool (n_users,): there is something in h."""
        import numpy as np

        learned, arrays = self._known()
        hidden: Float32 = learned.space.encode(profiles) @ arrays["profile_map"] + arrays["hidden_bias"]
        if self._blocks is None or learned.target == "rating":
            return hidden, np.zeros(len(profiles), dtype=np.bool_)
        from recpipe.models.deep.block_inputs import user_inputs

        given = user_inputs(self._blocks, histories, self._vectors(histories.items), self.settings)
        hidden += given @ arrays["history_map"]
        return hidden, given[:, self._blocks.width :].sum(axis=1) > 0

    def _vectors(self, items: Items) -> BlockVectors:
        """The blocks of a catalogue, made once per catalogue, whatever the parameters."""
        if self._blocks is None:
            raise RuntimeError("fit or load the model first")
        if self._block_vectors is None or self._block_vectors[0] is not items:
            self._block_vectors = (items, self._blocks.vectors(items))
        return self._block_vectors[1]

    def _items(self, items: Items) -> tuple[Float32, Float32]:
        """W_v v (n_items, hidden_dim) and b_j (n_items,) of a catalogue, made once per catalogue."""
        if self._catalogue is None or self._catalogue[0] is not items:
            from recpipe.models.ids import rows_of
            from recpipe.models.item_space import centred
            from recpipe.models.learned import rows_or_zero

            learned, arrays = self._known()
            rows = rows_of(items.ids, learned.item_ids)
            if self._blocks is None:
                inputs = centred(items, learned.item_mean)
            else:
                inputs = self._blocks.flagged(self._vectors(items))
            hidden = inputs @ arrays["item_map"]
            self._catalogue = (items, hidden, rows_or_zero(arrays["item_id_biases"], rows))
        return self._catalogue[1], self._catalogue[2]


MODEL = ModelSpec(
    name="deep",
    summary="A network with one hidden layer over the user's profile and the item's embedding.",
    settings=DeepSettings,
    factory=DeepModel,
    targets=("rating", "implicit"),
    reads=(ITEM_EMBEDDINGS.name, USER_PROFILES.name),
    blocks=True,
)
