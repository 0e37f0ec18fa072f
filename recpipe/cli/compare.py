"""`recpipe compare`: is one model really better than another?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from recpipe.cli import options
from recpipe.errors import DataError, MissingInputError
from recpipe.store.layout import View

if TYPE_CHECKING:
    import pyarrow as pa

    from recpipe.stages.settings import Config


@click.command("compare", short_help="Compare two models user by user.")
@click.argument("a")
@click.argument("b")
@click.option("--slice", "slices", multiple=True, help="Only this slice, e.g. all; may be repeated.")
@options.configured
def command(
    a: str,
    b: str,
    slices: tuple[str, ...],
    config_path: Path | None,
    overrides: tuple[str, ...],
    workdir: Path | None,
    log_format: str,
    debug: bool,
) -> None:
    """Print A minus B for every metric with a bootstrap interval over users.

    A and B are names of models in the last evaluation, or FILE:MODEL with another run's
    user_metrics.parquet. A difference is called real only when its interval excludes 0.

    \b
    Examples:
      recpipe compare factorization popularity -c config.yaml
      recpipe compare deep old/user_metrics.parquet:deep -c config.yaml
    """
    from recpipe.metrics.intervals import Bootstrap
    from recpipe.metrics.text import differences_text
    from recpipe.metrics.user_table import compare_users
    from recpipe.stages.settings import load

    config = load(config_path, overrides, workdir=workdir)
    bootstrap = Bootstrap(n_draws=config.evaluate.n_bootstrap, level=config.evaluate.level, seed=config.seed)
    rows = compare_users(_users(config, a), _users(config, b), bootstrap)
    known = list(dict.fromkeys(row.slice for row in rows))
    for name in slices:
        if name not in known:
            raise click.UsageError(f"no slice '{name}'; there are {', '.join(known)}")
    shown = [row for row in rows if not slices or row.slice in slices]
    click.echo(differences_text(shown, level=config.evaluate.level), nl=False)


def _users(config: Config, name: str) -> pa.Table:
    """Return the rows of one model in user_metrics."""
    import pyarrow.compute as pc

    from recpipe.cli.artifacts import open_artifact
    from recpipe.config import did_you_mean
    from recpipe.schemas import MODEL_NAME, USER_METRICS
    from recpipe.store.artifacts import ArtifactReader

    file, _, model = name.rpartition(":")
    if file:
        if not Path(file).is_file():
            raise MissingInputError("no such file", where=file, next_step="write FILE:MODEL, or the name of a model")
        reader = ArtifactReader(Path(file), USER_METRICS)
    else:
        reader = open_artifact(config, USER_METRICS, View.EVALUATION)
    table = reader.table()
    rows = table.filter(pc.equal(table.column(MODEL_NAME.name), model))
    if not rows.num_rows:
        measured = pc.unique(table.column(MODEL_NAME.name)).to_pylist()
        raise DataError(
            f"no model '{model}' was measured", where=str(reader.path), next_step=did_you_mean(model, measured)
        )
    return rows
