"""Artifacts as what models are given: the catalogue, and users block by block."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recpipe.errors import DataError
from recpipe.models.base import Histories, Items, Profiles
from recpipe.models.tables import Block
from recpipe.schemas import (
    BLOCK_PREFIX,
    CENTRE,
    EMBEDDING,
    FEATURES,
    INTERACTIONS,
    ITEM_EMBEDDINGS,
    ITEM_ID,
    ITEMS,
    SEGMENT,
    TITLE,
    USER_EMBEDDINGS,
    USER_ID,
    USER_PROFILES,
    USERS,
    Artifact,
)
from recpipe.stages.pipeline.events import Events, UserEvents, column_array
from recpipe.store.arrow import vector_matrix
from recpipe.store.artifacts import ArtifactReader

BLOCK_USERS = 4096


@dataclass(frozen=True)
class PopulationPaths:
    """Where the tables are; None where the model does not read them. Small: sent to workers."""

    users: Path
    items: Path
    interactions: Path
    item_embeddings: Path | None
    user_embeddings: Path | None
    user_profiles: Path | None
    as_of: datetime | None
    attributes: bool
    """Read the attribute columns of items and users."""


class Population:
    """The catalogue, held whole, and the users, read in blocks.

    Raises:
        DataError: Embeddings or profiles are not of these items or users.
    """

    def __init__(self, paths: PopulationPaths) -> None:
        self.users = ArtifactReader(paths.users, USERS)
        self._user_columns = [USER_ID.name, *(_attribute_columns(self.users) if paths.attributes else ())]
        self._attributes = paths.attributes
        self.items = _read_items(paths)
        self.events = UserEvents(ArtifactReader(paths.interactions, INTERACTIONS), self.items.ids)
        self.as_of_us = self.events.as_of_us(paths.as_of) if self.events.has_timestamps or paths.as_of else None
        self._embeddings = _aligned(paths.user_embeddings, USER_EMBEDDINGS, self.users)
        self._profiles = _aligned(paths.user_profiles, USER_PROFILES, self.users)

    def block(self, start: int, stop: int, *, only: NDArray[np.bool_] | None = None) -> tuple[Profiles, Histories]:
        """Return users `start` to `stop` of the users table.

        Args:
            only: bool (stop - start,): which of them; None: all.
        """
        table = self._rows(self.users, start, stop, only, self._user_columns)
        ids = column_array(table, USER_ID.name)
        profiles = Profiles.bare(ids)
        embeddings, embedded = profiles.embeddings, profiles.embedded
        features, segments, centres = profiles.features, profiles.segments, profiles.centres
        blocks = profiles.blocks
        if self._embeddings is not None:
            columns = [USER_ID.name, EMBEDDING.name, *_block_columns(self._embeddings)]
            rows = self._rows(self._embeddings, start, stop, only, columns)
            _require_same(rows, ids, self._embeddings)
            embeddings, embedded = vector_matrix(rows.column(EMBEDDING.name))
            blocks = _blocks(rows)
        if self._profiles is not None:
            columns = [USER_ID.name, FEATURES.name, SEGMENT.name, CENTRE.name]
            rows = self._rows(self._profiles, start, stop, only, columns)
            _require_same(rows, ids, self._profiles)
            features = vector_matrix(rows.column(FEATURES.name))[0]
            segments = np.asarray(rows.column(SEGMENT.name).to_numpy(), np.int32)
            centres = vector_matrix(rows.column(CENTRE.name))[0]
        histories = self.histories(self.events.of(ids))
        return (
            Profiles(
                user_ids=ids,
                embeddings=embeddings,
                embedded=embedded,
                features=features,
                segments=segments,
                centres=centres,
                attributes=table if self._attributes else None,
                blocks=blocks,
            ),
            histories,
        )

    def histories(self, events: Events) -> Histories:
        """Return events as histories over this catalogue; events of items it does not have are left out."""
        known = events.item_rows >= 0
        kept = np.concatenate([[0], np.cumsum(known)])
        return Histories(
            items=self.items,
            offsets=kept[events.offsets].astype(np.int64),
            item_rows=events.item_rows[known].astype(np.int32),
            ratings=None if events.ratings is None else events.ratings[known],
            timestamps_us=None if events.timestamps_us is None else events.timestamps_us[known],
            as_of_us=self.as_of_us,
        )

    def _rows(
        self, reader: ArtifactReader, start: int, stop: int, only: NDArray[np.bool_] | None, columns: list[str]
    ) -> pa.Table:
        table = reader.row_range(start, stop, columns)
        return table if only is None else table.filter(pa.array(only))

    def held_out(self, interactions: ArtifactReader) -> Callable[[], Iterator[tuple[Profiles, Histories]]]:
        """Return a pass over the same users, block by block, with other interactions as histories."""
        events = UserEvents(interactions, self.items.ids)

        def blocks() -> Iterator[tuple[Profiles, Histories]]:
            for start in range(0, self.users.rows, BLOCK_USERS):
                ids = column_array(
                    self.users.row_range(start, min(start + BLOCK_USERS, self.users.rows), [USER_ID.name]), USER_ID.name
                )
                yield Profiles.bare(ids), self.histories(events.of(ids))

        return blocks

    def blocks(self) -> Iterator[tuple[Profiles, Histories]]:
        """Yield all users, block by block, in the order of the users table."""
        for start in range(0, self.users.rows, BLOCK_USERS):
            yield self.block(start, min(start + BLOCK_USERS, self.users.rows))


def _read_items(paths: PopulationPaths) -> Items:
    # not the texts: no model asks for them, and they are most of the table
    reader = ArtifactReader(paths.items, ITEMS)
    named = [column.name for column in (ITEM_ID, TITLE) if reader.has(column)]
    table = reader.table([*named, *(_attribute_columns(reader) if paths.attributes else ())])
    ids = column_array(table, ITEM_ID.name)
    titles = column_array(table, TITLE.name) if TITLE.name in table.column_names else None
    bare = Items.bare(ids)
    embeddings, embedded, blocks = bare.embeddings, bare.embedded, bare.blocks
    if paths.item_embeddings is not None:
        reader = ArtifactReader(paths.item_embeddings, ITEM_EMBEDDINGS)
        vectors = reader.table()
        _require_same(vectors, ids, reader)
        embeddings, embedded = vector_matrix(vectors.column(EMBEDDING.name))
        blocks = _blocks(vectors)
    attributes = table if paths.attributes else None
    return Items(ids=ids, embeddings=embeddings, embedded=embedded, titles=titles, attributes=attributes, blocks=blocks)


def _block_columns(reader: ArtifactReader) -> list[str]:
    """Names of the vector columns of single blocks."""
    return [name for name in reader.columns if name.startswith(BLOCK_PREFIX)]


def _blocks(table: pa.Table) -> Mapping[str, Block]:
    """Read the blocks of a table by name."""
    names = [name for name in table.column_names if name.startswith(BLOCK_PREFIX)]
    return {name.removeprefix(BLOCK_PREFIX): Block(*vector_matrix(table.column(name))) for name in names}


def _attribute_columns(reader: ArtifactReader) -> list[str]:
    """Names of the columns that are neither key nor text nor media."""
    declared = {column.name for column in reader.artifact.columns}
    return [name for name in reader.columns if name not in declared]


def _aligned(path: Path | None, artifact: Artifact, users: ArtifactReader) -> ArtifactReader | None:
    if path is None:
        return None
    reader = ArtifactReader(path, artifact)
    _require_rows(reader, users)
    return reader


def _require_rows(reader: ArtifactReader, users: ArtifactReader) -> None:
    if reader.rows != users.rows:
        raise _mismatch(reader, f"{reader.rows:,} rows for {users.rows:,} users")


def _require_same(rows: pa.Table, ids: pa.Array, reader: ArtifactReader) -> None:
    if not column_array(rows, rows.column_names[0]).equals(ids):
        raise _mismatch(reader, "its ids are not those of the source table, in its order")


def _mismatch(reader: ArtifactReader, what: str) -> DataError:
    from recpipe.stages.pipeline.registry import producer

    return DataError(
        f"{reader.artifact.name} does not fit: {what}",
        where=str(reader.path),
        next_step=f"run: recpipe {producer(reader.artifact).command}",
    )
