"""`recpipe config`: the configuration as it will be used."""

from __future__ import annotations

from pathlib import Path

import click

from recpipe.cli import options


@click.command("config", short_help="Print the whole configuration, defaults included.")
@options.configured
def command(
    config_path: Path | None, overrides: tuple[str, ...], workdir: Path | None, log_format: str, debug: bool
) -> None:
    """Check a configuration and print every key with its value, as YAML.

    \b
    Example:
      recpipe config -c config.yaml --set cluster.n_clusters=8
    """
    from recpipe.config import to_yaml
    from recpipe.stages.settings import load

    click.echo(to_yaml(load(config_path, overrides, workdir=workdir)), nl=False)
