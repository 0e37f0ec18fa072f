"""Behaviour features x of a batch of users, vectorised over their interactions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy import sparse

from recpipe.attributes import ItemAttributes, indicator_matrix
from recpipe.segments import features as f
from recpipe.segments.features import FeatureSpace, Kind

DAY_US = 86_400_000_000
HOUR_US = 3_600_000_000
EPOCH_WEEKDAY = 3
"""1970-01-01 was a Thursday; Monday is 0."""


@dataclass(frozen=True, slots=True)
class Histories:
    """The interactions of a batch of users, the rows of one user together.

    Attributes:
        offsets: (n_users + 1,) int64; user i has the events offsets[i]:offsets[i + 1].
        items: (n_events,) integer row of the item in the items table; -1: not in it.
        ratings: (n_events,) float, NaN where none was given; None without ratings.
        timestamps_us: (n_events,) int64 microseconds since 1970, UTC; None without times.
    """

    offsets: np.ndarray
    items: np.ndarray
    ratings: np.ndarray | None = None
    timestamps_us: np.ndarray | None = None

    def __post_init__(self) -> None:
        assert self.offsets.ndim == 1 and self.offsets[0] == 0 and self.offsets[-1] == len(self.items)
        assert self.ratings is None or len(self.ratings) == len(self.items)
        assert self.timestamps_us is None or len(self.timestamps_us) == len(self.items)

    @property
    def n_users(self) -> int:
        """Number of users."""
        return len(self.offsets) - 1

    @property
    def counts(self) -> np.ndarray:
        """(n_users,) number of events."""
        return np.asarray(np.diff(self.offsets))

    @property
    def users(self) -> np.ndarray:
        """(n_events,) position of the event's user in the batch."""
        return np.repeat(np.arange(self.n_users), self.counts)

    def item_counts(self, n_items: int) -> sparse.csr_matrix:
        """How often each user met each item of the items table: (n_users, n_items) float64."""
        known = self.items >= 0
        events = (np.ones(int(known.sum())), (self.users[known], self.items[known]))
        return sparse.csr_matrix(events, shape=(self.n_users, n_items))


def compute_features(
    space: FeatureSpace, users: pa.Table, histories: Histories, attributes: ItemAttributes, *, as_of_us: int
) -> np.ndarray:
    """Compute x.

    Args:
        users: The rows of the users table, in the order of the histories.
        attributes: Must hold the values that the space's shares count.
        as_of_us: "Now" for recency, microseconds since 1970.

    Returns:
        (n_users, n_features) float32, NaN where unknown: shares, ratings and recency of a
        user without interactions, null user columns. Counts are never unknown.
    """
    assert users.num_rows == histories.n_users
    out = np.full((histories.n_users, len(space.features)), np.nan)
    for index in space.of_kind(Kind.COUNT):
        out[:, index] = np.log1p(_counts(space.features[index].name, histories))
    _recency(space, histories, as_of_us, out)
    _ratings(space, histories, out)
    _shares(space, histories, attributes, out)
    _clock(space, histories, out)
    _user_columns(space, users, out)
    limit = np.finfo(np.float32).max
    return np.asarray(np.clip(out, -limit, limit), np.float32)


