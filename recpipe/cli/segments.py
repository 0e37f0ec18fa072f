"""`recpipe segments`: the segments, for people."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from recpipe.cli import options
from recpipe.store.layout import View

if TYPE_CHECKING:
    from recpipe.stages.settings import Config
    from recpipe.store.artifacts import ArtifactReader


@click.command("segments", short_help="Print the segments: size, label and what sets them apart.")
@options.configured
@options.VIEW
@options.JSON
def command(
    config_path: Path | None,
    overrides: tuple[str, ...],
    workdir: Path | None,
    view: str | None,
    as_json: bool,
    log_format: str,
    debug: bool,
) -> None:
    """Print every segment with its size, label, terms and characteristic items.

    Labels are those of the fit. Where `cluster.fit: false` has assigned users to the segments
    since, sizes count the users as assigned, and the first line says from when both are.

    \b
    Example:
      recpipe segments -c config.yaml
    """
    from recpipe.cli.artifacts import open_artifact
    from recpipe.schemas import CENTRE, LABEL, SEGMENT, SEGMENTS, SHARE, SIZE, TERMS, TOP_TITLES
    from recpipe.stages.settings import load

    config = load(config_path, overrides, workdir=workdir)
    reader = open_artifact(config, SEGMENTS, View(view or View.PRODUCTION))
    rows = reader.table([name for name in reader.columns if name != CENTRE.name]).to_pylist()
    assigned = _assigned_since(config, reader, View(view or View.PRODUCTION))
    if assigned is not None:
        rows = _counted(rows, assigned)
    if as_json:
        click.echo(json.dumps(rows, indent=1, ensure_ascii=False))
        return
    if assigned is not None:
        click.echo(f"users assigned {_made(assigned)} to the segments fitted {_made(reader)}")
    for row in rows:
        click.echo(
            f"segment {row[SEGMENT.name]:>2}  {row[SIZE.name]:>7,} users ({row[SHARE.name]:.0%})  {row[LABEL.name]}"
        )
        if row[TERMS.name]:
            click.echo(f"            terms   {', '.join(row[TERMS.name])}")
        if row[TOP_TITLES.name]:
            click.echo(f"            titles  {'; '.join(title for title in row[TOP_TITLES.name] if title)}")


def _assigned_since(config: Config, segments: ArtifactReader, view: View) -> ArtifactReader | None:
    """Return the profiles of users assigned to these segments after they were fitted; None where there are none."""
    from recpipe.cli.artifacts import open_if_there
    from recpipe.schemas import SEGMENTS, USER_PROFILES

    profiles = open_if_there(config, USER_PROFILES, view)
    if profiles is None or profiles.manifest is None or segments.manifest is None:
        return None
    return profiles if profiles.manifest.inputs.get(SEGMENTS.name) == segments.manifest.fingerprint else None


def _counted(rows: list[dict[str, Any]], profiles: ArtifactReader) -> list[dict[str, Any]]:
    """Return the segments with the sizes and shares that the profiles have."""
    from recpipe.schemas import LABEL, SEGMENT, SHARE, SIZE, TERMS, TOP_ITEMS, TOP_TITLES
    from recpipe.segments.profiles import NO_SEGMENT, NO_SEGMENT_LABEL

    sizes: Counter[int] = Counter()
    for batch in profiles.batches([SEGMENT.name]):
        for entry in batch.column(SEGMENT.name).value_counts().to_pylist():
            sizes[entry["values"]] += entry["counts"]
    rows = [row for row in rows if row[SEGMENT.name] != NO_SEGMENT or sizes[NO_SEGMENT]]
    if sizes[NO_SEGMENT] and all(row[SEGMENT.name] != NO_SEGMENT for row in rows):
        rows.append({SEGMENT.name: NO_SEGMENT, LABEL.name: NO_SEGMENT_LABEL})
    nothing: dict[str, Any] = {name: [] for name in (TERMS.name, TOP_ITEMS.name, TOP_TITLES.name)}
    return [
        {**nothing, **row, SIZE.name: sizes[row[SEGMENT.name]], SHARE.name: sizes[row[SEGMENT.name]] / profiles.rows}
        for row in rows
    ]


def _made(reader: ArtifactReader) -> str:
    return reader.manifest.created_at[:16].replace("T", " ") if reader.manifest else "at an unknown time"
