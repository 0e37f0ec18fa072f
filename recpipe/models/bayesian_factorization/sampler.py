"""Gibbs sampling of a factorization of ratings with side information.

    r_ij ~ N(p_i·v_j, 1/α)      p_i ~ N(m + Bᵀx_i, Λ⁻¹)      v_j ~ N(m' + Cᵀy_j, Λ'⁻¹)

    (m, Λ) ~ normal-Wishart     B ~ N(0, Λ⁻¹ ⊗ (λI)⁻¹)       λ, α ~ gamma

Bayesian matrix factorisation (Salakhutdinov & Mnih 2008, "Bayesian probabilistic matrix
factorization using Markov chain Monte Carlo"), link matrices B and C as in Macau (Simm et al.
2017, "Macau: scalable Bayesian factorization with high-dimensional side information using
MCMC"). Given the items, users are independent, and the reverse: a sweep draws both priors, all
users, all items and α. Where Macau solves a system per sweep, the eigenvectors of XᵀX, found
once, make the posterior of B diagonal whatever λ is.

Ratings are centred by the caller. Everything is float64: the precision of a row with many
ratings is large beside that of its prior.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse

from recpipe.models.bayesian_factorization.conditional import Conditional, Others, RatingBlock, blocks_of, conditional

if TYPE_CHECKING:
    import numpy.typing as npt

    Float64 = npt.NDArray[np.float64]
    Int64 = npt.NDArray[np.int64]

MEAN_STRENGTH = 2.0
"""Rows that the prior of the mean, centred at 0, counts for (β₀ of Salakhutdinov & Mnih)."""

GAMMA_SHAPE, GAMMA_RATE = 1.0, 1.0
"""Prior of α and λ, halved: worth one observation of variance 1."""

START_SCALE = 0.1
"""Deviation of the vectors before the first sweep."""

START_STRENGTH = 10.0
"""λ before the first sweep."""


@dataclass(frozen=True, slots=True)
class SideInformation:
    """What is known of rows (users or items) beside their ratings: x or y.

    Attributes:
        dense: float64 (n_rows, n_dense).
        sparse: float64 csr (n_rows, n_sparse): the columns after the dense ones.
    """

    dense: Float64
    sparse: sparse.csr_matrix

    def __len__(self) -> int:
        return len(self.dense)

    def take(self, rows: Int64) -> SideInformation:
        """Return these rows, int64 (n,)."""
        return SideInformation(self.dense[rows], self.sparse[rows])

    def times(self, links: Float64) -> Float64:
        """Return X links: float64 (n_rows, k), from (n_columns, k)."""
        n_dense = self.dense.shape[1]
        product: Float64 = self.dense @ links[:n_dense] + self.sparse @ links[n_dense:]
        return product

    def transposed_times(self, rows: Float64) -> Float64:
        """Return Xᵀ rows: float64 (n_columns, k), from (n_rows, k)."""
        return np.concatenate([self.dense.T @ rows, self.sparse.T @ rows])

    def gram(self) -> Float64:
        """Return XᵀX, float64 (n_columns, n_columns)."""
        crossed = np.asarray(self.sparse.T @ self.dense)
        own = (self.sparse.T @ self.sparse).toarray()
        return np.block([[self.dense.T @ self.dense, crossed.T], [crossed, own]])


@dataclass(frozen=True, slots=True)
class Prior:
    """Where the vectors of rows come from: N(mean + linksᵀx, precision⁻¹).

    Attributes:
        mean: float64 (k,).
        links: float64 (n_columns, k).
        precision: float64 (k, k).
    """

    mean: Float64
    links: Float64
    precision: Float64

    def means(self, side: SideInformation) -> Float64:
        """Return the prior mean of each row: float64 (n_rows, k)."""
        return self.mean + side.times(self.links)


@dataclass(frozen=True, slots=True)
class Draw:
    """The state of a chain after a sweep.

    Attributes:
        user_vectors: float64 (n_users, k).
        item_vectors: float64 (n_items, k).
        item_means: float64 (n_items, k): what `item_vectors` were drawn around.
        users: Prior of the users.
        items: Prior of the items.
        noise_precision: α.
    """

    user_vectors: Float64
    item_vectors: Float64
    item_means: Float64
    users: Prior
    items: Prior
    noise_precision: float


def sample_chain(
    ratings: sparse.csr_matrix,
    *,
    users: SideInformation,
    items: SideInformation,
    n_factors: int,
    burn_in: int,
    sweeps_per_draw: int,
    rng: np.random.Generator,
) -> Iterator[Draw]:
    """Yield the state of a chain again and again, without end.

    Args:
        ratings: float64 csr (n_users, n_items), centred; entries may repeat, each counts.
        users: Side information of the users.
        items: Side information of the items.
        n_factors: k.
        burn_in: Sweeps before the first draw counts, while the chain is far from the posterior.
        sweeps_per_draw: Sweeps from one draw to the next.
    """
    n_ratings = len(ratings.data)
    squares = float(ratings.data @ ratings.data)
    by_user, by_item = list(blocks_of(ratings)), list(blocks_of(_transposed(ratings)))
    user_prior, item_prior = (_PriorSampler(side, n_factors) for side in (users, items))
    user_vectors, item_vectors = (rng.standard_normal((len(side), n_factors)) * START_SCALE for side in (users, items))
    noise_precision = n_ratings / max(squares, 1.0)
    for sweep in count(1 - burn_in):
        user_prior.draw(user_vectors, rng)
        item_prior.draw(item_vectors, rng)
        given_items = _Given(item_vectors, user_prior.current, users, noise_precision)
        user_vectors = given_items.draw(by_user, rng)
        given_users = _Given(user_vectors, item_prior.current, items, noise_precision)
        item_vectors = given_users.draw(by_item, rng)
        if sweep > 0 and sweep % sweeps_per_draw == 0:
            means = given_users.means(by_item)
            yield Draw(user_vectors, item_vectors, means, user_prior.current, item_prior.current, noise_precision)
        errors = squares + _change_of_squares(by_item, item_vectors, given_users.others)
        noise_precision = rng.gamma((GAMMA_SHAPE + n_ratings) / 2, 2 / (GAMMA_RATE + errors))


class _Given:
    """One side's vectors and the prior of the other side, which is drawn."""

    def __init__(self, vectors: Float64, prior: Prior, side: SideInformation, noise_precision: float) -> None:
        self.others = Others(vectors)
        self._prior = prior
        self._prior_means = prior.means(side)
        self._noise_precision = noise_precision

    def draw(self, blocks: Sequence[RatingBlock], rng: np.random.Generator) -> Float64:
        """Return a draw of each row: float64 (n_rows, k)."""
        return np.concatenate([self._of(block).draw(rng) for block in blocks])

    def means(self, blocks: Sequence[RatingBlock]) -> Float64:
        """Return the mean of each row: float64 (n_rows, k)."""
        return np.concatenate([self._of(block).means() for block in blocks])

    def _of(self, block: RatingBlock) -> Conditional:
        return conditional(
            block,
            self.others,
            prior_means=self._prior_means[block.rows],
            precision=self._prior.precision,
            noise_precision=self._noise_precision,
        )


