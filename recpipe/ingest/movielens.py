"""Importing GroupLens' folders ml-latest and ml-latest-small.

F. M. Harper and J. A. Konstan, "The MovieLens Datasets: History and Context", ACM TiiS 5(4), 2015.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from recpipe import schemas
from recpipe.errors import DataError, MissingInputError
from recpipe.ingest.entities import canonical_items
from recpipe.ingest.interactions import canonical_interactions
from recpipe.ingest.publish import finish, temporary_for
from recpipe.ingest.settings import ColumnMaps, DataSettings, KeptColumns, ListColumns, TextColumns
from recpipe.ingest.sources import SourceFile, find_sources
from recpipe.ingest.tables import CanonicalTable

GENRES, YEAR = "genres", "year"
_HEADERS = {
    "ratings.csv": "userId,movieId,rating,timestamp",
    "movies.csv": "movieId,title,genres",
    "tags.csv": "userId,movieId,tag,timestamp",
}
_NO_GENRES = "(no genres listed)"
_YEAR = re.compile(r"^(?P<title>.*\S)\s*\((?P<year>\d{4})(?:[-–]\d{0,4})?\)\s*$")
_ARTICLES = r"The|A|An|Le|La|Les|L'|El|Los|Las|Il|Lo|Gli|I|Der|Die|Das|Den|Det|En|Ein|Eine|Un|Une|Una|O|Os|As|Al"
_INVERTED = re.compile(rf"^(?P<rest>.+), (?P<article>{_ARTICLES})(?P<more> \(.*\))?$")
_ALIAS = re.compile(r"\(([^()]*)\)")
_LAYOUTS = "expected GroupLens' ml-latest or ml-latest-small, unpacked: ratings.csv, movies.csv and tags.csv"


@dataclass(frozen=True, slots=True)
class Imported:
    """What `import_movielens` wrote."""

    items: Path
    interactions: Path
    tags: Path
    n_items: int
    n_interactions: int
    n_tags: int


def import_movielens(source: Path, target: Path) -> Imported:
    """Convert a MovieLens folder to items.parquet, interactions.parquet and tags.parquet.

    Items get a title in reading order ("Matrix, The (1999)" becomes "The Matrix"), the year
    as an int, genres as a list, and the genres once more as `text`, to be embedded after the
    title. The year stays out of the text: it is an attribute, and films of one year are not
    alike. Tags were given by users and go to a file of their own, never to items. Each file
    is published whole or not at all.

    Args:
        source: Folder with ratings.csv, movies.csv and tags.csv.
        target: Folder to write to; made where it is absent.

    Raises:
        MissingInputError: The folder or one of its files is absent.
        DataError: A file has another layout, or a row is bad.
    """
    files = {name: _file(source, name) for name in _HEADERS}
    target.mkdir(parents=True, exist_ok=True)
    items_path, interactions_path, tags_path = (
        target / name for name in ("items.parquet", "interactions.parquet", "tags.parquet")
    )
    scratch = target / f".import-{os.getpid()}"
    try:
        movies = canonical_items(
            files["movies.csv"],
            _settings(items={"item_id": "movieId"}),
            scratch=scratch,
            quarantine=target / "bad_items.parquet",
        )
        n_items = _publish(items_path, (_describe(table) for table in movies.batches()))
        ratings = _events(
            files["ratings.csv"], keep=[], scratch=scratch, quarantine=target / "bad_interactions.parquet"
        )
        n_interactions = _publish(interactions_path, ratings.batches())
        tags = _events(files["tags.csv"], keep=["tag"], scratch=scratch, quarantine=target / "bad_tags.parquet")
        n_tags = _publish(tags_path, map(_tags, tags.batches()))
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return Imported(items_path, interactions_path, tags_path, n_items, n_interactions, n_tags)


def split_title(title: str) -> tuple[str, int | None]:
    """Return title in reading order and year: "Matrix, The (1999)" gives ("The Matrix", 1999)."""
    match = _YEAR.match(title.strip())
    year = int(match["year"]) if match else None
    plain = match["title"] if match else title.strip()
    plain = _ALIAS.sub(lambda alias: f"({_reading_order(alias[1])})", plain)
    return _reading_order(plain), year


def _reading_order(title: str) -> str:
    match = _INVERTED.match(title)
    if not match:
        return title
    space = "" if match["article"].endswith("'") else " "
    return f"{match['article']}{space}{match['rest']}{match['more'] or ''}"


def _file(source: Path, name: str) -> list[SourceFile]:
    if not source.is_dir():
        raise MissingInputError("folder not found", where=str(source), next_step=_LAYOUTS)
    if not (source / name).is_file():
        other = (
            "; this looks like ml-1m or ml-100k" if any(source.glob("*.dat")) or (source / "u.data").exists() else ""
        )
        raise MissingInputError(f"{name} is not there{other}", where=str(source), next_step=_LAYOUTS)
    with (source / name).open(encoding="utf-8-sig") as file:
        header = file.readline().strip()
    if header != _HEADERS[name]:
        raise DataError(
            f"the header is {header!r}, not {_HEADERS[name]!r}", where=f"{source / name}, line 1", next_step=_LAYOUTS
        )
    return find_sources(source / name, table=name)


def _settings(
    *, items: dict[str, str] | None = None, interactions: dict[str, str] | None = None, keep: list[str] | None = None
) -> DataSettings:
    return DataSettings(
        columns=ColumnMaps(items=dict(items or {}), interactions=dict(interactions or {})),
        list_columns=ListColumns(items={GENRES: "|"}),
        text_columns=TextColumns(interactions=[schemas.TAG.name]),
        keep=KeptColumns(interactions=keep),
        timestamp_unit="s",
        max_bad_rows=0,
    )


def _events(files: list[SourceFile], *, keep: list[str], scratch: Path, quarantine: Path) -> CanonicalTable:
    names = {schemas.USER_ID.name: "userId", schemas.ITEM_ID.name: "movieId"}
    return canonical_interactions(
        files,
        _settings(interactions=names, keep=keep),
        user_ids=None,
        item_ids=None,
        scratch=scratch,
        quarantine=quarantine,
    )


def _describe(movies: pa.Table) -> pa.Table:
    titles = [split_title(title) for title in movies.column(schemas.TITLE.name).to_pylist()]
    genres = [[genre for genre in row or [] if genre != _NO_GENRES] for row in movies.column(GENRES).to_pylist()]
    return pa.table(
        {
            schemas.ITEM_ID.name: movies.column(schemas.ITEM_ID.name),
            schemas.TITLE.name: pa.array([title for title, _ in titles], pa.string()),
            schemas.TEXT.name: pa.array([", ".join(row) or None for row in genres], pa.string()),
            YEAR: pa.array([year for _, year in titles], pa.int64()),
            GENRES: pa.array(genres, pa.list_(pa.string())),
        }
    )


def _tags(table: pa.Table) -> pa.Table:
    given = table.filter(pc.is_valid(table.column(schemas.TAG.name)))
    names = [column.name for column in schemas.TAGS.columns]
    fields = [given.schema.field(name).with_nullable(False) for name in names]
    return given.select(names).cast(pa.schema(fields))


def _publish(path: Path, tables: Iterator[pa.Table]) -> int:
    """Write tables to one Parquet file, visible only when whole; return the number of rows."""
    temporary = temporary_for(path)
    n_rows = 0
    writer: pq.ParquetWriter | None = None
    try:
        with temporary.open("wb") as file:
            for table in tables:
                writer = writer or pq.ParquetWriter(file, table.schema)
                writer.write_table(table)
                n_rows += table.num_rows
            if writer is not None:
                writer.close()
        finish(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return n_rows
