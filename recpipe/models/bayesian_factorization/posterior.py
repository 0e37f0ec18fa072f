"""Predictions from a few kept draws of the sampler, for users and items of any kind.

A kept draw s holds the items' vectors v_s and both priors, and no user: the user's part is
computed from the ratings in their history, in closed form, so that users seen in training and
later ones come in by one path. With p̂_s = E[p | history, draw s] and v̂_s the mean that v_s was
drawn around,

    r̂ = μ + mean_s p̂_s·v̂_s
    variance = mean_s (v_sᵀ Cov_s(p) v_s + 1/α_s) + variance_s p̂_s·v_s

the law of total variance. Using means in place of draws (Gelfand & Smith 1990,
"Sampling-based approaches to calculating marginal densities") makes few draws do for many. An
item unseen in training is its prior: v_s = v̂_s = m' + Cᵀy, with its covariance in the variance.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse

from recpipe.models.bayesian_factorization.conditional import Conditional, Others, blocks_of, conditional
from recpipe.models.bayesian_factorization.sampler import Draw, Prior, SideInformation

if TYPE_CHECKING:
    import numpy.typing as npt

    from recpipe.models.tables import Float32, Int64

    Float64 = npt.NDArray[np.float64]

PAIRS = 8192
"""Pairs of user and item whose variance is computed at a time: k × k numbers each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptDraws:
    """Draws of all chains, float32.

    Attributes:
        item_vectors: (n_draws, n_items, k).
        item_means: (n_draws, n_items, k).
        user_prior_means: (n_draws, k).
        user_prior_links: (n_draws, n_user_columns, k).
        user_prior_precisions: (n_draws, k, k).
        item_prior_means: (n_draws, k).
        item_prior_links: (n_draws, n_item_columns, k).
        item_prior_precisions: (n_draws, k, k).
        noise_precisions: (n_draws,).
    """

    item_vectors: Float32
    item_means: Float32
    user_prior_means: Float32
    user_prior_links: Float32
    user_prior_precisions: Float32
    item_prior_means: Float32
    item_prior_links: Float32
    item_prior_precisions: Float32
    noise_precisions: Float32

    def __len__(self) -> int:
        return len(self.noise_precisions)

    @property
    def n_factors(self) -> int:
        """Length of a vector: k."""
        return int(self.item_vectors.shape[2])

    @classmethod
    def of(cls, draws: Iterable[Draw]) -> KeptDraws:
        """Keep these draws, without their users."""
        arrays: dict[str, list[Float32]] = {field.name: [] for field in fields(cls)}
        for draw in draws:
            arrays["item_vectors"].append(draw.item_vectors.astype(np.float32))
            arrays["item_means"].append(draw.item_means.astype(np.float32))
            for side, prior in (("user", draw.users), ("item", draw.items)):
                arrays[f"{side}_prior_means"].append(prior.mean.astype(np.float32))
                arrays[f"{side}_prior_links"].append(prior.links.astype(np.float32))
                arrays[f"{side}_prior_precisions"].append(prior.precision.astype(np.float32))
            arrays["noise_precisions"].append(np.array(draw.noise_precision, np.float32))
        return cls(**{name: np.stack(parts) for name, parts in arrays.items()})

    def weights(self) -> dict[str, np.ndarray]:
        """Return arrays for `ModelState.weights`."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @classmethod
    def from_weights(cls, weights: Mapping[str, np.ndarray]) -> KeptDraws:
        """Read back what `weights` gave. KeyError when something is missing."""
        return cls(**{field.name: weights[field.name].astype(np.float32, copy=False) for field in fields(cls)})

    def user_prior(self, draw: int) -> Prior:
        """Return the users' prior of a draw."""
        arrays = self.user_prior_means, self.user_prior_links, self.user_prior_precisions
        return Prior(*(array[draw].astype(np.float64) for array in arrays))

    def item_prior(self, draw: int) -> Prior:
        """Return the items' prior of a draw."""
        arrays = self.item_prior_means, self.item_prior_links, self.item_prior_precisions
        return Prior(*(array[draw].astype(np.float64) for array in arrays))


@dataclass(frozen=True, slots=True)
class Catalogue:
    """Items to predict for.

    Attributes:
        rows: int64 (n_items,), items of the kept draws; -1: unseen in training.
        unseen_side: Side information of the unseen ones, in order.
    """

    rows: Int64
    unseen_side: SideInformation

    def vectors(self, kept: KeptDraws, draw: int, *, drawn: bool) -> Float64:
        """Return the vectors of all items in one kept draw, `drawn` or their means: float64 (n_items, k)."""
        learned = (kept.item_vectors if drawn else kept.item_means)[draw]
        vectors: Float64 = learned[self.rows].astype(np.float64)
        if len(self.unseen_side):
            vectors[self.rows < 0] = kept.item_prior(draw).means(self.unseen_side)
        return vectors


