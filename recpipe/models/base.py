"""The contract every model keeps; the tables it is given are in `tables`.

A model file declares its settings, its class and one `MODEL = ModelSpec(...)`. Model files
are imported while the configuration is read, so neither they nor this file import NumPy,
Arrow, torch or scikit-learn at their top: array code imports NumPy inside its functions, a
network lives in a file of its own (`x_network.py`) that `fit` and `restore` import.

No model needs a stored row for a user: users and items unseen in training come in through
the same `Profiles`, `Histories` and `Items` as everybody else.

Places kept for what is not built yet; none changes a signature below:

- Predicted ratings: a model that can adds `predict_rating(profiles, histories, items, *,
  user_rows, item_rows)`, one value for each pair (user_rows[k], item_rows[k]), with its
  interval where the model knows one. It is a column of its own, never the ranking score.
- Iterative models add `parameters()` and `train_step(batch)`; `training/loop` drives them
  (batches, validation, early stopping, checkpoints) and `fit` hands over to it.
- Composite models name their `parts` in the spec: training fits these first and then the
  fusion, on validation scores; `save` writes each part into a subfolder.
- Validation data and the hyper-parameters it chose are further fields of `FitContext` (in)
  and `FitReport` (out).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, TypeVar

from recpipe.errors import ConfigError, DataError
from recpipe.models.settings import ModelSettings, Target
from recpipe.models.tables import Histories, Items, Profiles, TrainingData

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa

    Float32 = npt.NDArray[np.float32]
    Words = npt.NDArray[np.str_]

__all__ = [
    "FactoredModel",
    "FitContext",
    "FitReport",
    "Histories",
    "Items",
    "JsonValue",
    "Model",
    "ModelSpec",
    "ModelState",
    "PairwiseModel",
    "Profiles",
    "ScoreBlock",
    "TrainingData",
    "UserVectors",
]

JsonValue = bool | int | float | str | None


def _silent(message: str) -> None:
    """Report to nobody."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FitContext:
    """How to fit, as opposed to what.

    Attributes:
        seed: root of all randomness; take generators from `recpipe.seeding` with a purpose.
        device: `cpu`, `cuda` or `cuda:1`; already resolved.
        report: takes a line for the log.
    """

    seed: int = 42
    device: str = "cpu"
    report: Callable[[str], None] = _silent


@dataclass(frozen=True, slots=True, kw_only=True)
class FitReport:
    """What a fit learned from.

    Attributes:
        target: the target that was learned.
        counts: named numbers for the log and the manifest.
    """

    target: Target
    counts: Mapping[str, int] = field(default_factory=dict)


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
        """Learn from `data`; the same data, settings and seed give the same model."""

    @abstractmethod
    def state(self) -> ModelState:
        """Return what has to be kept of the fitted model."""

    @abstractmethod
    def restore(self, state: ModelState) -> None:
        """Take back what `state` returned. KeyError when something is missing."""

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


class FactoredModel(Model):
    """A model whose score is the dot product of a user vector and an item vector."""

    @abstractmethod
    def user_vectors(self, profiles: Profiles, histories: Histories) -> UserVectors:
        """Return vectors (n_users, k) of any users, seen in training or not."""

    @abstractmethod
    def item_vectors(self, items: Items) -> Float32:
        """Return float32 (n_items, k), finite, of any items, seen in training or not."""


class PairwiseModel(Model):
    """A model that scores users and items together."""

    @abstractmethod
    def score_block(self, profiles: Profiles, histories: Histories, items: Items) -> ScoreBlock:
        """Return scores (n_users, n_items) of any users and items."""


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
        parts: names of the models it is composed of.
    """

    name: str
    summary: str
    settings: type[S]
    factory: Callable[[S], Model]
    targets: tuple[Target, ...]
    reads: tuple[str, ...] = ()
    parts: tuple[str, ...] = ()

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
