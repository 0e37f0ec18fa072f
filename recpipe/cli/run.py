"""`recpipe run`: every stage that is stale, in order."""

from __future__ import annotations

from pathlib import Path

import click

from recpipe.cli import options


@click.command("run", short_help="Run every stage that is stale, in order.")
@options.configured
@options.FORCE
@options.DRY_RUN
def command(
    config_path: Path | None,
    overrides: tuple[str, ...],
    workdir: Path | None,
    force: bool,
    dry_run: bool,
    log_format: str,
    debug: bool,
) -> None:
    """Bring the whole production chain up to date, and only what is stale.

    Holds the work directory for itself: a second run exits with 6 at once. Prints time,
    memory and rows of each stage that ran.

    \b
    Example:
      recpipe run -c configs/movielens.yaml
    """
    from recpipe import logs
    from recpipe.cli.stage_command import describe
    from recpipe.stages.pipeline.chain import plan_chain, run_chain
    from recpipe.stages.pipeline.plan import Planner
    from recpipe.stages.settings import load

    logs.hush("up to date")  # the table says it, stage by stage
    planner = Planner(load(config_path, overrides, workdir=workdir))
    if dry_run:
        for plan in plan_chain(planner):
            click.echo(describe(plan, with_tables=False))
        return
    outcomes = run_chain(planner, force=force)
    ran = [outcome for outcome in outcomes if outcome.ran]
    if not ran:
        click.echo(f"up to date: {planner.layout.workdir}")
        return
    click.echo(f"{'stage':<14} {'seconds':>8} {'peak MiB':>9} {'rows':>10}")
    for outcome in outcomes:
        rows = "" if outcome.rows is None else f"{outcome.rows:,}"
        figures = f"{outcome.seconds:>8.1f} {outcome.peak_mib:>9.0f}" if outcome.ran else f"{'up to date':>18}"
        click.echo(f"{outcome.stage:<14} {figures} {rows:>10}")
