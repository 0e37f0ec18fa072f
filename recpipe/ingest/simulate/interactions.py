"""Who takes what, when, and how they rate it: interactions drawn from the true choices.

A user's days come first, then for every day an item from `choice` (see truth.py), then the
hour by the item's theme, then the rating. Nobody takes an item twice: of two draws of the same
item the earlier stays and the later is drawn again, which is drawing without replacement. With
media, a draw is accepted with the probability that is its appeal (see senses.py).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from recpipe.ingest.simulate.bank import THEME_OF_TOPIC, THEMES
from recpipe.ingest.simulate.catalogue import Catalogue, item_ids
from recpipe.ingest.simulate.people import UserBlock, user_ids
from recpipe.ingest.simulate.senses import appeal, pleasure
from recpipe.ingest.simulate.settings import SimulateSettings
from recpipe.ingest.simulate.shelves import Shelves
from recpipe.ingest.simulate.truth import RATING_BASE, RATING_SLOPE, freshness, taste_at
from recpipe.schemas import ITEM_ID, RATING, TIMESTAMP, USER_ID
from recpipe.seeding import generator

INTERACTION_SCHEMA = pa.schema(
    [
        pa.field(USER_ID.name, pa.string()),
        pa.field(ITEM_ID.name, pa.string()),
        pa.field(RATING.name, pa.float32()),
        pa.field(TIMESTAMP.name, pa.timestamp("us", tz="UTC")),
    ]
)

ROWS_PER_DRAW = 16_384
"""Bounds the memory of one draw, (rows, n_topics) floats; part of the world's definition."""
MOST_ROUNDS = 24
"""Rounds of drawing again before the few rows left are drawn from all items at once."""
ROUNDS_WITH_MEDIA = 240
"""The same where most draws are rejected."""
HOUR_SPREAD = 2.5
"""Standard deviation in hours around a theme's peak hour."""
SATURDAY = 5


