"""What a simulated user truly prefers, and what would be chosen next: the oracle.

With t in whole days since the start, |.| the Euclidean norm and D = days,

    taste(u, t)         = (1 - t/D) taste_start(u) + (t/D) taste_end(u)
    preference(u, i, t) = taste(u, t) · trait(i) / |taste(u, t)| + quality(i)
    rating(u, i, t)     = RATING_BASE + RATING_SLOPE preference(u, i, t) + rating_bias(u) + noise,
                          rounded to half stars from 0.5 to 5
    choice(u, i, t)     ∝ taste(u, t) · trait(i)  attraction(i)  (1 + boost exp(-(t - release(i)) / τ)),
                          0 before the release and for items the user already has

`preference` is what a user would think of an item; ranking by it is the best answer to "what
would please". `choice` is what the interactions were drawn from, popularity and novelty
included; ranking by it is the best answer to "what comes next", and its NDCG on held-out
interactions is the ceiling that no recommender can be expected to pass.

With media, look and sound matter as well (see senses.py): `choice` is multiplied by appeal(u, i),
and SENSE_WEIGHT (cos(look(u) - look(i)) + cos(sound(u) - sound(i))) is added to `preference`.

Everything needed is in the two truth files, so that the oracle does not need the simulator.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from recpipe.errors import DataError, MissingInputError
from recpipe.ingest.simulate import columns
from recpipe.ingest.simulate.bank import N_TOPICS, TOPIC_NAMES
from recpipe.ingest.simulate.senses import appeal, pleasure
from recpipe.ingest.simulate.settings import SimulateSettings
from recpipe.schemas import ITEM_ID, USER_ID

TRUTH_USERS_FILE = "truth_users.parquet"
TRUTH_ITEMS_FILE = "truth_items.parquet"
METADATA_KEY = b"recpipe.simulate"

RATING_BASE = 2.9
RATING_SLOPE = 2.0

_VECTOR = pa.list_(pa.float32(), N_TOPICS)
TRUTH_USER_SCHEMA = pa.schema(
    [
        pa.field(USER_ID.name, pa.string()),
        pa.field(columns.TASTE_START.name, _VECTOR),
        pa.field(columns.TASTE_END.name, _VECTOR),
        pa.field(columns.RATING_BIAS.name, pa.float32()),
    ]
)
TRUTH_ITEM_SCHEMA = pa.schema(
    [
        pa.field(ITEM_ID.name, pa.string()),
        pa.field(columns.TRAIT.name, _VECTOR),
        pa.field(columns.QUALITY.name, pa.float32()),
        pa.field(columns.ATTRACTION.name, pa.float32()),
        pa.field(columns.RELEASE_DAY.name, pa.int32()),
    ]
)
SENSE_FIELDS = tuple(pa.field(column.name, pa.float32()) for column in (columns.LOOK, columns.SOUND))
"""Of items and of users, in a world with media."""
MEDIA_SETTINGS = {"media", "picture_pull", "sound_pull"}


def with_senses(schema: pa.Schema, settings: SimulateSettings) -> pa.Schema:
    """Return the schema of a truth table of this world."""
    return pa.schema([*schema, *(SENSE_FIELDS if settings.media else ())], metadata(settings))


def sense_arrays(angles: npt.NDArray[np.float32]) -> list[pa.Array]:
    """Return the columns of (n, n_senses) angles."""
    return [pa.array(np.ascontiguousarray(column)) for column in angles.T]


def taste_at(
    taste_start: npt.NDArray[np.float32], taste_end: npt.NDArray[np.float32], day: npt.ArrayLike, *, days: int
) -> npt.NDArray[np.float64]:
    """Return the tastes of users on a day.

    Args:
        taste_start: (n, n_topics)
        taste_end: (n, n_topics)
        day: Days since the start, one for all or one a user; clipped to 0..days. () or (n,)
        days: Days of trading.

    Returns:
        Rows sum to 1. (n, n_topics) float64
    """
    passed = np.clip(np.asarray(day, dtype=np.float64) / days, 0, 1)[..., None]
    tastes: npt.NDArray[np.float64] = (1 - passed) * taste_start + passed * taste_end
    return tastes


def freshness(age: npt.NDArray[np.float64], settings: SimulateSettings) -> npt.NDArray[np.float64]:
    """Return the factor on attraction that an item of some age in days has; 0 before its release."""
    boost = settings.freshness_boost * np.exp(-np.maximum(age, 0) / settings.freshness_days)
    return np.where(age >= 0, 1 + boost, 0.0)


@dataclass(frozen=True, slots=True)
class Truth:
    """The items as they truly are, and the formulas above.

    Attributes:
        settings: Of the world.
        item_ids: (n_items,)
        traits: Unit length. (n_items, n_topics) float32
        quality: (n_items,) float32
        attraction: (n_items,) float32
        release_day: (n_items,) int32
        senses: Look and sound. (n_items, n_senses) float32
    """

    settings: SimulateSettings
    item_ids: list[str]
    traits: npt.NDArray[np.float32]
    quality: npt.NDArray[np.float32]
    attraction: npt.NDArray[np.float32]
    release_day: npt.NDArray[np.int32]
    senses: npt.NDArray[np.float32]

    def day_of(self, timestamps: npt.NDArray[np.datetime64]) -> npt.NDArray[np.int64]:
        """Return the day, counted from the start, of each timestamp (UTC)."""
        return (timestamps.astype("datetime64[D]") - np.datetime64(self.settings.start, "D")).astype(np.int64)

    def preference(
        self, tastes: npt.NDArray[np.float64], senses: npt.NDArray[np.float32] | None = None
    ) -> npt.NDArray[np.float64]:
        """Return what users think of every item.

        Args:
            tastes: (n, n_topics)
            senses: Looks and sounds they like, in a world with media. (n, n_senses)

        Returns:
            (n, n_items)
        """
        lengths = np.linalg.norm(tastes, axis=1, keepdims=True)
        preference: npt.NDArray[np.float64] = (tastes / lengths) @ self.traits.T + self.quality
        return preference if senses is None else preference + pleasure(senses[:, None], self.senses[None])

    def expected_rating(
        self,
        tastes: npt.NDArray[np.float64],
        rating_bias: npt.NDArray[np.float32],
        senses: npt.NDArray[np.float32] | None = None,
    ) -> npt.NDArray[np.float64]:
        """Return ratings before noise, rounding and clipping; arguments as in `preference`. (n, n_items)"""
        return RATING_BASE + RATING_SLOPE * self.preference(tastes, senses) + rating_bias[:, None]

    def choice(
        self,
        tastes: npt.NDArray[np.float64],
        day: npt.ArrayLike,
        senses: npt.NDArray[np.float32] | None = None,
    ) -> npt.NDArray[np.float64]:
        """Return in what proportion users take each item on a day, items they have included.

        Args:
            tastes: On that day. (n, n_topics)
            day: One for all users, or one a user. () or (n,)
            senses: Looks and sounds they like, in a world with media. (n, n_senses)

        Returns:
            Not normalised; 0 before an item's release. (n, n_items) float64
        """
        age = np.asarray(day, dtype=np.float64)[..., None] - self.release_day
        choice: npt.NDArray[np.float64] = (tastes @ self.traits.T) * self.attraction * freshness(age, self.settings)
        return choice if senses is None else choice * appeal(senses[:, None], self.senses[None], self.settings)


@dataclass(frozen=True, slots=True)
class UserTruth:
    """Some users as they truly are: ids, tastes (n, n_topics), rating biases (n,) and senses (n, n_senses)."""

    user_ids: list[str]
    taste_start: npt.NDArray[np.float32]
    taste_end: npt.NDArray[np.float32]
    rating_bias: npt.NDArray[np.float32]
    senses: npt.NDArray[np.float32]


def metadata(settings: SimulateSettings) -> dict[bytes, bytes]:
    """Return the schema metadata that makes a truth file understandable on its own."""
    # a world without media is described as it was before there were any
    left_out = set() if settings.media else MEDIA_SETTINGS
    content = {"settings": settings.model_dump(mode="json", exclude=left_out), "topics": list(TOPIC_NAMES)}
    return {METADATA_KEY: json.dumps(content, sort_keys=True).encode()}


def load_truth(folder: Path) -> Truth:
    """Read the items of a world and its settings from `truth_items.parquet`.

    Raises:
        MissingInputError: The file is not there.
        DataError: It is not a truth file.
    """
    path = _existing(folder / TRUTH_ITEMS_FILE)
    table = pq.read_table(path)
    content = (table.schema.metadata or {}).get(METADATA_KEY)
    settings = None if content is None else SimulateSettings.model_validate(json.loads(content)["settings"])
    if settings is None or not table.schema.equals(with_senses(TRUTH_ITEM_SCHEMA, settings)):
        raise DataError("not a truth file of the simulator", where=str(path), next_step="run: recpipe simulate")
    return Truth(
        settings=settings,
        item_ids=table[ITEM_ID.name].to_pylist(),
        traits=_matrix(table[columns.TRAIT.name]),
        quality=table[columns.QUALITY.name].to_numpy(),
        attraction=table[columns.ATTRACTION.name].to_numpy(),
        release_day=table[columns.RELEASE_DAY.name].to_numpy(),
        senses=_senses(table),
    )


def iterate_user_truth(folder: Path, *, batch_rows: int = 4096) -> Iterator[UserTruth]:
    """Yield the users of a world from `truth_users.parquet`, in the order of the users table.

    Raises:
        MissingInputError: The file is not there.
    """
    with pq.ParquetFile(_existing(folder / TRUTH_USERS_FILE)) as file:
        for batch in file.iter_batches(batch_size=batch_rows):
            yield UserTruth(
                user_ids=batch[USER_ID.name].to_pylist(),
                taste_start=_matrix(batch[columns.TASTE_START.name]),
                taste_end=_matrix(batch[columns.TASTE_END.name]),
                rating_bias=batch[columns.RATING_BIAS.name].to_numpy(),
                senses=_senses(batch),
            )


def _senses(table: pa.Table | pa.RecordBatch) -> npt.NDArray[np.float32]:
    names = [field.name for field in SENSE_FIELDS if field.name in table.schema.names]
    angles = [table[name].to_numpy() for name in names]
    return np.stack(angles, axis=1) if angles else np.empty((table.num_rows, 0), dtype=np.float32)


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise MissingInputError(f"no {path.name}", where=str(path.parent), next_step="run: recpipe simulate --to DIR")
    return path


def _matrix(column: pa.Array | pa.ChunkedArray) -> npt.NDArray[np.float32]:
    flat = column.combine_chunks().flatten() if isinstance(column, pa.ChunkedArray) else column.flatten()
    matrix: npt.NDArray[np.float32] = flat.to_numpy(zero_copy_only=False).reshape(len(column), N_TOPICS)
    return matrix


def vectors(matrix: npt.NDArray[np.float32]) -> pa.Array:
    """Return the rows of a matrix (n, n_topics) as a fixed-size list array."""
    return pa.FixedSizeListArray.from_arrays(pa.array(np.ascontiguousarray(matrix).reshape(-1)), N_TOPICS)
