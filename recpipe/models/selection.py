"""`train.model: auto`: which models validation chooses from."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from recpipe.config import did_you_mean
from recpipe.errors import ConfigError
from recpipe.models.registry import find_model, model_names
from recpipe.models.settings import ModelSettings

AUTO = "auto"


class AutoSettings(ModelSettings):
    """`train` where validation chooses the model."""

    model: Literal["auto"] = "auto"
    """The model that ranks the validation interactions best."""

    candidates: Annotated[tuple[str, ...], Field(min_length=1)] = (
        "popularity",
        "recent_popularity",
        "content",
        "factorization",
        "ease",
    )
    """Models to choose from, each with its own defaults and fitted to implicit feedback where it can be."""


def settings_for(name: str) -> type[ModelSettings]:
    """Return the class that reads the section `train` of a model.

    Raises:
        ConfigError: No model has that name.
    """
    if name == AUTO:
        return AutoSettings
    if name not in model_names():
        raise ConfigError(
            f"unknown model '{name}'", where="train.model", next_step=did_you_mean(name, [AUTO, *model_names()])
        )
    return find_model(name).settings


def candidates_of(settings: ModelSettings) -> list[ModelSettings]:
    """Return the settings of every model that may be fitted: the model itself, or those auto chooses from.

    Raises:
        ConfigError: A candidate does not exist.
    """
    if not isinstance(settings, AutoSettings):
        return [settings]
    found: list[ModelSettings] = []
    for name in settings.candidates:
        spec = find_model(name)
        target = settings.target
        if target == "auto" and "implicit" in spec.targets:
            target = "implicit"
        values = {"target": target, "positive_from": settings.positive_from}
        found.append(spec.settings.model_validate(values))
    return found
