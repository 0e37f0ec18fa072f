"""cluster: users into segments, and their profiles p = [x, c, centre of c]."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from pydantic import NonNegativeInt

from recpipe.config import Settings
from recpipe.schemas import (
    INTERACTIONS,
    ITEM_ID,
    ITEMS,
    PROFILE_FEATURES,
    SEGMENT_SPACE,
    SEGMENTS,
    USER_EMBEDDINGS,
    USER_PROFILES,
    USERS,
)
from recpipe.segments.settings import ClusterSettings
from recpipe.stages.base import Given, Input, Output, Stage

if TYPE_CHECKING:
    import pyarrow as pa

    from recpipe.stages.pipeline.context import StageContext
    from recpipe.stages.pipeline.profiling import Members
    from recpipe.stages.pipeline.segmenting import Fitted
    from recpipe.store.artifacts import ArtifactReader

SHARD_ROWS = 8192
_FIT = "--set cluster.fit=true"


class ClusterStageSettings(Settings):
    """What decides profiles and segments."""

    cluster: ClusterSettings
    as_of: datetime | None
    seed: NonNegativeInt


def _run(settings: ClusterStageSettings, context: StageContext) -> None:
    from recpipe.stages.pipeline.events import column_array
    from recpipe.stages.pipeline.profiling import Members, ProfileTask
    from recpipe.stages.pipeline.segmenting import fit_space, read_space

    items = context.read(ITEMS) if context.has(ITEMS) else None
    item_ids = column_array(items.table([ITEM_ID.name]), ITEM_ID.name) if items else _no_ids()
    interactions = context.path(INTERACTIONS) if context.has(INTERACTIONS) else None
    members = Members(
        users=context.path(USERS),
        embeddings=context.path(USER_EMBEDDINGS),
        interactions=interactions,
        item_ids=item_ids,
        as_of=settings.as_of,
    )
    members.require_aligned()
    if settings.cluster.fit:
        fitted = fit_space(members, items, settings.cluster, seed=settings.seed)
        space, attributes = fitted.space, fitted.attributes
    else:
        fitted = None
        space, attributes = read_space(
            context.read(SEGMENTS), context.read(SEGMENT_SPACE), context.read(PROFILE_FEATURES), items
        )
    if fitted is not None:
        # a part of a killed run belongs to that run's fit, which may have numbered segments otherwise
        context.forget_parts()
        _write_fit(fitted, members, items, settings, context)
    task = ProfileTask(
        members.users.path, members.embeddings.path, interactions, item_ids, attributes, space, settings.as_of
    )
    counts = context.map_rows(
        USER_PROFILES,
        task,
        n_rows=members.users.rows,
        shard_rows=SHARD_ROWS,
        unit="users",
        n_features=len(space.features.names),
    )
    if counts.get("without_segment"):
        context.log.info("%d users have no vector: segment -1", counts["without_segment"])
    context.log.info("%d segments of %d users", len(space.centres), members.users.rows)


def _write_fit(
    fitted: Fitted,
    members: Members,
    items: ArtifactReader | None,
    settings: ClusterStageSettings,
    context: StageContext,
) -> None:
    """Publish what was fitted, before the profiles that refer to it."""
    from recpipe.stages.pipeline.segmenting import describe

    dim = len(fitted.space.mean)
    with context.write(PROFILE_FEATURES) as writer:
        writer.write(fitted.feature_table())
        writer.commit()
    with context.write(SEGMENT_SPACE) as writer:
        writer.write(fitted.basis_table())
        writer.commit(dim=dim)
    with context.write(SEGMENTS) as writer:
        table = describe(fitted, members, items, settings.cluster)
        writer.write(table)
        chosen_by = fitted.silhouette.details() if fitted.silhouette else {}
        writer.commit(n_clusters=len(fitted.space.centres), **chosen_by)


def _no_ids() -> pa.Array:
    import pyarrow as pa

    return pa.array([], pa.string())


def _fits(settings: ClusterStageSettings, given: Given) -> bool:
    return settings.cluster.fit


def _assigns(settings: ClusterStageSettings, given: Given) -> bool:
    return not settings.cluster.fit


STAGE = Stage(
    name="cluster",
    summary="Group users into segments and build their profiles.",
    description="Compute behaviour features, reduce the user embeddings by PCA (`cluster.pca_dim`), group them by "
    "K-means (`cluster.n_clusters`, or by silhouette with `auto`) and describe each segment by what sets it apart. "
    "With `cluster.fit: false`, users are assigned to the existing segments, whose numbers stay as they are.",
    example="recpipe cluster -c config.yaml --set cluster.n_clusters=8",
    version=2,
    settings=ClusterStageSettings,
    reads=(
        Input(USER_EMBEDDINGS),
        Input(USERS),
        Input(INTERACTIONS, when=lambda settings, given: INTERACTIONS.name in given),
        Input(ITEMS, when=lambda settings, given: ITEMS.name in given),
        Input(SEGMENTS, when=_assigns, options=_FIT),
        Input(SEGMENT_SPACE, when=_assigns, options=_FIT),
        Input(PROFILE_FEATURES, when=_assigns, options=_FIT),
    ),
    writes=(
        Output(USER_PROFILES),
        Output(SEGMENTS, when=_fits),
        Output(SEGMENT_SPACE, when=_fits),
        Output(PROFILE_FEATURES, when=_fits),
    ),
    run=_run,
)
