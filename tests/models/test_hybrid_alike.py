"""Vectors of new items from those that read alike: against dense regressions, refitted without the item."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pytest
from planted_tastes import DIM, planted_tastes

from recpipe.models.hybrid import alike as module
from recpipe.models.hybrid.alike import AlikeItems
from recpipe.models.tables import Items

if TYPE_CHECKING:
    from recpipe.models.tables import Float32, Int64

N_ITEMS, WIDTH = 40, 6


@pytest.fixture
def items() -> Items:
    return planted_tastes(n_users=6, n_items=N_ITEMS).items


@pytest.fixture
def n_users() -> Int64:
    """Users of each item; the last five have none."""
    counts = np.random.default_rng(1).integers(1, 60, N_ITEMS)
    counts[-5:] = 0
    return counts


def vectors_of(items: Items, seed: int = 2) -> Float32:
    """Vectors that follow from the embeddings, and some noise."""
    rng = np.random.default_rng(seed)
    onto = rng.standard_normal((DIM, WIDTH))
    return (items.embeddings @ onto + 0.1 * rng.standard_normal((len(items), WIDTH))).astype(np.float32)


def dense(items: Items, n_users: Int64, inside: Int64, vectors: np.ndarray, wanted: Int64) -> np.ndarray:
    """The regression written out in float64, on the rows `inside` of the catalogue, for its rows `wanted`."""
    content = items.embeddings.astype(np.float64) - items.embeddings.mean(axis=0, dtype=np.float64)
    content /= np.linalg.norm(content, axis=1, keepdims=True)
    kernel = np.maximum(content @ content.T, 0.0) ** 2
    ridge = np.diag(1.0 + 10.0 / n_users[inside])
    solved = np.linalg.solve(kernel[np.ix_(inside, inside)] + ridge, vectors[inside].astype(np.float64))
    found: np.ndarray = kernel[np.ix_(wanted, inside)] @ solved
    return found


def test_coefficients_are_those_of_a_dense_kernel_ridge_regression(items: Items, n_users: Int64) -> None:
    alike = AlikeItems.of(items, n_users)
    inside, outside = np.flatnonzero(n_users), np.flatnonzero(n_users == 0)
    assert alike.ids.to_pylist() == items.ids.take(pa.array(inside)).to_pylist()
    np.testing.assert_array_equal(alike.places(items), np.append(np.arange(N_ITEMS - 5), [-1] * 5))
    vectors = vectors_of(items)
    coefficients = alike.regression().coefficients(vectors[inside])
    found = alike.kernel(items.rows(outside)) @ coefficients
    np.testing.assert_allclose(found, dense(items, n_users, inside, vectors, outside), atol=1e-4)
    # and it says something: new items get what their embeddings deserve, to a good part
    assert np.corrcoef(found.ravel(), vectors[outside].ravel())[0, 1] > 0.8


def test_an_item_left_out_gets_what_a_refit_without_it_gives(items: Items, n_users: Int64) -> None:
    alike = AlikeItems.of(items, n_users)
    inside = np.flatnonzero(n_users)
    vectors = vectors_of(items)
    regression = alike.regression()
    coefficients = regression.coefficients(vectors[inside])
    refitted = np.concatenate(
        [dense(items, n_users, np.delete(inside, place), vectors, inside[[place]]) for place in range(len(inside))]
    )
    everything = regression.left_out(vectors[inside], coefficients, np.arange(len(inside)))
    np.testing.assert_allclose(everything, refitted, atol=1e-3)
    some = np.array([7, 3, 20])
    np.testing.assert_allclose(
        regression.left_out(vectors[inside[some]], coefficients[some], some), refitted[some], atol=1e-3
    )


def test_what_more_users_took_is_believed_more(items: Items, n_users: Int64) -> None:
    """An item's own vector, set apart from all others', draws the regression the closer the more users it has."""
    inside = np.flatnonzero(n_users)
    vectors = np.zeros((len(inside), 1), np.float32)
    vectors[4] = 1.0
    distances = []
    for users in (1, 10, 100):
        counts = n_users.copy()
        counts[inside[4]] = users
        alike = AlikeItems.of(items, counts)
        itself = alike.kernel(items.rows(inside[[4]])) @ alike.regression().coefficients(vectors)
        distances.append(abs(1.0 - float(itself[0, 0])))
    assert distances[0] > distances[1] > distances[2]


def test_most_taken_items_are_the_ones_others_are_likened_to(
    items: Items, n_users: Int64, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_ITEMS", 10)
    alike = AlikeItems.of(items, n_users)
    inside = np.sort(np.argsort(-n_users, kind="stable")[:10])
    assert alike.ids.to_pylist() == items.ids.take(pa.array(inside)).to_pylist()
    np.testing.assert_array_equal(alike.n_users, n_users[inside])
    places = alike.places(items)
    np.testing.assert_array_equal(np.flatnonzero(places >= 0), inside)
    assert alike.kernel(items).shape == (N_ITEMS, 10)


def test_items_of_whom_nothing_is_known_are_like_no_other(items: Items, n_users: Int64) -> None:
    alike = AlikeItems.of(items, n_users)
    blank = replace(items, embeddings=np.zeros_like(items.embeddings), embedded=np.zeros(N_ITEMS, bool))
    assert not alike.kernel(blank).any()
    np.testing.assert_allclose(alike.kernel(items.rows(np.arange(5)))[:, :5].diagonal(), 1.0, atol=1e-5)


def test_state_comes_back(items: Items, n_users: Int64) -> None:
    alike = AlikeItems.of(items, n_users)
    again = AlikeItems.from_state(alike.weights(), alike.values(), alike.ids)
    np.testing.assert_array_equal(again.kernel(items), alike.kernel(items))
    np.testing.assert_array_equal(again.regression().inverse, alike.regression().inverse)
