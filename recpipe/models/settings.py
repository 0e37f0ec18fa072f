"""The section `train`: what every model is told. A model's own settings extend it, flat."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from recpipe.config import Execution, Settings

Target = Literal["rating", "implicit"]
"""What a model learns to predict: the rating given, or whether the item was taken."""


class ModelSettings(Settings):
    """What is common to all models; `train.model` decides which class reads the section."""

    model: str = "hybrid"
    """Name of the model; auto: the one that ranks held-out interactions best."""

    name: str | None = Field(default=None, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100)
    """Name the fitted model is kept under, so that several live side by side; default: the model's name."""

    positive_from: float | None = None
    """Rating from which an interaction counts as positive; null: every interaction does.
    An interaction without a rating is positive."""

    target: Literal["auto", "rating", "implicit"] = "auto"
    """What is learned; auto: the first of the model's targets that the data allow."""

    @property
    def kept_as(self) -> str:
        """Name of the folder the fitted model is kept in."""
        return self.name or self.model


class IterativeSettings(ModelSettings):
    """What is common to the models that learn by passes over mini-batches."""

    n_epochs: Literal["auto"] | PositiveInt = "auto"
    """Passes over the interactions. auto: as many as did best on held-out interactions, then a
    fit on all of them; a number: no validation."""

    max_epochs: PositiveInt = 40
    """Most passes that auto tries."""

    patience: PositiveInt = 4
    """Passes without a better validation value after which auto stops."""

    hidden_dim: PositiveInt = 64
    """Length of the learned vectors, or width of the hidden layer."""

    batch_size: PositiveInt = 1024
    """Interactions per step."""

    learning_rate: PositiveFloat = 0.003
    """Step size of Adam; of a schedule the largest."""

    schedule: Literal["constant", "one_cycle"] = "constant"
    """How the step size changes: not at all, or up and down to almost nothing within the passes
    set (`n_epochs`, or with auto `max_epochs`), from which auto then keeps the best."""

    weight_decay: Literal["auto"] | NonNegativeFloat = "auto"
    """Weight of the squared length of what maps features and embeddings to vectors, added to the
    loss. auto: 0.0003 for ratings, 0 for implicit feedback."""

    id_penalty: Literal["auto"] | NonNegativeFloat = "auto"
    """Weight of the squared length of what is learned about single users and items, added to the
    loss once per interaction. auto: 0.1 for ratings, 0 for implicit feedback."""

    id_dropout: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.2
    """Share of a batch's users and items whose ids are hidden, so that what is known about
    them learns to stand alone, as it must for new ones."""

    dropout: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.2
    """Share of the coordinates of item vectors hidden in a step of implicit feedback."""

    loss: Literal["softmax", "bpr", "cross_entropy"] = "softmax"
    """How implicit feedback is learned: the item taken against sampled ones by softmax, by
    pairs (BPR), or each as a yes or no. Ratings are learned by squared error."""

    negatives: PositiveInt = 256
    """Items sampled per step of implicit feedback, from the items of the training interactions."""

    negative_exponent: Annotated[float, Field(ge=0.0, le=1.0)] = 0.0
    """Items are sampled in proportion to their count to this power: 0 is uniform, 1 by popularity."""

    batch_negatives: bool = True
    """The items of the other interactions in the batch are negatives as well (softmax only)."""

    history: NonNegativeInt = 50
    """Most recent interactions a user's vector is made of where feedback is implicit."""

    clip_norm: PositiveFloat = 1.0
    """Longest gradient; longer ones are shortened to it."""

    precision: Literal["float32", "bfloat16"] = "float32"
    """Arithmetic of the network's products; bfloat16 pays on GPUs that have it."""

    pin_memory: Annotated[bool, Execution()] = True
    """Send batches to CUDA through page-locked memory."""

    checkpoint_seconds: Annotated[PositiveFloat, Execution()] = 60.0
    """Longest time between two checkpoints within an epoch; one is written after every epoch."""

    validation_users: PositiveInt = 5000
    """Most users that a validation ranks for, drawn at random."""
