"""Behaviour features: planned, computed, standardised."""

from __future__ import annotations

from math import log1p

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recpipe import schemas
from recpipe.attributes import ItemAttributes, ValueCounts, item_attributes
from recpipe.errors import ConfigError, DataError
from recpipe.segments import features as f
from recpipe.segments.behaviour import DAY_US, HOUR_US, Histories, compute_features
from recpipe.segments.features import FeatureSpace, FeatureStatistics, fill_unknown, plan_features, standardise
from recpipe.segments.settings import FeatureGroup, FeatureSettings

ITEMS = pa.table(
    {
        "item_id": ["a", "b", "c"],
        "genres": pa.array([["Drama", "War"], ["Drama"], None], pa.list_(pa.string())),
    }
)
USERS = pa.table(
    {
        "user_id": ["u", "v", "w"],
        "text": ["same", "same", "same"],
        "age": pa.array([30, None, 50], pa.int64()),
        "gender": ["F", "F", None],
    }
)
MONDAY = 4 * DAY_US  # 1970-01-05
HISTORIES = Histories(
    offsets=np.array([0, 3, 3, 4]),
    items=np.array([0, 1, 2, 1]),
    ratings=np.array([4.0, 2.0, np.nan, 5.0]),
    timestamps_us=np.array([MONDAY + HOUR_US, MONDAY + 13 * HOUR_US, MONDAY + 4 * DAY_US + HOUR_US, MONDAY]),
)
AS_OF = MONDAY + 5 * DAY_US + HOUR_US


def plan(settings: FeatureSettings | None = None, **flags: bool) -> tuple[FeatureSpace, ItemAttributes]:
    settings = settings or FeatureSettings()
    items, users = ValueCounts(excluded=f.ITEM_COLUMNS), ValueCounts(excluded=f.USER_COLUMNS)
    items.update(ITEMS)
    users.update(USERS)
    values = f.choose_attributes(items, settings)
    space = plan_features(
        values,
        users,
        settings,
        has_ratings=flags.get("has_ratings", True),
        has_timestamps=flags.get("has_timestamps", True),
        positive_from=4.0,
    )
    return space, item_attributes(values, [ITEMS])


def computed() -> dict[str, list[float]]:
    space, attributes = plan()
    matrix = compute_features(space, USERS, HISTORIES, attributes, as_of_us=AS_OF)
    assert matrix.dtype == np.float32
    return {name: matrix[:, index].tolist() for index, name in enumerate(space.names)}


NAN = float("nan")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (f.LOG_COUNT, [log1p(3), 0, log1p(1)]),
        (f.LOG_ACTIVE_DAYS, [log1p(2), 0, log1p(1)]),
        (f.LOG_DAYS_SINCE_LAST, [log1p(1), NAN, log1p(5 + 1 / 24)]),
        (f.LOG_DAYS_SINCE_FIRST, [log1p(5), NAN, log1p(5 + 1 / 24)]),
        (f.LOG_MEAN_GAP_DAYS, [log1p(2), NAN, NAN]),
        (f.RATING_MEAN, [3, NAN, 5]),
        (f.RATING_SPREAD, [1, NAN, NAN]),
        (f.RATING_POSITIVE_SHARE, [0.5, NAN, 1]),
        ("item.genres=Drama", [1, NAN, 1]),  # the item without genres does not count
        ("item.genres=War", [0.5, NAN, 0]),
        ("hour=00-06", [2 / 3, NAN, 1]),
        ("hour=12-18", [1 / 3, NAN, 0]),
        ("weekday=Mon", [2 / 3, NAN, 1]),
        ("weekday=Fri", [1 / 3, NAN, 0]),
        ("user.age", [30, NAN, 50]),
        ("user.gender=F", [1, 1, NAN]),
    ],
)
def test_by_hand(name: str, expected: list[float]) -> None:
    np.testing.assert_allclose(computed()[name], expected, rtol=1e-6)


