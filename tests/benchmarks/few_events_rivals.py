"""Rivals of soft segments for users with few events: EASE, a Gaussian posterior, ridge on attributes; small data."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from recpipe.models.attribute_space import AttributeSpace
from recpipe.models.base import Histories, Profiles

Scorer = Callable[[Profiles, Histories], np.ndarray]
"""Gives scores (n_users, n_items)."""


def dense(histories: Histories) -> np.ndarray:
    """Return 1 where the user took the item: (n_users, n_items)."""
    taken = np.zeros((len(histories), len(histories.items)))
    taken[histories.user_rows(), histories.item_rows[histories.events()]] = 1.0
    return taken


def ease(taken: np.ndarray, strengths: Sequence[float]) -> dict[str, Scorer]:
    """EASE of several strengths from one SVD: P = (AᵀA + λI)⁻¹ = (I - V diag(s² / (s² + λ)) Vᵀ) / λ."""
    _, singular, right = np.linalg.svd(taken, full_matrices=False)

    def scorer(strength: float) -> Scorer:
        kept = (singular**2 / (singular**2 + strength))[:, None] * right
        diagonal = 1 - (right * kept).sum(axis=0)

        def score(profiles: Profiles, histories: Histories) -> np.ndarray:
            past = dense(histories)
            scores: np.ndarray = (past @ right.T) @ kept / diagonal
            return scores

        return score

    return {f"ease {strength:g}": scorer(strength) for strength in strengths}


def gaussian(
    taken: np.ndarray, traits: np.ndarray, noises: Sequence[float], space: AttributeSpace
) -> dict[str, Scorer]:
    """x_u = μ + V z_u + noise, z_u ~ N(B a_u, Σ), V by PCA; the posterior given x = 1 at the items of the history."""
    mean = taken.mean(axis=0)
    left, singular, right = np.linalg.svd(taken - mean, full_matrices=False)
    dim = min(64, len(singular) // 2)
    scale = np.sqrt(len(taken))
    loadings = right[:dim].T * singular[:dim] / scale  # (n_items, dim)
    factors = left[:, :dim] * scale
    slopes = ridge_slopes(traits, factors, 100.0)
    prior_precision = np.linalg.inv(np.cov((factors - traits @ slopes).T) + 1e-6 * np.eye(dim))

    def scorer(noise: float) -> Scorer:
        def score(profiles: Profiles, histories: Histories) -> np.ndarray:
            prior = space.encode(profiles.attributes, len(profiles)).toarray() @ slopes
            scores = np.empty((len(profiles), len(mean)))
            for row in range(len(profiles)):
                items = histories.item_rows[histories.offsets[row] : histories.offsets[row + 1]]
                own = loadings[items]
                residual = own.T @ (1 - mean[items]) / noise + prior_precision @ prior[row]
                scores[row] = mean + loadings @ np.linalg.solve(prior_precision + own.T @ own / noise, residual)
            return scores

        return score

    return {f"gaussian {noise:g}": scorer(noise) for noise in noises}


def ridge(
    taken: np.ndarray, traits: np.ndarray, strengths: Sequence[float], space: AttributeSpace
) -> dict[str, Scorer]:
    """Ridge regression from attributes to the share of users with each item, around popularity."""
    mean, centre = taken.mean(axis=0), traits.mean(axis=0)

    def scorer(strength: float) -> Scorer:
        slopes = ridge_slopes(traits - centre, taken - mean, strength)

        def score(profiles: Profiles, histories: Histories) -> np.ndarray:
            own = space.encode(profiles.attributes, len(profiles)).toarray() - centre
            scores: np.ndarray = mean + own @ slopes
            return scores

        return score

    return {f"ridge {strength:g}": scorer(strength) for strength in strengths}


def ridge_slopes(inputs: np.ndarray, outputs: np.ndarray, strength: float) -> np.ndarray:
    """Return (XᵀX + λI)⁻¹ XᵀY."""
    return np.linalg.solve(inputs.T @ inputs + strength * np.eye(inputs.shape[1]), inputs.T @ outputs)
