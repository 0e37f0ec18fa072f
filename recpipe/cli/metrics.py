"""`recpipe metrics`: the table of metrics, for people."""

from __future__ import annotations

from pathlib import Path

import click

from recpipe.cli import options
from recpipe.store.layout import View


@click.command("metrics", short_help="Print the table of metrics of the last evaluation.")
@click.option("--k", "k", type=int, help="Length of list to show; the first of evaluate.k by default.")
@click.option("--slice", "slices", multiple=True, help="Only this slice, e.g. all; may be repeated.")
@options.configured
def command(
    k: int | None,
    slices: tuple[str, ...],
    config_path: Path | None,
    overrides: tuple[str, ...],
    workdir: Path | None,
    log_format: str,
    debug: bool,
) -> None:
    """Print every model's figures with intervals, slice by slice, and paired differences.

    \b
    Examples:
      recpipe metrics -c config.yaml
      recpipe metrics -c config.yaml --slice all --k 20
    """
    from recpipe.cli.artifacts import open_artifact
    from recpipe.metrics.summary import read_difference_rows, read_metric_rows
    from recpipe.metrics.text import metrics_text
    from recpipe.schemas import METRIC_DIFFERENCES, METRICS
    from recpipe.stages.evaluate import describe_protocol
    from recpipe.stages.settings import load

    config = load(config_path, overrides, workdir=workdir)
    if k is not None and k not in config.evaluate.k:
        raise click.UsageError(f"k {k} was not measured; evaluate.k is {', '.join(map(str, config.evaluate.k))}")
    figures = open_artifact(config, METRICS, View.EVALUATION)
    differences = open_artifact(config, METRIC_DIFFERENCES, View.EVALUATION)
    details = figures.manifest.details if figures.manifest else {}
    if "split" in details:
        click.echo(f"{describe_protocol(details, details)}\n")
    rows = read_metric_rows(figures.table())
    known = list(dict.fromkeys(row.slice for row in rows))
    for name in slices:
        if name not in known:
            raise click.UsageError(f"no slice '{name}'; there are {', '.join(known)}")
    click.echo(
        metrics_text(
            [row for row in rows if not slices or row.slice in slices],
            read_difference_rows(differences.table()),
            k=k or config.evaluate.k[0],
            level=config.evaluate.level,
        ),
        nl=False,
    )
