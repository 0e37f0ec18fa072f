from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recpipe.errors import DataError
from recpipe.scoring import topn
from recpipe.scoring.topn import Excluded, ItemIndex, TopN, top_n, top_n_of_scores

NOBODY = Excluded(offsets=np.zeros(1, np.int64), item_rows=np.empty(0, np.int32))


def full_sort(scores: np.ndarray, n: int, places: np.ndarray, excluded: Excluded | None) -> TopN:
    """The definition: sort everything by (score, place), take the first n that may be taken."""
    rows = np.full((len(scores), n), -1, dtype=np.int32)
    values = np.full((len(scores), n), -np.inf, dtype=np.float32)
    for user, user_scores in enumerate(scores):
        gone = set()
        if excluded is not None:
            gone = set(excluded.item_rows[excluded.offsets[user] : excluded.offsets[user + 1]].tolist())
        left = [row for row in range(len(user_scores)) if row not in gone and user_scores[row] > -np.inf]
        best = sorted(left, key=lambda row: (-user_scores[row], places[row]))[:n]
        rows[user, : len(best)] = best
        values[user, : len(best)] = user_scores[best]
    return TopN(rows, values)


def assert_same(found: TopN, expected: TopN) -> None:
    np.testing.assert_array_equal(found.rows, expected.rows)
    np.testing.assert_array_equal(found.scores, expected.scores)
    assert found.rows.dtype == np.int32
    assert found.scores.dtype == np.float32


@st.composite
def problems(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray, Excluded | None, int, int, int]:
    """Users, items, places, exclusions, n, block and tile: small whole numbers, so that ties abound."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    n_users, n_items, dim = draw(st.integers(0, 7)), draw(st.integers(1, 60)), draw(st.integers(1, 3))
    spread = draw(st.integers(0, 3))
    users = rng.integers(-spread, spread + 1, (n_users, dim)).astype(np.float32)
    items = rng.integers(-spread, spread + 1, (n_items, dim)).astype(np.float32)
    excluded = None
    if draw(st.booleans()):
        sizes = rng.integers(0, 2 * n_items, n_users)
        rows = [rng.integers(0, n_items, size) for size in sizes]
        if n_users and draw(st.booleans()):
            rows[0] = np.arange(n_items)
        unused = rng.integers(0, n_items, draw(st.integers(0, 3)))  # a block need not begin at offset 0
        offsets = len(unused) + np.append(0, np.cumsum([len(part) for part in rows])).astype(np.int64)
        excluded = Excluded(offsets=offsets, item_rows=np.concatenate([unused, *rows]).astype(np.int32))
    places = rng.permutation(n_items).astype(np.int32)
    n, block, tile = draw(st.integers(1, 70)), draw(st.integers(1, 8)), draw(st.integers(1, 64))
    return users, items, places, excluded, n, block, tile


@given(problem=problems())
@settings(max_examples=300, deadline=None)
def test_equals_a_full_sort(problem: tuple) -> None:
    users, items, places, excluded, n, block, tile = problem
    expected = full_sort(users @ items.T, n, places, excluded)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(topn, "TILE_ITEMS", tile)
        found = top_n(users, items, n=n, tie_order=places, excluded=excluded, block_users=block)
        of_scores = top_n_of_scores(users @ items.T, n=n, tie_order=places, excluded=excluded)
    assert_same(found, expected)
    assert_same(of_scores, expected)


def test_equals_a_full_sort_on_many_real_numbers() -> None:
    rng = np.random.default_rng(0)
    users = rng.standard_normal((5, 16), dtype=np.float32)
    items = rng.standard_normal((20_000, 16), dtype=np.float32)
    places = rng.permutation(20_000).astype(np.int32)
    excluded = Excluded(offsets=np.arange(6) * 200, item_rows=rng.integers(0, 20_000, 1000).astype(np.int32))
    found = top_n(users, items, n=50, tie_order=places, excluded=excluded)
    scores = users.astype(np.float64) @ items.astype(np.float64).T
    expected = full_sort(scores, 50, places, excluded)
    np.testing.assert_array_equal(found.rows, expected.rows)
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-5)


def test_items_in_ascending_order_of_score_are_found_too() -> None:
    """The worst order for a rising bar: every tile is better than all before."""
    n_items = 3 * topn.TILE_ITEMS + 17
    items = np.arange(n_items, dtype=np.float32)[:, None]
    found = top_n(np.ones((2, 1), np.float32), items, n=7, tie_order=np.arange(n_items, dtype=np.int32))
    assert found.rows.tolist() == [list(range(n_items - 1, n_items - 8, -1))] * 2


def test_minus_infinity_is_never_recommended() -> None:
    scores = np.array([[-np.inf, 2, -np.inf], [-np.inf] * 3], dtype=np.float32)
    found = top_n_of_scores(scores, n=2, tie_order=np.arange(3, dtype=np.int32))
    assert found.rows.tolist() == [[1, -1], [-1, -1]]
    assert found.scores.tolist() == [[2, -np.inf], [-np.inf, -np.inf]]


def test_signed_zeros_tie_and_extremes_sort() -> None:
    scores = np.array([[-0.0, 0.0, np.inf, -3e38, 3e38, 1e-45, -1e-45]], dtype=np.float32)
    found = top_n_of_scores(scores, n=7, tie_order=np.arange(7, dtype=np.int32))
    assert found.rows[0].tolist() == [2, 4, 5, 0, 1, 6, 3]


def test_nobody_and_nothing() -> None:
    none, some = np.empty((0, 2), np.float32), np.ones((3, 2), np.float32)
    no_users = top_n(none, some, n=2, tie_order=np.arange(3, dtype=np.int32))
    assert no_users.rows.shape == (0, 2)
    no_items = top_n(some, none, n=2, tie_order=np.empty(0, np.int32))
    assert no_items.rows.tolist() == [[-1, -1]] * 3


def test_arguments_are_not_changed() -> None:
    scores = np.ones((1, 3), np.float32)
    excluded = Excluded(offsets=np.array([0, 1]), item_rows=np.array([1], np.int32))
    top_n_of_scores(scores, n=1, tie_order=np.arange(3, dtype=np.int32), excluded=excluded)
    assert (scores == 1).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_vectors_that_are_not_finite_are_refused(bad: float) -> None:
    good, places = np.ones((2, 2), np.float32), np.arange(2, dtype=np.int32)
    with pytest.raises(DataError, match="item vectors"):
        ItemIndex(good * bad, places)
    with pytest.raises(DataError, match="user vectors"):
        top_n(good * bad, good, n=1, tie_order=places)
    with pytest.raises(DataError, match="scores"):
        top_n_of_scores(good * np.nan, n=1, tie_order=places)


def test_shapes_that_do_not_fit_are_refused() -> None:
    places = np.arange(2, dtype=np.int32)
    with pytest.raises(ValueError, match="do not fit"):
        top_n(np.ones((1, 3), np.float32), np.ones((2, 2), np.float32), n=1, tie_order=places)
    with pytest.raises(ValueError, match="do not fit"):
        top_n_of_scores(np.ones((1, 3), np.float32), n=1, tie_order=places)
    with pytest.raises(ValueError, match="exclusions"):
        top_n_of_scores(np.ones((1, 2), np.float32), n=1, tie_order=places, excluded=NOBODY)
