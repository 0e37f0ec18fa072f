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
DRY_RUN = click.option("--dry-run", is_flag=True, help="Print what would be done; do nothing.")
LOG_FORMAT = click.option(
    "--log-format", type=click.Choice(["plain", "json"]), default="plain", help="Format of the log on stderr."
)
DEBUG = click.option("--debug", is_flag=True, help="Log more, and print tracebacks.")
JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def configured(command: F) -> F:
    """Add the options that choose a configuration and how to log."""
    for option in (DEBUG, LOG_FORMAT, WORKDIR, SET, CONFIG):
        command = option(command)
    return command


def with_workdir(overrides: tuple[str, ...], workdir: Path | None) -> list[str]:
    """Return the overrides with --workdir among them; quoted, so that any path stays text."""
    return [*overrides, *([f'workdir="{workdir}"'] if workdir else [])]
