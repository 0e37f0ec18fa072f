"""The search of `recpipe tune`: trial after trial until the budget is used up."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace

from pydantic import JsonValue

from recpipe import logs
from recpipe.config import identity_of
from recpipe.errors import ConfigError, DataError
from recpipe.schemas import TRIALS
from recpipe.stages.pipeline import trials
from recpipe.stages.pipeline.plan import differences
from recpipe.stages.pipeline.search_space import SECTIONS, WHERE, TunedConfig
from recpipe.stages.pipeline.study import Study, Trial, latest_other
from recpipe.stages.pipeline.trials import TrialPlan, plan_trial
from recpipe.stages.tables import TABLE_STAGES
from recpipe.store import locks
from recpipe.store.fingerprint import fingerprint
from recpipe.store.layout import Layout
from recpipe.training.suggestions import MODEL_KEY, Tried, require_optuna, suggest

DECIDING = ("seed", "as_of", "data", "split", *SECTIONS, "tune")
"""Parts of the configuration that decide what the trials of a study are."""

VERSION = 1
"""Raised when the same study would be measured, or gone through, in another way."""


def open_study(tuned: TunedConfig) -> tuple[Study, TrialPlan]:
    """Return the study of this space, data and configuration, and the plan of its first trial."""
    first = plan_trial(tuned.config)
    settings = {name: value for name, value in identity_of(tuned.config).items() if name in DECIDING}
    inputs = {plan.stage.name: plan.fingerprint for plan in first.plans if plan.stage.name in TABLE_STAGES}
    content = {"version": VERSION, "tune": settings["tune"], "train": first.train.fingerprint}
    manifest = replace(
        first.train.manifest,
        artifact=TRIALS.name,
        stage="tune",
        stage_version=VERSION,
        settings=settings,
        fingerprint=fingerprint(content),
        inputs=inputs,
        identity=next((plan.manifest.identity for plan in first.plans if plan.manifest.identity), None),
    )
    return Study.of(first.planner.layout, manifest), first


def tune(tuned: TunedConfig) -> Study:
    """Search until the budget is used up or everything was tried; go on where an earlier call ended.

    Holds the work directory shared, as every stage does, and its studies alone.

    Raises:
        UnavailableError: Optuna is not installed.
        DataError: No trial could be finished.
        ConfigError: Trials are measured by different metrics.
        LockedError: Another run holds the work directory, or searches there.
    """
    require_optuna()
    with _alone(Layout(tuned.config.workdir)):
        study, first = open_study(tuned)
        _greet(study, tuned, first.planner.layout)
        if _left(study, tuned) is None:
            _require_encoders(tuned)
            trials.prepare(first)
            _require_comparable(tuned, first)
        while (stop := _left(study, tuned)) is None:
            values = _next_values(study, tuned)
            if values is None:
                logs.get().info("every setting of the space was tried: no more trials")
                break
            trial = _run(study, tuned, values)
            study.add(trial)
            _report(study, trial, tuned.config.tune.n_trials)
        else:
            logs.get().debug("%s", stop)
        trials.drop_scratch(first.planner.layout)
    if study.best is None:
        raise DataError(f"no trial could be finished; the last: {study.trials[-1].reason}", where=str(study.path))
    return study


@contextmanager
def _alone(layout: Layout) -> Iterator[None]:
    with (
        locks.hold(locks.workdir_lock(layout.locks), what=f"work directory {layout.workdir}", exclusive=False),
        locks.hold(locks.output_lock(layout.locks, layout.studies), what=str(layout.studies), exclusive=True),
    ):
        yield


def _greet(study: Study, tuned: TunedConfig, layout: Layout) -> None:
    """Say whether a study goes on or begins, and why."""
    log = logs.get()
    if study.trials:
        done, of = len(study.trials), tuned.config.tune.n_trials
        log.info("going on: %d of %d trials are done", done, of, extra=logs.fields(done=done, trials=of))
        return
    other = latest_other(layout, study.manifest.fingerprint)
    if other is None:
        log.info("a new study → %s", study.path)
        return
    path, manifest = other
    reasons = "; ".join(differences(manifest, study.manifest))
    log.info("a new study → %s: %s; the trials before stay in %s", study.path, reasons, path)


def _left(study: Study, tuned: TunedConfig) -> str | None:
    """Say why no further trial starts; None where one does."""
    budget = tuned.config.tune
    if len(study.trials) >= budget.n_trials:
        return f"tune.n_trials: {budget.n_trials} trials are done"
    if budget.max_minutes is not None and study.seconds >= budget.max_minutes * 60:
        return f"tune.max_minutes: {study.seconds / 60:.1f} minutes are used up"
    return None


def _require_encoders(tuned: TunedConfig) -> None:
    """Plan with every encoder of the space, so that one that is not here ends the search before it begins."""
    for key, dimension in tuned.space.dimensions.items():
        if key.startswith("encoder."):
            for value in dimension.probes():
                plan_trial(tuned.config_with({key: value}))


def _require_comparable(tuned: TunedConfig, first: TrialPlan) -> None:
    """Fail before the first fit where one model would learn ratings and another what is taken."""
    dimension = tuned.space.dimensions.get(MODEL_KEY)
    models = dimension.choice or () if dimension is not None else ()
    sections = [tuned.config.train, *(tuned.config_with({MODEL_KEY: model}).train for model in models)]
    targets = {section.model: sorted(trials.targets_of(first, section)) for section in sections}
    if len(set(itertools.chain.from_iterable(targets.values()))) > 1:
        shown = ", ".join(f"{model}: {' or '.join(target)}" for model, target in targets.items())
        raise _other_metric(f"models of the space learn different targets ({shown}), so their trials")


def _other_metric(what: str) -> ConfigError:
    return ConfigError(
        f"{what} cannot be compared",
        where=WHERE,
        next_step="set train.target to implicit or to rating, so that every trial learns the same",
    )


def _next_values(study: Study, tuned: TunedConfig) -> dict[str, JsonValue] | None:
    if not study.trials:
        return tuned.own_values()  # so that the best is never worse than what there was
    return suggest(
        tuned.space,
        [Tried(values=trial.values, score=trial.score) for trial in study.trials],
        seed=tuned.config.seed,
        startup_trials=tuned.config.tune.startup_trials,
    )


def _run(study: Study, tuned: TunedConfig, values: Mapping[str, JsonValue]) -> Trial:
    number = len(study.trials) + 1
    started = time.monotonic()
    try:
        planned = plan_trial(tuned.config_with(values))
        measured = trials.run_trial(planned, validation_users=tuned.config.tune.validation_users)
    except (ConfigError, DataError) as error:
        return Trial(number=number, values=values, seconds=time.monotonic() - started, reason=error.what)
    if study.metric not in (None, measured.metric):
        what = (
            f"trial {number} ({_shown(values)}) is measured by {measured.metric}, those before by {study.metric}: they"
        )
        raise _other_metric(what)
    return Trial(
        number=number,
        values=values,
        seconds=time.monotonic() - started,
        metric=measured.metric,
        value=measured.value,
    )


def _report(study: Study, trial: Trial, n_trials: int) -> None:
    best = study.best
    extra = logs.fields(
        trial=trial.number, metric=trial.metric, value=trial.value, settings=dict(trial.values),
        seconds=round(trial.seconds, 3), best_trial=None if best is None else best.number,
    )  # fmt: skip
    if trial.value is None:
        logs.get().warning(
            "trial %d of %d failed: %s; %s", trial.number, n_trials, trial.reason, _shown(trial.values), extra=extra
        )
        return
    assert best is not None and best.value is not None
    standing = "best so far" if best is trial else f"best {best.value:.4f}, trial {best.number}"
    logs.get().info(
        "trial %d of %d: %s %.4f (%s), %.1f s: %s",
        trial.number, n_trials, trial.metric, trial.value, standing, trial.seconds, _shown(trial.values),
        extra=extra,
    )  # fmt: skip


def _shown(values: Mapping[str, JsonValue]) -> str:
    return " ".join(f"{key}={value}" for key, value in values.items())
