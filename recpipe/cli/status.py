"""`recpipe status`: what is up to date, what is not, and why."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from recpipe.cli import options

if TYPE_CHECKING:
    from recpipe.stages.pipeline.plan import Plan


@click.command("status", short_help="Show what is up to date and what is stale, and why.")
@options.configured
@click.option("--outputs", "with_outputs", is_flag=True, help="List the files and folders of every stage too.")
@options.JSON
def command(
    config_path: Path | None,
    overrides: tuple[str, ...],
    workdir: Path | None,
    with_outputs: bool,
    as_json: bool,
    log_format: str,
    debug: bool,
) -> None:
    """Show every stage with its state. Reads manifests only; changes nothing.

    \b
    Examples:
      recpipe status -c config.yaml
      recpipe status -c config.yaml --outputs
    """
    from recpipe.stages.pipeline.chain import plan_chain
    from recpipe.stages.pipeline.plan import Planner
    from recpipe.stages.settings import load

    rows = [_row(plan) for plan in plan_chain(Planner(load(config_path, overrides, workdir=workdir)))]
    if as_json:
        click.echo(json.dumps(rows, indent=1, ensure_ascii=False))
        return
    click.echo(f"{'stage':<14} {'view':<10} {'state':<11} {'rows':>10}  {'made':<20} why")
    for row in rows:
        count = "" if row["rows"] is None else f"{row['rows']:,}"
        why = "; ".join(row["reasons"])
        made = row["made"] or ""
        click.echo(f"{row['stage']:<14} {row['view']:<10} {row['state']:<11} {count:>10}  {made:<20} {why}".rstrip())
        if with_outputs:
            for path in row["outputs"]:
                click.echo(f"  {path}{'' if Path(path).exists() else '  (not there yet)'}")


def _row(plan: Plan) -> dict[str, Any]:
    from recpipe.errors import DataError
    from recpipe.store.manifest import read_manifest

    first = next(iter(plan.outputs.values()))
    try:
        manifest = read_manifest(first)
    except DataError:
        manifest = None  # damaged: the plan's reasons say so
    return {
        "stage": plan.stage.command,
        "view": plan.view.value,
        "state": plan.state.value,
        "reasons": plan.reasons,
        "rows": manifest.rows if manifest and first.is_file() else None,
        "made": manifest.created_at[:19].replace("T", " ") if manifest else None,
        "outputs": [str(path) for path in plan.outputs.values()],
    }
