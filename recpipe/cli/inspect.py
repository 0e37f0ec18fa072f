"""`recpipe inspect`: what a file is and where it comes from."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import click

from recpipe.cli import options
from recpipe.errors import DataError, MissingInputError

if TYPE_CHECKING:
    import pyarrow as pa

    from recpipe.store.manifest import Manifest

BAD_ROWS_COLUMNS = ["file", "line", "reason", "detail", "raw"]
"""Columns of the files in work/quarantine, which carry no manifest."""

_PARQUET_MARK = b"PAR1"


@click.command("inspect", short_help="Show an artifact's columns, lineage and first rows.")
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--rows", "n_rows", type=click.IntRange(min=0), metavar="N", default=3, show_default=True, help="Rows to show."
)
@options.JSON
@options.LOG_FORMAT
@options.DEBUG
def command(file: Path, n_rows: int, as_json: bool, log_format: str, debug: bool) -> None:
    """Show a Parquet artifact's or model folder's manifest, columns and first rows; or bad rows, where they stand.

    \b
    Examples:
      recpipe inspect work/user_embeddings.parquet
      recpipe inspect work/quarantine/items.parquet --rows 20
    """
    manifest = _manifest(file)
    if manifest is None and (bad := _bad_rows(file)) is not None:
        _show_bad_rows(file, bad, n_rows, as_json=as_json)
        return
    lineage = manifest.to_json() if manifest else None
    if as_json:
        click.echo(json.dumps(lineage, indent=1, ensure_ascii=False))
        return
    click.echo(f"{file}: {_kind(lineage)}")
    for name, value in (lineage or {}).items():
        if name not in ("artifact", "settings", "inputs", "details", "schema_version"):
            click.echo(f"  {name:<16} {value}")
    for name in ("inputs", "settings", "details"):
        for key, value in ((lineage or {}).get(name) or {}).items():
            click.echo(f"  {name:<16} {key}: {_short(value)}")
    if file.is_file():
        _show_table(file, n_rows)


def _manifest(file: Path) -> Manifest | None:
    """Read the manifest of a Parquet file or model folder; None for Parquet of others.

    Raises:
        MissingInputError: There is no such file.
        DataError: It is another kind of file or folder, or damaged.
    """
    from recpipe.store.manifest import CURRENT, read_manifest

    if not file.exists():
        raise MissingInputError(
            "no such file", where=str(file), next_step="recpipe status --outputs lists what every stage writes"
        )
    if file.is_dir() and not (file / CURRENT).exists():
        raise DataError(f"a folder, and no model: it has no {CURRENT}", where=str(file), next_step=_inside(file))
    if file.is_file():
        with file.open("rb") as start:
            if start.read(len(_PARQUET_MARK)) != _PARQUET_MARK:
                step = "name a Parquet file or a model folder; other tables are read and checked by recpipe run"
                raise DataError("not a Parquet file", where=str(file), next_step=step)
    try:
        return read_manifest(file)
    except DataError as error:
        step = "if recpipe wrote it, run its stage again; otherwise it has to be written or copied again"
        raise DataError(error.what, where=error.where, next_step=step) from error


def _inside(folder: Path) -> str:
    from recpipe.store.manifest import CURRENT

    if (folder.parent / CURRENT).exists():
        return f"recpipe inspect {folder.parent}, of which this is one version"
    models = [str(path.parent) for path in sorted(folder.glob(f"*/{CURRENT}"))]
    files = [*models, *map(str, sorted(folder.glob("*.parquet")))]
    return f"name one of {', '.join(files[:10])}" if files else "recpipe status --outputs lists what every stage writes"


def _bad_rows(file: Path) -> pa.Table | None:
    """Return the bad rows of a source table; None where the file holds something else."""
    import pyarrow.parquet as pq

    return pq.read_table(file) if file.is_file() and pq.read_schema(file).names == BAD_ROWS_COLUMNS else None


def _show_bad_rows(file: Path, bad: pa.Table, n_rows: int, *, as_json: bool) -> None:
    from recpipe.ingest.quarantine import BadRow

    table = file.stem.removeprefix("bad_")
    reasons = Counter(bad.column("reason").to_pylist())
    if as_json:
        content = {"bad_rows_of": table, "rows": bad.num_rows, "by_reason": dict(reasons.most_common())}
        click.echo(json.dumps(content, indent=1, ensure_ascii=False))
        return
    by_reason = ", ".join(f"{count:,} {reason}" for reason, count in reasons.most_common())
    click.echo(f"{file}: bad rows of {table}: {by_reason}")
    rows = bad.slice(0, n_rows).to_pylist()
    if rows:
        click.echo(f"first {len(rows)} of {bad.num_rows:,} rows")
    for row in rows:
        click.echo(f"  {BadRow(**row).place()}\n    {_short(row['raw'])}")


def _kind(lineage: dict[str, object] | None) -> str:
    if lineage is None:
        return "Parquet, not written by recpipe"
    return f"{lineage['artifact']} (schema version {lineage['schema_version']})"


def _show_table(file: Path, n_rows: int) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from recpipe.schemas import ARTIFACTS
    from recpipe.store.manifest import read_manifest

    manifest = read_manifest(file)
    artifact = ARTIFACTS.get(manifest.artifact) if manifest else None
    meanings = {column.name: column.meaning for column in artifact.columns} if artifact else {}
    parquet = pq.ParquetFile(file)
    click.echo("columns")
    for field in parquet.schema_arrow:
        kind = str(field.type).replace("element: ", "")
        click.echo(f"  {field.name:<20} {kind:<34} {meanings.get(field.name, '')}".rstrip())
    if n_rows > 0 and parquet.metadata.num_rows:
        batch = next(parquet.iter_batches(n_rows))
        click.echo(f"first {batch.num_rows} of {parquet.metadata.num_rows:,} rows")
        for row in pa.Table.from_batches([batch]).to_pylist():
            click.echo("  " + ", ".join(f"{name}={_short(value)}" for name, value in row.items()))


def _short(value: object) -> str:
    if isinstance(value, list) and len(value) > 4 and isinstance(value[0], float):
        return f"[{', '.join(f'{number:.3f}' for number in value[:3])}, … {len(value)} numbers]"
    text = str(value)
    return text if len(text) <= 80 else text[:77] + "…"