def _change_of_squares(blocks: Sequence[RatingBlock], vectors: Float64, others: Others) -> float:
    """Return Σ (r − p·v)² − Σ r² over all ratings."""
    total = 0.0
    for block in blocks:
        places = np.repeat(np.arange(len(vectors))[block.rows], np.diff(block.ratings.indptr))
        fitted = np.einsum("nk,nk->n", vectors[places], others.vectors[block.ratings.indices])
        total += float(fitted @ (fitted - 2 * block.ratings.data))
    return total


class _PriorSampler:
    """Draws the prior of users or of items, given their vectors."""

    def __init__(self, side: SideInformation, n_factors: int) -> None:
        self._side = side
        values, self._basis = np.linalg.eigh(side.gram())
        self._values = np.maximum(values, 0.0)  # rounding leaves tiny negative ones
        self._strength = START_STRENGTH
        n_columns = len(values)
        self.current = Prior(np.zeros(n_factors), np.zeros((n_columns, n_factors)), np.eye(n_factors))

    def draw(self, vectors: Float64, rng: np.random.Generator) -> None:
        """Draw mean and precision given the links, then the links, then their strength λ."""
        mean, precision = self._draw_gaussian(vectors, rng)
        root = np.linalg.inv(np.linalg.cholesky(precision))  # rootᵀ root = Λ⁻¹
        n_columns, n_factors = self.current.links.shape
        if n_columns == 0:
            self.current = Prior(mean, self.current.links, precision)
            return
        shrunk = (self._values + self._strength)[:, None]
        towards = self._basis.T @ self._side.transposed_times(vectors - mean)
        rotated = towards / shrunk + rng.standard_normal((n_columns, n_factors)) @ root / np.sqrt(shrunk)
        rate = GAMMA_RATE + float(np.vdot(rotated @ precision, rotated))
        self._strength = float(rng.gamma((GAMMA_SHAPE + n_columns * n_factors) / 2, 2 / rate))
        self.current = Prior(mean, self._basis @ rotated, precision)

    def _draw_gaussian(self, vectors: Float64, rng: np.random.Generator) -> tuple[Float64, Float64]:
        """Draw (m, Λ) from its normal-Wishart posterior (Salakhutdinov & Mnih 2008, equation 14).

        The links are Gaussian rows with precision λΛ, so they count as rows of the scatter.
        """
        n_rows, n_factors = vectors.shape
        links = self.current.links
        centred = vectors - self._side.times(links)
        mean = centred.mean(axis=0)
        strength = n_rows + MEAN_STRENGTH
        scatter = np.eye(n_factors) + (centred - mean).T @ (centred - mean)
        scatter += n_rows * MEAN_STRENGTH / strength * np.outer(mean, mean) + self._strength * links.T @ links
        precision = wishart(n_factors + n_rows + len(links), scatter, rng)
        root = np.linalg.inv(np.linalg.cholesky(precision))
        return mean * n_rows / strength + rng.standard_normal(n_factors) @ root / np.sqrt(strength), precision


def wishart(degrees: int, inverse_scale: Float64, rng: np.random.Generator) -> Float64:
    """Draw from W(degrees, inverse_scale⁻¹), mean degrees · inverse_scale⁻¹ (Bartlett 1933): float64 (k, k)."""
    n_factors = len(inverse_scale)
    scale = np.linalg.inv(np.linalg.cholesky(inverse_scale)).T
    root = np.tril(rng.standard_normal((n_factors, n_factors)), -1)
    root[np.diag_indices(n_factors)] = np.sqrt(rng.chisquare(degrees - np.arange(n_factors)))
    half = scale @ root
    precision: Float64 = half @ half.T
    return precision


def _transposed(ratings: sparse.csr_matrix) -> sparse.csr_matrix:
    """Return the csr matrix of the transpose, entries that repeat kept apart."""
    turned = ratings.tocsc()
    return sparse.csr_matrix((turned.data, turned.indices, turned.indptr), shape=ratings.shape[::-1])
