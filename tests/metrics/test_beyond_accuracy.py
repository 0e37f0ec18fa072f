from __future__ import annotations

import math

import numpy as np
import pytest

from recpipe.metrics import beyond_accuracy
from recpipe.metrics.beyond_accuracy import Coverage, ListProperties, percentiles
from recpipe.metrics.values import Metric


def lists(*rows: list[int]) -> np.ndarray:
    return np.array(rows, dtype=np.int32)


def test_novelty_is_the_mean_surprise_in_bits() -> None:
    properties = ListProperties(np.array([8, 4, 1, 0]), n_users=8)
    found = properties.per_user(lists([0, 1, 2], [3, 1, -1], [-1, -1, -1]), (1, 3))
    assert found.column(Metric("novelty", 3)).tolist()[:2] == [(0 + 1 + 3) / 3, (3 + 1) / 2]
    assert found.column(Metric("novelty", 1)).tolist()[:2] == [0.0, 3.0]  # nobody took item 3: as if one had
    assert np.isnan(found.column(Metric("novelty", 3))[2])


def test_percentiles_count_equals_half() -> None:
    assert percentiles(np.array([5, 0, 5, 9])).tolist() == [0.5, 0.0, 0.5, 1.0]
    assert percentiles(np.array([2, 2, 2])).tolist() == [0.5, 0.5, 0.5]
    assert percentiles(np.array([3])).tolist() == [0.5]
    counts = np.random.default_rng(0).integers(0, 6, 1000)
    assert percentiles(counts).mean() == pytest.approx(0.5)  # so random lists have 0.5


def test_popularity_percentile_and_bias() -> None:
    # training: items taken by 6, 3, 1 users; the item of an interaction was taken by 46 / 10 on average
    properties = ListProperties(np.array([6, 3, 1, 0, 0]), n_users=7)
    found = properties.per_user(lists([0, 1], [3, 4]), (2,))
    assert found.column(Metric("popularity_percentile", 2)).tolist() == [(1.0 + 0.75) / 2, 0.125]
    assert found.column(Metric("popularity_bias", 2)).tolist() == [pytest.approx(4.5 / 4.6), 0.0]


def test_popularity_bias_is_one_for_lists_drawn_like_interactions() -> None:
    counts = np.array([50, 30, 15, 5])
    rows = np.repeat(np.arange(4), counts).astype(np.int32)[:, None]
    found = ListProperties(counts, n_users=60).per_user(rows, (1,))
    assert found.means()[Metric("popularity_bias", 1)] == pytest.approx(1.0)


def test_no_training_interaction_gives_no_bias() -> None:
    found = ListProperties(np.zeros(3, dtype=np.int64), n_users=1).per_user(lists([0, 1]), (2,))
    assert np.isnan(found.column(Metric("popularity_bias", 2))).all()


def test_diversity_of_known_directions() -> None:
    # lengths differ: only directions count
    embeddings = np.array([[1, 0], [2, 0], [0, 3], [-1, 0], [0, 0]], dtype=np.float32)
    properties = ListProperties(np.ones(5, dtype=np.int64), n_users=1, embeddings=embeddings)
    found = properties.per_user(lists([0, 1, 2], [0, 3, -1], [0, 4, -1], [4, 2, 0]), (2, 3))
    two, three = found.column(Metric("diversity", 2)), found.column(Metric("diversity", 3))
    assert two[:2] == pytest.approx([0.0, 2.0])
    assert three[0] == pytest.approx(1 - (1 + 0 + 0) / 3)
    assert three[1] == pytest.approx(2.0)
    assert np.isnan(three[2])  # one embedded item has no pair
    assert np.isnan(two[3])
    assert three[3] == pytest.approx(1.0)


def test_diversity_equals_the_mean_over_all_pairs_whatever_the_block(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    embeddings = rng.standard_normal((40, 8)).astype(np.float32)
    ranked = np.stack([rng.permutation(40)[:10] for _ in range(25)]).astype(np.int32)
    properties = ListProperties(np.ones(40, dtype=np.int64), n_users=1, embeddings=embeddings)
    found = properties.per_user(ranked, (10,)).column(Metric("diversity", 10))
    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    for user, row in enumerate(ranked):
        pairs = [1 - float(unit[a] @ unit[b]) for place, a in enumerate(row) for b in row[place + 1 :]]
        assert found[user] == pytest.approx(math.fsum(pairs) / len(pairs), abs=1e-5)
    monkeypatch.setattr(beyond_accuracy, "BLOCK_BYTES", 1)
    one_by_one = properties.per_user(ranked, (10,)).column(Metric("diversity", 10))
    np.testing.assert_allclose(one_by_one, found, atol=1e-6)


def test_without_embeddings_there_is_no_diversity() -> None:
    found = ListProperties(np.array([1, 1]), n_users=1).per_user(lists([0, 1]), (2,))
    assert {metric.name for metric in found.metrics} == {"novelty", "popularity_percentile", "popularity_bias"}


def test_coverage_counts_distinct_items_and_merges() -> None:
    whole, left, right = (Coverage((1, 2), n_items=4) for _ in range(3))
    whole.add(lists([0, 1], [0, -1], [2, 0]))
    left.add(lists([0, 1], [0, -1]))
    right.add(lists([2, 0]))
    left.merge(right)
    assert whole.result() == left.result() == {Metric("coverage", 1): 0.5, Metric("coverage", 2): 0.75}
    with pytest.raises(ValueError, match="other items"):
        left.merge(Coverage((1, 2), n_items=5))


def test_more_takers_than_users_is_a_mistake_of_the_caller() -> None:
    with pytest.raises(ValueError, match="cannot have taken"):
        ListProperties(np.array([3]), n_users=2)
    with pytest.raises(ValueError, match="embeddings"):
        ListProperties(np.array([1, 1]), n_users=2, embeddings=np.zeros((1, 2), dtype=np.float32))
