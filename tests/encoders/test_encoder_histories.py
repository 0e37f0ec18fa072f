from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recpipe.encoders import histories
from recpipe.encoders.histories import MICROSECONDS_A_DAY, combine, history_weights, mean_of_history, newest, positive
from recpipe.encoders.settings import UsersSettings

SETTINGS = UsersSettings(half_life_days=10, half_life_events=2)


def test_only_ratings_from_the_threshold_and_missing_ones_count() -> None:
    offsets = np.array([0, 3, 3, 6])
    ratings = np.array([5, 3.7, 3.6, np.nan, 1, 4], np.float32)
    new_offsets, rows = positive(offsets, ratings, 3.7)
    assert (new_offsets.tolist(), rows.tolist()) == ([0, 2, 2, 4], [0, 1, 3, 5])
    for kept in (positive(offsets, ratings, None), positive(offsets, None, 3.7)):
        assert (kept[0].tolist(), kept[1].tolist()) == ([0, 3, 3, 6], list(range(6)))
    nothing, rows = positive(offsets, np.zeros(6, np.float32), 1)
    assert (nothing.tolist(), rows.tolist()) == ([0, 0, 0, 0], [])


def test_a_half_life_of_days_halves_the_weight() -> None:
    times = np.array([0, 10, 20, 5], dtype=np.int64) * MICROSECONDS_A_DAY
    weights = history_weights(np.array([0, 3, 3, 4]), timestamps=times, as_of=None, settings=SETTINGS)
    assert weights == pytest.approx([0.25, 0.5, 1.0, 1.0])


def test_without_times_later_events_are_counted() -> None:
    weights = history_weights(np.array([0, 3, 3, 4]), timestamps=None, as_of=None, settings=SETTINGS)
    assert weights == pytest.approx([0.5, 2**-0.5, 1.0, 1.0])


def test_what_comes_after_as_of_has_no_weight() -> None:
    times = np.array([0, 10, 20, 30, 40], dtype=np.int64) * MICROSECONDS_A_DAY
    as_of = 15 * MICROSECONDS_A_DAY
    weights = history_weights(np.array([0, 3, 5]), timestamps=times, as_of=as_of, settings=SETTINGS)
    assert weights == pytest.approx([0.5, 1.0, 0.0, 0.0, 0.0])


def test_a_very_old_history_does_not_vanish() -> None:
    times = np.array([0, 10], dtype=np.int64) * MICROSECONDS_A_DAY
    as_of = 200_000 * MICROSECONDS_A_DAY  # 20,000 half-lives later
    weights = history_weights(np.array([0, 2]), timestamps=times, as_of=as_of, settings=SETTINGS)
    assert weights == pytest.approx([0.5, 1.0])


@given(st.lists(st.integers(0, 6), max_size=8), st.integers(1, 4))
def test_the_newest_are_the_last_of_each_user(lengths: list[int], max_history: int) -> None:
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    new_offsets, rows = newest(offsets, max_history)
    expected = [list(range(offsets[u], offsets[u + 1]))[-max_history:] for u in range(len(lengths))]
    assert [rows[new_offsets[u] : new_offsets[u + 1]].tolist() for u in range(len(lengths))] == expected


def naive_mean(vectors, present, offsets, item_rows, weights):  # type: ignore[no-untyped-def]
    result, found = [], []
    for user in range(len(offsets) - 1):
        total = np.zeros(vectors.shape[1])
        for row in range(offsets[user], offsets[user + 1]):
            if item_rows[row] >= 0 and present[item_rows[row]]:
                total += weights[row] * vectors[item_rows[row]].astype(np.float64)
        norm = np.linalg.norm(total)
        found.append(norm > 0)
        result.append(total / norm if norm > 0 else total)
    return np.array(result), np.array(found)


@pytest.mark.parametrize("gathered_rows", [1, 3, 8192])
def test_the_mean_equals_a_plain_loop_whatever_the_block(monkeypatch: pytest.MonkeyPatch, gathered_rows: int) -> None:
    monkeypatch.setattr(histories, "_GATHERED_ROWS", gathered_rows)
    random = np.random.default_rng(0)
    vectors = random.normal(size=(12, 5)).astype(np.float32)
    present = random.random(12) > 0.3
    offsets = np.array([0, 0, 4, 5, 20, 20, 33])
    item_rows = random.integers(-1, 12, 33)
    weights = random.random(33)
    matrix, found = mean_of_history(vectors, present, offsets=offsets, item_rows=item_rows, weights=weights)
    expected, expected_found = naive_mean(vectors, present, offsets, item_rows, weights)
    assert found.tolist() == expected_found.tolist()
    np.testing.assert_allclose(matrix, expected, atol=1e-6)


def test_users_without_usable_items_are_absent() -> None:
    vectors = np.array([[1.0, 0.0], [-1.0, 0.0], [np.nan, np.nan]], dtype=np.float32)
    matrix, present = mean_of_history(
        vectors,
        np.array([True, True, False]),
        offsets=np.array([0, 0, 1, 3, 5, 6]),
        item_rows=np.array([-1, 0, 1, 2, 0, 0]),
        weights=np.array([1.0, 1.0, 1.0, 1.0, 1.0, 0.0]),
    )
    # nothing; an unknown item; two that cancel; one with a vector; a weight of zero
    assert present.tolist() == [False, False, False, True, False]
    assert matrix.tolist() == [[0, 0], [0, 0], [0, 0], [1, 0], [0, 0]]


def test_no_users_and_no_items_are_no_error() -> None:
    empty = np.empty(0, dtype=np.int64)
    matrix, present = mean_of_history(
        np.empty((0, 4), np.float32), np.empty(0, bool), offsets=np.array([0, 0]), item_rows=empty, weights=np.empty(0)
    )
    assert matrix.shape == (1, 4)
    assert not present.any()


def test_text_and_history_are_weighed_where_both_exist() -> None:
    profile = np.array([[1, 0], [1, 0], [np.nan, np.nan], [np.nan, np.nan]], dtype=np.float32)
    history = np.array([[0, 1], [np.nan, np.nan], [0, 1], [np.nan, np.nan]], dtype=np.float32)
    matrix, present = combine(
        profile,
        np.array([True, True, False, False]),
        history=history,
        history_present=np.array([True, False, True, False]),
        profile_weight=0.75,
    )
    expected = np.array([[0.75, 0.25], [1, 0], [0, 1], [0, 0]])
    expected[0] /= np.linalg.norm(expected[0])
    np.testing.assert_allclose(matrix, expected, atol=1e-7)
    assert present.tolist() == [True, True, True, False]


@pytest.mark.parametrize(("profile_weight", "expected"), [(0.0, [0, 1]), (1.0, [1, 0])])
def test_a_weight_of_zero_still_takes_the_only_part_there_is(profile_weight: float, expected: list[int]) -> None:
    one, two = np.array([[1, 0]], dtype=np.float32), np.array([[0, 1]], dtype=np.float32)
    yes, no = np.array([True]), np.array([False])
    both, _ = combine(one, yes, history=two, history_present=yes, profile_weight=profile_weight)
    assert both.tolist() == [expected]
    alone, present = combine(one, yes, history=two, history_present=no, profile_weight=profile_weight)
    assert alone.tolist() == [[1, 0]]
    assert present.all()
