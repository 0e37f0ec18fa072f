from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from planted_groups import mean_rank, planted, scores_of, training_data
from scipy import sparse

from recpipe.models.base import FitContext, Histories, Items, Profiles
from recpipe.models.ials import solver as ials_solver
from recpipe.models.ials.model import IalsModel, IalsSettings
from recpipe.models.ials.solver import FixedSide, fit_item_vectors, penalties_of
from recpipe.models.popularity import PopularityModel, PopularitySettings


def dense_half_step(taken: np.ndarray, fixed: np.ndarray, penalties: np.ndarray, unobserved: float) -> np.ndarray:
    """The normal equations of each row, in float64."""
    fixed = fixed.astype(np.float64)
    rows = []
    for row, penalty in zip(taken, penalties, strict=True):
        own = fixed[row > 0]
        normal = own.T @ own + unobserved * fixed.T @ fixed + penalty * np.eye(fixed.shape[1])
        rows.append(np.linalg.solve(normal, own.sum(axis=0)))
    return np.array(rows)


def objective(
    taken: np.ndarray, users: np.ndarray, items: np.ndarray, penalties: tuple[np.ndarray, np.ndarray], unobserved: float
) -> float:
    products = users.astype(np.float64) @ items.T.astype(np.float64)
    loss = ((1 - products[taken > 0]) ** 2).sum() + unobserved * (products**2).sum()
    squares = (penalties[0] * (users**2).sum(axis=1)).sum() + (penalties[1] * (items**2).sum(axis=1)).sum()
    return float(loss + squares)


def random_taken(rng: np.random.Generator, n_rows: int, n_columns: int) -> np.ndarray:
    """Rows of every length from nothing to everything."""
    return (rng.random((n_rows, n_columns)) < rng.random((n_rows, 1)) ** 2).astype(np.float32)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), dim=st.integers(1, 12), block=st.sampled_from([1, 200, 4_000_000]))
def test_a_half_step_solves_the_normal_equations(seed: int, dim: int, block: int) -> None:
    rng = np.random.default_rng(seed)
    taken = random_taken(rng, 20, 15)
    taken[0], taken[1] = 0, 1
    fixed = rng.standard_normal((15, dim)).astype(np.float32)
    penalties = rng.uniform(0.1, 2.0, 20).astype(np.float32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ials_solver, "BLOCK_NUMBERS", block)
        patch.setattr(ials_solver, "CHUNK_ROWS", 4)
        side = FixedSide.of(fixed, unobserved_weight=0.3)
        solved = side.solve(sparse.csr_matrix(taken), penalties)
    assert solved.dtype == np.float32
    assert not solved[0].any()
    np.testing.assert_allclose(solved, dense_half_step(taken, fixed, penalties, 0.3), atol=2e-4)


def test_penalties_grow_with_what_counts_in_the_loss() -> None:
    counts = np.array([0, 4])
    values = {"regularization": 0.5, "unobserved": 0.1}
    np.testing.assert_allclose(penalties_of(counts, 20, exponent=1.0, **values), [0.5 * 2, 0.5 * 6])
    np.testing.assert_allclose(penalties_of(counts, 20, exponent=0.0, **values), [0.5, 0.5])
    np.testing.assert_allclose(
        penalties_of(counts, 20, exponent=0.5, **values), [0.5 * 2**0.5, 0.5 * 6**0.5], rtol=1e-6
    )


def test_every_epoch_lowers_the_objective() -> None:
    taken = random_taken(np.random.default_rng(4), 30, 20)
    taken[:, taken.sum(axis=0) == 0] = 1
    matrix = sparse.csr_matrix(taken)
    values = {"regularization": 0.05, "exponent": 1.0, "unobserved": 0.2}
    penalties = (penalties_of(taken.sum(axis=1), 20, **values), penalties_of(taken.sum(axis=0), 30, **values))
    losses = []
    for n_epochs in (1, 2, 4, 8):
        items = fit_item_vectors(matrix, dim=4, n_epochs=n_epochs, seed=1, **values)
        users = FixedSide.of(items, unobserved_weight=0.2).solve(matrix, penalties[0])
        losses.append(objective(taken, users, items, penalties, 0.2))
    assert all(later < earlier for earlier, later in itertools.pairwise(losses))


def fitted(data: Any, **values: Any) -> IalsModel:
    model = IalsModel(IalsSettings.model_validate(values))
    model.fit(data, FitContext(seed=5))
    return model


def test_any_user_is_the_exact_minimum_for_their_history() -> None:
    profiles, histories, _ = planted("user", 1)
    model = fitted(training_data(profiles, histories), hidden_dim=8, unobserved_weight=0.2, regularization=0.01)
    past = Histories(items=histories.items, offsets=np.array([0, 3]), item_rows=np.array([1, 2, 5], np.int32))
    vectors = model.user_vectors(Profiles.bare(pa.array(["new"])), past).vectors
    taken = np.zeros((1, len(histories.items)))
    taken[0, [1, 2, 5]] = 1
    items = model.item_vectors(histories.items)[:, :-1]
    seen = items.any(axis=1)
    penalty = np.array([0.01 * (3 + 0.2 * seen.sum())])
    np.testing.assert_allclose(vectors[:, :-1], dense_half_step(taken, items, penalty, 0.2), atol=1e-4)
    assert vectors[0, -1] == 0.0


def test_who_has_no_known_item_gets_what_is_popular() -> None:
    profiles, histories, _ = planted("user", 1)
    model = fitted(training_data(profiles, histories), hidden_dim=4, n_epochs=2)
    items = Items.bare(pa.array(["new", "item0", "item1"]))
    past = Histories(items=items, offsets=np.array([0, 0, 1, 2]), item_rows=np.array([0, 1], np.int32))
    people = Profiles.bare(pa.array(["nobody", "newest", "known"]))
    assert model.user_vectors(people, past).source.tolist() == ["popularity", "popularity", "ials"]
    counts = np.bincount(histories.item_rows)[:2]
    np.testing.assert_allclose(scores_of(model, people, past)[:2], np.tile(np.log1p([0, *counts]), (2, 1)), rtol=1e-6)
    assert scores_of(model, people, past)[2, 0] == 0.0


def test_planted_groups_are_found_for_users_unseen_in_training() -> None:
    profiles, histories, _ = planted("user", 1)
    data = training_data(profiles, histories)
    popularity = PopularityModel(PopularitySettings())
    popularity.fit(data, FitContext())
    new = planted("new", 2)
    assert mean_rank(fitted(data, hidden_dim=8), *new) < 0.4 * mean_rank(popularity, *new)


def test_seeds_differ_and_only_positive_events_are_learned_from() -> None:
    profiles, histories, _ = planted("user", 1)
    data = training_data(profiles, histories)
    one, other = (IalsModel(IalsSettings(hidden_dim=4, n_epochs=1)) for _ in range(2))
    one.fit(data, FitContext(seed=1))
    other.fit(data, FitContext(seed=2))
    assert not np.allclose(one.item_vectors(histories.items), other.item_vectors(histories.items))
    ratings = np.where(histories.item_rows == 3, 1.0, 5.0).astype(np.float32)
    rated = Histories(items=histories.items, offsets=histories.offsets, item_rows=histories.item_rows, ratings=ratings)
    model = fitted(training_data(profiles, rated), positive_from=4.0, hidden_dim=4, n_epochs=1)
    assert not model.item_vectors(histories.items)[3].any()
