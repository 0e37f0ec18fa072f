"""The section `evaluate`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveInt, field_validator

from recpipe.config import Execution, Settings

Slice = Literal["warm_users", "cold_users", "cold_items", "cold_items_only", "segments"]
"""A part of the evaluation reported apart; the slice `all` is always there."""


ORACLE = "oracle"
"""Stands in the table of a simulated world: ranks by what users truly prefer."""


class EvaluateSettings(Settings):
    """What is measured and how sure it is."""

    k: Annotated[tuple[PositiveInt, ...], Field(min_length=1)] = (10, 20)
    """Lengths of list the ranking metrics look at; the printed table shows the first."""
    baselines: tuple[str, ...] = ("popularity", "recent_popularity", "random", "content")
    """Models that stand in the table beside the trained one."""
    reference: str = "popularity"
    """Model that every other one's paired difference is taken against."""
    slices: tuple[Slice, ...] = ("warm_users", "cold_users", "cold_items", "cold_items_only", "segments")
    """Parts reported apart: users with and without training interactions, held-out items without training
    interactions (cold_items: found in the full list; cold_items_only: ranked among themselves), segments."""
    n_bootstrap: Annotated[int, Field(ge=100)] = 1000
    """Resamples of the users behind each interval."""
    level: Annotated[float, Field(gt=0, lt=1)] = 0.95
    """Confidence level of the intervals."""
    truth: str | None = None
    """Folder of the simulated world the tables come from: adds the oracle, which knows what users truly prefer."""
    block_users: Annotated[PositiveInt, Execution()] = 256
    """Users scored at a time. Memory grows with it, the result does not change."""

    @field_validator("k", "baselines", "slices")
    @classmethod
    def _no_repeats(cls, value: tuple[object, ...]) -> tuple[object, ...]:
        if len(set(value)) != len(value):
            raise ValueError("the same entry stands there twice")
        return value
