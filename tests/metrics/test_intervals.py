from __future__ import annotations

import time
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recpipe.metrics.intervals import MIN_USERS, Bootstrap, is_real


def test_interval_of_a_mean_equals_a_plain_bootstrap() -> None:
    """The same draws, resampled row by row."""
    values = np.random.default_rng(0).exponential(size=(50, 2))
    bootstrap = Bootstrap(n_draws=200, seed=5)
    (ones,) = bootstrap.resampled_sums([np.eye(50)])  # weights of the draws, (n_draws, n_users)
    assert set(ones.sum(axis=1)) == {50.0}
    draws = [values[np.repeat(np.arange(50), weights.astype(int))].mean(axis=0) for weights in ones]
    expected = np.quantile(np.stack(draws), [0.025, 0.975], axis=0)
    found = bootstrap.means(values)
    np.testing.assert_allclose(found.value, values.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose([found.low, found.high], expected, rtol=1e-12)
    assert found.n_users.tolist() == [50, 50]


def test_weights_are_those_of_drawing_with_replacement() -> None:
    (weights,) = Bootstrap(n_draws=2000, seed=1).resampled_sums([np.eye(40)])
    assert weights.mean() == 1.0
    assert weights.var() == pytest.approx(1 - 1 / 40, abs=0.02)  # multinomial
    assert (weights == 0).mean() == pytest.approx((1 - 1 / 40) ** 40, abs=0.01)


def test_intervals_cover_the_truth_as_often_as_they_say() -> None:
    """Means of 150 exponential values: 90 % intervals hold the true mean in 90 % of 400 worlds."""
    rng = np.random.default_rng(2)
    covered = 0
    for world in range(400):
        found = Bootstrap(n_draws=300, level=0.9, seed=world).means(rng.exponential(size=(150, 1)))
        covered += bool(found.low[0] <= 1.0 <= found.high[0])
    # three standard errors of the count, and a percentile bootstrap of skewed values is a little narrow
    assert 0.84 < covered / 400 < 0.94


def test_width_equals_the_normal_theory() -> None:
    values = np.random.default_rng(3).normal(size=(5000, 1))
    found = Bootstrap(n_draws=2000).means(values)
    assert found.high[0] - found.low[0] == pytest.approx(2 * 1.96 * values.std() / np.sqrt(5000), rel=0.06)


def test_identical_models_differ_by_exactly_nothing() -> None:
    values = np.random.default_rng(4).random((300, 3))
    values[::7, 1] = np.nan
    found = Bootstrap(n_draws=100).differences(values, values.copy())
    assert found.value.tolist() == found.low.tolist() == found.high.tolist() == [0.0, 0.0, 0.0]
    assert not is_real(0.0, 0.0)


def test_pairing_makes_a_small_difference_visible() -> None:
    """Users differ far more than models: unpaired intervals overlap, the paired one excludes 0."""
    rng = np.random.default_rng(5)
    users = rng.normal(0, 1, (400, 1))
    ours, theirs = users + 0.02 + rng.normal(0, 0.05, (400, 1)), users
    bootstrap = Bootstrap()
    apart = (bootstrap.means(ours), bootstrap.means(theirs))
    assert apart[0].low[0] < apart[1].high[0]
    paired = bootstrap.differences(ours, theirs)
    assert is_real(paired.low[0], paired.high[0])
    assert paired.value[0] == pytest.approx((ours - theirs).mean())


def test_no_difference_is_seldom_called_real() -> None:
    rng = np.random.default_rng(6)
    real = 0
    for world in range(300):
        found = Bootstrap(n_draws=300, seed=world).differences(rng.random((80, 1)), rng.random((80, 1)))
        real += is_real(found.low[0], found.high[0])
    assert 0 < real / 300 < 0.1  # 5 % by construction


def test_columns_of_other_users_are_apart() -> None:
    values = np.random.default_rng(7).random((100, 3))
    values[40:, 1] = np.nan
    values[:, 2] = np.nan
    found = Bootstrap(n_draws=100).means(values)
    alone = Bootstrap(n_draws=100).means(values[:40, 1:2])
    assert found.n_users.tolist() == [100, 40, 0]
    assert (found.value[1], found.low[1], found.high[1]) == (alone.value[0], alone.low[0], alone.high[0])
    assert np.isnan([found.value[2], found.low[2], found.high[2]]).all()


@pytest.mark.parametrize("n_users", [0, 1, MIN_USERS - 1])
def test_few_users_have_no_interval(n_users: int) -> None:
    found = Bootstrap(n_draws=100).means(np.ones((n_users, 1)))
    assert found.n_users[0] == n_users
    assert np.isnan(found.low[0])
    assert np.isnan(found.high[0])
    assert np.isnan(found.value[0]) if n_users == 0 else found.value[0] == 1.0
    assert not is_real(found.low[0], found.high[0])


@given(block_bytes=st.integers(1, 100_000), n_users=st.integers(MIN_USERS, 60))
@settings(max_examples=25, deadline=None)
def test_blocks_change_nothing(block_bytes: int, n_users: int) -> None:
    values = np.random.default_rng(n_users).random((n_users, 2))
    whole, blocks = (Bootstrap(n_draws=100, block_bytes=size).means(values) for size in (1 << 30, block_bytes))
    np.testing.assert_allclose(blocks.low, whole.low, rtol=1e-12)
    np.testing.assert_allclose(blocks.high, whole.high, rtol=1e-12)


def test_the_seed_decides() -> None:
    values = np.random.default_rng(8).random((60, 1))
    first, again, other = (Bootstrap(n_draws=100, seed=seed).means(values) for seed in (1, 1, 2))
    assert first.low[0] == again.low[0] != other.low[0]


def test_refuses_other_users() -> None:
    with pytest.raises(ValueError, match="not of the same users"):
        Bootstrap().differences(np.ones((3, 1)), np.ones((4, 1)))


def test_a_hundred_thousand_users_are_fast_and_small() -> None:
    values = np.random.default_rng(9).random((100_000, 10))
    tracemalloc.start()
    began = time.perf_counter()
    found = Bootstrap(n_draws=1000).means(values)
    seconds = time.perf_counter() - began
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found.low[0] < 0.5 < found.high[0]
    assert seconds < 15  # about 1 s on one core of 2026, with room for a busy machine
    assert peak < 64e6
