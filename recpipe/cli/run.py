"""`recpipe run`: every stage that is stale, in order."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from recpipe.cli import options

if TYPE_CHECKING:
    from collections.abc import Sequence

    from recpipe.stages.pipeline.runner import Outcome


@click.command("run", short_help="Run every stage that is stale, in order.")
@options.configured
@options.FORCE
@options.DRY_RUN
@click.option("--skip-evaluation", is_flag=True, help="Production only, with what validation chose last.")
def command(
    config_path: Path | None,
    overrides: tuple[str, ...],
    workdir: Path | None,
    force: bool,
    dry_run: bool,
    skip_evaluation: bool,
    log_format: str,
    debug: bool,
) -> None:
    """Bring everything up to date: the evaluation view first, then production, and only what is stale.

    Holds the work directory for itself: a second run exits with 6 at once. Prints time, memory and
    rows of each stage that ran, and the table of metrics when it is new. Metrics and
    recommendations of the last `keep_runs` runs stay under `runs/`.

    \b
    Example:
      recpipe run -c configs/movielens.yaml
    """
    from recpipe.cli.stage_command import describe
    from recpipe.stages.pipeline.chain import plan_chain, run_chain
    from recpipe.stages.pipeline.plan import Planner
    from recpipe.stages.settings import load

    planner = Planner(load(config_path, overrides, workdir=workdir))
    if dry_run:
        for plan in plan_chain(planner, skip_evaluation=skip_evaluation):
            click.echo(describe(plan, with_tables=False))
        return
    outcomes = run_chain(planner, force=force, skip_evaluation=skip_evaluation)
    if not any(outcome.ran for outcome in outcomes):
        click.echo(f"up to date: {planner.layout.workdir}")
        return
    click.echo(_summary(outcomes))
    for outcome in outcomes:
        if outcome.shown:
            click.echo(f"\n{outcome.shown}")


def _summary(outcomes: Sequence[Outcome]) -> str:
    lines = [f"{'stage':<14} {'view':<10} {'seconds':>8} {'peak MiB':>9} {'rows':>10}"]
    for outcome in outcomes:
        rows = "" if outcome.rows is None else f"{outcome.rows:,}"
        figures = f"{outcome.seconds:>8.1f} {outcome.peak_mib:>9.0f}" if outcome.ran else f"{'up to date':>18}"
        lines.append(f"{outcome.stage:<14} {outcome.view:<10} {figures} {rows:>10}".rstrip())
    return "\n".join(lines)
