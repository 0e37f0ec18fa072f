"""One trial of `recpipe tune`: what its settings make stale in a folder apart, measured on validation."""

from __future__ import annotations

import logging
import math
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from recpipe import logs
from recpipe.errors import DataError
from recpipe.executors import local
from recpipe.models.base import Items, TrainingData
from recpipe.models.registry import find_model, load_model
from recpipe.models.selection import candidates_of
from recpipe.models.settings import ModelSettings, Target
from recpipe.schemas import ARTIFACTS, MODEL, RATING, TRAIN_INTERACTIONS, VALIDATION_INTERACTIONS
from recpipe.stages.pipeline import preflight
from recpipe.stages.pipeline.context import StageContext
from recpipe.stages.pipeline.plan import Plan, Planner, State
from recpipe.stages.pipeline.registry import AnyStage, stage_named
from recpipe.stages.pipeline.runner import run_plan
from recpipe.stages.settings import Config
from recpipe.stages.tables import TABLE_STAGES
from recpipe.store import parts
from recpipe.store.artifacts import ArtifactReader
from recpipe.store.layout import Layout, View

SCRATCH = "trial"
"""Folder below those of the studies with what trials made; no study has this name."""

TRAIN = "train"
SPLIT = "split"


@dataclass(frozen=True, slots=True)
class TrialPlan:
    """What a trial runs.

    Attributes:
        planner: Knows which artifacts lie in the scratch folder.
        plans: Source tables and stages, in order; the last is train.
    """

    planner: Planner
    plans: tuple[Plan, ...]

    @property
    def train(self) -> Plan:
        return self.plans[-1]


@dataclass(frozen=True, slots=True)
class Measured:
    """What validation says of a trial."""

    metric: str
    value: float


def plan_trial(config: Config) -> TrialPlan:
    """Plan the fit of the evaluation view, without a word written to the work directory's own artifacts.

    An artifact of the work directory that is just what the trial needs is read where it is.
    What is not is made below `tune/trial`, where the next trial finds it again. Source tables
    have the same content for every trial, and lie where they always do.

    Raises:
        ConfigError, MissingInputError: A source table or file is not given or not there.
    """
    planner = Planner(config)
    moved: dict[str, Path] = {}
    scratch = Layout(planner.layout.studies / SCRATCH, planner.layout.model_name)
    train = stage_named(TRAIN)
    first = planner.plan(train, View.EVALUATION)
    chosen: list[tuple[AnyStage, View]] = [*preflight.ancestors(planner, first), (train, View.EVALUATION)]
    plans: list[Plan] = []
    for stage, view in chosen:
        plan = planner.plan(stage, view, tuple(plans))
        known = {earlier.stage.name for earlier in plans}
        plans += [table for table in plan.tables if table.stage.name not in known]
        if plan.state is not State.CURRENT:
            moved |= {name: scratch.path(ARTIFACTS[name], view) for name in plan.outputs}
            digests = planner.digests  # what is hashed already need not be again
            planner = Planner(config, read_paths=moved, write_paths=moved)
            planner.digests = digests
            plan = planner.plan(stage, view, tuple(plans))
        plans.append(plan)
    return TrialPlan(planner, tuple(plans))


def prepare(trial: TrialPlan) -> None:
    """Check everything that can be known to fail, and make what all trials share: source tables and split.

    Raises:
        ConfigError, DataError, MissingInputError, UnavailableError: No trial could do better.
    """
    preflight.check(trial.planner.config, trial.plans, force=False)
    for plan in trial.plans:
        if plan.state is not State.CURRENT and (plan.stage.name in TABLE_STAGES or plan.stage.name == SPLIT):
            _run(trial.planner, plan)


def targets_of(trial: TrialPlan, train: ModelSettings) -> set[Target]:
    """Return what the models of a section `train` would learn from the training interactions, once `prepare` is done.

    Raises:
        ConfigError, DataError: A model cannot learn its target, or not from these interactions.
    """
    import pyarrow as pa

    paths = next(plan.outputs for plan in trial.plans if plan.stage.name == SPLIT)
    reader = ArtifactReader(paths[TRAIN_INTERACTIONS.name], TRAIN_INTERACTIONS)
    targets = frozenset[Target]({"implicit", "rating"} if reader.has(RATING) else {"implicit"})
    ids = pa.array([], pa.string())
    nothing = TrainingData(items=Items.bare(ids), open_blocks=lambda: iter(()), n_users=0, targets=targets)
    return {find_model(settings.model).target_for(settings, nothing) for settings in candidates_of(train)}


def run_trial(trial: TrialPlan, *, validation_users: int) -> Measured:
    """Run what is stale, measure the model on the validation interactions, and drop the model.

    Raises:
        ConfigError, DataError: These settings cannot be fitted, or give no finite figure.
    """
    try:
        for plan in trial.plans:
            if plan.state is not State.CURRENT:
                _run(trial.planner, plan)
        measured = _measure(trial, validation_users=validation_users)
    except DataError:
        for plan in trial.plans:  # checkpoints of a fit that cannot be finished
            parts.discard(trial.planner.layout.parts(plan.fingerprint))
        raise
    finally:
        trial.planner.digests.save()
    drop_models(trial.planner.layout)
    return measured


def drop_models(layout: Layout) -> None:
    """Remove the models that trials left."""
    model = Layout(layout.studies / SCRATCH).path(MODEL, View.EVALUATION)
    shutil.rmtree(model.parent, ignore_errors=True)


def drop_scratch(layout: Layout) -> None:
    """Remove everything that trials left but for what is known of them."""
    shutil.rmtree(layout.studies / SCRATCH, ignore_errors=True)


def _run(planner: Planner, plan: Plan) -> None:
    with _quiet():
        run_plan(planner, replace(plan, tables=()))


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep what stages tell about themselves out of the log, where a trial is a line; --debug shows it."""
    logger = logs.get()
    level = logger.level
    if level > logging.DEBUG:
        logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)


def _measure(trial: TrialPlan, *, validation_users: int) -> Measured:
    """Measure as training does, but every trial on the same users, whatever its model reports of itself."""
    from recpipe.stages.pipeline.population import Population
    from recpipe.stages.train import population_paths, training_data
    from recpipe.store.model_folders import current_model
    from recpipe.training.validation import gather_held_out

    plan, config = trial.train, trial.planner.config
    context = StageContext(
        plan,
        trial.planner.layout,
        executor=local.create(config.executor),
        device=config.device,
        digests=trial.planner.digests,
        cache=config.cache_folder,
    )
    folder, _ = current_model(plan.outputs[MODEL.name])
    model = load_model(folder)
    population = Population(population_paths(context, config.as_of, config.train))
    data = training_data(population)
    held_out = gather_held_out(
        data,
        replace(data, open_blocks=population.held_out(context.read(VALIDATION_INTERACTIONS))),
        find_model(model.settings.model).target_for(model.settings, data),
        positive_from=config.train.positive_from,
        max_users=validation_users,
        seed=config.seed,
    )
    value = held_out.measure(model)
    if not math.isfinite(value):
        raise DataError(f"the {held_out.metric} on the validation interactions is no number")
    return Measured(held_out.metric, value)
