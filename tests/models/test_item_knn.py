from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from planted_groups import mean_rank, planted, scores_of, training_data
from scipy import sparse

from recpipe.errors import DataError
from recpipe.models.base import FitContext, Histories, Items, Profiles
from recpipe.models.item_knn.matrix import nearest_items, weighted_items
from recpipe.models.item_knn.model import ItemKnnModel, ItemKnnSettings
from recpipe.models.popularity import PopularityModel, PopularitySettings

WEIGHTINGS = ("cosine", "tfidf", "bm25")


def random_taken(seed: int, n_users: int = 25, n_items: int = 12, share: float = 0.3) -> np.ndarray:
    taken = (np.random.default_rng(seed).random((n_users, n_items)) < share).astype(np.float32)
    taken[:, taken.sum(axis=0) == 0] = 1.0  # every known item was taken by somebody
    return taken


def dense_similarity(taken: np.ndarray, weighting: str) -> np.ndarray:
    """The formulas of the weighting, on a dense matrix in float64; the diagonal is 0."""
    x = taken.astype(np.float64).T  # (n_items, n_users)
    idf = np.log(len(x) / (1.0 + x.sum(axis=0)))
    lengths = x.sum(axis=1, keepdims=True)
    if weighting == "bm25":
        x = x * idf * 2.2 / (1.2 * (0.25 + 0.75 * lengths / lengths.mean()) + 1.0)
    else:
        x = x * (idf if weighting == "tfidf" else 1.0)
        x = x / np.linalg.norm(x, axis=1, keepdims=True)
    similarity = x @ x.T
    np.fill_diagonal(similarity, 0.0)
    return similarity


def fitted(histories: Histories, **values: Any) -> ItemKnnModel:
    model = ItemKnnModel(ItemKnnSettings.model_validate(values))
    profiles = Profiles.bare(pa.array([f"u{row}" for row in range(len(histories))]))
    model.fit(training_data(profiles, histories), FitContext())
    return model


def histories_of(taken: np.ndarray, items: Items) -> Histories:
    offsets = np.append(0, np.cumsum((taken > 0).sum(axis=1))).astype(np.int64)
    return Histories(items=items, offsets=offsets, item_rows=np.nonzero(taken)[1].astype(np.int32))


@pytest.mark.parametrize("weighting", WEIGHTINGS)
def test_similarities_are_the_formula(weighting: Any) -> None:
    taken = random_taken(1)
    vectors = weighted_items(sparse.csr_matrix(taken), weighting)
    nearest = nearest_items(vectors, n_neighbors=50).toarray()
    np.testing.assert_allclose(nearest, dense_similarity(taken, weighting), atol=1e-5)


@pytest.mark.parametrize("weighting", WEIGHTINGS)
def test_scores_are_history_times_the_nearest(weighting: str) -> None:
    taken = random_taken(2)
    items = Items.bare(pa.array([f"i{row}" for row in range(taken.shape[1])]))
    model = fitted(histories_of(taken, items), weighting=weighting, n_neighbors=3)
    similarity = dense_similarity(taken, weighting)
    for row in similarity:
        row[row < np.sort(row)[-3]] = 0.0
    newcomers = random_taken(3, n_users=8)
    expected = newcomers @ similarity
    scores = scores_of(model, Profiles.bare(pa.array(list("abcdefgh"))), histories_of(newcomers, items))
    assert (expected > 1e-6).any() and (expected <= 1e-6).any()
    np.testing.assert_allclose(scores[expected > 1e-6], expected[expected > 1e-6], rtol=1e-4)
    assert (scores[expected <= 1e-6] < similarity[similarity > 1e-6].min()).all()


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), n_neighbors=st.integers(1, 12), block_products=st.integers(1, 200))
def test_neighbours_do_not_depend_on_blocks_and_none_left_out_is_nearer(
    seed: int, n_neighbors: int, block_products: int
) -> None:
    taken = random_taken(seed)
    vectors = weighted_items(sparse.csr_matrix(taken), "cosine")
    whole = nearest_items(vectors, n_neighbors=n_neighbors)
    blocks = nearest_items(vectors, n_neighbors=n_neighbors, block_products=block_products)
    np.testing.assert_array_equal(whole.toarray(), blocks.toarray())
    every = dense_similarity(taken, "cosine")
    for row, kept in enumerate(whole.toarray()):
        assert (kept > 0).sum() == min(n_neighbors, (every[row] > 1e-9).sum())
        left_out = every[row][kept == 0]
        assert left_out.max(initial=0.0) <= kept[kept > 0].min(initial=np.inf) + 1e-6


