"""Writing a world to files that people open: CSV, JSON lines, and Parquet for the truth."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from recpipe.ingest.simulate.interactions import INTERACTION_SCHEMA
from recpipe.ingest.simulate.people import USER_SCHEMA
from recpipe.ingest.simulate.rendering import AUDIO_FOLDER, IMAGES_FOLDER
from recpipe.ingest.simulate.settings import SimulateSettings
from recpipe.ingest.simulate.truth import TRUTH_ITEMS_FILE, TRUTH_USERS_FILE
from recpipe.ingest.simulate.world import World
from recpipe.schemas import TIMESTAMP

USERS_FILE = "users.csv"
ITEMS_FILE = "items.jsonl"
INTERACTIONS_FILE = "interactions.csv"


def write_world(world: World, folder: Path) -> list[Path]:
    """Write a world to a folder, which is made when it does not exist.

    A file appears under its name when it is complete; the same world gives the same bytes
    (Parquet: with the same version of pyarrow).

    Returns:
        The paths of users.csv, items.jsonl, interactions.csv, truth_users.parquet and
        truth_items.parquet. With media, the folders images and audio are written as well.

    Raises:
        UnavailableError: The world has pictures and Pillow is not installed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _write_media(world, folder)
    plan: list[tuple[str, Callable[[Iterator[pa.Table], Path], None], Iterator[pa.Table]]] = [
        (USERS_FILE, _write_users, world.users()),
        (ITEMS_FILE, _write_jsonl, world.items()),
        (INTERACTIONS_FILE, _write_interactions, world.interactions()),
        (TRUTH_USERS_FILE, _write_parquet, world.truth_users()),
        (TRUTH_ITEMS_FILE, _write_parquet, world.truth_items()),
    ]
    written = []
    for name, write, tables in plan:
        partial = folder / f".{name}.partial"
        write(tables, partial)
        written.append(partial.replace(folder / name))
    return written


def written_names(settings: SimulateSettings) -> tuple[str, ...]:
    """Return the names of all files and folders that `write_world` writes."""
    tables = (USERS_FILE, ITEMS_FILE, INTERACTIONS_FILE, TRUTH_USERS_FILE, TRUTH_ITEMS_FILE)
    return (*tables, IMAGES_FOLDER, AUDIO_FOLDER) if settings.media else tables


def _write_media(world: World, folder: Path) -> None:
    for name, content in world.media():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        partial = path.with_name(f".{path.name}.partial")
        partial.write_bytes(content)
        partial.replace(path)


def _readable_times(table: pa.Table) -> pa.Table:
    """Replace timestamps by ISO 8601 text, 2024-03-01T18:22:05Z."""
    place = table.schema.get_field_index(TIMESTAMP.name)
    text = pc.strftime(table.column(place).cast(pa.timestamp("s", tz="UTC")), format="%Y-%m-%dT%H:%M:%SZ")
    return table.set_column(place, TIMESTAMP.name, text)


def _write_users(tables: Iterator[pa.Table], path: Path) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(USER_SCHEMA.names)
        for table in tables:
            writer.writerows(zip(*(column.to_pylist() for column in table.columns), strict=True))


def _write_interactions(tables: Iterator[pa.Table], path: Path) -> None:
    # Arrow writes tens of millions of rows in seconds, but would quote every header and text;
    # nothing here needs quotes, and Arrow refuses to write what would.
    options = pa_csv.WriteOptions(include_header=False, quoting_style="none")
    with path.open("wb") as file:
        file.write((",".join(INTERACTION_SCHEMA.names) + "\n").encode())
        for table in tables:
            pa_csv.write_csv(_readable_times(table), file, write_options=options)


def _write_jsonl(tables: Iterator[pa.Table], path: Path) -> None:
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for table in tables:
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in table.to_pylist())


def _write_parquet(tables: Iterator[pa.Table], path: Path) -> None:
    first = next(tables)
    with pq.ParquetWriter(path, first.schema, compression="zstd") as writer:
        writer.write_table(first)
        for table in tables:
            writer.write_table(table)
