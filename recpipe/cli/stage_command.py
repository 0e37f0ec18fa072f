"""Builds the command of a stage from its declaration."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from recpipe import logs
from recpipe.cli import options
from recpipe.errors import ConfigError
from recpipe.schemas import INTERACTIONS, Artifact, Scope
from recpipe.stages.base import Stage
from recpipe.store.layout import View

if TYPE_CHECKING:
    from recpipe.stages.pipeline.plan import Plan

_PATH = click.Path(path_type=Path)


def build(stage: Stage[Any]) -> click.Command:
    """Return the click command of a stage: shared options, one path option an artifact."""

    def callback(
        config_path: Path | None,
        overrides: tuple[str, ...],
        workdir: Path | None,
        view: str | None,
        force: bool,
        dry_run: bool,
        log_format: str,
        debug: bool,
        **paths: Path | None,
    ) -> None:
        with logs.stage(stage.command):  # so that an error says where it came from
            _run(
                stage,
                config_path=config_path,
                overrides=overrides,
                workdir=workdir,
                view=View(view) if view else stage.views[0],
                force=force,
                dry_run=dry_run,
                paths=paths,
            )

    command = click.command(
        stage.command,
        help=f"{stage.description}\n\n\b\nExample:\n  {stage.example}",
        short_help=stage.summary,
    )(callback)
    for option in (options.DEBUG, options.LOG_FORMAT, options.DRY_RUN, options.FORCE, options.VIEW):
        command = option(command)
    for option in (options.WORKDIR, options.SET, options.CONFIG):
        command = option(command)
    command.params.extend(_path_options(stage))
    return command


def _path_options(stage: Stage[Any]) -> list[click.Option]:
    reads = [
        click.Option([_flag(entry.artifact)], type=_PATH, help=f"Read {entry.artifact.name} from here.")
        for entry in stage.reads
    ]
    writes = [
        click.Option(
            [f"{_flag(output.artifact)}-out", *(["--output"] if number == 0 else []), f"{output.artifact.name}_out"],
            type=_PATH,
            help=f"Write {output.artifact.name} here.",
        )
        for number, output in enumerate(stage.writes)
    ]
    return [*reads, *writes]


def _flag(artifact: Artifact) -> str:
    return f"--{artifact.name.replace('_', '-')}"


def _run(
    stage: Stage[Any],
    *,
    config_path: Path | None,
    overrides: tuple[str, ...],
    workdir: Path | None,
    view: View,
    force: bool,
    dry_run: bool,
    paths: dict[str, Path | None],
) -> None:
    from recpipe.stages.pipeline.plan import Planner
    from recpipe.stages.pipeline.runner import run_stage
    from recpipe.stages.settings import load

    tables = {entry.artifact.name for entry in stage.reads if entry.artifact.scope is Scope.TABLE}
    given = {name: path for name, path in paths.items() if path is not None}
    sources = {name: path for name, path in given.items() if name in tables}
    takes_all = any(entry.artifact is INTERACTIONS and entry.view is View.PRODUCTION for entry in stage.reads)
    if view is View.EVALUATION and INTERACTIONS.name in given and not takes_all:
        raise ConfigError(
            f"in the evaluation view {stage.command} reads the training interactions, not a table named for it",
            where="--interactions",
            next_step="set data.interactions, or pass --interactions to: recpipe split",
        )
    config = load(config_path, overrides, workdir=workdir, sources=sources)
    planner = Planner(
        config,
        read_paths={name: path for name, path in given.items() if not name.endswith("_out")},
        write_paths={name.removesuffix("_out"): path for name, path in given.items() if name.endswith("_out")},
    )
    plan = planner.plan(stage, view)
    if dry_run:
        click.echo(describe(plan))
        return
    for outcome in run_stage(planner, plan, force=force):
        if not outcome.ran and outcome.stage == stage.command:
            with logs.stage(stage.command):
                logs.get().info("up to date", extra=logs.fields(output=str(outcome.output)))
        if outcome.shown:
            click.echo(outcome.shown)


def describe(plan: Plan, *, with_tables: bool = True) -> str:
    """Return a plan as text: state, reasons, inputs, outputs and settings other than the defaults."""
    from recpipe.cli.shown_settings import changed_settings
    from recpipe.stages.settings import Config

    reasons = f": {'; '.join(plan.reasons)}" if plan.reasons else ""
    lines = [describe(table, with_tables=False) for table in plan.tables] if with_tables else []
    lines.append(f"{plan.stage.command} ({plan.view}) is {plan.state}{reasons}")
    lines += [f"  reads   {path}" for path in plan.files]
    lines += [
        f"  reads   {entry.path}{'' if entry.fingerprint else f'  missing; {entry.hint}'}"
        for entry in plan.inputs.values()
    ]
    lines += [f"  writes  {path}" for path in plan.outputs.values()]
    settings = changed_settings(plan.settings, Config)
    return "\n".join([*lines, f"  with    {' '.join(settings)}"] if settings else lines)
