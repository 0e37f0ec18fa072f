"""Settings of the model hybrid and of its parts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, model_validator

from recpipe.config import did_you_mean, validate
from recpipe.errors import ConfigError
from recpipe.models.registry import find_model
from recpipe.models.settings import ModelSettings

if TYPE_CHECKING:
    from recpipe.models.base import JsonValue

PARTS: Mapping[str, Mapping[str, JsonValue]] = {
    "ease": {},
    "two_tower": {"history": 50, "max_epochs": 10},
    "segment_prior": {},
    "recent_popularity": {},
    "taste": {},
    "content": {},
}
"""The parts and where their settings differ from their own defaults; the first are preferred where all do alike."""


class HybridSettings(ModelSettings):
    """`train` for the model hybrid."""

    model: Literal["hybrid"] = "hybrid"
    """Name of the model."""

    target: Literal["auto", "implicit"] = "auto"
    """What is learned: the items taken."""

    parts: Annotated[tuple[str, ...], Field(min_length=1)] = tuple(PARTS)
    """Models to fuse."""

    part_settings: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Settings of parts by name, as in {two_tower: {hidden_dim: 128}}."""

    new_item_cost: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.02
    """Part of the NDCG@10 of known items that may be given up so that items nobody took stand higher,
    measured on those of the held-out interactions, or on others as if nobody had taken them, about
    as many at a time as there are new ones. They get no more places than they earn."""

    @model_validator(mode="after")
    def _parts_and_their_settings(self) -> HybridSettings:
        """Raise ValueError for what is no part, and for settings that a part does not have."""
        for name in (*self.parts, *self.part_settings):
            if name not in PARTS:
                raise ValueError(f"'{name}' is no part of hybrid: {did_you_mean(name, PARTS)}")
        for name in self.parts:
            self.settings_of(name)
        return self

    def settings_of(self, part: str) -> ModelSettings:
        """Return the settings of a part. ValueError where they are not what it takes."""
        values = {**PARTS[part], **self.part_settings.get(part, {}), "positive_from": self.positive_from}
        try:
            return validate(find_model(part).settings, values)
        except ConfigError as error:
            raise ValueError(f"part_settings.{part}: {error.what}") from None
