"""`recpipe segments`: the segments, for people."""

from __future__ import annotations

import json
from pathlib import Path

import click

from recpipe.cli import options
from recpipe.store.layout import View


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

    \b
    Example:
      recpipe segments -c config.yaml
    """
    from recpipe.cli.artifacts import open_artifact
    from recpipe.schemas import CENTRE, LABEL, SEGMENT, SEGMENTS, SHARE, SIZE, TERMS, TOP_TITLES
    from recpipe.stages.settings import load

    config = load(config_path, options.with_workdir(overrides, workdir))
    reader = open_artifact(config, SEGMENTS, View(view or View.PRODUCTION))
    rows = reader.table([name for name in reader.columns if name != CENTRE.name]).to_pylist()
    if as_json:
        click.echo(json.dumps(rows, indent=1, ensure_ascii=False))
        return
    for row in rows:
        click.echo(
            f"segment {row[SEGMENT.name]:>2}  {row[SIZE.name]:>7,} users ({row[SHARE.name]:.0%})  {row[LABEL.name]}"
        )
        if row[TERMS.name]:
            click.echo(f"            terms   {', '.join(row[TERMS.name])}")
        if row[TOP_TITLES.name]:
            click.echo(f"            titles  {'; '.join(title for title in row[TOP_TITLES.name] if title)}")
