"""The one-cycle schedule against PyTorch's own."""

from __future__ import annotations

import pytest
import torch

from recpipe.training.schedule import one_cycle


@pytest.mark.parametrize("n_steps", [10, 33, 400])
def test_one_cycle_is_that_of_pytorch(n_steps: int) -> None:
    optimizer = torch.optim.Adam([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    theirs = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1.0, total_steps=n_steps, cycle_momentum=False)
    for step in range(n_steps):
        assert one_cycle(step, n_steps) == pytest.approx(optimizer.param_groups[0]["lr"], abs=1e-9)
        optimizer.step()
        if step + 1 < n_steps:
            theirs.step()


@pytest.mark.parametrize("n_steps", [1, 2, 3, 4])
def test_short_cycles_are_cycles_too(n_steps: int) -> None:
    factors = [one_cycle(step, n_steps) for step in range(n_steps + 2)]
    assert all(0.0 < factor <= 1.0 for factor in factors)
    assert max(factors) > 0.5
    assert factors[n_steps:] == [factors[n_steps]] * 2
