from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recpipe.metrics.accumulator import RankingAccumulator, RankingResult
from recpipe.metrics.beyond_accuracy import ListProperties
from recpipe.metrics.ranking import Relevant
from recpipe.metrics.values import Metric, UserValues

N_ITEMS = 30
KS = (2, 5)


def world(n_users: int) -> tuple[np.ndarray, Relevant, ListProperties]:
    rng = np.random.default_rng(n_users)
    ranked = np.stack([rng.permutation(N_ITEMS)[:6] for _ in range(n_users)]).astype(np.int32)
    sizes = rng.integers(0, 4, n_users)
    items = [rng.permutation(N_ITEMS)[:size] for size in sizes]
    relevant = Relevant(
        offsets=np.append(0, np.cumsum(sizes)).astype(np.int64), item_rows=np.concatenate(items).astype(np.int32)
    )
    embeddings = rng.standard_normal((N_ITEMS, 4)).astype(np.float32)
    return ranked, relevant, ListProperties(rng.integers(0, 50, N_ITEMS), n_users=50, embeddings=embeddings)


def measured(ranked: np.ndarray, relevant: Relevant, properties: ListProperties, cuts: list[int]) -> RankingResult:
    accumulator = RankingAccumulator(KS, n_items=N_ITEMS, properties=properties)
    for start, stop in zip([0, *cuts], [*cuts, len(ranked)], strict=True):
        accumulator.add(ranked[start:stop], relevant.rows(start, stop))
    return accumulator.result()


@given(n_users=st.integers(1, 12), data=st.data())
@settings(max_examples=60, deadline=None)
def test_blocks_equal_the_whole(n_users: int, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, n_users), max_size=4)))
    ranked, relevant, properties = world(n_users)
    whole, blocks = (measured(ranked, relevant, properties, places) for places in ([], cuts))
    assert whole.values.metrics == blocks.values.metrics
    np.testing.assert_allclose(blocks.values.values, whole.values.values, atol=1e-6)
    assert (whole.coverage, whole.n_users, whole.n_left_out) == (blocks.coverage, blocks.n_users, blocks.n_left_out)


def test_users_without_held_out_items_are_left_out_of_every_figure_and_counted() -> None:
    relevant = Relevant(offsets=np.array([0, 1, 1]), item_rows=np.array([3], dtype=np.int32))
    accumulator = RankingAccumulator((2,), n_items=10, properties=ListProperties(np.arange(10), n_users=9))
    accumulator.add(np.array([[3, 4], [5, 6]], dtype=np.int32), relevant)
    result = accumulator.result()
    assert (result.n_users, result.n_left_out) == (1, 1)
    assert np.isnan(result.values.values[1]).all()
    assert not np.isnan(result.values.values[0]).any()
    assert result.coverage == {Metric("coverage", 2): 0.2}  # items 3 and 4, not 5 and 6
    assert result.values.means()[Metric("ndcg", 2)] == 1.0


def test_cold_items_are_a_question_of_their_own() -> None:
    """Item 9 is cold and at rank 3 of the full list, at rank 1 among the cold ones."""
    cold = np.arange(10) >= 8
    relevant = Relevant(offsets=np.array([0, 2]), item_rows=np.array([0, 9], dtype=np.int32))
    found = {}
    for name, ranked, held_out in (
        ("all", [0, 1, 9], relevant),
        ("cold_items", [0, 1, 9], relevant.among(cold)),
        ("cold_items_only", [9, 8, -1], relevant.among(cold)),
    ):
        accumulator = RankingAccumulator((1, 3), n_items=10)
        accumulator.add(np.array([ranked], dtype=np.int32), held_out)
        found[name] = accumulator.result().values.means()
    assert [found[name][Metric("recall", 1)] for name in found] == [0.5, 0.0, 1.0]
    assert [found[name][Metric("mrr", 3)] for name in found] == [1.0, pytest.approx(1 / 3), 1.0]


def test_nothing_added() -> None:
    with pytest.raises(ValueError, match="there must be one"):
        RankingAccumulator((1,), n_items=3).result()


def test_values_keep_their_columns() -> None:
    ndcg, recall = Metric("ndcg", 1), Metric("recall", 1)
    values = UserValues.of({ndcg: np.array([0.0, 1.0]), recall: np.array([np.nan, 0.5])})
    assert values.only([recall]).values.tolist()[1] == [0.5]
    assert values.means() == {ndcg: 0.5, recall: 0.5}
    assert values.users(np.array([False, True])).column(ndcg).tolist() == [1.0]
    assert str(ndcg) == "ndcg@1"
    assert str(Metric("rmse")) == "rmse"
    with pytest.raises(ValueError, match="do not fit"):
        UserValues((ndcg,), np.zeros((2, 2)))
    with pytest.raises(ValueError, match="same metrics"):
        UserValues.below([values, values.only([ndcg])])
