"""`recpipe import`: foreign layouts into recpipe's tables."""

from __future__ import annotations

from pathlib import Path

import click

from recpipe.cli import options

_TABLES = ("items", "interactions", "tags")
_MOVIELENS_FILES = (*(f"{name}.parquet" for name in _TABLES), *(f"bad_{name}.parquet" for name in _TABLES))


@click.group("import", short_help="Convert a foreign data set into recpipe's tables.")
def command() -> None:
    """Convert a foreign layout. CSV, TSV, JSONL and Parquet tables need no import: name them in `data`."""


@command.command("movielens", short_help="GroupLens' ml-latest and ml-latest-small folders.")
@click.argument("source", type=click.Path(path_type=Path))
@click.option(
    "--to", "folder", type=click.Path(path_type=Path, file_okay=False), required=True, help="Folder to write to."
)
@options.REPLACE
@options.LOG_FORMAT
@options.DEBUG
def movielens(source: Path, folder: Path, force: bool, log_format: str, debug: bool) -> None:
    """Write items.parquet, interactions.parquet and tags.parquet from ratings.csv, movies.csv and tags.csv.

    Files that an earlier import wrote are replaced; others of these names only with --force.

    \b
    Example:
      recpipe import movielens ml-latest-small --to work/movielens
    """
    from recpipe import logs
    from recpipe.cli.overwriting import overwriting
    from recpipe.ingest.movielens import import_movielens

    with logs.stage("import"), overwriting(folder, _MOVIELENS_FILES, force=force):
        import_movielens(source, folder)
        logs.get().info("done → %s", folder, extra=logs.fields(output=str(folder)))
