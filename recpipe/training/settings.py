"""The section `tune`: which settings are searched, between which bounds, with which budget."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from pydantic import Field, JsonValue, PositiveFloat, PositiveInt, field_validator, model_validator

from recpipe.config import Execution, Settings, did_you_mean

KINDS = ("int", "float", "choice")
"""What a dimension may be; exactly one of them."""

# fields of these names hide the types from the annotations below them
_Int = int
_Float = float


class Dimension(Settings):
    """The values one setting may take."""

    int: tuple[_Int, _Int] | None = None
    """Whole numbers from the first to the second, both included."""

    float: tuple[_Float, _Float] | None = None
    """Numbers from the first to the second."""

    choice: Annotated[tuple[JsonValue, ...] | None, Field(min_length=1)] = None
    """One of these values."""

    log: bool = False
    """Search ratios instead of differences: between 0.001 and 0.1, as many below 0.01 as above."""

    step: PositiveInt | None = None
    """Distance between two whole numbers tried."""

    @model_validator(mode="before")
    @classmethod
    def _known_keys(cls, value: Any) -> Any:
        if not isinstance(value, Mapping):
            raise ValueError("say which values it may take, as in {int: [16, 256], log: true} or {choice: [a, b]}")
        for key in value:
            if key not in cls.model_fields:
                raise ValueError(f"unknown key '{key}': {did_you_mean(str(key), cls.model_fields)}")
        if sum(value.get(kind) is not None for kind in KINDS) != 1:
            raise ValueError(f"give exactly one of {', '.join(KINDS)}")
        return value

    @model_validator(mode="after")
    def _bounds_in_order(self) -> Dimension:
        if self.choice is not None:
            if self.log or self.step:
                raise ValueError("log and step belong to numbers, not to choice")
            if any(value in self.choice[:number] for number, value in enumerate(self.choice)):
                raise ValueError("a choice stands twice")
            return self
        low, high = self.bounds
        if low >= high:
            raise ValueError(f"the first bound, {low}, is not below the second, {high}")
        if self.log and low <= 0:
            raise ValueError("log needs bounds above 0")
        if self.step is not None and (self.int is None or self.log):
            raise ValueError("step belongs to int without log")
        if self.step is not None and (high - low) % self.step:
            raise ValueError(f"no whole number of steps of {self.step} leads from {low} to {high}")
        return self

    @property
    def bounds(self) -> tuple[_Float, _Float]:
        """Lowest and highest number; TypeError for a choice."""
        bounds = self.int or self.float
        if bounds is None:
            raise TypeError("a choice has no bounds")
        return bounds

    def probes(self) -> list[JsonValue]:
        """Return the values to try a setting with: every choice, or the bounds and, of floats, one between."""
        if self.choice is not None:
            return list(self.choice)
        low, high = self.bounds
        return [low, high] if self.int else [low, high, low + (high - low) * 0.381966]


class TuneSettings(Settings):
    """What `recpipe tune` searches; no other command reads it."""

    space: dict[str, Dimension] = Field(default_factory=dict)
    """Settings and the values they may take, such as `train.hidden_dim: {int: [16, 256], log: true}`,
    `cluster.n_clusters: {int: [5, 50], step: 5}`, `train.learning_rate: {float: [0.0005, 0.02], log: true}` or
    `train.loss: {choice: [softmax, bpr]}`. Settings of encoder, users, cluster and train can be searched, `train.model`
    among them: a model's own settings then concern its trials only."""

    n_trials: Annotated[PositiveInt, Execution()] = 30
    """Trials altogether, those of earlier calls and failed ones included. The first is the configuration as it is."""

    max_minutes: Annotated[PositiveFloat | None, Execution()] = None
    """No trial starts after this time, summed over the trials of earlier calls; null is no limit."""

    startup_trials: PositiveInt = 10
    """Trials drawn at random before the finished ones guide the search."""

    validation_users: PositiveInt = 5000
    """Most users a trial is measured on, drawn at random, the same in every trial."""

    @field_validator("space", mode="before")
    @classmethod
    def _by_dotted_key(cls, value: Any) -> Any:
        # `--set tune.space.train.hidden_dim=...` arrives as nested sections
        return dict(_flat(value)) if isinstance(value, Mapping) else value


def _flat(section: Mapping[Any, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in section.items():
        key = f"{prefix}{name}"
        if isinstance(value, Mapping) and value and all(isinstance(entry, Mapping) for entry in value.values()):
            yield from _flat(value, f"{key}.")
        else:
            yield key, value
