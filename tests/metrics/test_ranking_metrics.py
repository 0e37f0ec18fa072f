from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recpipe.metrics.ranking import RANKING_METRICS, Relevant, hits, per_user
from recpipe.metrics.values import Metric


def lists(*rows: list[int]) -> np.ndarray:
    return np.array(rows, dtype=np.int32)


def held_out(*rows: list[int]) -> Relevant:
    offsets = np.append(0, np.cumsum([len(row) for row in rows])).astype(np.int64)
    return Relevant(offsets=offsets, item_rows=np.array([item for row in rows for item in row], dtype=np.int32))


def naive(ranked: list[int], relevant: set[int], k: int) -> dict[str, float]:
    """The definitions in the module's docstring, word by word."""
    if not relevant:
        return dict.fromkeys(RANKING_METRICS, math.nan)
    top = ranked[:k]
    gain = sum(1 / math.log2(rank + 1) for rank, item in enumerate(top, 1) if item in relevant)
    ideal = sum(1 / math.log2(rank + 1) for rank in range(1, min(k, len(relevant)) + 1))
    ranks = [rank for rank, item in enumerate(top, 1) if item in relevant]
    return {
        "ndcg": gain / ideal,
        "recall": len(ranks) / len(relevant),
        "hit_rate": 1.0 if ranks else 0.0,
        "mrr": 1 / ranks[0] if ranks else 0.0,
        "map": sum(place / rank for place, rank in enumerate(ranks, 1)) / len(relevant),
    }


