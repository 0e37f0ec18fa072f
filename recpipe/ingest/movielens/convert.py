"""MovieLens' tables to recpipe's."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from recpipe import schemas
from recpipe.ingest.entities import canonical_items, canonical_users
from recpipe.ingest.imports import DELIMITER, ForeignFile, bad_rows, publish_canonical
from recpipe.ingest.interactions import canonical_interactions
from recpipe.ingest.movielens.layouts import (
    AGE,
    GENDER,
    GENRE_FLAGS,
    GENRES,
    MOVIE,
    OCCUPATION,
    RELEASED,
    USER,
    ZIP,
    Layout,
    Member,
    find_layout,
)
from recpipe.ingest.movielens.members import Members, open_members
from recpipe.ingest.movielens.staging import check_header, stage
from recpipe.ingest.movielens.titles import split_title
from recpipe.ingest.settings import ColumnMaps, DataSettings, KeptColumns, ListColumns, TextColumns

YEAR = "year"
_NO_GENRES = "(no genres listed)"
_USER_ID, _ITEM_ID, _TITLE = schemas.USER_ID.name, schemas.ITEM_ID.name, schemas.TITLE.name
_PROFILE = (AGE, GENDER, OCCUPATION, ZIP)


@dataclass(frozen=True, slots=True)
class Imported:
    """What `import_movielens` wrote; users and tags are None in layouts without them."""

    layout: str
    items: Path
    interactions: Path
    users: Path | None
    tags: Path | None
    n_items: int
    n_interactions: int
    n_users: int
    n_tags: int


def import_movielens(source: Path, target: Path, *, max_bad_rows: int = 0) -> Imported:
    """Convert a MovieLens data set to items.parquet, interactions.parquet, users.parquet and tags.parquet.

    Items get a title in reading order ("Matrix, The (1999)" becomes "The Matrix"), the year
    as an int, genres as a list, and the genres once more as `text`, to be embedded after the
    title. The year stays out of the text: it is an attribute, and films of one year are not
    alike. Users get age, gender, occupation and zip, where ml-1m's codes become the words of its
    README. Tags were given by users and go to a file of their own, never to items. Each file
    is published whole or not at all; users and tags that an earlier import left are removed
    where the layout has none.

    Args:
        source: Folder or zip of a MovieLens release, or a folder around its folder.
        target: Folder to write to; made where it is absent.
        max_bad_rows: More bad rows than this in one table fail the import.

    Raises:
        MissingInputError: The source or one of its files is absent.
        DataError: A file has another layout or is damaged, or too many rows are bad.
    """
    scratch = target / f".import-{os.getpid()}"
    with open_members(source) as members:
        layout = find_layout(members.names, where=members.where)
        for member in layout.members():
            check_header(members, member)
        target.mkdir(parents=True, exist_ok=True)
        tables = _Tables(members, layout, target, scratch, max_bad_rows)
        try:
            n_items = tables.items()
            n_users = tables.users(layout.users)
            n_interactions = tables.interactions()
            n_tags = tables.tags(layout.tags)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    return Imported(
        layout.name,
        tables.path(schemas.ITEMS),
        tables.path(schemas.INTERACTIONS),
        tables.path(schemas.USERS) if layout.users else None,
        tables.path(schemas.TAGS) if layout.tags else None,
        n_items,
        n_interactions,
        n_users,
        n_tags,
    )


@dataclass(frozen=True, slots=True)
class _Tables:
    """Writes the tables one after the other; each method returns the number of rows."""

    members: Members
    layout: Layout
    target: Path
    scratch: Path
    max_bad_rows: int

    def path(self, artifact: schemas.Artifact) -> Path:
        return self.target / f"{artifact.name}.parquet"

    def items(self) -> int:
        member, settings = self.layout.movies, self._settings(self.layout.movies)
        file = stage(self.members, member, scratch=self.scratch)
        with bad_rows(file, scratch=self.scratch, target=self._bad(schemas.ITEMS)) as quarantine:
            films = canonical_items([file.source], settings, scratch=self.scratch, quarantine=quarantine)
        self._drop(file)
        return publish_canonical(self.path(schemas.ITEMS), films, map(_describe, films.batches()))

    def users(self, member: Member | None) -> int:
        if member is None:
            return self._without(schemas.USERS)
        file = stage(self.members, member, scratch=self.scratch)
        with bad_rows(file, scratch=self.scratch, target=self._bad(schemas.USERS)) as quarantine:
            people = canonical_users([file.source], self._settings(member), scratch=self.scratch, quarantine=quarantine)
        self._drop(file)
        tables = (_decode(table, self.layout.codes) for table in people.batches())
        return publish_canonical(self.path(schemas.USERS), people, tables)

    def interactions(self) -> int:
        return self._events(self.layout.ratings, schemas.INTERACTIONS)

    def tags(self, member: Member | None) -> int:
        if member is None:
            return self._without(schemas.TAGS)
        return self._events(member, schemas.TAGS)

    def _events(self, member: Member, artifact: schemas.Artifact) -> int:
        file = stage(self.members, member, scratch=self.scratch)
        with bad_rows(file, scratch=self.scratch, target=self._bad(artifact)) as quarantine:
            events = canonical_interactions(
                [file.source],
                self._settings(member),
                user_ids=None,
                item_ids=None,
                scratch=self.scratch,
                quarantine=quarantine,
            )
        self._drop(file)
        tables = map(_tags, events.batches()) if artifact is schemas.TAGS else events.batches()
        return publish_canonical(self.path(artifact), events, tables)

    def _settings(self, member: Member) -> DataSettings:
        tags = [schemas.TAG.name] if schemas.TAG.name in member.columns else []
        return DataSettings(
            columns=ColumnMaps(
                users={_USER_ID: USER}, items={_ITEM_ID: MOVIE}, interactions={_USER_ID: USER, _ITEM_ID: MOVIE}
            ),
            list_columns=ListColumns(items={GENRES: "|"}),
            # codes are looked up as text
            text_columns=TextColumns(users=[ZIP, *self.layout.codes], interactions=tags),
            keep=KeptColumns(users=list(_PROFILE), items=[GENRES, RELEASED, *GENRE_FLAGS], interactions=tags),
            timestamp_unit="s",
            max_bad_rows=self.max_bad_rows,
            max_bad_share=1.0,
            encoding="auto" if member.header else member.encoding,
            delimiter="," if member.header else DELIMITER,
            decimal=".",
            quoting=member.header,
        )

    def _bad(self, artifact: schemas.Artifact) -> Path:
        return self.target / f"bad_{artifact.name}.parquet"

    def _drop(self, file: ForeignFile) -> None:
        """Delete a converted file that has been read: the ratings of 32 million rows are 900 MB."""
        if file.source.path.parent == self.scratch:
            file.source.path.unlink()

    def _without(self, artifact: schemas.Artifact) -> int:
        self.path(artifact).unlink(missing_ok=True)
        self._bad(artifact).unlink(missing_ok=True)
        return 0


def _describe(films: pa.Table) -> pa.Table:
    titles = [split_title(title or "") for title in films.column(_TITLE).to_pylist()]
    genres = _genres(films)
    years = [year for _, year in titles]
    if RELEASED in films.column_names:
        # some titles of ml-100k end otherwise: "... (1995) (V)"
        years = [year or _year(day) for year, day in zip(years, films.column(RELEASED).to_pylist(), strict=True)]
    return pa.table(
        {
            _ITEM_ID: films.column(_ITEM_ID),
            _TITLE: pa.array([title for title, _ in titles], pa.string()),
            schemas.TEXT.name: pa.array([", ".join(row) or None for row in genres], pa.string()),
            YEAR: pa.array(years, pa.int64()),
            GENRES: pa.array(genres, pa.list_(pa.string())),
        }
    )


def _genres(films: pa.Table) -> list[list[str]]:
    if GENRES in films.column_names:
        return [[genre for genre in row or [] if genre != _NO_GENRES] for row in films.column(GENRES).to_pylist()]
    rows: list[list[str]] = [[] for _ in range(films.num_rows)]
    for genre in GENRE_FLAGS:
        for row, flag in zip(rows, films.column(genre).to_pylist(), strict=True):
            if str(flag) == "1":
                row.append(genre)
    return rows


def _year(day: str | None) -> int | None:
    """Return the year of a date such as "01-Jan-1995"."""
    year = (day or "")[-4:]
    return int(year) if year.isdecimal() else None


def _decode(people: pa.Table, codes: dict[str, dict[str, str]]) -> pa.Table:
    columns = {_USER_ID: people.column(_USER_ID)}
    for name in _PROFILE:
        columns[name] = people.column(name)
        if name in codes:
            # a code that the README does not know stays as it is
            words = [code if code is None else codes[name].get(code, code) for code in columns[name].to_pylist()]
            columns[name] = pa.array(words, pa.string())
    return pa.table(columns)


def _tags(table: pa.Table) -> pa.Table:
    given = table.filter(pc.is_valid(table.column(schemas.TAG.name)))
    names = [column.name for column in schemas.TAGS.columns]
    fields = [given.schema.field(name).with_nullable(False) for name in names]
    return given.select(names).cast(pa.schema(fields))
