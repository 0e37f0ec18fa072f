from __future__ import annotations

import math

import numpy as np
import pytest

from recpipe.errors import DataError
from recpipe.metrics.intervals import Bootstrap
from recpipe.metrics.rating import (
    IntervalAccumulator,
    RatingAccumulator,
    RatingErrors,
    rating_differences,
    rating_estimates,
)


def errors_of(sizes: list[int], predicted: np.ndarray, actual: np.ndarray) -> RatingErrors:
    accumulator = RatingAccumulator()
    accumulator.add(np.append(0, np.cumsum(sizes)).astype(np.int64), predicted, actual)
    return accumulator.result()


def world(seed: int, n_users: int = 60) -> tuple[list[int], np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    sizes = rng.integers(0, 8, n_users).tolist()
    actual = rng.integers(1, 6, sum(sizes)).astype(np.float32)
    return sizes, actual + rng.normal(0, 0.9, len(actual)), actual


def test_hand_computed_case() -> None:
    found = errors_of([2, 0, 1], np.array([3.0, 5.0, 1.0]), np.array([4.0, 3.0, 1.0]))
    assert found.counts.tolist() == [2, 0, 1]
    assert found.squared.tolist() == [5.0, 0.0, 0.0]
    assert found.absolute.tolist() == [3.0, 0.0, 0.0]
    assert found.figures().tolist() == [pytest.approx(math.sqrt(5 / 3)), 1.0]


def test_ratings_not_given_are_left_out() -> None:
    found = errors_of([2, 1], np.array([3.0, 5.0, 1.0]), np.array([4.0, np.nan, np.nan]))
    assert found.counts.tolist() == [1, 0]
    assert found.figures().tolist() == [1.0, 1.0]


def test_blocks_equal_the_whole() -> None:
    sizes, predicted, actual = world(0)
    accumulator = RatingAccumulator()
    cut = sum(sizes[:25])
    accumulator.add(np.append(0, np.cumsum(sizes[:25])).astype(np.int64), predicted[:cut], actual[:cut])
    accumulator.add(np.append(0, np.cumsum(sizes[25:])).astype(np.int64), predicted[cut:], actual[cut:])
    whole, blocks = errors_of(sizes, predicted, actual), accumulator.result()
    np.testing.assert_array_equal(whole.counts, blocks.counts)
    np.testing.assert_array_equal(whole.squared, blocks.squared)
    np.testing.assert_array_equal(whole.absolute, blocks.absolute)


def test_intervals_hold_the_figure_and_know_that_errors_of_a_user_hang_together() -> None:
    errors = errors_of(*world(1))
    found = rating_estimates(errors, Bootstrap(n_draws=500))
    assert (found.low < found.value).all()
    assert (found.value < found.high).all()
    assert found.n_users.tolist() == [int((errors.counts > 0).sum())] * 2
    # the same errors, all ten of a user alike, say far less than ten independent ones
    rng = np.random.default_rng(0)
    together = np.repeat(rng.normal(0, 1, 40), 10)
    apart = rng.permutation(together)
    widths = []
    for predicted in (together, apart):
        estimate = rating_estimates(errors_of([10] * 40, predicted, np.zeros(400)), Bootstrap(n_draws=500))
        widths.append(estimate.high[0] - estimate.low[0])
    assert widths[0] > 2 * widths[1]


def test_identical_models_differ_by_exactly_nothing() -> None:
    found = rating_differences(errors_of(*world(2)), errors_of(*world(2)), Bootstrap(n_draws=100))
    assert found.value.tolist() == found.low.tolist() == found.high.tolist() == [0.0, 0.0]


def test_a_better_model_is_below_zero() -> None:
    sizes, predicted, actual = world(3, n_users=200)
    better = actual + 0.7 * (predicted - actual)
    found = rating_differences(errors_of(sizes, better, actual), errors_of(sizes, predicted, actual), Bootstrap())
    rmse = errors_of(sizes, predicted, actual).figures()[0]
    assert found.value[0] == pytest.approx(-0.3 * rmse)
    assert (found.high < 0).all()


def test_interval_coverage_counts_ratings_inside_over_those_given() -> None:
    inside = IntervalAccumulator()
    assert math.isnan(inside.result())
    inside.add(np.array([1.0, 2.0, 2.0]), np.array([2.0, 3.0, 3.0]), np.array([2.0, 3.5, np.nan]))  # an end is inside
    inside.add(np.array([1.0]), np.array([5.0]), np.array([3.0]))
    assert inside.result() == pytest.approx(2 / 3)
    with pytest.raises(ValueError, match="intervals"):
        inside.add(np.zeros(2), np.ones(2), np.ones(3))


def test_nobody_rated() -> None:
    found = rating_estimates(errors_of([0, 0], np.empty(0), np.empty(0)), Bootstrap())
    assert np.isnan(found.value).all()
    assert found.n_users.tolist() == [0, 0]
    assert len(RatingAccumulator().result()) == 0


def test_refuses_other_ratings_and_predictions_that_are_not_numbers() -> None:
    with pytest.raises(ValueError, match="same ratings"):
        rating_differences(errors_of(*world(2)), errors_of(*world(4)), Bootstrap())
    with pytest.raises(DataError, match="not finite"):
        errors_of([1], np.array([np.nan]), np.array([3.0]))
    with pytest.raises(ValueError, match="offsets"):
        errors_of([1], np.array([1.0, 2.0]), np.array([3.0, 4.0]))


def test_interval_equals_a_plain_bootstrap() -> None:
    """Users resampled with all their ratings, the figures computed from scratch: numerator and denominator move."""
    sizes, predicted, actual = world(5, n_users=30)
    bootstrap = Bootstrap(n_draws=150, seed=3)
    found = rating_estimates(errors_of(sizes, predicted, actual), bootstrap)
    parts = [part for part in np.split(predicted - actual, np.cumsum(sizes)[:-1]) if len(part)]
    (weights,) = bootstrap.resampled_sums([np.eye(len(parts))])
    draws = []
    for draw in weights.astype(int):
        errors = np.concatenate([np.tile(part, times) for part, times in zip(parts, draw, strict=True)])
        draws.append([np.sqrt((errors**2).mean()), np.abs(errors).mean()])
    np.testing.assert_allclose([found.low, found.high], np.quantile(draws, [0.025, 0.975], axis=0), rtol=1e-9)
