"""What a step minimises.

For ratings the squared error; for implicit feedback one of three, all of them of the item
taken against sampled ones (`masked` candidates come in as -inf and do not count):

- softmax: -log of the share of the item taken in a softmax over itself and the candidates
  (Covington, Adams & Sargin 2016; with the correction for unequal sampling that Yi et al.
  2019 give, the full softmax is estimated). On validation data it was far ahead of the others.
- bpr: -log sigmoid(taken - candidate), Rendle et al. 2009.
- cross_entropy: taken is a yes, each candidate a no.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch.nn.functional import logsigmoid

from recpipe.models.iterative import Loss


def squared_error(predicted: torch.Tensor, given: torch.Tensor) -> torch.Tensor:
    """Return the mean of (predicted - given)², both float32 (n,)."""
    return (predicted - given).square().mean()


def sampled_softmax(taken: torch.Tensor, candidates: torch.Tensor) -> torch.Tensor:
    """Return the mean of log Σ exp over taken and candidates, minus taken.

    Args:
        taken: float32 (n,).
        candidates: float32 (n, n_candidates), less the log of their expected counts.
    """
    everything = torch.cat([taken[:, None], candidates], dim=1)  # (n, 1 + n_candidates)
    return (everything.logsumexp(dim=1) - taken).mean()


def bayesian_personalised_ranking(taken: torch.Tensor, candidates: torch.Tensor) -> torch.Tensor:
    """Return the mean over all pairs of -log sigmoid(taken - candidate)."""
    counted = torch.isfinite(candidates)
    # a masked pair is given a difference whose loss is not used: log sigmoid(inf) has a NaN gradient
    differences = torch.where(counted, taken[:, None] - candidates, 0.0)
    return -(logsigmoid(differences) * counted).sum() / counted.sum().clamp(min=1)


def binary_cross_entropy(taken: torch.Tensor, candidates: torch.Tensor) -> torch.Tensor:
    """Return the mean of -log sigmoid(taken), plus the mean of -log sigmoid(-candidate)."""
    counted = torch.isfinite(candidates)
    refused = torch.where(counted, -candidates, 0.0)
    return -logsigmoid(taken).mean() - (logsigmoid(refused) * counted).sum() / counted.sum().clamp(min=1)


def ranking_loss(name: Literal["softmax", "bpr", "cross_entropy"]) -> Loss:
    """Return the loss of that name."""
    losses: dict[str, Loss] = {
        "softmax": sampled_softmax,
        "bpr": bayesian_personalised_ranking,
        "cross_entropy": binary_cross_entropy,
    }
    return losses[name]