@dataclass(frozen=True, slots=True)
class _Visits:
    """Who buys on which day, in order of user and day.

    Attributes:
        users: Rows of the block. (n,)
        days: Days since the start. (n,)
    """

    block: UserBlock
    users: npt.NDArray[np.int64]
    days: npt.NDArray[np.int64]
    settings: SimulateSettings

    def tastes(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        """Return the taste that each of these visits is made with. (len(rows), n_topics)"""
        users = self.users[rows]
        first, last = self.block.taste_start[users], self.block.taste_end[users]
        return taste_at(first, last, self.days[rows], days=self.settings.days)

    def appeal(self, rows: npt.NDArray[np.int64], shown: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """Return how items with these looks and sounds, (n, n_senses), appeal to these visitors. (n,)"""
        return appeal(self.block.senses[self.users[rows]], shown, self.settings)


def interaction_table(
    block: UserBlock,
    counts: npt.NDArray[np.int64],
    *,
    catalogue: Catalogue,
    shelves: Shelves,
    settings: SimulateSettings,
) -> pa.Table:
    """Return the interactions of a block: its users in order, oldest first within a user.

    Args:
        counts: Interactions per user of the block. (len(block),)

    Returns:
        A table of INTERACTION_SCHEMA with counts.sum() rows.
    """
    assert len(counts) == len(block), (len(counts), len(block))
    rng = generator(settings.seed, "simulate", "interactions", block.start)
    users = np.repeat(np.arange(len(block)), counts)
    days = _draw_days(block, users, settings, rng)
    days = days[np.lexsort((days, users))]  # users are in order already
    visits = _Visits(block, users, days, settings)
    items = _draw_items(visits, catalogue, shelves=shelves, rng=rng)
    ratings = _draw_ratings(visits, items, catalogue=catalogue, rng=rng)
    times = _draw_times(days, catalogue.topic[items], settings, rng)
    by_time = np.lexsort((times, users))
    names = pa.array(user_ids(block, n_users=settings.n_users), pa.string())
    return pa.Table.from_arrays(
        [
            names.take(pa.array(users[by_time])),
            pa.array(item_ids(items[by_time].tolist(), n_items=len(catalogue)), pa.string()),
            pa.array(ratings[by_time]),
            pa.array(times[by_time]).cast(INTERACTION_SCHEMA.field(TIMESTAMP.name).type),
        ],
        schema=INTERACTION_SCHEMA,
    )


def _draw_days(
    block: UserBlock, users: npt.NDArray[np.int64], settings: SimulateSettings, rng: np.random.Generator
) -> npt.NDArray[np.int64]:
    """Draw a day for each interaction: any week since the user joined, then the weekday by habit. (n,)"""
    join_day = block.join_day[users]
    day = rng.integers(join_day, settings.days)
    weekday = (settings.start.weekday() + day) % 7
    at_weekend = rng.random(len(users)) < block.weekend_share[users]
    habitual = np.where(at_weekend, rng.integers(SATURDAY, 7, size=len(users)), rng.integers(SATURDAY, size=len(users)))
    shifted: npt.NDArray[np.int64] = np.clip(day - weekday + habitual, join_day, settings.days - 1)
    return shifted


def _draw_items(
    visits: _Visits, catalogue: Catalogue, *, shelves: Shelves, rng: np.random.Generator
) -> npt.NDArray[np.int64]:
    """Draw an item for each visit, none twice for a user. (n,)"""
    items = np.full(len(visits.users), -1, dtype=np.int64)
    every_row = np.arange(len(items))
    left = every_row
    for _ in range(ROUNDS_WITH_MEDIA if visits.settings.media else MOST_ROUNDS):
        for rows in _pieces(left):
            days = visits.days[rows]
            reach = np.cumsum(visits.tastes(rows) * shelves.mass[days], axis=1)
            aim = 1 - rng.random((len(rows), 1))  # in (0, 1]: 0 would hit a topic without items
            topics = (reach < aim * reach[:, -1:]).sum(axis=1)
            items[rows] = shelves.draw(topics, days, rng)
            if visits.settings.media:
                items[rows[rng.random(len(rows)) >= visits.appeal(rows, catalogue.senses[items[rows]])]] = -1
        kept = np.flatnonzero(items >= 0)
        _, first = np.unique(visits.users[kept] * len(catalogue) + items[kept], return_index=True)
        left = np.setdiff1d(every_row, kept[first], assume_unique=True)
        if not len(left):
            return items
    items[left] = -1
    for row in left.tolist():
        seen = items[visits.users == visits.users[row]]
        items[row] = _draw_unseen(visits, row, catalogue=catalogue, seen=seen[seen >= 0], rng=rng)
    return items


def _draw_unseen(
    visits: _Visits, row: int, *, catalogue: Catalogue, seen: npt.NDArray[np.int64], rng: np.random.Generator
) -> int:
    """Draw from all items at once, leaving out those seen."""
    age = visits.days[row] - catalogue.release_day.astype(np.float64)
    weights = catalogue.affinity(visits.tastes(np.array([row])), np.arange(len(catalogue)))
    weights *= catalogue.attraction * freshness(age, visits.settings)
    weights *= visits.appeal(np.array([row]), catalogue.senses)
    weights[seen] = 0
    return int(rng.choice(len(catalogue), p=weights / weights.sum()))


def _draw_ratings(
    visits: _Visits, items: npt.NDArray[np.int64], *, catalogue: Catalogue, rng: np.random.Generator
) -> npt.NDArray[np.float32]:
    """Rate the item of each visit from the true preference. (n,) float32"""
    preference = np.empty(len(items))
    for rows in _pieces(np.arange(len(items))):
        tastes = visits.tastes(rows)
        fit = catalogue.affinity(tastes, items[rows]) / np.linalg.norm(tastes, axis=1)
        liked, shown = visits.block.senses[visits.users[rows]], catalogue.senses[items[rows]]
        preference[rows] = fit + catalogue.quality[items[rows]] + pleasure(liked, shown)
    noise = visits.settings.rating_noise * rng.standard_normal(len(items))
    stars = RATING_BASE + RATING_SLOPE * preference + visits.block.rating_bias[visits.users] + noise
    return np.clip(np.rint(2 * stars) / 2, 0.5, 5).astype(np.float32)


def _pieces(rows: npt.NDArray[np.int64]) -> list[npt.NDArray[np.int64]]:
    return np.split(rows, range(ROWS_PER_DRAW, len(rows), ROWS_PER_DRAW))


def _draw_times(
    days: npt.NDArray[np.int64],
    topics: npt.NDArray[np.int64],
    settings: SimulateSettings,
    rng: np.random.Generator,
) -> npt.NDArray[np.datetime64]:
    """Return times in whole seconds within the days, around the peak hour of the item's theme. (n,)"""
    peaks = np.array([THEMES[theme].peak_hour for theme in THEME_OF_TOPIC])
    hours = (peaks[topics] + HOUR_SPREAD * rng.standard_normal(len(topics))) % 24
    seconds = days * 86_400 + np.minimum((hours * 3600).astype(np.int64), 86_399)
    return np.datetime64(settings.start, "s") + seconds.astype("timedelta64[s]")
