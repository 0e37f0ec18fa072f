"""The contract every model keeps; the tables it is given are in `tables`, how it is fitted in `fit`.

A model file declares its settings, its class and one `MODEL = ModelSpec(...)`. Model files
are imported while the configuration is read, so neither they nor this file import NumPy,
Arrow, torch or scikit-learn at their top: array code imports NumPy inside its functions, a
network lives in a file of its own (`network.py`) that `fit` and `restore` import.

No model needs a stored row for a user: users and items unseen in training come in through
the same `Profiles`, `Histories` and `Items` as everybody else.

Predicted ratings are a column of their own, never the ranking score: a model that has them
says so in `predicts_ratings` and answers `predict_rating`; one that knows how sure it is
answers `rating_interval` too.

Models that learn in passes over mini-batches are `iterative.IterativeModel`s, and
`recpipe.training.fitting.fit` fits models of every kind; a model never drives a loop itself.

A model composed of others names its `parts` in the spec: training fits these first and then
how they are fused, on held-out interactions; `save` writes each part into a subfolder.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar, runtime_checkable

from recpipe.errors import ConfigError, DataError
from recpipe.models.fit import EpochRow, FitContext, FitReport, JsonValue
from recpipe.models.settings import ModelSettings, Target
from recpipe.models.tables import Histories, Items, Profiles, TrainingData

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa

    from recpipe.models.tables import Int64

    Float32 = npt.NDArray[np.float32]
    Words = npt.NDArray[np.str_]

__all__ = [
    "INTERVAL_LEVEL",
    "BlockScorer",
    "EpochRow",
    "FactoredModel",
    "FitContext",
    "FitReport",
    "Histories",
    "Items",
    "JsonValue",
    "Measure",
    "Model",
    "ModelSpec",
    "ModelState",
    "PairwiseModel",
    "Profiles",
    "ScoreBlock",
    "SearchedModel",
    "TrainingData",
    "UserVectors",
]

INTERVAL_LEVEL = 0.9
"""Share of ratings that lie within their `rating_interval`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelState:
    """What a fitted model keeps.

    Attributes:
        weights: named arrays, kept in weights.safetensors.
        values: named plain values, kept in model.json.
        item_ids: ids of the items that rows of the weights belong to, kept in Parquet.
        user_ids: the same for users.
    """

    weights: Mapping[str, npt.NDArray[np.generic]]
    values: Mapping[str, JsonValue] = field(default_factory=dict)
    item_ids: pa.StringArray | None = None
    user_ids: pa.StringArray | None = None


@dataclass(frozen=True, slots=True)
class UserVectors:
    """Vectors of a block of users and the path that made each.

    Attributes:
        vectors: float32 (n_users, k), finite.
        source: str (n_users,): the model's name, segment, popularity, ...
    """

    vectors: Float32
    source: Words


@dataclass(frozen=True, slots=True)
class ScoreBlock:
    """Scores of a block of users for all items and the path that made each user's.

    Attributes:
        scores: float32 (n_users, n_items), never NaN; -inf: never recommend.
        source: str (n_users,).
    """

    scores: Float32
    source: Words


class Model(ABC):
    """A model, fitted or to be fitted. Subclass `FactoredModel` or `PairwiseModel`."""

    settings: ModelSettings

    @abstractmethod
    def fit(self, data: TrainingData, context: FitContext) -> FitReport:
        """Learn from `data`; the same data, settings and seed give the same model.

        Callers fit through `recpipe.training.fitting.fit`, which also fits iterative models.
        """

    @abstractmethod
    def state(self) -> ModelState:
        """Return what has to be kept of the fitted model."""

    @abstractmethod
    def restore(self, state: ModelState) -> None:
        """Take back what `state` returned. KeyError when something is missing."""

    @property
    def predicts_ratings(self) -> bool:
        """Whether the fitted model answers `predict_rating`."""
        return False

    def predict_rating(
        self, profiles: Profiles, histories: Histories, items: Items, *, user_rows: Int64, item_rows: Int64
    ) -> Float32:
        """Return the rating user user_rows[k] would give item item_rows[k], within the range seen in training.

        Args:
            profiles: users, any number.
            histories: what they took.
            items: any items.
            user_rows: int64 (n,), rows of `profiles`.
            item_rows: int64 (n,), rows of `items`.

        Returns:
            float32 (n,), finite.

        Raises:
            TypeError: The model predicts no ratings.
        """
        raise TypeError(f"{self.settings.model} was not fitted to ratings")

    def rating_interval(
        self, profiles: Profiles, histories: Histories, items: Items, *, user_rows: Int64, item_rows: Int64
    ) -> tuple[Float32, Float32] | None:
        """Return between which two ratings `INTERVAL_LEVEL` of such ratings lie; None: the model does not say.

        A rating given lies inside with that probability: the noise of a single rating counts,
        not only what the model does not know. Arguments as for `predict_rating`, whose value
        lies inside; both ends are within the range seen in training.

        Returns:
            Lower and upper ends, float32 (n,) each, finite.
        """
        return None

    def item_sources(self, items: Items) -> Words | None:
        """Return the path of items that do not take the user's: str (n_items,), "" for the rest; None: all do."""
        return None

    def save(self, folder: Path) -> None:
        """Write the fitted model into an existing or new folder."""
        from recpipe.models.storage import write_model

        write_model(folder, model=self.settings.model, settings=self.settings, state=self.state())

    def load(self, folder: Path) -> None:
        """Read what `save` wrote; `registry.load_model` also finds the class and its settings.

        Raises:
            MissingInputError: There is no model in the folder.
            DataError: The folder holds another model, another format or a damaged one.
        """
        from recpipe.models.storage import restore_model

        restore_model(self, folder)


