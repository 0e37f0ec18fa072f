"""PCA from streamed statistics."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.decomposition import PCA

from recpipe import schemas
from recpipe.errors import DataError
from recpipe.segments.reduce import PcaStatistics, basis_from_table, basis_to_table, fit_pca, project


def embeddings(n: int = 200, dim: int = 12) -> np.ndarray:
    rng = np.random.default_rng(0)
    points = rng.normal(size=(n, dim)) * np.linspace(3, 0.5, dim) + 1
    return (points / np.linalg.norm(points, axis=1, keepdims=True)).astype(np.float32)


def statistics_of(points: np.ndarray, cuts: list[int] | None = None) -> PcaStatistics:
    total = PcaStatistics.empty(points.shape[1])
    for batch in np.split(points, cuts or []):
        part = PcaStatistics.empty(points.shape[1])
        part.update(batch)
        total.merge(part)
    return total


def test_equals_scikit_learn() -> None:
    points = embeddings()
    peer = PCA(5).fit(points.astype(np.float64))
    basis = fit_pca(statistics_of(points), 5)
    signs = np.sign(np.sum(peer.components_ * basis.components, axis=1))
    np.testing.assert_allclose(basis.components, peer.components_ * signs[:, None], atol=1e-5)
    np.testing.assert_allclose(project(points, basis), peer.transform(points) * signs, atol=1e-5)


def test_signs_are_fixed() -> None:
    components = fit_pca(statistics_of(embeddings()), 5).components
    assert (components[np.arange(5), np.abs(components).argmax(axis=1)] > 0).all()


@given(st.lists(st.integers(0, 200), max_size=5), st.booleans())
def test_batches_and_their_order_change_nothing(cuts: list[int], turned: bool) -> None:
    points = embeddings()
    whole = fit_pca(statistics_of(points), 4)
    other = fit_pca(statistics_of(points[::-1] if turned else points, sorted(cuts)), 4)
    np.testing.assert_allclose(other.components, whole.components, atol=1e-6)
    np.testing.assert_allclose(other.means, whole.means, atol=1e-9)


def test_the_basis_is_no_larger_than_the_rank() -> None:
    plane = embeddings(50, 2) @ np.array([[1, 0, 1, 0], [0, 1, 0, 1]], np.float32)
    assert fit_pca(statistics_of(plane), 4).n_components == 2
    assert fit_pca(statistics_of(embeddings(3)), 10).n_components == 2
    equal = np.ones((5, 3), np.float32)
    assert fit_pca(statistics_of(equal), 3).n_components == 1


def test_the_mean_in_the_encoder_space_projects_to_the_mean() -> None:
    points = embeddings().astype(np.float64)
    basis = fit_pca(statistics_of(points), 5)
    members = points[:40]
    projected = project(members.mean(axis=0, keepdims=True), basis)[0]
    np.testing.assert_allclose(projected, project(members, basis).mean(axis=0), atol=1e-12)


def test_table_round_trip() -> None:
    points = embeddings()
    basis = fit_pca(statistics_of(points), 5)
    table = basis_to_table(basis, dim=12)
    assert table.column_names == [column.name for column in schemas.SEGMENT_SPACE.columns]
    again = basis_from_table(pa.concat_tables([table.slice(3), table.slice(0, 3)]))
    assert again is not None
    np.testing.assert_array_equal(project(points, again), project(points, basis))


def test_no_basis_is_an_empty_table_and_leaves_embeddings_alone() -> None:
    table = basis_to_table(None, dim=12)
    assert table.num_rows == 0
    assert basis_from_table(table) is None
    points = embeddings()
    assert project(points, None) is points


def test_no_embeddings() -> None:
    with pytest.raises(DataError, match="nothing to cluster"):
        fit_pca(PcaStatistics.empty(3), 2)