@st.composite
def cases(draw: st.DrawFn) -> tuple[np.ndarray, list[list[int]], tuple[int, ...]]:
    """Lists with padding, held-out items and lengths; few items, so that hits abound."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    n_users, n_items, n = draw(st.integers(1, 8)), draw(st.integers(1, 15)), draw(st.integers(1, 12))
    ranked = np.full((n_users, n), -1, dtype=np.int32)
    for row in ranked:
        length = rng.integers(0, min(n, n_items) + 1)
        row[:length] = rng.permutation(n_items)[:length]
    relevant = [rng.permutation(n_items)[: rng.integers(0, n_items + 1)].tolist() for _ in range(n_users)]
    ks = tuple(sorted(draw(st.sets(st.integers(1, n), min_size=1, max_size=4))))
    return ranked, relevant, ks


def test_hand_computed_case() -> None:
    # hits at ranks 2 and 5, three held out
    found = per_user(lists([7, 3, 9, 4, 1]), held_out([3, 1, 8]), (1, 3, 5)).means()
    ideal = 1 + 1 / math.log2(3) + 1 / 2
    expected = {
        "ndcg": (0, (1 / math.log2(3)) / ideal, (1 / math.log2(3) + 1 / math.log2(6)) / ideal),
        "recall": (0, 1 / 3, 2 / 3),
        "hit_rate": (0, 1, 1),
        "mrr": (0, 1 / 2, 1 / 2),
        "map": (0, (1 / 2) / 3, (1 / 2 + 2 / 5) / 3),
    }
    assert found == {
        Metric(name, k): pytest.approx(value, abs=1e-15)
        for name, values in expected.items()
        for k, value in zip((1, 3, 5), values, strict=True)
    }


def test_literal_values_of_one_hit_at_rank_three() -> None:
    found = per_user(lists([5, 6, 7]), held_out([7]), (3,)).means()
    assert found == {
        Metric("ndcg", 3): 0.5,
        Metric("recall", 3): 1.0,
        Metric("hit_rate", 3): 1.0,
        Metric("mrr", 3): pytest.approx(0.3333333333333333),
        Metric("map", 3): pytest.approx(0.3333333333333333),
    }


def test_more_held_out_than_the_list_is_long() -> None:
    """The ideal of ndcg is min(k, |R|); recall and map divide by |R| and cannot reach 1."""
    found = per_user(lists([1, 2]), held_out([1, 2, 3, 4]), (2,)).means()
    assert found[Metric("ndcg", 2)] == 1.0
    assert found[Metric("recall", 2)] == 0.5
    assert found[Metric("map", 2)] == 0.5


def test_users_without_held_out_items_have_no_value_and_do_not_count_in_the_mean() -> None:
    found = per_user(lists([1, 2], [1, 2]), held_out([], [1]), (2,))
    assert np.isnan(found.values[0]).all()
    assert set(found.means().values()) == {1.0}


def test_an_empty_list_is_worth_nothing() -> None:
    found = per_user(lists([-1, -1], [-1, -1]), held_out([0], [5]), (1, 2))
    assert not found.values.any()


def test_padding_is_never_a_hit_of_the_user_before() -> None:
    # user 1's padding would be the key of user 0's last item
    assert hits(lists([0, 1], [-1, -1]), held_out([2], [0])).tolist() == [[False, False], [False, False]]


@given(case=cases())
@settings(max_examples=300, deadline=None)
def test_equals_the_definitions(case: tuple[np.ndarray, list[list[int]], tuple[int, ...]]) -> None:
    ranked, relevant, ks = case
    found = per_user(ranked, held_out(*relevant), ks)
    for user, (row, wanted) in enumerate(zip(ranked.tolist(), relevant, strict=True)):
        for k in ks:
            for name, value in naive(row, set(wanted), k).items():
                assert found.column(Metric(name, k))[user] == pytest.approx(value, abs=1e-12, nan_ok=True)


@given(case=cases())
@settings(max_examples=200, deadline=None)
def test_bounds_and_growth(case: tuple[np.ndarray, list[list[int]], tuple[int, ...]]) -> None:
    ranked, relevant, ks = case
    found = per_user(ranked, held_out(*relevant), ks)
    measured = found.values[[bool(wanted) for wanted in relevant]]
    assert ((measured >= 0) & (measured <= 1 + 1e-12)).all()
    for name in ("recall", "hit_rate", "mrr", "map"):  # ndcg may fall: its ideal grows with k
        columns = np.stack([found.column(Metric(name, k)) for k in ks])
        assert not (np.diff(columns, axis=0) < 0).any()


@given(case=cases(), seed=st.integers(0, 100), cut=st.integers(0, 8))
@settings(max_examples=100, deadline=None)
def test_users_do_not_influence_each_other(
    case: tuple[np.ndarray, list[list[int]], tuple[int, ...]], seed: int, cut: int
) -> None:
    ranked, relevant, ks = case
    whole = per_user(ranked, held_out(*relevant), ks).values
    order = np.random.default_rng(seed).permutation(len(ranked))
    shuffled = per_user(ranked[order], held_out(*[relevant[user] for user in order]), ks).values
    np.testing.assert_array_equal(shuffled, whole[order])
    cut = min(cut, len(ranked) - 1)
    tail = per_user(ranked[cut:], held_out(*relevant).rows(cut, len(ranked)), ks).values
    np.testing.assert_array_equal(tail, whole[cut:])


@given(n_relevant=st.integers(1, 30), k=st.integers(1, 30))
@settings(max_examples=100, deadline=None)
def test_a_perfect_ranking_is_worth_one(n_relevant: int, k: int) -> None:
    ranked = np.arange(max(n_relevant, k), dtype=np.int32)[None]
    found = per_user(ranked, held_out(list(range(n_relevant))), (k,)).means()
    assert found[Metric("ndcg", k)] == found[Metric("hit_rate", k)] == found[Metric("mrr", k)] == 1.0
    assert found[Metric("recall", k)] == pytest.approx(min(k, n_relevant) / n_relevant)
    assert found[Metric("map", k)] == pytest.approx(min(k, n_relevant) / n_relevant)


def test_relevant_restricted_to_cold_items_changes_the_denominator_too() -> None:
    cold = np.array([False, False, True, True])
    relevant = held_out([0, 2], [1], [3, 2]).among(cold)
    assert relevant.counts().tolist() == [1, 0, 2]
    found = per_user(lists([0, 2], [1, 0], [3, 1]), relevant, (2,))
    assert found.column(Metric("recall", 2)).tolist()[::2] == [1.0, 0.5]
    assert np.isnan(found.column(Metric("recall", 2))[1])
    assert found.column(Metric("mrr", 2))[0] == 0.5  # still at rank 2 of the full list


def test_restriction_of_a_block_that_does_not_begin_at_the_first_event() -> None:
    relevant = held_out([0, 2], [1, 3], [3]).rows(1, 3).among(np.array([True, False, True, True]))
    assert relevant.offsets.tolist() == [0, 1, 2]
    assert relevant.item_rows.tolist() == [3, 3]


def test_distinct_events() -> None:
    relevant = Relevant.distinct(
        np.array([2, 0, 2, 2], dtype=np.int64), np.array([5, 1, 4, 5], dtype=np.int32), n_users=4
    )
    assert relevant.counts().tolist() == [1, 0, 2, 0]
    assert relevant.item_rows.tolist() == [1, 4, 5]


@pytest.mark.parametrize(
    ("ranked", "relevant", "ks", "message"),
    [
        (lists([1, 2]), held_out([1]), (3,), "cannot be measured"),
        (lists([1, 2]), held_out([1]), (0,), "cannot be measured"),
        (lists([1, 2]), held_out([1]), (), "cannot be measured"),
        (lists([1, 2]), held_out([1], [2]), (1,), "do not fit 2 users"),
        (lists([1, 1]), held_out([1]), (1,), "twice in one list"),
        (lists([1, 2]), held_out([1, 1]), (1,), "held out twice"),
    ],
)
def test_refuses_what_would_flatter(ranked: np.ndarray, relevant: Relevant, ks: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        per_user(ranked, relevant, ks)
