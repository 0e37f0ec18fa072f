"""The space of behaviour features x: what each coordinate means.

`plan_features` decides from one pass over the items and users tables; `behaviour.py`
computes the coordinates, `FeatureStatistics` their means and scales.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import pyarrow as pa

from recpipe import schemas
from recpipe.attributes import AttributeValue, ValueCounts, choose_values
from recpipe.config import did_you_mean
from recpipe.errors import ConfigError, DataError
from recpipe.segments.settings import FeatureGroup, FeatureSettings


class Kind(StrEnum):
    """How a feature is computed."""

    COUNT = "count"
    RECENCY = "recency"
    RATING = "rating"
    SHARE = "share"
    HOUR = "hour"
    WEEKDAY = "weekday"
    NUMERIC = "numeric"
    CATEGORY = "category"


LOG_COUNT = "log_count"
LOG_ACTIVE_DAYS = "log_active_days"
LOG_DAYS_SINCE_LAST = "log_days_since_last"
LOG_DAYS_SINCE_FIRST = "log_days_since_first"
LOG_MEAN_GAP_DAYS = "log_mean_gap_days"
RATING_MEAN = "rating_mean"
RATING_SPREAD = "rating_spread"
RATING_POSITIVE_SHARE = "rating_positive_share"
HOURS_PER_PART = 6
DAY_PARTS = tuple(f"{hour:02d}-{hour + HOURS_PER_PART:02d}" for hour in range(0, 24, HOURS_PER_PART))
WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")

ITEM_COLUMNS = frozenset(column.name for column in schemas.ITEMS.columns)
USER_COLUMNS = frozenset(column.name for column in schemas.USERS.columns)
"""Declared columns, which hold ids and prose: never attributes unless asked for by name."""


@dataclass(frozen=True, slots=True)
class Feature:
    """One coordinate of x.

    Attributes:
        source_column: Column it is computed from.
        source_value: Value of that column it counts; for rating_positive_share the
            rating from which one counts as positive.
    """

    name: str
    kind: Kind
    source_column: str | None = None
    source_value: str | None = None


@dataclass(frozen=True, slots=True)
class FeatureSpace:
    """The coordinates of x in their order, and how to split text that holds lists."""

    features: tuple[Feature, ...]
    separator: str = "|"

    @property
    def names(self) -> list[str]:
        """Names of the features."""
        return [feature.name for feature in self.features]

    def of_kind(self, kind: Kind) -> list[int]:
        """Positions of the features of one kind."""
        return [index for index, feature in enumerate(self.features) if feature.kind is kind]

    @property
    def item_values(self) -> tuple[AttributeValue, ...]:
        """Item attribute values the shares count."""
        return tuple(self.value_of(index) for index in self.of_kind(Kind.SHARE))

    @property
    def user_values(self) -> tuple[AttributeValue, ...]:
        """Values of the users table's columns that are features."""
        return tuple(self.value_of(index) for index in self.of_kind(Kind.CATEGORY))

    def value_of(self, index: int) -> AttributeValue:
        """Return the value that a share or category counts."""
        feature = self.features[index]
        return AttributeValue(feature.source_column or "", feature.source_value or "")

    def to_table(self, mean: np.ndarray, scale: np.ndarray) -> pa.Table:
        """Return profile_features; mean and scale (n_features,)."""
        columns = {
            schemas.FEATURE.name: pa.array(self.names, pa.string()),
            schemas.FEATURE_KIND.name: pa.array([feature.kind.value for feature in self.features], pa.string()),
            schemas.FEATURE_SOURCE.name: pa.array([feature.source_column for feature in self.features], pa.string()),
            schemas.FEATURE_VALUE.name: pa.array([feature.source_value for feature in self.features], pa.string()),
            schemas.FEATURE_MEAN.name: pa.array(np.asarray(mean, np.float64)),
            schemas.FEATURE_SCALE.name: pa.array(np.asarray(scale, np.float64)),
        }
        return pa.table(columns)

    @classmethod
    def from_table(cls, table: pa.Table, *, separator: str = "|") -> tuple[FeatureSpace, np.ndarray, np.ndarray]:
        """Read profile_features back: the space, mean and scale (n_features,) float64."""
        names = (schemas.FEATURE, schemas.FEATURE_KIND, schemas.FEATURE_SOURCE, schemas.FEATURE_VALUE)
        rows = zip(*(table.column(column.name).to_pylist() for column in names), strict=True)
        features = tuple(Feature(name, Kind(kind), column, value) for name, kind, column, value in rows)
        mean = table.column(schemas.FEATURE_MEAN.name).to_numpy()
        return cls(features, separator), mean, table.column(schemas.FEATURE_SCALE.name).to_numpy()


def attribute_columns(counts: ValueCounts, settings: FeatureSettings) -> list[str]:
    """Return the item columns whose values are counted.

    Raises:
        ConfigError: A column asked for is absent or holds neither text nor lists.
    """
    if settings.share_columns == "auto":
        return counts.repeating()
    known = {name for name in counts.values if name not in counts.crowded}
    return _checked(settings.share_columns, known, "cluster.features.share_columns")


def _checked(names: Sequence[str], known: set[str], key: str) -> list[str]:
    for name in names:
        if name not in known:
            raise ConfigError(
                f"no column '{name}' with values to count", where=key, next_step=did_you_mean(name, known) or None
            )
    return list(names)


def choose_attributes(counts: ValueCounts, settings: FeatureSettings) -> tuple[AttributeValue, ...]:
    """Return the item attribute values that shares and labels count."""
    return choose_values(counts, attribute_columns(counts, settings), max_values=settings.max_values)


