from __future__ import annotations

from itertools import islice

import numpy as np
import pytest
from scipy import sparse

from recpipe.models.bayesian_factorization.conditional import (
    BLOCK_ROWS,
    Conditional,
    Others,
    blocks_of,
    conditional,
    solve,
    solve_transposed,
)
from recpipe.models.bayesian_factorization.sampler import Draw, SideInformation, sample_chain, wishart

K = 3


def random_ratings(rng: np.random.Generator, n_rows: int, n_others: int) -> sparse.csr_matrix:
    """Rows without entries among them, and an entry given twice."""
    counts = rng.integers(0, 6, n_rows)
    counts[:2] = 0, 2
    indices = rng.integers(0, n_others, counts.sum())
    indices[1] = indices[0]
    offsets = np.append(0, np.cumsum(counts))
    return sparse.csr_matrix((rng.standard_normal(len(indices)), indices, offsets), shape=(n_rows, n_others))


def no_side(n_rows: int) -> SideInformation:
    return SideInformation(np.zeros((n_rows, 0)), sparse.csr_matrix((n_rows, 0)))


def test_conditional_is_bayesian_linear_regression() -> None:
    """Against the textbook formula, row by row, with explicit inverses."""
    rng = np.random.default_rng(0)
    ratings = random_ratings(rng, 20, 9)
    vectors, prior_means = rng.standard_normal((9, K)), rng.standard_normal((20, K))
    root = rng.standard_normal((K, K))
    precision, noise_precision = root @ root.T + np.eye(K), 2.5
    (block,) = blocks_of(ratings)
    found = conditional(
        block, Others(vectors), prior_means=prior_means, precision=precision, noise_precision=noise_precision
    )
    directions = rng.standard_normal((20, K))
    variances = found.variances(np.arange(20), directions)
    traces = found.covariance_traces(np.linalg.inv(precision))
    for row in range(20):
        entries = slice(ratings.indptr[row], ratings.indptr[row + 1])
        design, given = vectors[ratings.indices[entries]], ratings.data[entries]
        covariance = np.linalg.inv(precision + noise_precision * design.T @ design)
        mean = covariance @ (precision @ prior_means[row] + noise_precision * design.T @ given)
        np.testing.assert_allclose(found.means()[row], mean, rtol=1e-9)
        assert variances[row] == pytest.approx(directions[row] @ covariance @ directions[row])
        assert traces[row] == pytest.approx(np.trace(covariance @ np.linalg.inv(precision)))


def test_draws_have_the_mean_and_covariance_of_the_conditional() -> None:
    rng = np.random.default_rng(1)
    root = rng.standard_normal((K, K))
    precision = root @ root.T + np.eye(K)
    n_draws = 40_000
    lower = np.broadcast_to(np.linalg.cholesky(precision), (n_draws, K, K))
    found = Conditional(lower, np.broadcast_to(rng.standard_normal(K), (n_draws, K)))
    draws = found.draw(rng)
    np.testing.assert_allclose(draws.mean(axis=0), found.means()[0], atol=0.02)
    np.testing.assert_allclose(np.cov(draws.T), np.linalg.inv(precision), atol=0.03)


def test_triangular_systems_are_solved() -> None:
    rng = np.random.default_rng(2)
    lower = np.tril(rng.standard_normal((50, 5, 5))) + 3 * np.eye(5)
    right = rng.standard_normal((50, 5))
    np.testing.assert_allclose(np.einsum("nij,nj->ni", lower, solve(lower, right)), right, atol=1e-9)
    np.testing.assert_allclose(np.einsum("nji,nj->ni", lower, solve_transposed(lower, right)), right, atol=1e-9)


