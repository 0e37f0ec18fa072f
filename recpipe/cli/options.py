"""The options every command shares, and the request they add up to."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import click

from recpipe.store.layout import View

F = TypeVar("F", bound=Callable[..., object])

_PATH = click.Path(path_type=Path)

CONFIG = click.option("-c", "--config", "config_path", type=_PATH, help="YAML file; without it, defaults.")
SET = click.option(
    "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override a key: --set cluster.n_clusters=8."
)
WORKDIR = click.option("--workdir", type=_PATH, help="Folder of the artifacts (key workdir).")
VIEW = click.option(
    "--view",
    type=click.Choice([view.value for view in View]),
    default=None,
    help="production: all interactions; evaluation: training interactions only.  [default: production]",
)
FORCE = click.option("--force", is_flag=True, help="Run although up to date.")
REPLACE = click.option("--force", is_flag=True, help="Replace files of these names, whoever wrote them.")
DRY_RUN = click.option("--dry-run", is_flag=True, help="Print what would be done; do nothing.")
LOG_FORMAT = click.option(
    "--log-format", type=click.Choice(["plain", "json"]), default="plain", help="Format of the log on stderr."
)
DEBUG = click.option("--debug", is_flag=True, help="Log more, and print tracebacks.")
JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


_FIRST = ("config_path", "overrides", "workdir", "view")
_LAST = ("force", "dry_run", "log_format", "debug")


def in_order(command: click.Command) -> click.Command:
    """Put the shared options of a command, and of its subcommands, where every command has them.

    First configuration and view, then the command's own, last force, dry run and log.
    """

    def rank(parameter: click.Parameter) -> int:
        if isinstance(parameter, click.Argument):
            return -1
        if parameter.name in _FIRST:
            return _FIRST.index(parameter.name)
        own = len(_FIRST)
        return own + 1 + _LAST.index(parameter.name) if parameter.name in _LAST else own

    command.params.sort(key=rank)
    if isinstance(command, click.Group):
        for child in command.commands.values():
            in_order(child)
    return command


def configured(command: F) -> F:
    """Add the options that choose a configuration and how to log."""
    for option in (DEBUG, LOG_FORMAT, WORKDIR, SET, CONFIG):
        command = option(command)
    return command
