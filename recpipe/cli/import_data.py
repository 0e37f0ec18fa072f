"""`recpipe import`: foreign layouts into recpipe's tables."""

from __future__ import annotations

from pathlib import Path

import click

from recpipe.cli import options

_MOVIELENS_TABLES = ("items", "interactions", "users", "tags")
_AMAZON_TABLES = ("items", "interactions")

_SOURCE = click.argument("source", metavar="PATH", type=click.Path(path_type=Path))
_TO = click.option(
    "--to", "folder", type=click.Path(path_type=Path, file_okay=False), required=True, help="Folder to write to."
)
_MAX_BAD_ROWS = click.option(
    "--max-bad-rows",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="More bad rows than this in one file fail the import; all go to bad_<table>.parquet.",
)


@click.group("import", short_help="Convert a foreign data set into recpipe's tables.")
def command() -> None:
    """Convert a foreign layout. CSV, TSV, JSONL and Parquet tables need no import: name them in `data`."""


@command.command("movielens", short_help="GroupLens' MovieLens, every release, folder or zip.")
@_SOURCE
@_TO
@_MAX_BAD_ROWS
@options.REPLACE
@options.LOG_FORMAT
@options.DEBUG
def movielens(source: Path, folder: Path, max_bad_rows: int, force: bool, log_format: str, debug: bool) -> None:
    """Write items.parquet and interactions.parquet, users.parquet (ml-100k, ml-1m) and tags.parquet (ml-10m and later).

    PATH is the zip as downloaded, or its folder: ml-100k, ml-1m, ml-10m, ml-20m, ml-25m, ml-32m, ml-latest,
    ml-latest-small. The layout is told by the files, not by the name.

    Files that an earlier import wrote are replaced; others of these names only with --force.

    \b
    Examples:
      recpipe import movielens ml-latest-small --to work/movielens
      recpipe import movielens ml-1m.zip --to work/movielens
    """
    from recpipe import logs
    from recpipe.cli.overwriting import overwriting
    from recpipe.ingest.movielens.convert import import_movielens

    with logs.stage("import"), overwriting(folder, _files(_MOVIELENS_TABLES), force=force):
        done = import_movielens(source, folder, max_bad_rows=max_bad_rows)
        logs.get().info(
            "layout %s: %d items, %d users with attributes, %d interactions, %d tags",
            *(done.layout, done.n_items, done.n_users, done.n_interactions, done.n_tags),
        )
        logs.get().info("done → %s", folder, extra=logs.fields(output=str(folder)))


@command.command("amazon-reviews", short_help="A category of Amazon Reviews 2023: reviews and metadata.")
@_SOURCE
@_TO
@click.option("--category", help="Which one, where the folder holds several, e.g. All_Beauty.")
@_MAX_BAD_ROWS
@options.REPLACE
@options.LOG_FORMAT
@options.DEBUG
def amazon_reviews(
    source: Path, folder: Path, category: str | None, max_bad_rows: int, force: bool, log_format: str, debug: bool
) -> None:
    """Write items.parquet and interactions.parquet from <Category>.jsonl.gz and meta_<Category>.jsonl.gz.

    PATH is the folder that holds the two files, or the file of the reviews with that of the metadata beside it;
    both may be unpacked (.jsonl). An item is a parent_asin.

    Files that an earlier import wrote are replaced; others of these names only with --force.

    \b
    Examples:
      recpipe import amazon-reviews downloads --category All_Beauty --to work/beauty
      recpipe import amazon-reviews All_Beauty.jsonl.gz --to work/beauty
    """
    from recpipe import logs
    from recpipe.cli.overwriting import overwriting
    from recpipe.ingest.amazon_reviews import import_amazon_reviews

    with logs.stage("import"), overwriting(folder, _files(_AMAZON_TABLES), force=force):
        done = import_amazon_reviews(source, folder, category=category, max_bad_rows=max_bad_rows)
        logs.get().info(
            "category %s: %d items, %d of them without metadata, %d interactions",
            *(done.category, done.n_items, done.n_without_metadata, done.n_interactions),
        )
        logs.get().info("done → %s", folder, extra=logs.fields(output=str(folder)))


def _files(tables: tuple[str, ...]) -> tuple[str, ...]:
    return (*(f"{name}.parquet" for name in tables), *(f"bad_{name}.parquet" for name in tables))