def test_a_batch_of_users_gets_what_it_gets_in_the_whole() -> None:
    space, attributes = plan()
    whole = compute_features(space, USERS, HISTORIES, attributes, as_of_us=AS_OF)
    assert HISTORIES.ratings is not None and HISTORIES.timestamps_us is not None
    parts = []
    for user in range(3):
        events = slice(HISTORIES.offsets[user], HISTORIES.offsets[user + 1])
        history = Histories(
            offsets=np.array([0, events.stop - events.start]),
            items=HISTORIES.items[events],
            ratings=HISTORIES.ratings[events],
            timestamps_us=HISTORIES.timestamps_us[events],
        )
        parts.append(compute_features(space, USERS.slice(user, 1), history, attributes, as_of_us=AS_OF))
    np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_no_users() -> None:
    space, attributes = plan()
    nothing = Histories(np.array([0]), np.empty(0, np.int64), np.empty(0), np.empty(0, np.int64))
    assert compute_features(space, USERS.slice(0, 0), nothing, attributes, as_of_us=0).shape == (0, len(space.features))


def test_groups_without_their_columns_are_left_out() -> None:
    space, _ = plan(has_ratings=False, has_timestamps=False)
    assert space.names == ["log_count", "item.genres=Drama", "item.genres=War", "user.age", "user.gender=F"]
    only = FeatureSettings(groups=(FeatureGroup.HOUR,))
    with pytest.raises(DataError, match="nothing"):
        plan(only, has_timestamps=False)


def test_an_unknown_column_gets_the_nearest_name() -> None:
    with pytest.raises(ConfigError) as caught:
        plan(FeatureSettings(share_columns=("genre",)))
    assert "did you mean 'genres'" in str(caught.value)
    with pytest.raises(ConfigError):
        plan(FeatureSettings(user_columns=("ages",)))


def test_names_are_unique_where_users_and_items_share_a_column() -> None:
    users = ValueCounts(excluded=f.USER_COLUMNS)
    users.update(pa.table({"genres": ["Drama", "Drama"]}))
    items = ValueCounts(excluded=f.ITEM_COLUMNS)
    items.update(ITEMS)
    values = f.choose_attributes(items, FeatureSettings())
    space = plan_features(values, users, FeatureSettings(), has_ratings=False, has_timestamps=False)
    assert len(set(space.names)) == len(space.names)


def test_table_round_trip() -> None:
    space, _ = plan()
    mean, scale = np.arange(len(space.features)) / 7, np.ones(len(space.features))
    table = space.to_table(mean, scale)
    assert table.column_names == [column.name for column in schemas.PROFILE_FEATURES.columns]
    again, mean_again, scale_again = FeatureSpace.from_table(table)
    assert again == space
    assert [value.value for value in again.item_values] == ["Drama", "War"]
    assert [value.column for value in again.user_values] == ["gender"]
    np.testing.assert_array_equal(mean_again, mean)
    np.testing.assert_array_equal(scale_again, scale)


@given(
    st.lists(st.lists(st.floats(-1e3, 1e3) | st.just(NAN), min_size=2, max_size=2), min_size=1, max_size=30),
    st.lists(st.integers(0, 30), max_size=3),
)
def test_statistics_equal_numpy_whatever_the_batches(rows: list[list[float]], cuts: list[int]) -> None:
    matrix = np.array(rows)
    statistics = FeatureStatistics.empty(2)
    for batch in np.split(matrix, sorted(min(cut, len(rows)) for cut in cuts)):
        statistics.update(batch)
    for column in range(2):
        known = matrix[~np.isnan(matrix[:, column]), column]
        expected = known.std() if len(known) else 0.0
        np.testing.assert_allclose(statistics.mean[column], known.mean() if len(known) else 0.0, atol=1e-9)
        if expected > 1e-3:
            np.testing.assert_allclose(statistics.scale[column], expected, rtol=1e-6)


def test_unknown_values_become_the_mean_and_standardise_to_zero() -> None:
    matrix = np.array([[1.0, 5.0], [3.0, 5.0], [NAN, 5.0]])
    statistics = FeatureStatistics.empty(2)
    statistics.update(matrix)
    filled = fill_unknown(matrix, statistics.mean)
    assert filled.tolist() == [[1, 5], [3, 5], [2, 5]]
    assert standardise(filled, statistics.mean, statistics.scale).tolist() == [[-1, 0], [1, 0], [0, 0]]
