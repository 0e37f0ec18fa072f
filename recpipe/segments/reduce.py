"""Principal components of the embeddings, from statistics gathered batch by batch.

Count, sum and Gram matrix are all PCA needs, and they add up: 10 times the users cost 10
times the time and the same memory (d × d float64).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from recpipe import schemas
from recpipe.errors import DataError

NO_VARIANCE = 1e-9
"""Share of the largest variance below which a component is rounding, not data."""


@dataclass(slots=True)
class PcaStatistics:
    """Sufficient statistics of the embeddings seen."""

    count: int
    sum: np.ndarray  # (dim,) float64
    gram: np.ndarray  # (dim, dim) float64, sum of z zᵀ

    @classmethod
    def empty(cls, dim: int) -> PcaStatistics:
        """Return the statistics of no embeddings."""
        return cls(0, np.zeros(dim), np.zeros((dim, dim)))

    def update(self, embeddings: np.ndarray) -> None:
        """Add embeddings (n, dim), finite; users without one are left out by the caller."""
        assert embeddings.ndim == 2 and embeddings.shape[1] == len(self.sum)
        values = np.asarray(embeddings, np.float64)  # float32 sums drift past 1e6 rows
        self.count += len(values)
        self.sum += values.sum(axis=0)
        self.gram += values.T @ values

    def merge(self, other: PcaStatistics) -> None:
        """Add the statistics of other embeddings."""
        self.count += other.count
        self.sum += other.sum
        self.gram += other.gram

    @property
    def mean(self) -> np.ndarray:
        """(dim,) float64."""
        return self.sum / max(self.count, 1)


@dataclass(frozen=True, slots=True)
class PcaBasis:
    """A centred, lower-dimensional space.

    Attributes:
        components: (n_components, dim) float32, orthonormal rows, largest variance first.
        means: (n_components,) float64, projection of the mean embedding.
    """

    components: np.ndarray
    means: np.ndarray

    @property
    def n_components(self) -> int:
        """Number of components: fewer than asked for where the data have a lower rank."""
        return len(self.components)


def fit_pca(statistics: PcaStatistics, n_components: int) -> PcaBasis:
    """Return the leading principal components.

    The covariance's eigenvectors, as in Pearson (1901); each is signed so that its entry
    of largest magnitude is positive. Where the embeddings have a rank below
    `n_components` (few users, equal users), the basis is that much smaller, at least 1.

    Raises:
        DataError: No embeddings.
    """
    if statistics.count == 0:
        raise DataError(
            "no user has an embedding: nothing to cluster",
            next_step="give users a text or interactions with items that have text, then run: recpipe embed-users",
        )
    mean = statistics.mean
    covariance = statistics.gram / statistics.count - np.outer(mean, mean)
    variances, vectors = np.linalg.eigh(covariance)  # ascending
    variances, vectors = variances[::-1], vectors[:, ::-1]
    rank = int(np.sum(variances > max(variances[0] * NO_VARIANCE, np.finfo(np.float64).tiny)))
    n_kept = max(1, min(n_components, rank, max(statistics.count - 1, 1)))
    components = vectors[:, :n_kept].T
    largest = np.take_along_axis(components, np.abs(components).argmax(axis=1)[:, None], axis=1)
    components = (components * np.sign(largest)).astype(np.float32)
    # From the float32 components, so that a basis read back from its table projects alike.
    return PcaBasis(components, components.astype(np.float64) @ mean)


def project(embeddings: np.ndarray, basis: PcaBasis | None) -> np.ndarray:
    """Return embeddings in the clustered space, in their own float type.

    Linear and affine: the projection of a mean is the mean of the projections, so a
    centre can be kept in the encoder's space and projected when it is needed.

    Args:
        embeddings: (n, dim).
        basis: None leaves the embeddings as they are.
    """
    if basis is None:
        return embeddings
    assert embeddings.shape[1] == basis.components.shape[1]
    components = basis.components.astype(embeddings.dtype)
    return np.asarray(embeddings @ components.T - basis.means.astype(embeddings.dtype))


def basis_to_table(basis: PcaBasis | None, *, dim: int) -> pa.Table:
    """Return segment_space; no rows without a basis."""
    components = np.empty((0, dim), np.float32) if basis is None else basis.components
    means = np.empty(0) if basis is None else basis.means
    flat = pa.array(np.ascontiguousarray(components, np.float32).ravel())
    columns = {
        schemas.COMPONENT.name: pa.array(np.arange(len(components), dtype=np.int32)),
        schemas.COMPONENT_MEAN.name: pa.array(np.asarray(means, np.float64)),
        schemas.COMPONENT_VECTOR.name: pa.FixedSizeListArray.from_arrays(flat, dim),
    }
    return pa.table(columns)


def basis_from_table(table: pa.Table) -> PcaBasis | None:
    """Read segment_space back; None when it has no rows."""
    if table.num_rows == 0:
        return None
    table = table.sort_by(schemas.COMPONENT.name).combine_chunks()
    vectors = table.column(schemas.COMPONENT_VECTOR.name)
    components = np.concatenate([chunk.flatten().to_numpy() for chunk in vectors.chunks]).astype(np.float32)
    means = table.column(schemas.COMPONENT_MEAN.name).to_numpy()
    return PcaBasis(components.reshape(table.num_rows, -1), means)
