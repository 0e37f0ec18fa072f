from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from recpipe.training.sampling import CandidateSampler


def sampler(
    counts: list[int], *, exponent: float = 0.0, n_sampled: int = 64, in_batch: bool = False
) -> CandidateSampler:
    return CandidateSampler(
        np.array(counts, dtype=np.int64), exponent=exponent, n_sampled=n_sampled, in_batch=in_batch, corrected=True
    )


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@given(
    counts=st.lists(st.integers(0, 5), min_size=1, max_size=30).filter(any),
    exponent=st.floats(0, 1),
    seed=st.integers(0, 1000),
)
def test_only_training_items_are_drawn(counts: list[int], exponent: float, seed: int) -> None:
    drawn = sampler(counts, exponent=exponent).draw(torch.tensor([int(np.argmax(counts))]), generator(seed))
    assert all(counts[row] > 0 for row in drawn.rows.tolist())
    assert torch.isfinite(drawn.log_expected).all()


@pytest.mark.parametrize(("exponent", "expected"), [(0.0, [1 / 3, 0, 1 / 3, 1 / 3]), (1.0, [0.1, 0, 0.3, 0.6])])
def test_shares_follow_the_exponent(exponent: float, expected: list[float]) -> None:
    drawn = sampler([1, 0, 3, 6], exponent=exponent, n_sampled=60_000).draw(torch.tensor([0]), generator(1))
    shares = np.bincount(drawn.rows.numpy(), minlength=4) / 60_000
    np.testing.assert_allclose(shares, expected, atol=0.01)
    told = np.exp(drawn.log_expected.numpy()) / 60_000
    np.testing.assert_allclose(told, np.array(expected)[drawn.rows.numpy()], rtol=1e-5)


def test_items_of_the_batch_come_first_and_own_is_masked() -> None:
    taken = torch.tensor([2, 0, 2])
    drawn = sampler([1, 0, 3], n_sampled=2, in_batch=True).draw(taken, generator(0))
    assert drawn.rows[:3].tolist() == [2, 0, 2]
    assert drawn.masked.tolist() == [[row == own for row in drawn.rows.tolist()] for own in (2, 0, 2)]
    # item 2: three of four interactions times a batch of 3, and half of 2 draws
    assert drawn.log_expected[0].item() == pytest.approx(np.log(3 * 0.75 + 2 * 0.5))


def test_same_generator_same_candidates() -> None:
    first, again, other = (sampler([1] * 50).draw(torch.tensor([0]), generator(seed)).rows for seed in (1, 1, 2))
    assert first.tolist() == again.tolist() != other.tolist()


def test_nothing_to_draw_from() -> None:
    with pytest.raises(ValueError, match="no item"):
        sampler([0, 0])