def test_of_equally_near_items_those_with_more_users_are_kept() -> None:
    # items 1, 2 and 3 have weight 1 in the only user of item 0; item 2 and 3 have other users, 3 the most
    vectors = sparse.csr_matrix(
        np.array([[1, 0, 0, 0], [1, 0, 0, 0], [1, 1, 0, 0], [1, 0, 1, 1]], np.float32)  # (n_items, n_users)
    )
    for n_neighbors, expected in ((1, [3]), (2, [2, 3]), (3, [1, 2, 3])):
        assert np.flatnonzero(nearest_items(vectors, n_neighbors=n_neighbors)[[0]].toarray()[0]).tolist() == expected


def test_items_out_of_reach_and_users_without_neighbours_follow_popularity() -> None:
    """a and b are taken together; c by three, d by two, each alone; e is new."""
    known = Items.bare(pa.array(list("abcd")))
    taken = np.zeros((8, 4), np.float32)
    taken[[0, 1], :2] = 1
    taken[[2, 3, 4], 2] = 1
    taken[[5, 6], 3] = 1
    model = fitted(histories_of(taken, known), weighting="cosine")
    items = Items.bare(pa.array(list("eabcd")))
    past = Histories(items=items, offsets=np.array([0, 1, 2, 2, 3]), item_rows=np.array([1, 3, 0], np.int32))
    block = model.score_block(Profiles.bare(pa.array(["one", "loner", "nobody", "newest"])), past, items)
    assert block.source.tolist() == ["item_knn", "popularity", "popularity", "popularity"]
    assert block.scores[0, 2] == pytest.approx(1.0)
    np.testing.assert_array_equal(np.argsort(-block.scores[0]), [2, 3, 1, 4, 0])
    assert block.scores[0, 4] > block.scores[0, 0] == 0.0
    np.testing.assert_allclose(block.scores[1:], np.tile(np.log1p([0, 2, 2, 3, 2]), (3, 1)), rtol=1e-6)


def test_planted_groups_are_found_for_users_unseen_in_training() -> None:
    profiles, histories, _ = planted("user", 1)
    data = training_data(profiles, histories)
    popularity = PopularityModel(PopularitySettings())
    popularity.fit(data, FitContext())
    new = planted("new", 2)
    for weighting in WEIGHTINGS:
        assert mean_rank(fitted(histories, weighting=weighting), *new) < 0.4 * mean_rank(popularity, *new)


def test_only_positive_events_are_learned_from_and_asked_about() -> None:
    items = Items.bare(pa.array(["a", "b", "c"]))
    histories = Histories(
        items=items,
        offsets=np.array([0, 2, 4]),
        item_rows=np.array([0, 1, 0, 2], np.int32),
        ratings=np.array([5, 5, 5, 1], np.float32),
    )
    model = fitted(histories, positive_from=4.0, weighting="cosine")
    assert model.state().item_ids is not None and model.state().item_ids.to_pylist() == ["a", "b"]
    block = model.score_block(Profiles.bare(pa.array(["u", "v"])), histories, items)
    np.testing.assert_allclose(block.scores[:, 1], [0.5**0.5, 0.5**0.5], rtol=1e-5)
    disliked = Histories(
        items=items, offsets=np.array([0, 1]), item_rows=np.array([0], np.int32), ratings=np.array([1], np.float32)
    )
    assert model.score_block(Profiles.bare(pa.array(["w"])), disliked, items).source.tolist() == ["popularity"]
    with pytest.raises(DataError, match="positive interaction"):
        fitted(histories, positive_from=6.0)
