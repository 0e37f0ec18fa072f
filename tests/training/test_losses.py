"""Losses against the numbers of their formulas."""

from __future__ import annotations

import math

import pytest
import torch

from recpipe.training.losses import (
    bayesian_personalised_ranking,
    binary_cross_entropy,
    ranking_loss,
    sampled_softmax,
    squared_error,
)

INF = float("inf")
TAKEN = torch.tensor([1.0, 0.0])
CANDIDATES = torch.tensor([[0.0, -INF], [2.0, -1.0]])  # the second of the first user is masked


def log_sigmoid(x: float) -> float:
    return -math.log1p(math.exp(-x))


def test_squared_error() -> None:
    assert squared_error(torch.tensor([1.0, 4.0]), torch.tensor([3.0, 3.0])).item() == pytest.approx(2.5)


def test_sampled_softmax() -> None:
    first = math.log(math.e + 1) - 1
    second = math.log(1 + math.exp(2) + math.exp(-1))
    assert sampled_softmax(TAKEN, CANDIDATES).item() == pytest.approx((first + second) / 2)


def test_bayesian_personalised_ranking() -> None:
    expected = -(log_sigmoid(1.0) + log_sigmoid(-2.0) + log_sigmoid(1.0)) / 3
    assert bayesian_personalised_ranking(TAKEN, CANDIDATES).item() == pytest.approx(expected)


def test_binary_cross_entropy() -> None:
    yes = -(log_sigmoid(1.0) + log_sigmoid(0.0)) / 2
    no = -(log_sigmoid(-0.0) + log_sigmoid(-2.0) + log_sigmoid(1.0)) / 3
    assert binary_cross_entropy(TAKEN, CANDIDATES).item() == pytest.approx(yes + no)


@pytest.mark.parametrize("name", ["softmax", "bpr", "cross_entropy"])
def test_masked_candidates_have_no_gradient(name: str) -> None:
    taken = TAKEN.clone().requires_grad_()
    raw = torch.tensor([[0.0, 5.0], [2.0, -1.0]], requires_grad=True)
    masked = torch.tensor([[False, True], [False, False]])
    torch.autograd.backward(ranking_loss(name)(taken, raw.masked_fill(masked, -INF)))
    assert raw.grad is not None and taken.grad is not None
    assert raw.grad[0, 1] == 0
    assert torch.isfinite(raw.grad).all() and torch.isfinite(taken.grad).all()
    assert (raw.grad[~masked] > 0).all()  # a candidate's score goes down
    assert (taken.grad < 0).all()


@pytest.mark.parametrize("name", ["softmax", "bpr", "cross_entropy"])
def test_everything_masked_is_no_nan(name: str) -> None:
    taken = torch.tensor([1.0], requires_grad=True)
    loss = ranking_loss(name)(taken, torch.full((1, 3), -INF))
    torch.autograd.backward(loss)
    assert math.isfinite(loss.item()) and taken.grad is not None and torch.isfinite(taken.grad).all()
