"""Settings of the `cluster` stage: behaviour features, PCA, K-means and labels."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from recpipe.config import Settings


class FeatureGroup(StrEnum):
    """Groups of behaviour features; a group whose columns the tables lack is left out."""

    ACTIVITY = "activity"
    """Number of interactions and of active days (logarithms)."""
    RECENCY = "recency"
    """Days since the last and the first interaction, mean gap between two (logarithms)."""
    RATING = "rating"
    """Mean and spread of the ratings given, share of positive ones."""
    SHARES = "shares"
    """Shares of the attribute values (genres, tags, categories) among the user's items."""
    HOUR = "hour"
    """Shares of the four parts of the day, UTC."""
    WEEKDAY = "weekday"
    """Shares of the seven days of the week, UTC."""
    USER_COLUMNS = "user_columns"
    """Numeric and categorical columns of the users table."""


class FeatureSettings(Settings):
    """Which behaviour features x a user gets."""

    groups: Annotated[tuple[FeatureGroup, ...], Field(min_length=1)] = tuple(FeatureGroup)
    """Groups of features: activity, recency, rating, shares, hour, weekday, user_columns."""
    share_columns: Literal["auto"] | tuple[str, ...] = "auto"
    """Item columns whose values are counted as shares; auto takes lists and texts whose values repeat."""
    user_columns: Literal["auto"] | tuple[str, ...] = "auto"
    """Columns of the users table; auto takes numbers, lists and texts whose values repeat."""
    max_values: PositiveInt = 50
    """Most frequent values kept per column."""
    list_separator: Annotated[str, Field(min_length=1)] = "|"
    """Splits a text column that holds lists, as in Action|Comedy."""


class ClusterSettings(Settings):
    """Users into segments."""

    n_clusters: Literal["auto"] | PositiveInt = 10
    """Number of segments; auto takes the one with the highest mean silhouette."""
    min_clusters: Annotated[int, Field(ge=2)] = 2
    """Fewest segments auto tries."""
    max_clusters: Annotated[int, Field(ge=2)] = 20
    """Most segments auto tries; of a wide range it tries some twenty numbers, evenly spaced by ratio."""
    silhouette_rows: Annotated[int, Field(ge=100, le=50_000)] = 5_000
    """Users, drawn by seed, that auto judges by; its time grows with their square."""
    pca_dim: PositiveInt | None = 64
    """Principal components clustered on; null clusters the embeddings themselves."""
    fit: bool = True
    """false assigns to the existing segment_space and segments, so that segment numbers stay from night to night."""
    n_init: PositiveInt = 10
    """K-means restarts; the one with the least inertia stays."""
    max_iter: PositiveInt = 300
    """Most Lloyd iterations per restart, and most passes over all users after it."""
    sample_rows: Annotated[int, Field(ge=1000)] = 200_000
    """Users K-means is fitted on; passes over all users follow until the assignments settle."""
    features: FeatureSettings = FeatureSettings()
    """Behaviour features x."""
    label_terms: PositiveInt = 3
    """Terms in a label."""
    label_items: NonNegativeInt = 5
    """Characteristic items listed per segment."""

    @model_validator(mode="after")
    def _bounds_in_order(self) -> ClusterSettings:
        if self.min_clusters > self.max_clusters:
            raise ValueError("min_clusters is above max_clusters")
        return self