def _counts(name: str, histories: Histories) -> np.ndarray:
    if name == f.LOG_COUNT:
        return np.asarray(histories.counts)
    assert histories.timestamps_us is not None
    days = np.unique(np.stack([histories.users, histories.timestamps_us // DAY_US]), axis=1)
    return np.bincount(days[0], minlength=histories.n_users)


def _recency(space: FeatureSpace, histories: Histories, as_of_us: int, out: np.ndarray) -> None:
    wanted = space.of_kind(Kind.RECENCY)
    if not wanted:
        return
    assert histories.timestamps_us is not None
    active = histories.counts > 0
    # Users without events take no rows, so the starts of the others bound their events.
    starts = histories.offsets[:-1][active]
    first, last = np.empty(0), np.empty(0)
    if len(starts):
        first = np.minimum.reduceat(histories.timestamps_us, starts).astype(np.float64)
        last = np.maximum.reduceat(histories.timestamps_us, starts).astype(np.float64)
    gaps = histories.counts[active] - 1
    days = {
        f.LOG_DAYS_SINCE_LAST: np.maximum(as_of_us - last, 0) / DAY_US,
        f.LOG_DAYS_SINCE_FIRST: np.maximum(as_of_us - first, 0) / DAY_US,
        f.LOG_MEAN_GAP_DAYS: np.where(gaps > 0, (last - first) / DAY_US / np.maximum(gaps, 1), np.nan),
    }
    for index in wanted:
        out[active, index] = np.log1p(days[space.features[index].name])


def _ratings(space: FeatureSpace, histories: Histories, out: np.ndarray) -> None:
    wanted = space.of_kind(Kind.RATING)
    if not wanted:
        return
    assert histories.ratings is not None
    known = np.isfinite(histories.ratings)
    users, ratings = histories.users[known], histories.ratings[known].astype(np.float64)
    count = np.bincount(users, minlength=histories.n_users)
    mean = _ratio(np.bincount(users, ratings, minlength=histories.n_users), count)
    for index in wanted:
        feature = space.features[index]
        if feature.name == f.RATING_MEAN:
            out[:, index] = mean
        elif feature.name == f.RATING_SPREAD:
            squares = np.bincount(users, (ratings - mean[users]) ** 2, minlength=histories.n_users)
            out[:, index] = np.where(count > 1, np.sqrt(_ratio(squares, count)), np.nan)
        else:
            positive = ratings >= float(feature.source_value or "nan")
            out[:, index] = _ratio(np.bincount(users, positive, minlength=histories.n_users), count)


def _shares(space: FeatureSpace, histories: Histories, attributes: ItemAttributes, out: np.ndarray) -> None:
    wanted = space.of_kind(Kind.SHARE)
    if not wanted:
        return
    carried = (histories.item_counts(attributes.matrix.shape[0]) @ attributes.matrix).toarray()
    position = {value: index for index, value in enumerate(attributes.values)}
    known = {name: len(attributes.values) + index for index, name in enumerate(attributes.columns)}
    for index in wanted:
        value = space.value_of(index)
        # Events whose item has no value in the column say nothing about it.
        out[:, index] = _ratio(carried[:, position[value]], carried[:, known[value.column]])


def _clock(space: FeatureSpace, histories: Histories, out: np.ndarray) -> None:
    for kind, names in ((Kind.HOUR, f.DAY_PARTS), (Kind.WEEKDAY, f.WEEKDAYS)):
        wanted = space.of_kind(kind)
        if not wanted:
            continue
        assert histories.timestamps_us is not None
        if kind is Kind.HOUR:
            bins = histories.timestamps_us % DAY_US // (f.HOURS_PER_PART * HOUR_US)
        else:
            bins = (histories.timestamps_us // DAY_US + EPOCH_WEEKDAY) % 7
        cells = np.bincount(histories.users * len(names) + bins, minlength=histories.n_users * len(names))
        shares = _ratio(cells.reshape(histories.n_users, len(names)), histories.counts[:, None])
        for index in wanted:
            out[:, index] = shares[:, names.index(space.features[index].source_value or "")]


def _user_columns(space: FeatureSpace, users: pa.Table, out: np.ndarray) -> None:
    for index in space.of_kind(Kind.NUMERIC):
        name = space.features[index].source_column
        if name in users.column_names:
            numbers = pc.cast(users.column(name), pa.float64()).to_numpy()
            out[:, index] = np.where(np.isfinite(numbers), numbers, np.nan)
    wanted = space.of_kind(Kind.CATEGORY)
    values = space.user_values
    carried = indicator_matrix(users, values, separator=space.separator).toarray()
    columns = list(dict.fromkeys(value.column for value in values))
    for position, index in enumerate(wanted):
        known = carried[:, len(values) + columns.index(values[position].column)] > 0
        out[:, index] = np.where(known, carried[:, position], np.nan)


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Divide; NaN where the whole is nothing."""
    return np.where(whole > 0, part / np.maximum(whole, 1), np.nan)
