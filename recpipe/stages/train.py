"""train: fit the model `train.model` names."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from pydantic import NonNegativeInt, SerializeAsAny

from recpipe.config import Settings
from recpipe.models.registry import find_model
from recpipe.models.selection import candidates_of
from recpipe.models.settings import ModelSettings
from recpipe.schemas import (
    CHOSEN,
    CHOSEN_VALUE,
    EPOCH,
    INTERACTIONS,
    ITEM_EMBEDDINGS,
    ITEM_ID,
    ITEM_VECTOR,
    ITEM_VECTORS,
    ITEMS,
    MODEL,
    MODEL_CHOICE,
    SECONDS,
    TRAIN_LOSS,
    TRAINING_HISTORY,
    USER_EMBEDDINGS,
    USER_PROFILES,
    USERS,
    VALIDATION,
    VALIDATION_INTERACTIONS,
    Artifact,
)
from recpipe.stages.base import Given, Input, Output, Stage
from recpipe.store.layout import View

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import pyarrow as pa

    from recpipe.models.base import JsonValue
    from recpipe.models.tables import TrainingData
    from recpipe.stages.pipeline.context import StageContext
    from recpipe.stages.pipeline.population import Population, PopulationPaths
    from recpipe.training.selection import Selected


class TrainStageSettings(Settings):
    """What decides the model."""

    train: SerializeAsAny[ModelSettings]
    as_of: datetime | None
    seed: NonNegativeInt


def model_reads(artifact: Artifact) -> Callable[[Any, Given], bool]:
    """Return whether the model that is set reads an artifact."""
    return lambda settings, given: any(
        artifact.name in find_model(candidate.model).reads for candidate in candidates_of(settings.train)
    )


def population_paths(
    context: StageContext, as_of: datetime | None, train: ModelSettings, *, beside: Sequence[str] = ()
) -> PopulationPaths:
    """Return where the tables are that the models read.

    Args:
        train: The model, or those to choose from.
        beside: Names of models fitted beside it.
    """
    from recpipe.stages.pipeline.population import PopulationPaths

    return PopulationPaths(
        users=context.path(USERS),
        items=context.path(ITEMS),
        interactions=context.path(INTERACTIONS),
        item_embeddings=context.path(ITEM_EMBEDDINGS) if context.has(ITEM_EMBEDDINGS) else None,
        user_embeddings=context.path(USER_EMBEDDINGS) if context.has(USER_EMBEDDINGS) else None,
        user_profiles=context.path(USER_PROFILES) if context.has(USER_PROFILES) else None,
        as_of=as_of,
        attributes=any(find_model(name).attributes for name in [*beside, *(c.model for c in candidates_of(train))]),
    )


def training_data(population: Population) -> TrainingData:
    """Return the interactions of a view as models are given them."""
    from recpipe.models.base import TrainingData

    return TrainingData(
        items=population.items,
        open_blocks=population.blocks,
        n_users=population.users.rows,
        targets=frozenset({"implicit", "rating"} if population.events.has_ratings else {"implicit"}),
        as_of_us=population.as_of_us,
    )


def _run(settings: TrainStageSettings, context: StageContext) -> None:
    from dataclasses import replace

    from recpipe.models.base import FitContext
    from recpipe.stages.pipeline.population import Population
    from recpipe.training.selection import select

    population = Population(population_paths(context, settings.as_of, settings.train))
    data = training_data(population)
    held_out = None
    if context.has(VALIDATION_INTERACTIONS):
        events = population.held_out(context.read(VALIDATION_INTERACTIONS))
        held_out = replace(data, open_blocks=events)
    choice = _read_choice(context) if context.has(MODEL_CHOICE) else {}
    fit_context = FitContext(
        seed=settings.seed,
        device=context.device(),
        report=context.log.info,
        held_out=held_out,
        choice=choice,
        checkpoint=context.scratch,
    )
    selected = select(candidates_of(settings.train), data, fit_context)
    report = selected.report
    details = {"metric": report.metric, "validation": report.validation, "candidates": dict(selected.values)}
    folder = context.write_model(MODEL, lambda folder: _save(folder, selected, population, context))
    if context.view is View.EVALUATION:
        with context.write(MODEL_CHOICE) as writer:
            writer.write(_choice_table(report.choice))
            writer.commit(**details)
    counts = ", ".join(f"{name} {count:,}" for name, count in report.counts.items())
    name = selected.model.settings.model
    if population.items.blocks and not find_model(name).blocks:
        context.log.info("%s does not read the items' %s", name, ", ".join(population.items.blocks))
    context.log.info("%s fitted to %s feedback: %s → %s", name, report.target, counts, folder)


def _save(folder: Path, selected: Selected, population: Population, context: StageContext) -> None:
    """Write everything a model folder holds."""
    import pyarrow as pa

    from recpipe.models.base import FactoredModel
    from recpipe.store.arrow import vector_array

    selected.model.save(folder)
    if isinstance(selected.model, FactoredModel):
        vectors = vector_array(selected.model.item_vectors(population.items))
        with context.write_inside(folder, ITEM_VECTORS) as writer:
            writer.write(pa.table({ITEM_ID.name: population.items.ids, ITEM_VECTOR.name: vectors}))
            writer.commit()
    history = selected.report.history
    columns = {
        EPOCH.name: pa.array([row.epoch for row in history], pa.int32()),
        TRAIN_LOSS.name: pa.array([row.train_loss for row in history], pa.float64()),
        VALIDATION.name: pa.array([row.validation for row in history], pa.float64()),
        SECONDS.name: pa.array([row.seconds for row in history], pa.float64()),
    }
    with context.write_inside(folder, TRAINING_HISTORY) as writer:
        writer.write(pa.table(columns))
        writer.commit(metric=selected.report.metric)


def _choice_table(choice: Mapping[str, JsonValue]) -> pa.Table:
    import pyarrow as pa

    return pa.table({CHOSEN.name: list(choice), CHOSEN_VALUE.name: [json.dumps(value) for value in choice.values()]})


def _read_choice(context: StageContext) -> dict[str, JsonValue]:
    rows = context.read(MODEL_CHOICE).table().to_pylist()
    choice = {row[CHOSEN.name]: json.loads(row[CHOSEN_VALUE.name]) for row in rows}
    told = ", ".join(f"{name} {value}" for name, value in choice.items() if value != 0)  # most weights of hybrid are 0
    context.log.info("as validation chose: %s", told)
    return choice


STAGE = Stage(
    name="train",
    summary="Fit a model to the interactions.",
    description="Fit the model that `train.model` names, or the one that ranks held-out interactions best "
    "(`auto`), and keep it under `train.name`; several models live side by side. In the evaluation view, validation "
    "interactions choose what is left to them (epochs, strengths); in production the model is fitted to everything "
    "with what they chose.",
    example="recpipe train -c config.yaml --set train.model=popularity",
    version=2,
    settings=TrainStageSettings,
    reads=(
        Input(USERS),
        Input(ITEMS),
        Input(INTERACTIONS),
        Input(ITEM_EMBEDDINGS, when=model_reads(ITEM_EMBEDDINGS)),
        Input(USER_EMBEDDINGS, when=model_reads(USER_EMBEDDINGS)),
        Input(USER_PROFILES, when=model_reads(USER_PROFILES)),
        Input(VALIDATION_INTERACTIONS, views=(View.EVALUATION,)),
        Input(MODEL_CHOICE, views=(View.PRODUCTION,), view=View.EVALUATION, optional=True, same=("train",)),
    ),
    writes=(Output(MODEL), Output(MODEL_CHOICE, views=(View.EVALUATION,))),
    run=_run,
)
