"""Profiles p = [x, c, centre of c] of a batch of users, and the table of segments."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from recpipe import schemas
from recpipe.segments.kmeans import assign
from recpipe.segments.labels import SegmentDescription
from recpipe.segments.reduce import PcaBasis, project

NO_SEGMENT = -1
"""Segment of a user with nothing to embed."""

NO_SEGMENT_LABEL = "nothing known yet"


@dataclass(frozen=True, slots=True)
class Assignment:
    """Segments of a batch of users.

    Attributes:
        segments: (n_users,) int32, NO_SEGMENT without embedding.
        distances: (n_users,) float32, NaN without embedding.
        centres: (n_users, dim) float32, of the segment; the mean embedding without one.
    """

    segments: np.ndarray
    distances: np.ndarray
    centres: np.ndarray


def assign_users(
    embeddings: np.ndarray,
    present: np.ndarray,
    centres: np.ndarray,
    *,
    mean: np.ndarray,
    basis: PcaBasis | None,
) -> Assignment:
    """Assign users to the nearest centre in the clustered space.

    Args:
        embeddings: (n_users, dim) float32; rows that are not present are ignored.
        present: (n_users,) bool, whether the user has an embedding.
        centres: (n_clusters, dim), in the encoder's space.
        mean: (dim,), the mean of all embeddings.
        basis: Of the clustered space; None clusters in the encoder's space.
    """
    assert embeddings.shape == (len(present), centres.shape[1]) and mean.shape == centres.shape[1:]
    segments = np.full(len(present), NO_SEGMENT, np.int32)
    distances = np.full(len(present), np.nan, np.float32)
    points = project(embeddings[present], basis)
    segments[present], distances[present] = assign(points, project(np.asarray(centres, np.float64), basis))
    with_mean = np.concatenate([centres, mean[None]]).astype(np.float32)  # row -1 is the mean
    return Assignment(segments, distances, with_mean[segments])


def profile_table(user_ids: pa.ChunkedArray, features: np.ndarray, assignment: Assignment) -> pa.Table:
    """Return user_profiles of a batch.

    Args:
        user_ids: (n_users,) string.
        features: (n_users, n_features), finite: unknown values are filled.
    """
    assert np.isfinite(features).all() and len(user_ids) == len(features) == len(assignment.segments)
    distances = assignment.distances
    columns = {
        schemas.USER_ID.name: user_ids,
        schemas.FEATURES.name: _vectors(features),
        schemas.SEGMENT.name: pa.array(assignment.segments, pa.int32()),
        schemas.CENTRE.name: _vectors(assignment.centres),
        schemas.DISTANCE.name: pa.array(distances, pa.float32(), mask=np.isnan(distances)),
    }
    return pa.table(columns)


def _vectors(matrix: np.ndarray) -> pa.FixedSizeListArray:
    flat = pa.array(np.ascontiguousarray(matrix, np.float32).ravel())
    return pa.FixedSizeListArray.from_arrays(flat, matrix.shape[1])


def segment_table(
    centres: np.ndarray,
    sizes: np.ndarray,
    descriptions: Sequence[SegmentDescription],
    *,
    item_ids: Sequence[str],
    n_without: int,
    mean: np.ndarray,
) -> pa.Table:
    """Return segments.

    Args:
        centres: (n_clusters, dim), in the encoder's space.
        sizes: (n_clusters,) members.
        descriptions: One per cluster.
        item_ids: Ids in the order of the items table.
        n_without: Users with nothing to embed; if there are any they get the last row, number -1.
        mean: (dim,), the mean of all embeddings.
    """
    assert len(centres) == len(sizes) == len(descriptions)
    n_users = int(np.sum(sizes)) + n_without
    rows = [(number, int(size), text) for number, (size, text) in enumerate(zip(sizes, descriptions, strict=True))]
    if n_without:
        rows.append((NO_SEGMENT, n_without, SegmentDescription(NO_SEGMENT_LABEL, (), (), ())))
        centres = np.concatenate([centres, mean[None]])
    strings = pa.list_(pa.string())
    columns = {
        schemas.SEGMENT.name: pa.array([number for number, _, _ in rows], pa.int32()),
        schemas.SIZE.name: pa.array([size for _, size, _ in rows], pa.int64()),
        schemas.SHARE.name: pa.array([size / max(n_users, 1) for _, size, _ in rows], pa.float32()),
        schemas.LABEL.name: pa.array([text.label for _, _, text in rows], pa.string()),
        schemas.TERMS.name: pa.array([list(text.terms) for _, _, text in rows], strings),
        schemas.TOP_ITEMS.name: pa.array([[item_ids[row] for row in text.item_rows] for _, _, text in rows], strings),
        schemas.TOP_TITLES.name: pa.array([list(text.titles) for _, _, text in rows], strings),
        schemas.CENTRE.name: _vectors(centres),
    }
    return pa.table(columns)


def centres_from_table(segments: pa.Table) -> tuple[np.ndarray, np.ndarray]:
    """Read what `cluster.fit: false` needs from segments.

    Returns:
        Centres (n_clusters, dim) float32 in the order of the segment numbers, and the
        mean of all embeddings (dim,) float64, from the sizes.
    """
    ordered = segments.sort_by(schemas.SEGMENT.name).combine_chunks()
    numbers = ordered.column(schemas.SEGMENT.name).to_numpy()
    vectors = ordered.column(schemas.CENTRE.name)
    flat = np.concatenate([chunk.flatten().to_numpy() for chunk in vectors.chunks])
    centres = flat.reshape(len(numbers), -1).astype(np.float32)[numbers >= 0]
    sizes = ordered.column(schemas.SIZE.name).to_numpy().astype(np.float64)[numbers >= 0]
    return centres, sizes @ centres / max(sizes.sum(), 1.0)