class SearchedModel(Model):
    """A model fitted in one go that leaves hyper-parameters to held-out interactions; mix it in."""

    @property
    @abstractmethod
    def open_settings(self) -> tuple[str, ...]:
        """Names of the hyper-parameters left open (`auto`), as they stand in `FitContext.choice`."""

    @abstractmethod
    def search(self, data: TrainingData, context: FitContext, measure: Measure) -> Mapping[str, JsonValue]:
        """Return the best values of the open settings.

        Args:
            data: What to learn from, without the held-out interactions.
            measure: NDCG of whatever scores, on the held-out interactions.
        """


class FactoredModel(Model):
    """A model whose score is the dot product of a user vector and an item vector."""

    @abstractmethod
    def user_vectors(self, profiles: Profiles, histories: Histories) -> UserVectors:
        """Return vectors (n_users, k) of any users, seen in training or not."""

    @abstractmethod
    def item_vectors(self, items: Items) -> Float32:
        """Return float32 (n_items, k), finite, of any items, seen in training or not."""

    def new_item_vectors(self, items: Items) -> Float32:
        """Return float32 (n_items, k): the vectors these items would have had nobody taken them, as far as is known."""
        return self.item_vectors(items.renamed())


@runtime_checkable
class BlockScorer(Protocol):
    """Whatever scores users and items together."""

    def score_block(self, profiles: Profiles, histories: Histories, items: Items) -> ScoreBlock:
        """Return scores (n_users, n_items) of any users and items."""
        ...


class PairwiseModel(Model):
    """A model that scores users and items together."""

    @abstractmethod
    def score_block(self, profiles: Profiles, histories: Histories, items: Items) -> ScoreBlock:
        """Return scores (n_users, n_items) of any users and items."""


Measure = Callable[[Model | BlockScorer], float]
"""How well something ranks held-out interactions; more is better."""

S = TypeVar("S", bound=ModelSettings)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec(Generic[S]):
    """The declaration of a model.

    Attributes:
        name: its name, which is its module's.
        summary: one line for help and docs.
        settings: the class that reads the section `train`.
        factory: makes an unfitted model.
        targets: what it can learn, preferred first.
        reads: names of the artifacts it needs besides items and interactions.
        attributes: whether it reads the attribute columns of items and users.
        blocks: whether it reads the items' vector columns of text fields, pictures and sounds.
    """

    name: str
    summary: str
    settings: type[S]
    factory: Callable[[S], Model]
    targets: tuple[Target, ...]
    reads: tuple[str, ...] = ()
    attributes: bool = False
    blocks: bool = False

    def create(self, settings: ModelSettings) -> Model:
        """Make an unfitted model. TypeError when the settings are another model's."""
        if not isinstance(settings, self.settings):
            raise TypeError(f"{self.name} takes {self.settings.__name__}, not {type(settings).__name__}")
        return self.factory(settings)

    def target_for(self, settings: ModelSettings, data: TrainingData) -> Target:
        """Return the target to learn: the one set, or the model's first that the data allow.

        Raises:
            ConfigError: The model cannot learn the target that was set.
            DataError: The interactions hold nothing for it.
        """
        wanted: tuple[Target, ...] = self.targets if settings.target == "auto" else (settings.target,)
        if wanted[0] not in self.targets:
            raise ConfigError(
                f"{self.name} cannot learn the target '{wanted[0]}'",
                where="train.target",
                next_step=f"valid: auto, {', '.join(self.targets)}",
            )
        for target in wanted:
            if target in data.targets:
                return target
        raise DataError(
            f"{self.name} learns from ratings and the interactions have none",
            where="interactions",
            next_step="map the rating column in data.columns, or choose another train.model",
        )
