"""Models by name. A model is a module of this package that declares `MODEL`; nothing lists them by hand."""

from __future__ import annotations

import importlib
import pkgutil
import re
from functools import cache
from typing import TYPE_CHECKING

from recpipe.config import did_you_mean, validate
from recpipe.errors import ConfigError, DataError
from recpipe.models.base import Model, ModelSpec
from recpipe.models.settings import ModelSettings

if TYPE_CHECKING:
    from pathlib import Path

PACKAGE = __name__.rpartition(".")[0]
_DECLARATION = re.compile(r"^(MODEL|from .* import MODEL)\b", re.MULTILINE)


@cache
def model_names() -> tuple[str, ...]:
    """Return the names of all models, sorted.

    Reads the modules' text instead of importing them: a network's module beside a model
    imports torch, and a typo in the configuration must not wait for that.
    """
    names = []
    for finder, name, _ in pkgutil.iter_modules(importlib.import_module(PACKAGE).__path__):
        full_name = f"{PACKAGE}.{name}"
        module_spec = finder.find_spec(full_name, None)
        source = getattr(module_spec.loader, "get_source", lambda _: None)(full_name) if module_spec else None
        if source and _DECLARATION.search(source):
            names.append(name)
    return tuple(sorted(names))


def find_model(name: str) -> ModelSpec[ModelSettings]:
    """Return the declaration of a model.

    Raises:
        ConfigError: No model has that name; the valid ones are listed, nearest first.
    """
    if name not in model_names():
        raise ConfigError(
            f"unknown model '{name}'", where="train.model", next_step=did_you_mean(str(name), model_names())
        )
    spec = importlib.import_module(f"{PACKAGE}.{name}").MODEL
    if not isinstance(spec, ModelSpec) or spec.name != name:
        raise TypeError(f"{PACKAGE}.{name}.MODEL must be a ModelSpec named '{name}'")
    return spec


def load_model(folder: Path) -> Model:
    """Read a fitted model of any kind.

    Raises:
        MissingInputError: There is no model in the folder.
        DataError: The folder was written in another format, by a model that is not here, or is damaged.
    """
    from recpipe.models.storage import read_header

    header = read_header(folder)
    try:
        spec = find_model(header.model)
        settings = validate(spec.settings, header.settings)
    except ConfigError as error:
        raise DataError(
            f"the model was written by another version: {error.what}",
            where=str(folder),
            next_step="run: recpipe train --force",
        ) from error
    model = spec.create(settings)
    model.load(folder)
    return model
