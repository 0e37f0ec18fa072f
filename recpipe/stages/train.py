"""train: fit the model `train.model` names."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, Any

from pydantic import NonNegativeInt, SerializeAsAny

from recpipe.config import Settings
from recpipe.models.registry import find_model
from recpipe.models.settings import ModelSettings
from recpipe.schemas import (
    INTERACTIONS,
    ITEM_EMBEDDINGS,
    ITEM_ID,
    ITEM_VECTOR,
    ITEM_VECTORS,
    ITEMS,
    MODEL,
    USER_EMBEDDINGS,
    USER_PROFILES,
    USERS,
    Artifact,
)
from recpipe.stages.base import Given, Input, Output, Stage

if TYPE_CHECKING:
    from pathlib import Path

    from recpipe.stages.pipeline.context import StageContext
    from recpipe.stages.pipeline.population import PopulationPaths


class TrainStageSettings(Settings):
    """What decides the model."""

    train: SerializeAsAny[ModelSettings]
    as_of: datetime | None
    seed: NonNegativeInt


def model_reads(artifact: Artifact) -> Callable[[Any, Given], bool]:
    """Return whether the model that is set reads an artifact."""
    return lambda settings, given: artifact.name in find_model(settings.train.model).reads


def population_paths(context: StageContext, as_of: datetime | None) -> PopulationPaths:
    """Return where the tables are that the model reads."""
    from recpipe.stages.pipeline.population import PopulationPaths

    return PopulationPaths(
        users=context.path(USERS),
        items=context.path(ITEMS),
        interactions=context.path(INTERACTIONS),
        item_embeddings=context.path(ITEM_EMBEDDINGS) if context.has(ITEM_EMBEDDINGS) else None,
        user_embeddings=context.path(USER_EMBEDDINGS) if context.has(USER_EMBEDDINGS) else None,
        user_profiles=context.path(USER_PROFILES) if context.has(USER_PROFILES) else None,
        as_of=as_of,
    )


def _run(settings: TrainStageSettings, context: StageContext) -> None:
    import pyarrow as pa

    from recpipe.models.base import FactoredModel, FitContext, TrainingData
    from recpipe.stages.pipeline.population import Population
    from recpipe.store.arrow import vector_array

    population = Population(population_paths(context, settings.as_of))
    data = TrainingData(
        items=population.items,
        open_blocks=population.blocks,
        n_users=population.users.rows,
        targets=frozenset({"implicit", "rating"} if population.events.has_ratings else {"implicit"}),
        as_of_us=population.as_of_us,
    )
    model = find_model(settings.train.model).create(settings.train)
    report = model.fit(data, FitContext(seed=settings.seed, device=context.device(), report=context.log.info))

    def save(folder: Path) -> None:
        model.save(folder)
        if isinstance(model, FactoredModel):
            vectors = vector_array(model.item_vectors(population.items))
            with context.write_inside(folder, ITEM_VECTORS) as writer:
                writer.write(pa.table({ITEM_ID.name: population.items.ids, ITEM_VECTOR.name: vectors}))
                writer.commit()

    folder = context.write_model(MODEL, save)
    counts = ", ".join(f"{name} {count:,}" for name, count in report.counts.items())
    context.log.info("%s fitted to %s feedback: %s → %s", settings.train.model, report.target, counts, folder)


STAGE = Stage(
    name="train",
    summary="Fit a model to the interactions.",
    description="Fit the model that `train.model` names and keep it under `train.name`; several models live side by "
    "side. What a model reads besides users, items and interactions depends on it.",
    example="recpipe train -c config.yaml --set train.model=popularity",
    version=1,
    settings=TrainStageSettings,
    reads=(
        Input(USERS),
        Input(ITEMS),
        Input(INTERACTIONS),
        Input(ITEM_EMBEDDINGS, when=model_reads(ITEM_EMBEDDINGS)),
        Input(USER_EMBEDDINGS, when=model_reads(USER_EMBEDDINGS)),
        Input(USER_PROFILES, when=model_reads(USER_PROFILES)),
    ),
    writes=(Output(MODEL),),
    run=_run,
)
