"""The contract every model keeps, and the tables it is given.

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
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, TypeVar

from recpipe.errors import ConfigError, DataError
from recpipe.models.settings import ModelSettings, Target

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa

    Float32 = npt.NDArray[np.float32]
    Int32 = npt.NDArray[np.int32]
    Int64 = npt.NDArray[np.int64]
    Bool = npt.NDArray[np.bool_]
    Words = npt.NDArray[np.str_]

JsonValue = bool | int | float | str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Items:
    """The catalogue: every item that can be recommended or stands in a history.

    Attributes:
        ids: `pa.StringArray` (n_items,), unique.
        embeddings: float32 (n_items, dim), finite; a row of zeros where `embedded` is false.
            Width 0 when the model's spec does not read item embeddings.
        embedded: bool (n_items,): the item has an embedding.
        titles: `pa.StringArray` (n_items,), or None.
        first_seen_us: int64 (n_items,): release or first interaction, microseconds UTC, or None.
        attributes: the items table with all its columns, same rows, or None.
    """

    ids: pa.StringArray
    embeddings: Float32
    embedded: Bool
    titles: pa.StringArray | None = None
    first_seen_us: Int64 | None = None
    attributes: pa.Table | None = None

    def __post_init__(self) -> None:
        _same_length(self, "ids", "embeddings", "embedded", "titles", "first_seen_us", "attributes")

    def __len__(self) -> int:
        return len(self.ids)

    @classmethod
    def bare(cls, ids: pa.StringArray, titles: pa.StringArray | None = None) -> Items:
        """Items without embeddings."""
        embeddings, embedded = _nothing_embedded(len(ids))
        return cls(ids=ids, embeddings=embeddings, embedded=embedded, titles=titles)


@dataclass(frozen=True, slots=True, kw_only=True)
class Profiles:
    """A block of users: their embeddings z and profiles p = [x, c, centre of c].

    Attributes:
        user_ids: `pa.StringArray` (n_users,).
        embeddings: float32 (n_users, dim): z, finite; a row of zeros where `embedded` is false.
        embedded: bool (n_users,): the user had something to embed.
        features: float32 (n_users, n_features): x, raw. Width 0 when profiles are not read.
        segments: int32 (n_users,): c; -1 for users with nothing to embed or no profile.
        centres: float32 (n_users, dim): centre of the segment; of -1, the mean of all z.
        attributes: the users table with all its columns, same rows, or None.
    """

    user_ids: pa.StringArray
    embeddings: Float32
    embedded: Bool
    features: Float32
    segments: Int32
    centres: Float32
    attributes: pa.Table | None = None

    def __post_init__(self) -> None:
        _same_length(self, "user_ids", "embeddings", "embedded", "features", "segments", "centres", "attributes")

    def __len__(self) -> int:
        return len(self.user_ids)

    @classmethod
    def bare(cls, user_ids: pa.StringArray) -> Profiles:
        """Users of whom nothing but their histories is known."""
        import numpy as np

        embeddings, embedded = _nothing_embedded(len(user_ids))
        segments = np.full(len(user_ids), -1, dtype=np.int32)
        return cls(
            user_ids=user_ids,
            embeddings=embeddings,
            embedded=embedded,
            features=embeddings,
            segments=segments,
            centres=embeddings,
        )

    def rows(self, start: int, stop: int) -> Profiles:
        """The users from `start` to before `stop`, without copying."""
        return Profiles(
            user_ids=self.user_ids[start:stop],
            embeddings=self.embeddings[start:stop],
            embedded=self.embedded[start:stop],
            features=self.features[start:stop],
            segments=self.segments[start:stop],
            centres=self.centres[start:stop],
            attributes=None if self.attributes is None else self.attributes[start:stop],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Histories:
    """What a block of users took, oldest first: the events of user i are offsets[i]:offsets[i + 1].

    Attributes:
        items: the catalogue that `item_rows` points into. A model that knows items by id maps
            the rows once per catalogue, not once per block.
        offsets: int64 (n_users + 1,), not decreasing. It need not begin at 0 (see `rows`).
        item_rows: int32 (n_events,): rows of `items`.
        ratings: float32 (n_events,), NaN where none was given, or None.
        timestamps_us: int64 (n_events,), microseconds UTC, or None; without times decay counts events.
        as_of_us: "now" for every age and decay, microseconds UTC, or None.
    """

    items: Items
    offsets: Int64
    item_rows: Int32
    ratings: Float32 | None = None
    timestamps_us: Int64 | None = None
    as_of_us: int | None = None

    def __post_init__(self) -> None:
        _same_length(self, "item_rows", "ratings", "timestamps_us")

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @classmethod
    def empty(cls, n_users: int, items: Items) -> Histories:
        """Users who took nothing yet."""
        import numpy as np

        return cls(items=items, offsets=np.zeros(n_users + 1, np.int64), item_rows=np.empty(0, np.int32))

    def rows(self, start: int, stop: int) -> Histories:
        """The users from `start` to before `stop`, without copying."""
        return Histories(
            items=self.items,
            offsets=self.offsets[start : stop + 1],
            item_rows=self.item_rows,
            ratings=self.ratings,
            timestamps_us=self.timestamps_us,
            as_of_us=self.as_of_us,
        )

    def events(self) -> slice:
        """Where the events of these users stand in `item_rows`, `ratings` and `timestamps_us`."""
        return slice(int(self.offsets[0]), int(self.offsets[-1]))

    def user_rows(self) -> Int64:
        """The user of each event in `events()`: int64, rows of this block."""
        import numpy as np

        return np.repeat(np.arange(len(self), dtype=np.int64), np.diff(self.offsets))

    def positive(self, positive_from: float | None) -> Bool:
        """Which events in `events()` are positive: rated `positive_from` or more, or not rated.

        Raises:
            DataError: `positive_from` is given and there are no ratings at all.
        """
        import numpy as np

        events = self.events()
        if positive_from is None:
            return np.ones(events.stop - events.start, dtype=np.bool_)
        if self.ratings is None:
            raise DataError(
                "train.positive_from is set but the interactions have no rating",
                where="interactions",
                next_step="leave train.positive_from out, or map the rating column in data.columns",
            )
        ratings = self.ratings[events]
        return np.isnan(ratings) | (ratings >= positive_from)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingData:
    """Everything a model may learn from, in blocks so that memory does not grow with users.

    Attributes:
        items: the whole catalogue; the histories of all blocks point into it.
        open_blocks: starts a pass over the users; every user is whole within one block, the
            blocks and their order are the same in each pass.
        n_users: users in all blocks.
        targets: what the interactions allow: always implicit, rating where ratings exist.
        as_of_us: newest timestamp, or what the run calls now; None without times.
    """

    items: Items
    open_blocks: Callable[[], Iterator[tuple[Profiles, Histories]]]
    n_users: int
    targets: frozenset[Target] = frozenset({"implicit"})
    as_of_us: int | None = None

    def blocks(self) -> Iterator[tuple[Profiles, Histories]]:
        """Start a pass: (profiles, histories) of the same users."""
        return self.open_blocks()


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


def _nothing_embedded(n_rows: int) -> tuple[Float32, Bool]:
    import numpy as np

    return np.empty((n_rows, 0), dtype=np.float32), np.zeros(n_rows, dtype=np.bool_)


def _same_length(table: object, first: str, *others: str) -> None:
    n_rows = len(getattr(table, first))
    for name in others:
        column = getattr(table, name)
        if column is not None and len(column) != n_rows:
            raise ValueError(f"{type(table).__name__}.{name} has {len(column)} rows, {first} has {n_rows}")
