"""Passes over users that fit and describe segments, one batch in memory at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recpipe import logs, seeding
from recpipe.attributes import AttributeValue, ItemAttributes, ValueCounts, choose_values, item_attributes
from recpipe.errors import DataError
from recpipe.segments.behaviour import compute_features
from recpipe.segments.evidence import SegmentEvidence
from recpipe.segments.features import (
    ITEM_COLUMNS,
    USER_COLUMNS,
    FeatureSpace,
    FeatureStatistics,
    Kind,
    choose_attributes,
    plan_features,
)
from recpipe.segments.kmeans import CentreStatistics, assign, fit_kmeans, order_by_size, settled
from recpipe.segments.labels import describe_segments
from recpipe.segments.profiles import assign_users, centres_from_table, segment_table
from recpipe.segments.reduce import PcaBasis, PcaStatistics, basis_from_table, basis_to_table, fit_pca, project
from recpipe.segments.settings import ClusterSettings
from recpipe.segments.silhouette import SilhouetteCurve, choose_n_clusters
from recpipe.stages.pipeline.profiling import Members, Space
from recpipe.store.artifacts import ArtifactReader

BATCH_USERS = 8192


@dataclass(frozen=True)
class Fitted:
    """A fitted space and what its tables are made of.

    Attributes:
        silhouette: What the number of segments was chosen by; None where the settings state it.
    """

    space: Space
    attributes: ItemAttributes
    user_values: tuple[AttributeValue, ...]
    feature_statistics: FeatureStatistics
    silhouette: SilhouetteCurve | None

    def feature_table(self) -> pa.Table:
        """Return profile_features."""
        return self.space.features.to_table(self.feature_statistics.mean, self.feature_statistics.scale)

    def basis_table(self) -> pa.Table:
        """Return segment_space."""
        return basis_to_table(self.space.basis, dim=len(self.space.mean))


def fit_space(members: Members, items: ArtifactReader | None, settings: ClusterSettings, *, seed: int) -> Fitted:
    """Fit features, PCA and K-means.

    Raises:
        DataError: No user has an embedding, or fewer distinct ones than clusters.
    """
    options = settings.features
    item_counts = ValueCounts(options.list_separator, ITEM_COLUMNS)
    for batch in items.batches() if items else ():
        item_counts.update(batch)
    user_counts = ValueCounts(options.list_separator, USER_COLUMNS)
    for batch in members.users.batches():
        user_counts.update(batch)
    values = choose_attributes(item_counts, options)
    attributes = item_attributes(values, items.batches() if items else (), separator=options.list_separator)
    features = plan_features(
        values,
        user_counts,
        options,
        has_ratings=members.events is not None and members.events.has_ratings,
        has_timestamps=members.events is not None and members.events.has_timestamps,
    )
    user_values = choose_values(
        user_counts,
        [name for name in user_counts.repeating() if name not in user_counts.numbers],
        max_values=options.max_values,
    )
    statistics = _feature_statistics(members, features, attributes)
    centres, mean, basis, silhouette = _fit_centres(members, settings, seed=seed)
    space = Space(centres, mean, basis, features, statistics.mean)
    return Fitted(space, attributes, user_values, statistics, silhouette)


def read_space(
    segments: ArtifactReader, basis: ArtifactReader, features: ArtifactReader, items: ArtifactReader | None
) -> tuple[Space, ItemAttributes]:
    """Read an existing space back, for `cluster.fit: false`."""
    centres, mean = centres_from_table(segments.table())
    space, feature_mean, _ = FeatureSpace.from_table(features.table())
    values = [
        AttributeValue(feature.source_column or "", feature.source_value or "")
        for feature in space.features
        if feature.kind is Kind.SHARE
    ]
    attributes = item_attributes(values, items.batches() if items else (), separator=space.separator)
    return Space(centres, mean, basis_from_table(basis.table()), space, feature_mean), attributes


def describe(fitted: Fitted, members: Members, items: ArtifactReader | None, settings: ClusterSettings) -> pa.Table:
    """Return segments: sizes, centres, labels, characteristic items."""
    space = fitted.space
    item_ids = items.table([items.artifact.key[0]]).column(0).to_pylist() if items else []
    evidence = SegmentEvidence.empty(
        n_segments=len(space.centres),
        n_items=len(item_ids),
        user_values=fitted.user_values,
        separator=settings.features.list_separator,
    )
    n_without = 0
    for start, stop in _batches(members, "describing segments"):
        vectors, present = members.vectors(start, stop)
        assignment = assign_users(vectors, present, space.centres, mean=space.mean, basis=space.basis)
        users = members.rows(start, stop)
        evidence.update(assignment.segments, users, members.histories(users))
        n_without += int((~present).sum())
    descriptions = describe_segments(
        evidence,
        fitted.attributes,
        items.batches() if items else (),
        n_terms=settings.label_terms,
        n_items=settings.label_items,
    )
    return segment_table(
        space.centres, evidence.sizes, descriptions, item_ids=item_ids, n_without=n_without, mean=space.mean
    )


def _batches(members: Members, label: str) -> Iterator[tuple[int, int]]:
    n_users = members.users.rows
    with logs.progress(n_users, label, "users") as progress:
        for start in range(0, n_users, BATCH_USERS):
            stop = min(start + BATCH_USERS, n_users)
            yield start, stop
            progress.advance(stop - start)


def _feature_statistics(members: Members, features: FeatureSpace, attributes: ItemAttributes) -> FeatureStatistics:
    statistics = FeatureStatistics.empty(len(features.features))
    for start, stop in _batches(members, "behaviour features"):
        users = members.rows(start, stop)
        statistics.update(
            compute_features(features, users, members.histories(users), attributes, as_of_us=members.as_of_us)
        )
    return statistics


def _fit_centres(
    members: Members, settings: ClusterSettings, *, seed: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], PcaBasis | None, SilhouetteCurve | None]:
    """Return centres (n_clusters, dim), the mean embedding (dim,), the basis and what chose n_clusters."""
    dim = members.vectors(0, 1)[0].shape[1]
    statistics = PcaStatistics.empty(dim)
    sampled = _sampled_rows(members.users.rows, settings.sample_rows, seed)
    sample: list[NDArray[np.float32]] = []
    for start, stop in _batches(members, "principal components"):
        vectors, present = members.vectors(start, stop)
        statistics.update(vectors[present])
        sample.append(vectors[present & sampled[start:stop]])
    basis = fit_pca(statistics, settings.pca_dim) if settings.pca_dim is not None else None
    if statistics.count == 0:
        raise DataError(
            "no user has an embedding: nothing to cluster", next_step="recpipe inspect work/user_embeddings.parquet"
        )
    if basis is not None and settings.pca_dim is not None and basis.n_components < settings.pca_dim:
        logs.get().info("cluster.pca_dim is %d, the embeddings span %d", settings.pca_dim, basis.n_components)
    chosen = np.concatenate(sample)
    points = project(chosen, basis)
    n_clusters, silhouette = _n_clusters(points, settings, seed=seed)
    in_space = fit_kmeans(points, n_clusters=n_clusters, seed=seed, n_init=settings.n_init, max_iter=settings.max_iter)
    current = CentreStatistics.empty(n_clusters=n_clusters, dim=dim)
    current.update(chosen, assign(points, in_space)[0])
    centres = current.centres(np.zeros((n_clusters, dim)))
    for _ in range(settings.max_iter):
        previous, current = current, _assigned(members, centres, basis)
        centres = current.centres(centres)
        if settled(previous, current):
            break
    else:
        logs.get().warning("K-means had not settled after %d passes (cluster.max_iter)", settings.max_iter)
    order = order_by_size(current.counts)
    return centres[order], current.mean, basis, silhouette


def _n_clusters(
    points: NDArray[np.floating[Any]], settings: ClusterSettings, *, seed: int
) -> tuple[int, SilhouetteCurve | None]:
    """Return the number of segments: as set, or by silhouette."""
    if settings.n_clusters != "auto":
        return settings.n_clusters, None
    curve = choose_n_clusters(
        points,
        low=settings.min_clusters,
        high=settings.max_clusters,
        max_rows=settings.silhouette_rows,
        seed=seed,
        n_init=settings.n_init,
        max_iter=settings.max_iter,
    )
    tried = ", ".join(f"{n}: {score:.3f}" for n, score in curve.scores)
    logs.get().info(
        "cluster.n_clusters auto: %d segments (mean silhouette of %d users by number: %s)",
        curve.n_clusters,
        curve.n_rows,
        tried or f"none, as they are only {curve.n_distinct} different ones",
    )
    return curve.n_clusters, curve


def _assigned(members: Members, centres: NDArray[np.float64], basis: PcaBasis | None) -> CentreStatistics:
    """One Lloyd step over all users: who is nearest to which centre."""
    statistics = CentreStatistics.empty(n_clusters=len(centres), dim=centres.shape[1])
    in_space = project(centres, basis)
    for start, stop in _batches(members, "K-means"):
        vectors, present = members.vectors(start, stop)
        segments, _ = assign(project(vectors[present], basis), in_space)
        statistics.update(vectors[present], segments)
    return statistics


def _sampled_rows(n_rows: int, sample_rows: int, seed: int) -> NDArray[np.bool_]:
    sampled = np.ones(n_rows, bool)
    if n_rows > sample_rows:
        sampled[:] = False
        sampled[seeding.generator(seed, "cluster-sample").choice(n_rows, sample_rows, replace=False)] = True
    return sampled