@dataclass(frozen=True, slots=True)
class Raters:
    """Users to predict for.

    Attributes:
        ratings: float64 csr (n_users, n_items), centred; items of the kept draws.
        side: Side information of the same users.
    """

    ratings: sparse.csr_matrix
    side: SideInformation

    def take(self, rows: Int64) -> Raters:
        """Return these users, int64 (n,), rows of the present ones."""
        return Raters(self.ratings[rows], self.side.take(rows))

    def given(self, kept: KeptDraws, draw: int) -> Iterator[tuple[slice, Conditional]]:
        """Yield the Gaussians of the users given one kept draw, block by block."""
        prior = kept.user_prior(draw)
        prior_means = prior.means(self.side)
        others = Others(kept.item_vectors[draw].astype(np.float64))
        for block in blocks_of(self.ratings):
            found = conditional(
                block,
                others,
                prior_means=prior_means[block.rows],
                precision=prior.precision,
                noise_precision=float(kept.noise_precisions[draw]),
            )
            yield block.rows, found

    def means(self, kept: KeptDraws, draw: int) -> Float64:
        """Return p̂_s of all users, float64 (n_users, k)."""
        return np.concatenate([found.means() for _, found in self.given(kept, draw)])


def predicted(kept: KeptDraws, raters: Raters, catalogue: Catalogue, user_rows: Int64, item_rows: Int64) -> Float64:
    """Return r̂ − μ of pairs: float64 (n,)."""
    total = np.zeros(len(user_rows))
    for draw in range(len(kept)):
        users = raters.means(kept, draw)
        vectors = catalogue.vectors(kept, draw, drawn=False)
        total += np.einsum("nk,nk->n", users[user_rows], vectors[item_rows])
    return total / len(kept)


def predicted_variance(
    kept: KeptDraws, raters: Raters, catalogue: Catalogue, user_rows: Int64, item_rows: Int64
) -> Float64:
    """Return the variance of a rating of each pair about r̂: float64 (n,)."""
    within, first, second = (np.zeros(len(user_rows)) for _ in range(3))
    for draw in range(len(kept)):
        vectors = catalogue.vectors(kept, draw, drawn=True)
        unseen = catalogue.rows < 0
        covariance: Float64 = np.linalg.inv(kept.item_prior(draw).precision).astype(np.float64, copy=False)
        for rows, users in raters.given(kept, draw):
            means = users.means()
            here = np.flatnonzero((user_rows >= rows.start) & (user_rows < rows.stop))
            traces = users.covariance_traces(covariance) if unseen.any() else np.zeros(len(means))
            for start in range(0, len(here), PAIRS):
                pairs = here[start : start + PAIRS]
                own, item = user_rows[pairs] - rows.start, item_rows[pairs]
                centre = np.einsum("nk,nk->n", means[own], vectors[item])
                first[pairs] += centre
                second[pairs] += centre**2
                within[pairs] += users.variances(own, vectors[item])
                about_item = np.einsum("nk,kl,nl->n", means[own], covariance, means[own]) + traces[own]
                within[pairs] += np.where(unseen[item], about_item, 0.0)
        within += 1.0 / float(kept.noise_precisions[draw])
    n_draws = len(kept)
    variance: Float64 = within / n_draws + np.maximum(second / n_draws - (first / n_draws) ** 2, 0.0)
    return variance


def ranking_basis(kept: KeptDraws, n_dimensions: int) -> Float32:
    """Return the map that brings a vector of all draws to few dimensions: float32 (n_draws, k, n_dimensions).

    The vectors of all draws side by side give r̂ − μ as one dot product, n_draws · k numbers
    long, and much of it says the same again: principal components of the items' vectors keep it.
    """
    length = len(kept) * kept.n_factors
    gram = np.zeros((length, length))
    for start in range(0, kept.item_means.shape[1], PAIRS):
        part = kept.item_means[:, start : start + PAIRS].astype(np.float64)
        wide = part.transpose(1, 0, 2).reshape(-1, length)
        gram += wide.T @ wide
    basis = np.linalg.eigh(gram)[1][:, ::-1][:, :n_dimensions]
    folded: Float32 = np.ascontiguousarray(basis.reshape(len(kept), kept.n_factors, -1), dtype=np.float32)
    return folded
