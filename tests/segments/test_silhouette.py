"""The number of clusters by silhouette."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recpipe.config import validate
from recpipe.errors import ConfigError
from recpipe.segments import silhouette
from recpipe.segments.settings import ClusterSettings
from recpipe.segments.silhouette import candidates, choose_n_clusters, mean_silhouette


def blobs(n_blobs: int, *, n_rows: int = 240, dim: int = 6, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    centres = np.eye(dim)[np.arange(n_blobs) % dim] * (3 + 3 * (np.arange(n_blobs) // dim))[:, None]
    return (centres[np.arange(n_rows) % n_blobs] + rng.normal(size=(n_rows, dim)) * 0.2).astype(np.float32)


@pytest.mark.parametrize("n_blobs", [2, 3, 5, 8])
def test_planted_blobs_are_counted(n_blobs: int) -> None:
    curve = choose_n_clusters(blobs(n_blobs), low=2, high=12, max_rows=5000, seed=42, n_init=3)
    assert curve.n_clusters == n_blobs
    assert [n for n, _ in curve.scores] == list(range(2, 13))
    scores = dict(curve.scores)
    assert scores[n_blobs] == max(scores.values()) > 0.8
    assert all(-1 <= score <= 1 for score in scores.values())
    assert curve.details()["silhouette"] == {str(n): round(score, 6) for n, score in curve.scores}


def test_bounds_hold() -> None:
    curve = choose_n_clusters(blobs(5), low=6, high=7, max_rows=5000, seed=1, n_init=2)
    assert curve.n_clusters in (6, 7)
    assert choose_n_clusters(blobs(5), low=2, high=3, max_rows=5000, seed=1, n_init=2).n_clusters == 3


def test_the_sample_is_seeded_and_bounded() -> None:
    points = blobs(4, n_rows=2000)
    first, second = (choose_n_clusters(points, low=2, high=6, max_rows=200, seed=7, n_init=2) for _ in range(2))
    assert first == second
    assert (first.n_rows, first.n_clusters) == (200, 4)
    other = choose_n_clusters(points, low=2, high=6, max_rows=200, seed=8, n_init=2)
    assert other.n_clusters == 4
    assert other.scores != first.scores


def test_the_mean_silhouette_by_hand() -> None:
    points = np.array([[0.0], [1.0], [4.0], [10.0]])
    # a = 1, b = (4 + 10) / 2; a = 1, b = (3 + 9) / 2; a = 6, b = (4 + 3) / 2; a = 6, b = (10 + 9) / 2
    by_hand = [(7 - 1) / 7, (6 - 1) / 6, (3.5 - 6) / 6, (9.5 - 6) / 9.5]
    assert mean_silhouette(points, np.array([0, 0, 1, 1])) == pytest.approx(np.mean(by_hand))
    # a cluster of one point counts 0
    assert mean_silhouette(points, np.array([0, 0, 1, 2])) == pytest.approx((3 / 4 + 2 / 3) / 4)


def test_ties_go_to_the_smaller_number(monkeypatch: pytest.MonkeyPatch) -> None:
    by_number = {2: 0.3, 3: 0.5 - 1e-8, 4: 0.5, 5: 0.49}

    def planted(points: np.ndarray, segments: np.ndarray) -> float:
        return by_number[len(np.unique(segments))]

    monkeypatch.setattr(silhouette, "mean_silhouette", planted)
    assert choose_n_clusters(blobs(6), low=2, high=5, max_rows=500, seed=0, n_init=1).n_clusters == 3


@pytest.mark.parametrize(
    ("points", "low", "n_clusters", "tried"),
    [
        (np.ones((9, 2)), 2, 1, []),  # everybody alike
        (np.array([[0.0, 1.0]]), 2, 1, []),  # one user
        (np.array([[0.0, 1.0], [2.0, 0.0]]), 2, 2, []),  # nothing to compare with
        (np.repeat(np.eye(3), 4, axis=0), 5, 3, []),  # fewer than the lower bound
        (np.repeat(np.eye(3), 4, axis=0), 2, 3, [2, 3]),  # fewer than the upper bound
        (np.eye(3), 2, 2, [2]),  # as many as users
    ],
)
def test_few_distinct_users(points: np.ndarray, low: int, n_clusters: int, tried: list[int]) -> None:
    curve = choose_n_clusters(points, low=low, high=20, max_rows=5000, seed=0, n_init=1)
    assert curve.n_clusters == n_clusters
    assert [n for n, _ in curve.scores] == tried


@given(st.integers(2, 3000), st.integers(-3, 3000))
def test_candidates_hold_both_bounds_and_are_few(low: int, extra: int) -> None:
    numbers = candidates(low, low + extra)
    assert list(numbers) == sorted(set(numbers))
    if extra < 0:
        assert numbers == ()
    else:
        assert (numbers[0], numbers[-1]) == (low, low + extra)
        assert len(numbers) == extra + 1 if extra < 20 else len(numbers) <= 20


def test_settings() -> None:
    settings = validate(ClusterSettings, {"n_clusters": "auto", "min_clusters": 3, "max_clusters": 9})
    assert (settings.n_clusters, settings.silhouette_rows) == ("auto", 5000)
    with pytest.raises(ConfigError, match="min_clusters is above max_clusters"):
        validate(ClusterSettings, {"min_clusters": 9, "max_clusters": 3})
    for raw in ({"n_clusters": 0}, {"n_clusters": "many"}, {"min_clusters": 1}, {"silhouette_rows": 50}):
        with pytest.raises(ConfigError):
            validate(ClusterSettings, raw)
