"""K-means: fitting, assigning, settling."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recpipe.errors import DataError
from recpipe.segments import kmeans
from recpipe.segments.kmeans import CentreStatistics, assign, fit_kmeans, order_by_size, settled
from recpipe.segments.reduce import PcaStatistics, fit_pca, project


def blobs() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    truth = np.repeat([0, 1, 2], [50, 80, 30])
    return rng.normal(size=(160, 4)) * 0.1 + np.eye(4)[truth] * 3, truth


def test_planted_blobs_are_found_largest_first() -> None:
    points, truth = blobs()
    centres = fit_kmeans(points, n_clusters=3, seed=42)
    segments, _ = assign(points, centres)
    assert np.bincount(segments).tolist() == [80, 50, 30]
    for blob in range(3):
        assert len(set(segments[truth == blob])) == 1


def test_equal_seeds_give_equal_centres() -> None:
    points = np.random.default_rng(2).normal(size=(3000, 3))
    first, second = (fit_kmeans(points, n_clusters=7, seed=5, n_init=1) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert not np.array_equal(first, fit_kmeans(points, n_clusters=7, seed=6, n_init=1))


def test_one_cluster_is_the_mean() -> None:
    points, _ = blobs()
    np.testing.assert_allclose(fit_kmeans(points, n_clusters=1, seed=0)[0], points.mean(axis=0), atol=1e-9)


def test_too_few_distinct_points() -> None:
    points = np.repeat(np.eye(3), 5, axis=0)
    points[0] += 1e-9
    assert len(fit_kmeans(points, n_clusters=3, seed=0)) == 3
    with pytest.raises(DataError) as caught:
        fit_kmeans(points, n_clusters=4, seed=0)
    assert "only 3 users" in caught.value.what
    assert "3 or less" in (caught.value.next_step or "")


@given(st.integers(0, 60), st.integers(1, 8), st.integers(1, 40))
def test_assign_is_the_brute_force_argmin(n: int, n_clusters: int, cells: int) -> None:
    rng = np.random.default_rng(n * 10 + n_clusters)
    points, centres = rng.normal(size=(n, 3)).astype(np.float32), rng.normal(size=(n_clusters, 3))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kmeans, "CELLS_PER_CHUNK", cells)
        segments, distances = assign(points, centres)
    brute = np.linalg.norm(points[:, None].astype(np.float64) - centres[None], axis=2)
    assert segments.dtype == np.int32 and distances.dtype == np.float32
    np.testing.assert_array_equal(segments, brute.argmin(axis=1))
    np.testing.assert_allclose(distances, brute.min(axis=1), rtol=1e-6)


def test_ties_go_to_the_lower_number_and_small_distances_keep_their_digits() -> None:
    points = np.array([[100.0, 0.0]])
    segments, distances = assign(points, np.array([[0.0, 0.0], [100.0, 1e-5], [100.0, 1e-5]]))
    assert segments.tolist() == [1]
    np.testing.assert_allclose(distances, [1e-5], rtol=1e-6)


def test_statistics_do_not_depend_on_batches_and_keep_empty_segments() -> None:
    points, truth = blobs()
    whole, left, right = (CentreStatistics.empty(n_clusters=4, dim=4) for _ in range(3))
    whole.update(points, truth)
    left.update(points[:33], truth[:33])
    right.update(points[33:], truth[33:])
    right.merge(left)
    np.testing.assert_allclose(right.sums, whole.sums)
    centres = right.centres(np.full((4, 4), 9.0))
    np.testing.assert_allclose(centres[1], points[truth == 1].mean(axis=0))
    assert centres[3].tolist() == [9, 9, 9, 9]
    np.testing.assert_allclose(whole.mean, points.mean(axis=0))


def test_order_by_size_is_stable() -> None:
    order = order_by_size(np.array([3, 9, 3]))
    assert order.tolist() == [1, 0, 2]
    statistics = CentreStatistics(np.eye(3), np.array([3, 9, 3])).reordered(order)
    assert statistics.counts.tolist() == [9, 3, 3]
    assert statistics.sums[0].tolist() == [0, 1, 0]


def test_passes_over_all_users_settle_on_nearest_centres_that_are_members_means() -> None:
    rng = np.random.default_rng(3)
    embeddings = rng.normal(size=(4000, 6)).astype(np.float32)
    gathered = PcaStatistics.empty(6)
    gathered.update(embeddings)
    basis = fit_pca(gathered, 3)
    reduced = fit_kmeans(project(embeddings[:1000], basis), n_clusters=5, seed=42)
    previous = None
    centres = np.zeros((5, 6))
    for _ in range(300):
        current = CentreStatistics.empty(n_clusters=5, dim=6)
        for batch in np.split(embeddings, 4):
            current.update(batch, assign(project(batch, basis), reduced)[0])
        if previous is not None and settled(previous, current):
            break
        centres = current.centres(centres)
        reduced = project(centres, basis)
        previous = current
    else:
        pytest.fail("did not settle")
    segments, _ = assign(project(embeddings, basis), project(centres, basis))
    for segment in range(5):
        np.testing.assert_allclose(centres[segment], embeddings[segments == segment].mean(axis=0), atol=1e-6)
