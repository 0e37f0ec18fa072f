"""Settings of the simulator."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Self

from pydantic import Field, NonNegativeInt, model_validator

from recpipe.config import Settings

LARGEST_BASKET_SHARE = 1 / 5
"""No user takes more than this share of the items; more than that is on sale on every day."""


class SimulateSettings(Settings):
    """Size and character of a simulated world."""

    n_users: Annotated[int, Field(ge=20, le=10_000_000)] = 400
    """Users, including those without interactions."""

    n_items: Annotated[int, Field(ge=60, le=2_000_000)] = 600
    """Items, including those without interactions."""

    n_interactions: Annotated[int, Field(ge=100)] = 12_000
    """Interactions: exactly that many rows."""

    seed: NonNegativeInt = 42
    """The same seed and settings give the same world."""

    start: date = date(2024, 1, 1)
    """First day of trading."""

    days: Annotated[int, Field(ge=28, le=3650)] = 365
    """Days of trading."""

    empty_profile_share: Annotated[float, Field(ge=0, le=1)] = 0.2
    """Share of users who wrote nothing about themselves."""

    cold_user_share: Annotated[float, Field(ge=0, le=0.5)] = 0.03
    """Share of users without interactions."""

    cold_item_share: Annotated[float, Field(ge=0, le=0.3)] = 0.03
    """Share of items that arrive after the last interaction, so that nobody has taken them."""

    taste_drift: Annotated[float, Field(ge=0, le=1)] = 0.4
    """Share of a user's taste that another taste replaces between the first and the last day."""

    curiosity: Annotated[float, Field(gt=0, le=1)] = 0.05
    """Share of a user's taste spread evenly over all topics."""

    popularity_skew: Annotated[float, Field(ge=0, le=2)] = 0.5
    """Exponent of Zipf's law: the item of rank r attracts in proportion to r ** -popularity_skew."""

    freshness_days: Annotated[float, Field(ge=7, le=3650)] = 45.0
    """Days in which the extra attraction of a new item falls to 1/e."""

    freshness_boost: Annotated[float, Field(ge=0, le=100)] = 3.0
    """Extra attraction on the day of release, as a multiple of the lasting one."""

    rating_noise: Annotated[float, Field(ge=0, le=3)] = 0.5
    """Standard deviation of the noise in a rating, in stars."""

    media: bool = False
    """Give every item a picture and a sound, and every user a taste for one look and one sound, which
    no text tells. Needs Pillow."""

    picture_pull: Annotated[float, Field(ge=0, le=4)] = 2.0
    """With media: how much looks matter; the look liked best is taken exp(2 picture_pull) times as often
    as its opposite."""

    sound_pull: Annotated[float, Field(ge=0, le=4)] = 2.0
    """With media: the same of sounds."""

    @property
    def n_cold_users(self) -> int:
        """Number of users without interactions."""
        return round(self.cold_user_share * self.n_users)

    @property
    def n_cold_items(self) -> int:
        """Number of items without interactions."""
        return round(self.cold_item_share * self.n_items)

    @property
    def largest_basket(self) -> int:
        """Largest number of interactions of one user."""
        return int(self.n_items * LARGEST_BASKET_SHARE)

    @model_validator(mode="after")
    def _interactions_fit(self) -> Self:
        buyers = self.n_users - self.n_cold_users
        most = buyers * self.largest_basket // 2
        if not buyers <= self.n_interactions <= most:
            raise ValueError(
                f"n_interactions must lie between {buyers} (one for each user who buys) and {most} "
                f"(half of what {buyers} users can take from {self.n_items} items); it is {self.n_interactions}"
            )
        return self
