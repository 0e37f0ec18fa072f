"""evaluate: how good the lists are, on interactions nobody learned from."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from pydantic import NonNegativeInt, SerializeAsAny, model_validator

from recpipe.config import Settings, did_you_mean
from recpipe.errors import ConfigError
from recpipe.metrics.settings import ORACLE, EvaluateSettings
from recpipe.models.registry import model_names
from recpipe.models.settings import ModelSettings
from recpipe.schemas import (
    INTERACTIONS,
    ITEM_EMBEDDINGS,
    ITEMS,
    METRIC_DIFFERENCES,
    METRICS,
    MODEL,
    TEST_INTERACTIONS,
    USER_EMBEDDINGS,
    USER_METRICS,
    USER_PROFILES,
    USERS,
    VALIDATION_INTERACTIONS,
)
from recpipe.stages.base import Input, Output, Stage
from recpipe.stages.train import population_paths, training_data
from recpipe.store.layout import View

if TYPE_CHECKING:
    from collections.abc import Mapping

    from recpipe.metrics.summary import DifferenceRow, MetricRow
    from recpipe.models.base import Model
    from recpipe.models.tables import TrainingData
    from recpipe.stages.pipeline.context import StageContext
    from recpipe.stages.pipeline.events import UserEvents
    from recpipe.stages.pipeline.measuring import Measurement


class EvaluateStageSettings(Settings):
    """What decides the metrics."""

    evaluate: EvaluateSettings
    train: SerializeAsAny[ModelSettings]
    as_of: datetime | None
    seed: NonNegativeInt

    @model_validator(mode="after")
    def _known_models(self) -> EvaluateStageSettings:
        """Raise ConfigError while the stage is planned, not after hours, where a name is that of no model."""
        known = [*model_names(), self.train.kept_as]
        asked = [("baselines", name) for name in self.evaluate.baselines]
        if self.evaluate.truth is None:  # else the reference may be the oracle
            asked.append(("reference", self.evaluate.reference))
        for key, name in asked:
            if name not in known:
                raise ConfigError(
                    f"unknown model '{name}'", where=f"evaluate.{key}", next_step=did_you_mean(name, known)
                )
        measured = [*self.evaluate.baselines, self.train.kept_as, *([ORACLE] if self.evaluate.truth else [])]
        if self.evaluate.reference not in measured:
            raise ConfigError(
                f"the reference '{self.evaluate.reference}' is not measured",
                where="evaluate.reference",
                next_step=f"name it in evaluate.baselines, or choose one of {', '.join(measured)}",
            )
        return self


def _run(settings: EvaluateStageSettings, context: StageContext) -> None:
    from dataclasses import replace

    from recpipe.metrics.summary import SEGMENT_PREFIX, WARM_USERS, differences_table, metrics_table
    from recpipe.metrics.text import metrics_text
    from recpipe.stages.pipeline.events import UserEvents
    from recpipe.stages.pipeline.measuring import Measurer
    from recpipe.stages.pipeline.population import Population

    paths = population_paths(context, settings.as_of, settings.train, beside=settings.evaluate.baselines)
    population = Population(paths)
    data = training_data(population)
    test = UserEvents(context.read(TEST_INTERACTIONS), population.items.ids)
    measurer = Measurer(
        population,
        data,
        test=test,
        validation=UserEvents(context.read(VALIDATION_INTERACTIONS), population.items.ids),
        settings=settings.evaluate,
        device=context.device(),
    )
    held_out = replace(data, open_blocks=population.held_out(context.read(VALIDATION_INTERACTIONS)))
    models = _models(settings, context, data, held_out=held_out, test=test)
    measurement = measurer.measure(models)
    rows, differences = _rows(measurement, settings)
    kept_as = settings.train.kept_as
    protocol = {**_protocol(context), "trained": {kept_as: models[kept_as].settings.model}}
    with context.write(METRICS) as writer:
        writer.write(metrics_table(rows))
        writer.commit(**protocol, **measurement.counts, **_definitions())
    with context.write(METRIC_DIFFERENCES) as writer:
        writer.write(differences_table(differences))
        writer.commit(**protocol)
    with context.write(USER_METRICS) as writer:
        for table in _user_tables(measurement):
            writer.write(table)
        writer.commit(**protocol)
    # the segments are for `recpipe metrics`: every morning's log has no use for a page of them
    repeated = {WARM_USERS} if not measurement.counts["cold_users"] else set()
    brief = [row for row in rows if not row.slice.startswith(SEGMENT_PREFIX) and row.slice not in repeated]
    text = metrics_text(brief, differences, k=settings.evaluate.k[0], level=settings.evaluate.level)
    context.show(f"{describe_protocol(protocol, measurement.counts)}\n\n{text}")


def _models(
    settings: EvaluateStageSettings,
    context: StageContext,
    data: TrainingData,
    *,
    held_out: TrainingData,
    test: UserEvents,
) -> dict[str, Model]:
    """Return the trained model, the baselines fitted to the same interactions and, where known, the oracle."""
    from pathlib import Path

    from recpipe.models.base import FitContext
    from recpipe.models.registry import find_model, load_model
    from recpipe.stages.pipeline.oracle import Oracle
    from recpipe.store.model_folders import current_model
    from recpipe.training.fitting import fit

    fit_context = FitContext(seed=settings.seed, device=context.device(), report=context.log.debug, held_out=held_out)
    models: dict[str, Model] = {}
    for name in settings.evaluate.baselines:
        if name != settings.train.kept_as:
            spec = find_model(name)
            models[name] = spec.create(spec.settings(positive_from=settings.train.positive_from))
            fit(models[name], data, fit_context)
    folder, _ = current_model(context.path(MODEL))
    models[settings.train.kept_as] = load_model(folder)
    if settings.evaluate.truth is not None:
        models[ORACLE] = Oracle(Path(settings.evaluate.truth), test)
    return models


def _rows(measurement: Measurement, settings: EvaluateStageSettings) -> tuple[list[MetricRow], list[DifferenceRow]]:
    """Return the figures of every model and their differences to the reference."""
    import numpy as np

    from recpipe.metrics import summary
    from recpipe.metrics.intervals import Bootstrap
    from recpipe.metrics.rating import INTERVAL_COVERAGE

    evaluate = settings.evaluate
    bootstrap = Bootstrap(n_draws=evaluate.n_bootstrap, level=evaluate.level, seed=settings.seed)
    users = measurement.users
    segments = users.segments if "segments" in evaluate.slices else None
    user_slices = {
        name: mask
        for name, mask in summary.user_slices(warm=users.warm, segments=segments).items()
        if name == summary.ALL or name.startswith(summary.SEGMENT_PREFIX) or name in evaluate.slices
    }
    everybody = np.ones(len(users), bool)
    reference = measurement.models.get(evaluate.reference)
    rows: list[MetricRow] = []
    differences: list[DifferenceRow] = []
    for name, measured in measurement.models.items():
        for item_slice, ranking in measured.rankings.items():
            slices = user_slices if item_slice == summary.ALL else {item_slice: everybody}
            rows += summary.metric_rows(name, ranking.values, slices, bootstrap)
            if item_slice == summary.ALL:  # the catalogue of a slice of items is another one
                rows += summary.coverage_rows(name, ranking.coverage, n_users=ranking.n_users)
            if reference is not None and name != evaluate.reference:
                differences += summary.difference_rows(
                    (name, evaluate.reference),
                    ranking.values,
                    reference.rankings[item_slice].values,
                    slices=slices,
                    bootstrap=bootstrap,
                )
        if measured.errors is not None:
            rows += summary.rating_rows(name, measured.errors, user_slices, bootstrap)
            n_users = int((measured.errors.counts > 0).sum())
            rows += summary.coverage_rows(name, {INTERVAL_COVERAGE: measured.interval_coverage}, n_users=n_users)
    order = {name: place for place, name in enumerate(measurement.models)}
    shown = {name: place for place, name in enumerate(dict.fromkeys(row.slice for row in rows))}
    return sorted(rows, key=lambda row: (shown[row.slice], order[row.model])), differences


def _user_tables(measurement: Measurement) -> list[Any]:
    from recpipe.metrics.user_table import ranking_table, rating_table

    tables = []
    for name, measured in measurement.models.items():
        for item_slice, ranking in measured.rankings.items():
            n_relevant = measurement.n_relevant[item_slice]
            tables.append(
                ranking_table(name, measurement.users, ranking.values, n_relevant=n_relevant, item_slice=item_slice)
            )
        if measured.errors is not None:
            tables.append(rating_table(name, measurement.users, measured.errors))
    return tables


def _protocol(context: StageContext) -> dict[str, Any]:
    """Return what has to stand beside every figure: the split and the fingerprint of its data."""
    manifest = context.read(TEST_INTERACTIONS).manifest
    details = manifest.details if manifest else {}
    return {"split": details, "data": manifest.fingerprint if manifest else "unknown"}


def _definitions() -> dict[str, Any]:
    from recpipe.metrics.definitions import DEFINITIONS

    return {"definitions": DEFINITIONS}


def describe_protocol(protocol: Mapping[str, Any], counts: Mapping[str, int]) -> str:
    """Return the split, the data and what was counted, as a line above the table."""
    return (
        f"split: {protocol['split'].get('protocol', 'unknown')}\ndata {protocol['data'][:12]}; "
        f"all items ranked, those already taken left out; {counts['users']:,} users with {counts['test_items']:,} test "
        f"items, {counts['cold_users']:,} of them new; {counts['cold_items']:,} new items"
        + "".join(f"\n{name} is {model}" for name, model in protocol.get("trained", {}).items() if name != model)
    )


STAGE = Stage(
    name="evaluate",
    summary="Measure the lists on held-out interactions.",
    description="Measure the model of the evaluation view on the test interactions, beside popularity, recent "
    "popularity, chance and content: every item ranked, those already taken left out, with bootstrap intervals over "
    "users and paired differences, for all users and for new users, new items and segments apart. It never reads a "
    "production model.",
    example="recpipe evaluate -c config.yaml",
    version=2,
    settings=EvaluateStageSettings,
    reads=(
        Input(TEST_INTERACTIONS),
        Input(VALIDATION_INTERACTIONS),
        Input(INTERACTIONS),
        Input(USERS),
        Input(ITEMS),
        Input(ITEM_EMBEDDINGS),
        Input(USER_EMBEDDINGS),
        Input(USER_PROFILES),
        Input(MODEL),
    ),
    writes=(Output(METRICS), Output(METRIC_DIFFERENCES), Output(USER_METRICS)),
    run=_run,
    views=(View.EVALUATION,),
)
