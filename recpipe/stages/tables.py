"""The source tables: read, checked and published by the first stage that needs one.

Not commands: `recpipe embed-items` on three CSV files publishes `tables/items.parquet` on
its way. Each table is a stage all the same, so that staleness, locks and lineage are those
of every other artifact.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import create_model

from recpipe.config import Execution, Settings
from recpipe.errors import MissingInputError
from recpipe.ingest.settings import DataSettings
from recpipe.schemas import INTERACTIONS, ITEM_ID, ITEMS, USER_ID, USERS, Artifact
from recpipe.stages.base import Given, Input, Output, Stage
from recpipe.store.layout import View

if TYPE_CHECKING:
    import pyarrow as pa

    from recpipe.ingest.settings import Paths
    from recpipe.ingest.tables import CanonicalTable
    from recpipe.stages.pipeline.context import StageContext


class TableSettings(Settings):
    """What decides how source tables are read."""

    data: DataSettings


_OF_FILES = ("encoding", "delimiter", "quoting", "decimal")
_BY_TABLE = ("columns", "list_columns", "text_columns", "keep")


def _reading(section: type[Settings], names: Collection[str], **nested: type[Settings]) -> Any:
    """Derive a section of which a stage reads these fields only: the others stay out of its fingerprint."""
    fields: dict[str, Any] = {
        name: (Annotated[field.annotation, Execution()], field)
        for name, field in section.model_fields.items()
        if name not in names
    }
    fields |= {name: (kind, section.model_fields[name]) for name, kind in nested.items()}
    return create_model(section.__name__, __base__=section, __module__=__name__, **fields)


def _settings_of(table: Artifact, *own: str) -> type[TableSettings]:
    """Return settings in which only what concerns one table enters the fingerprint.

    Args:
        own: Keys of `data` that do not concern every table.
    """
    sections = {name: type(DataSettings.model_fields[name].default) for name in _BY_TABLE}
    nested = {name: _reading(section, [table.name]) for name, section in sections.items()}
    data = _reading(DataSettings, [*_OF_FILES, *own, *_BY_TABLE], **nested)
    return create_model(TableSettings.__name__, __base__=TableSettings, __module__=__name__, data=(data, ...))


def _files(table: Artifact, paths: Paths) -> list[Path]:
    """Return the source files of a table.

    Raises:
        MissingInputError: None is configured, or they are not there.
    """
    from recpipe.ingest.sources import find_sources

    if paths is None:
        raise MissingInputError(
            f"no {table.name} table is given",
            where=f"data.{table.name}",
            next_step=f"set data.{table.name} in the configuration, or pass --{table.name} PATH "
            f"(to run: --set data.{table.name}=PATH)",
        )
    return [source.path for source in find_sources(paths, table=table.name)]


def _quarantine(context: StageContext, table: Artifact) -> Path:
    """Return where the bad rows go, without what a killed run left there; the table's lock is held."""
    from recpipe.store.publish import sweep

    path = context.quarantine(table.name)
    sweep(path.parent, path.name)
    return path


def _publish(context: StageContext, artifact: Artifact, table: CanonicalTable) -> None:
    """Write a checked table and say what was wrong with it."""
    with context.write(artifact) as writer:
        for rows in table.batches():
            writer.write(rows)
        writer.commit(bad_rows=table.n_bad, bad_rows_by_reason=table.counts)
    table.delete()
    for note in table.notes:
        context.log.info("%s", note)
    if table.n_bad:
        reasons = ", ".join(f"{reason}: {count:,}" for reason, count in table.counts.items())
        context.log.warning(
            "%d bad rows left out of %s (%s); see %s",
            table.n_bad,
            artifact.name,
            reasons,
            context.quarantine(artifact.name),
        )


def _run_users(settings: TableSettings, context: StageContext) -> None:
    from recpipe.ingest.entities import canonical_users
    from recpipe.ingest.interactions import users_of
    from recpipe.ingest.sources import find_sources

    if settings.data.users is None:
        with context.write(USERS) as writer:
            for rows in users_of(context.read(INTERACTIONS).batches([USER_ID.name])):
                writer.write(rows)
            writer.commit(derived_from=INTERACTIONS.name)
        return
    sources = find_sources(settings.data.users, table=USERS.name)
    table = canonical_users(sources, settings.data, scratch=context.scratch, quarantine=_quarantine(context, USERS))
    _publish(context, USERS, table)


def _run_items(settings: TableSettings, context: StageContext) -> None:
    from recpipe.ingest.entities import canonical_items
    from recpipe.ingest.sources import find_sources

    assert settings.data.items is not None
    sources = find_sources(settings.data.items, table=ITEMS.name)
    table = canonical_items(sources, settings.data, scratch=context.scratch, quarantine=_quarantine(context, ITEMS))
    _publish(context, ITEMS, table)


def _run_interactions(settings: TableSettings, context: StageContext) -> None:
    from recpipe.ingest.interactions import canonical_interactions
    from recpipe.ingest.sources import find_sources
    from recpipe.stages.pipeline.events import column_array

    def ids(artifact: Artifact, name: str) -> pa.Array | None:
        return column_array(context.read(artifact).table([name]), name) if context.has(artifact) else None

    assert settings.data.interactions is not None
    sources = find_sources(settings.data.interactions, table=INTERACTIONS.name)
    table = canonical_interactions(
        sources,
        settings.data,
        user_ids=ids(USERS, USER_ID.name),
        item_ids=ids(ITEMS, ITEM_ID.name),
        scratch=context.scratch,
        quarantine=_quarantine(context, INTERACTIONS),
    )
    _publish(context, INTERACTIONS, table)


def _derived(settings: TableSettings, given: Given) -> bool:
    return USERS.name not in given


INTERACTION_SETTINGS = _settings_of(INTERACTIONS, "timestamp_unit", "rating_min", "rating_max")
"""How files of interactions are read; those of a split as well."""

TABLE_STAGES: dict[str, Stage[TableSettings]] = {
    USERS.name: Stage(
        name=USERS.name,
        summary="Read and check the users.",
        description="Read and check the users; without a table of them, take the users of the interactions.",
        example="",
        version=1,
        settings=_settings_of(USERS, "media_root"),
        reads=(Input(INTERACTIONS, when=_derived),),
        writes=(Output(USERS),),
        run=_run_users,
        files=lambda settings: _files(USERS, settings.data.users) if settings.data.users is not None else [],
        views=(View.PRODUCTION,),
    ),
    ITEMS.name: Stage(
        name=ITEMS.name,
        summary="Read and check the items.",
        description="Read and check the items.",
        example="",
        version=1,
        settings=_settings_of(ITEMS, "media_root"),
        reads=(),
        writes=(Output(ITEMS),),
        run=_run_items,
        files=lambda settings: _files(ITEMS, settings.data.items),
        views=(View.PRODUCTION,),
    ),
    INTERACTIONS.name: Stage(
        name=INTERACTIONS.name,
        summary="Read and check the interactions.",
        description="Read and check the interactions and sort them by user and time.",
        example="",
        version=1,
        settings=INTERACTION_SETTINGS,
        reads=(
            Input(USERS, when=lambda settings, given: USERS.name in given),
            Input(ITEMS, when=lambda settings, given: ITEMS.name in given),
        ),
        writes=(Output(INTERACTIONS),),
        run=_run_interactions,
        files=lambda settings: _files(INTERACTIONS, settings.data.interactions),
        views=(View.PRODUCTION,),
    ),
}
