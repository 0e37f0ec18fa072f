"""`recpipe tune`: search settings by the validation interactions."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from recpipe.cli import options

if TYPE_CHECKING:
    from recpipe.stages.pipeline.search_space import TunedConfig
    from recpipe.stages.pipeline.study import Study

_MARK = "# Written by recpipe tune"


@click.command("tune", short_help="Search settings by the validation interactions.")
@options.configured
@click.option("--force", is_flag=True, help="Replace the file of --output, whoever wrote it.")
@options.DRY_RUN
@click.option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Write the configuration with the best setting here, for recpipe run -c.",
)
def command(
    config_path: Path | None,
    overrides: tuple[str, ...],
    workdir: Path | None,
    force: bool,
    dry_run: bool,
    output: Path | None,
    log_format: str,
    debug: bool,
) -> None:
    """Try the settings of tune.space, fit each to the training interactions of the evaluation view and
    measure it on the validation interactions: NDCG over the whole ranking, or RMSE. The test interactions are
    not looked at. Prints the best setting as YAML.

    The first trial is the configuration as it is; those after tune.startup_trials are guided by what was
    found (TPE). Only what a setting makes stale runs again, in a folder apart: models, metrics and
    recommendations of the work directory stay as they are. Trials are kept under tune/: a call that was
    killed goes on where it was; another space, configuration or other data begin a new study.
    Needs the package optuna: pip install 'recpipe[tune]'.

    \b
    Examples:
      recpipe tune -c config.yaml --output best.yaml
      recpipe tune -c config.yaml --set 'tune.space.train.hidden_dim={int: [16, 256], log: true}'
    """
    from recpipe import logs
    from recpipe.stages.pipeline.search_space import TunedConfig
    from recpipe.stages.pipeline.tuning import tune
    from recpipe.stages.settings import build, read

    raw = read(config_path, overrides, workdir=workdir)
    with logs.stage("tune"):
        tuned = TunedConfig.check(raw, build(raw, path=config_path, overrides=overrides))
        if output is not None:
            _check_output(output, force=force)
        if dry_run:
            click.echo(_describe(tuned))
            return
        study = tune(tuned)
        click.echo(_best(study), nl=False)
        if output is not None:
            _write(output, tuned, study)
            logs.get().info("done → %s", output, extra=logs.fields(output=str(output)))


def _check_output(path: Path, *, force: bool) -> None:
    """Fail before the first trial where the last step could not be done.

    Raises:
        ConfigError: There is no such folder, or a file of somebody else's.
    """
    from recpipe.errors import ConfigError

    if not path.parent.is_dir():
        raise ConfigError("there is no such folder", where=f"--output: {path.parent}")
    if path.exists() and not force and not path.read_bytes().startswith(_MARK.encode()):
        raise ConfigError(
            "would overwrite a file that recpipe tune did not write",
            where=f"--output: {path}",
            next_step="name another file, or pass --force to replace it",
        )


def _describe(tuned: TunedConfig) -> str:
    """Say what is searched and how far it is, without doing anything."""
    from recpipe.cli.stage_command import describe
    from recpipe.stages.pipeline.tuning import open_study

    study, first = open_study(tuned)
    lines = [describe(plan, with_tables=False) for plan in first.plans]
    lines += [
        f"tune.space {key}: {dimension.model_dump_json(exclude_defaults=True)}"
        for key, dimension in tuned.space.dimensions.items()
    ]
    lines.append(f"{len(study.trials)} of {tuned.config.tune.n_trials} trials are done → {study.path}")
    return "\n".join(lines)


def _headline(study: Study) -> str:
    best, own = study.best, study.trials[0]
    assert best is not None
    ending = ""
    if best is not own:
        before = f"{own.value:.4f}" if own.value is not None else f"failed ({own.reason})"
        ending = f"; the configuration as it was: {before}"
    return f"trial {best.number} of {len(study.trials)}: {best.metric} {best.value:.4f} on validation{ending}"


def _best(study: Study) -> str:
    """Return the best setting as YAML to paste into a configuration."""
    assert study.best is not None
    sections: dict[str, Any] = {}
    for key, value in study.best.values.items():
        *names, last = key.split(".")
        section = sections
        for name in names:
            section = section.setdefault(name, {})
        section[last] = value
    return f"# {_headline(study)}\n{_yaml(sections)}"


def _write(path: Path, tuned: TunedConfig, study: Study) -> None:
    """Publish the configuration as it was written, with the best setting in it."""
    from recpipe.store import publish

    assert study.best is not None
    with publish.replacing(path) as temporary:
        temporary.write_text(
            f"{_MARK}: {_headline(study)}\n{_yaml(tuned.with_values(study.best.values))}", encoding="utf-8"
        )


def _yaml(sections: dict[str, Any]) -> str:
    import yaml

    plain = {name: str(value) if isinstance(value, Path) else value for name, value in sections.items()}
    return str(yaml.safe_dump(plain, sort_keys=False, allow_unicode=True))
