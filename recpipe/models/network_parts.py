"""Pieces that the networks share."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn.functional import embedding

from recpipe.models.settings import IterativeSettings

RATING_ID_PENALTY = 0.1
RATING_WEIGHT_DECAY = 0.0003
"""What `auto` means for ratings, chosen on validation ratings; for implicit feedback it is 0."""


def id_penalty(settings: IterativeSettings, *, rating: bool) -> float:
    """Return `train.id_penalty` as a number."""
    return (RATING_ID_PENALTY if rating else 0.0) if settings.id_penalty == "auto" else settings.id_penalty


def weight_decay(settings: IterativeSettings, *, rating: bool) -> float:
    """Return `train.weight_decay` as a number."""
    return (RATING_WEIGHT_DECAY if rating else 0.0) if settings.weight_decay == "auto" else settings.weight_decay


def slots_of(seen: np.ndarray, n: int) -> torch.Tensor:
    """Return the row of the parameters of each of n ids: int64 (n,), -1 for an id unseen."""
    slots = np.full(n, -1, dtype=np.int64)
    slots[seen] = np.arange(len(seen))
    return torch.from_numpy(slots)


def profile_products(
    features: torch.Tensor,
    segment_rows: torch.Tensor,
    segment_parts: torch.Tensor,
    user_rows: torch.Tensor,
    weights: torch.Tensor,
) -> torch.Tensor:
    """Return p times weights for some users; what a segment's users share is multiplied once per segment.

    Args:
        features: float32 (n_users, n_features), x standardised.
        segment_rows: int64 (n_users,), rows of `segment_parts`.
        segment_parts: float32 (n_segments + 1, width - n_features).
        user_rows: int64 (n,).
        weights: float32 (width, m).

    Returns:
        float32 (n, m).
    """
    n_features = features.shape[1]
    by_segment = segment_parts @ weights[n_features:]  # (n_segments + 1, m)
    return features[user_rows] @ weights[:n_features] + embedding(segment_rows[user_rows], by_segment)


def kept(n: int, settings: IterativeSettings, generator: torch.Generator) -> torch.Tensor:
    """Return which of n ids are seen, by `train.id_dropout`: float32 (n,), 0 where one is hidden."""
    drawn = torch.rand(n, generator=generator, device=generator.device)
    return (drawn >= settings.id_dropout).to(torch.float32)


def dropped(vectors: torch.Tensor, settings: IterativeSettings, generator: torch.Generator) -> torch.Tensor:
    """Return vectors with coordinates hidden, by `train.dropout`, and the others enlarged for it."""
    share = settings.dropout
    if share == 0.0:
        return vectors
    drawn = torch.rand(vectors.shape, generator=generator, device=vectors.device)
    return vectors * ((drawn >= share) / (1.0 - share))


def history_weights(length: int, decays: tuple[float, ...]) -> torch.Tensor:
    """Return decay ** age for ages 0 to length - 1: float32 (n_decays, length)."""
    ages = torch.arange(length, dtype=torch.float32)
    return torch.tensor(decays, dtype=torch.float32)[:, None] ** ages


def distinct(rows: torch.Tensor, n: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the distinct ones among rows of 0..n - 1, ascending, and the place of each row among them."""
    marks = torch.zeros(n, dtype=torch.bool, device=rows.device)
    marks[rows] = True
    found = torch.nonzero(marks).squeeze(1)
    places = torch.zeros(n, dtype=torch.int64, device=rows.device)
    places[found] = torch.arange(len(found), device=rows.device)
    return found, places[rows]