def plan_features(
    item_values: Sequence[AttributeValue],
    user_counts: ValueCounts,
    settings: FeatureSettings,
    *,
    has_ratings: bool,
    has_timestamps: bool,
    positive_from: float | None = None,
) -> FeatureSpace:
    """Decide the coordinates of x.

    Args:
        item_values: From `choose_attributes`.
        user_counts: Counted over the users table.
        positive_from: Rating from which an interaction counts as positive; None leaves
            out the share of positive ratings.

    Raises:
        ConfigError: A column asked for does not exist.
        DataError: Nothing to compute a feature from.
    """
    time, rating = schemas.TIMESTAMP.name, schemas.RATING.name
    features: list[Feature] = []
    for group in dict.fromkeys(settings.groups):
        if group is FeatureGroup.ACTIVITY:
            features.append(Feature(LOG_COUNT, Kind.COUNT))
            features += [Feature(LOG_ACTIVE_DAYS, Kind.COUNT, time)] * has_timestamps
        elif group is FeatureGroup.RECENCY and has_timestamps:
            names = (LOG_DAYS_SINCE_LAST, LOG_DAYS_SINCE_FIRST, LOG_MEAN_GAP_DAYS)
            features += [Feature(name, Kind.RECENCY, time) for name in names]
        elif group is FeatureGroup.RATING and has_ratings:
            features += [Feature(name, Kind.RATING, rating) for name in (RATING_MEAN, RATING_SPREAD)]
            if positive_from is not None:
                features.append(Feature(RATING_POSITIVE_SHARE, Kind.RATING, rating, str(float(positive_from))))
        elif group is FeatureGroup.SHARES:
            features += [_valued(Kind.SHARE, value, prefix="item.") for value in item_values]
        elif group is FeatureGroup.HOUR and has_timestamps:
            features += [Feature(f"hour={part}", Kind.HOUR, time, part) for part in DAY_PARTS]
        elif group is FeatureGroup.WEEKDAY and has_timestamps:
            features += [Feature(f"weekday={day}", Kind.WEEKDAY, time, day) for day in WEEKDAYS]
        elif group is FeatureGroup.USER_COLUMNS:
            features += _user_features(user_counts, settings)
    if not features:
        raise DataError(
            "the tables have nothing that cluster.features.groups asks for",
            where="cluster.features.groups",
            next_step="add the group activity, which every table of interactions allows",
        )
    return FeatureSpace(tuple(features), settings.list_separator)


def _valued(kind: Kind, value: AttributeValue, *, prefix: str) -> Feature:
    # The prefix keeps a genre column of items apart from one of users.
    return Feature(f"{prefix}{value.column}={value.value}", kind, value.column, value.value)


def _user_features(counts: ValueCounts, settings: FeatureSettings) -> list[Feature]:
    categories = [name for name in counts.repeating() if name not in counts.numbers]
    numbers = sorted(counts.numbers)
    if settings.user_columns != "auto":
        known = counts.numbers | {name for name in counts.values if name not in counts.crowded}
        wanted = _checked(settings.user_columns, known, "cluster.features.user_columns")
        numbers = [name for name in wanted if name in counts.numbers]
        categories = [name for name in wanted if name not in counts.numbers]
    features = [Feature(f"user.{name}", Kind.NUMERIC, name) for name in numbers]
    values = choose_values(counts, categories, max_values=settings.max_values)
    return features + [_valued(Kind.CATEGORY, value, prefix="user.") for value in values]


@dataclass(slots=True)
class FeatureStatistics:
    """Means and variances over users, gathered batch by batch.

    Batches are joined by the pairwise update of Chan, Golub & LeVeque (1983,
    "Algorithms for computing the sample variance"). Unknown values (NaN) are left out.
    """

    count: np.ndarray  # (n_features,) users for whom the feature is known
    average: np.ndarray  # (n_features,)
    squares: np.ndarray  # (n_features,) sum of squared deviations

    @classmethod
    def empty(cls, n_features: int) -> FeatureStatistics:
        """Return the statistics of no users."""
        return cls(*(np.zeros(n_features) for _ in range(3)))

    def update(self, features: np.ndarray) -> None:
        """Add users; features (n_users, n_features), NaN where unknown."""
        values = np.asarray(features, np.float64)
        known = np.isfinite(values)
        count = known.sum(axis=0).astype(np.float64)
        average = np.where(known, values, 0).sum(axis=0) / np.maximum(count, 1)
        squares = (np.where(known, values - average, 0) ** 2).sum(axis=0)
        self.merge(FeatureStatistics(count, average, squares))

    def merge(self, other: FeatureStatistics) -> None:
        """Add the statistics of other users."""
        total = self.count + other.count
        weight = other.count / np.maximum(total, 1)
        shift = other.average - self.average
        self.squares = self.squares + other.squares + shift**2 * self.count * weight
        self.average = self.average + shift * weight
        self.count = total

    @property
    def mean(self) -> np.ndarray:
        """(n_features,) float64; 0 where it is known of nobody."""
        return self.average

    @property
    def scale(self) -> np.ndarray:
        """(n_features,) float64, standard deviation over the users for whom it is known; 1 for a constant."""
        deviation = np.sqrt(self.squares / np.maximum(self.count, 1))
        # Rounding leaves a constant column a deviation of some ulps of its mean.
        constant = deviation <= 1e-6 * np.maximum(np.abs(self.average), 1e-6)
        return np.where(constant, 1.0, deviation)


def fill_unknown(features: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """Replace NaN by the mean: (n_users, n_features) float32, finite."""
    return np.where(np.isnan(features), mean, features).astype(np.float32)


def standardise(features: np.ndarray, mean: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Return (x - mean) / scale, (n_users, n_features) float32; unknown (NaN) becomes 0."""
    return np.asarray(np.nan_to_num((features - mean) / scale, nan=0.0), np.float32)
