"""The section `train`: what every model is told. A model's own settings extend it, flat."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from recpipe.config import Settings

Target = Literal["rating", "implicit"]
"""What a model learns to predict: the rating given, or whether the item was taken."""


class ModelSettings(Settings):
    """What is common to all models; `train.model` decides which class reads the section."""

    model: str = "content"
    """Name of the model."""

    name: str | None = Field(default=None, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100)
    """Name the fitted model is kept under, so that several live side by side; default: the model's name."""

    positive_from: float | None = None
    """Rating from which an interaction counts as positive; null: every interaction does.
    An interaction without a rating is positive."""

    target: Literal["auto", "rating", "implicit"] = "auto"
    """What is learned; auto: the first of the model's targets that the data allow."""

    @property
    def kept_as(self) -> str:
        """Name of the folder the fitted model is kept in."""
        return self.name or self.model
