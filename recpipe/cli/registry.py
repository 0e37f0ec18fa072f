"""Commands by name: one for every stage, and the modules of this package that have one."""

from __future__ import annotations

import importlib
from functools import cache

import click

from recpipe.cli.options import in_order
from recpipe.stages.pipeline.registry import stages

_MODULES = (
    "run",
    "tune",
    "status",
    "metrics",
    "compare",
    "segments",
    "recommend",
    "inspect",
    "config",
    "cache",
    "import_data",
    "simulate",
)


@cache
def _stage_names() -> tuple[str, ...]:
    return tuple(stage.command for stage in stages())


def names() -> list[str]:
    """Return the names of all commands: stages in pipeline order, then the others."""
    return [*_stage_names(), *(_name_of(module) for module in _MODULES)]


def command(name: str) -> click.Command | None:
    """Return a command, importing only what it needs; None when there is none."""
    for stage in stages():
        if stage.command == name:
            from recpipe.cli.stage_command import build

            return in_order(build(stage))
    for module in _MODULES:
        if _name_of(module) == name:
            found = importlib.import_module(f"recpipe.cli.{module}").command
            assert isinstance(found, click.Command)
            return in_order(found)
    return None


def _name_of(module: str) -> str:
    # `import` is a Python keyword, so its module cannot carry the command's name
    return "import" if module == "import_data" else module