def test_blocks_hold_every_rating_once() -> None:
    ratings = random_ratings(np.random.default_rng(3), 2 * BLOCK_ROWS + 5, 30)
    blocks = list(blocks_of(ratings))
    assert [block.rows for block in blocks] == [
        slice(0, BLOCK_ROWS),
        slice(BLOCK_ROWS, 2 * BLOCK_ROWS),
        slice(2 * BLOCK_ROWS, 2 * BLOCK_ROWS + 5),
    ]
    np.testing.assert_array_equal(np.concatenate([block.ratings.data for block in blocks]), ratings.data)
    assert sum(block.given.data.sum() for block in blocks) == len(ratings.data)


def test_side_information_is_one_matrix() -> None:
    rng = np.random.default_rng(4)
    dense, words = rng.standard_normal((12, 2)), sparse.random(12, 5, density=0.4, format="csr", random_state=4)
    side, whole = SideInformation(dense, words), np.concatenate([dense, words.toarray()], axis=1)
    links, rows = rng.standard_normal((7, K)), rng.standard_normal((12, K))
    np.testing.assert_allclose(side.times(links), whole @ links)
    np.testing.assert_allclose(side.transposed_times(rows), whole.T @ rows)
    np.testing.assert_allclose(side.gram(), whole.T @ whole)
    np.testing.assert_allclose(side.take(np.array([3, 1])).times(links), whole[[3, 1]] @ links)


def test_wishart_has_its_mean() -> None:
    rng = np.random.default_rng(5)
    root = rng.standard_normal((K, K))
    inverse_scale = root @ root.T + np.eye(K)
    mean = np.mean([wishart(7, inverse_scale, rng) for _ in range(20_000)], axis=0)
    np.testing.assert_allclose(mean, 7 * np.linalg.inv(inverse_scale), rtol=0.05, atol=0.05)


def planted(rng: np.random.Generator, *, noise: float) -> tuple[sparse.csr_matrix, SideInformation, np.ndarray]:
    """Half of a table p·v + noise, the items' vectors linear in what is known of them."""
    known = rng.standard_normal((80, 4))
    items = known @ rng.standard_normal((4, 2)) * 0.5
    table = rng.standard_normal((100, 2)) @ items.T
    given = rng.random(table.shape) < 0.5
    rows = np.nonzero(given)
    seen = table[given] + noise * rng.standard_normal(len(rows[0]))
    ratings = sparse.csr_matrix((seen, rows), shape=table.shape)
    return ratings, SideInformation(known, sparse.csr_matrix((80, 0))), table


def draws_of(ratings: sparse.csr_matrix, items: SideInformation, *, seed: int, n_draws: int = 20) -> list[Draw]:
    chain = sample_chain(
        ratings,
        users=no_side(ratings.shape[0]),
        items=items,
        n_factors=K,
        burn_in=30,
        sweeps_per_draw=2,
        rng=np.random.default_rng(seed),
    )
    return list(islice(chain, n_draws))


def test_noise_and_links_are_recovered() -> None:
    ratings, known, table = planted(np.random.default_rng(6), noise=0.3)
    draws = draws_of(ratings, known, seed=0)
    noise = np.mean([1 / np.sqrt(draw.noise_precision) for draw in draws])
    assert noise == pytest.approx(0.3, rel=0.05)
    fitted = np.mean([draw.user_vectors @ draw.item_means.T for draw in draws], axis=0)
    assert np.sqrt(np.mean((fitted - table) ** 2)) < 0.1
    # what is known of an item is enough to know its vector
    guessed = np.mean([draw.user_vectors @ draw.items.means(known).T for draw in draws], axis=0)
    assert np.corrcoef(guessed.ravel(), table.ravel())[0, 1] > 0.98


def test_a_seed_decides_the_chain() -> None:
    ratings, known, _ = planted(np.random.default_rng(7), noise=0.3)
    once, again, other = (draws_of(ratings, known, seed=seed, n_draws=1)[0] for seed in (0, 0, 1))
    np.testing.assert_array_equal(once.item_vectors, again.item_vectors)
    assert not np.array_equal(once.item_vectors, other.item_vectors)
