"""`recpipe inspect`: what an artifact is and where it comes from."""

from __future__ import annotations

import json
from pathlib import Path

import click

from recpipe.cli import options
from recpipe.errors import MissingInputError


@click.command("inspect", short_help="Show an artifact's columns, lineage and first rows.")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--rows", "n_rows", default=3, show_default=True, help="Rows to show.")
@options.JSON
@options.LOG_FORMAT
@options.DEBUG
def command(file: Path, n_rows: int, as_json: bool, log_format: str, debug: bool) -> None:
    """Show a Parquet artifact's or model folder's manifest, columns and first rows.

    \b
    Example:
      recpipe inspect work/user_embeddings.parquet
    """
    from recpipe.store.manifest import read_manifest

    if not file.exists():
        raise MissingInputError("no such file", where=str(file), next_step="recpipe status lists the artifacts")
    manifest = read_manifest(file)
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
