"""Finds the stages and puts them in order; adding a file in `stages/` adds a stage."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache
from typing import Any

import recpipe.stages
from recpipe.errors import ConfigError
from recpipe.schemas import INTERACTIONS, TRAIN_INTERACTIONS, Artifact, Scope
from recpipe.stages.base import Stage
from recpipe.stages.tables import TABLE_STAGES

AnyStage = Stage[Any]


@cache
def stages() -> tuple[AnyStage, ...]:
    """Return every stage with a command, each after those whose artifacts it reads.

    The order is the declarations' own; where they leave it open, by name.
    """
    found: dict[str, AnyStage] = {}
    for module in pkgutil.iter_modules(recpipe.stages.__path__):
        if not module.ispkg:
            stage = getattr(importlib.import_module(f"recpipe.stages.{module.name}"), "STAGE", None)
            if isinstance(stage, Stage):
                found[stage.name] = stage
    ordered: list[AnyStage] = []
    remaining = sorted(found.values(), key=lambda stage: stage.name)
    while remaining:
        later = {output.artifact.name for stage in remaining for output in stage.writes}
        ready = [
            stage
            for stage in remaining
            if not (_read_names(stage) & (later - {output.artifact.name for output in stage.writes}))
        ]
        if not ready:
            raise ConfigError(f"stages read each other in a circle: {', '.join(stage.name for stage in remaining)}")
        ordered.append(ready[0])
        remaining.remove(ready[0])
    return tuple(ordered)


def _read_names(stage: AnyStage) -> set[str]:
    names = {entry.artifact.name for entry in stage.reads}
    # in the evaluation view interactions are those the split left to train on
    if any(entry.artifact is INTERACTIONS and entry.view is None for entry in stage.reads):
        names.add(TRAIN_INTERACTIONS.name)
    return names


def producer(artifact: Artifact) -> AnyStage:
    """Return the stage that writes an artifact.

    Raises:
        KeyError: No stage does.
    """
    candidates = TABLE_STAGES.values() if artifact.scope is Scope.TABLE else stages()
    for stage in candidates:
        if any(output.artifact is artifact for output in stage.writes):
            return stage
    raise KeyError(f"no stage writes {artifact.name}")


def stage_named(name: str) -> AnyStage:
    """Return a stage by name; KeyError when there is none."""
    for stage in (*TABLE_STAGES.values(), *stages()):
        if stage.name == name:
            return stage
    raise KeyError(name)
