"""The space of `recpipe tune` checked against the configuration, and applied to it."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import JsonValue

from recpipe.config import Execution, Settings, did_you_mean
from recpipe.errors import ConfigError
from recpipe.models.selection import settings_for
from recpipe.stages.settings import Config, build
from recpipe.training.settings import Dimension
from recpipe.training.suggestions import MODEL_KEY, SearchSpace

WHERE = "tune.space"
SECTIONS = ("encoder", "users", "cluster", "train")
"""Sections whose settings may be searched. The others decide what is measured, or how work is done."""

REFUSED = {
    "train.name": "only names the model",
    "train.target": "decides what is measured",
    "train.positive_from": "decides what is measured",
    "cluster.fit": "needs segments made by another run",
}


@dataclass(frozen=True, slots=True)
class TunedConfig:
    """A configuration and what is searched around it.

    Attributes:
        raw: The configuration as it was written, sections by name.
        config: The same, validated.
    """

    raw: Mapping[str, Any]
    config: Config
    space: SearchSpace

    @classmethod
    def check(cls, raw: Mapping[str, Any], config: Config) -> TunedConfig:
        """Check every setting and every bound of the space before anything runs.

        A bound holds where it is valid beside the configuration's other values, or beside the
        lowest or the highest values of the other dimensions.

        Raises:
            ConfigError: Every problem found.
        """
        dimensions = config.tune.space
        if not dimensions:
            raise ConfigError(
                "nothing to search",
                where=WHERE,
                next_step="name settings and their ranges, as in tune: {space: {train.hidden_dim: {int: [16, 256]}}}",
            )
        problems = [problem for key in dimensions if (problem := _refusal(key))]
        _fail(problems)
        models = _models(config)
        classes = {model: _settings_for(model) for model in models}
        having: dict[str, frozenset[str]] = {}
        for key in dimensions:
            found = [_problem(key, classes[model]) for model in models]
            if all(found):
                problems.append(str(found[0]))
            elif key.startswith("train.") and MODEL_KEY in dimensions:
                having[key] = frozenset(model for model, problem in zip(models, found, strict=True) if not problem)
        hint = None if MODEL_KEY in dimensions else f"the model is {models[0]} (train.model); its settings are those"
        _fail(problems, hint)
        tuned = cls(raw, config, SearchSpace(dimensions=dimensions, models=having))
        _fail(list(dict.fromkeys(itertools.chain.from_iterable(tuned._out_of_bounds(model) for model in models))))
        return tuned

    def with_values(self, values: Mapping[str, JsonValue]) -> dict[str, Any]:
        """Return the configuration as written, with these settings in it."""
        raw = copy.deepcopy(dict(self.raw))
        for key, value in values.items():
            *sections, name = key.split(".")
            section = raw
            for entry in sections:
                if section.get(entry) is None:
                    section[entry] = {}
                section = section[entry]
            section[name] = value
        return raw

    def config_with(self, values: Mapping[str, JsonValue]) -> Config:
        """Return the configuration with these settings.

        Raises:
            ConfigError: They do not go together.
        """
        return build(self.with_values(values))

    def own_values(self) -> dict[str, JsonValue]:
        """Return the configuration's own values of the settings that are searched."""
        plain = self.config.model_dump(mode="json")
        model = self.config.train.model
        keys = [key for key in self.space.dimensions if self.space.concerns(key, model)]
        return {key: _value_at(plain, key) for key in keys}

    def _out_of_bounds(self, model: str) -> Iterator[str]:
        """Yield what is wrong with the bounds of the settings that concern a model."""
        dimensions = {key: entry for key, entry in self.space.dimensions.items() if self.space.concerns(key, model)}
        chosen: dict[str, JsonValue] = {MODEL_KEY: model} if MODEL_KEY in dimensions else {}
        others = {key: entry.probes() for key, entry in dimensions.items() if key != MODEL_KEY}
        contexts: list[dict[str, JsonValue]] = [
            chosen,
            {key: probes[0] for key, probes in others.items()} | chosen,
            {key: probes[1 if len(probes) > 1 else 0] for key, probes in others.items()} | chosen,
        ]
        probes = others or {MODEL_KEY: [model]}
        for key, value in ((key, value) for key, values in probes.items() for value in values):
            problems = [self._problem_with({**context, key: value}) for context in contexts]
            if all(problems):
                yield _about(key, value, str(problems[0]))

    def _problem_with(self, values: Mapping[str, JsonValue]) -> str | None:
        try:
            self.config_with(values)
        except ConfigError as error:
            return error.what
        return None


def _about(key: str, value: JsonValue, problem: str) -> str:
    return problem if problem.startswith((key, f"unknown key '{key}'")) else f"{key}={value}: {problem}"


def _models(config: Config) -> list[str]:
    dimension: Dimension | None = config.tune.space.get(MODEL_KEY)
    if dimension is None:
        return [config.train.model]
    if dimension.choice is None:
        raise ConfigError("models are named, not counted", where=f"{WHERE}: {MODEL_KEY}", next_step="use choice")
    return [str(model) for model in dimension.choice]


def _settings_for(model: str) -> type[Settings]:
    try:
        return settings_for(model)
    except ConfigError as error:
        raise ConfigError(error.what, where=f"{WHERE}: {MODEL_KEY}", next_step=error.next_step) from None


def _refusal(key: str) -> str | None:
    """Say why a setting cannot be searched, from its name alone."""
    section, _, name = key.partition(".")
    if section not in Config.model_fields:
        return f"unknown section '{section}' in '{key}': {did_you_mean(section, SECTIONS)}"
    if section not in SECTIONS:
        return f"'{key}' cannot be searched: settings of {', '.join(SECTIONS)} can"
    if not name:
        return f"'{key}' is a section: name one of its settings"
    return f"'{key}' cannot be searched: it {REFUSED[key]}" if key in REFUSED else None


def _problem(key: str, train: type[Settings]) -> str | None:
    """Say what is wrong with the name of a setting, where `train` is read by this class."""
    section, *names = key.split(".")
    current: Any = train if section == "train" else Config.model_fields[section].annotation
    for depth, name in enumerate(names):
        fields = current.model_fields if _is_section(current) else {}
        if name not in fields:
            return (
                f"unknown key '{key}': {did_you_mean(name, fields)}" if fields else _no_section(section, names[:depth])
            )
        if any(isinstance(mark, Execution) for mark in fields[name].metadata):
            return f"'{key}' cannot be searched: it does not change what comes out"
        current = fields[name].annotation
    return f"'{key}' is a section: name one of its settings" if _is_section(current) else None


def _no_section(section: str, names: Sequence[str]) -> str:
    return f"'{'.'.join([section, *names])}' is a setting, not a section"


def _is_section(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, Settings)


def _value_at(plain: Mapping[str, Any], key: str) -> JsonValue:
    value: Any = plain
    for name in key.split("."):
        value = value[name]
    found: JsonValue = value
    return found


def _fail(problems: Sequence[str], next_step: str | None = None) -> None:
    if problems:
        raise ConfigError("; ".join(problems), where=WHERE, next_step=next_step)
