"""`recpipe simulate`: a seeded world of users, items and interactions."""

from __future__ import annotations

from pathlib import Path

import click

from recpipe.cli import options


@click.command("simulate", short_help="Write a simulated world: users, items, interactions and the truth.")
@click.option(
    "--to", "folder", type=click.Path(path_type=Path, file_okay=False), required=True, help="Folder to write to."
)
@options.SET
@options.REPLACE
@options.LOG_FORMAT
@options.DEBUG
def command(folder: Path, overrides: tuple[str, ...], force: bool, log_format: str, debug: bool) -> None:
    """Write users.csv, items.jsonl, interactions.csv and the true tastes behind them.

    With media=true, every item gets a picture and a sound, in the folders images and audio.

    The same settings give the same bytes. Files that an earlier simulation wrote are replaced;
    others of these names only with --force. Keys of --set: see docs/configuration.md, simulate.

    \b
    Example:
      recpipe simulate --to world --set n_users=2000 --set n_items=3000 --set n_interactions=60000
    """
    from recpipe import config, logs
    from recpipe.cli.overwriting import overwriting
    from recpipe.ingest.simulate.files import write_world, written_names
    from recpipe.ingest.simulate.settings import SimulateSettings
    from recpipe.ingest.simulate.world import simulate

    settings = config.validate(SimulateSettings, config.read_raw(None, overrides))
    with logs.stage("simulate"), overwriting(folder, written_names(settings), force=force, ours=_is_world):
        write_world(simulate(settings), folder)
        logs.get().info("done → %s", folder, extra=logs.fields(output=str(folder)))


def _is_world(folder: Path) -> bool:
    """Say whether a folder's truth says that its tables are simulated."""
    from recpipe.errors import RecpipeError
    from recpipe.ingest.simulate.truth import load_truth

    try:
        load_truth(folder)
    except (RecpipeError, ValueError, OSError):
        return False
    return True
