"""The items of a simulated world: what they are about, how good and well known, since when."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from recpipe.ingest.simulate import columns, writing
from recpipe.ingest.simulate.bank import N_TOPICS, THEME_OF_TOPIC, THEMES, TOPICS_PER_THEME
from recpipe.ingest.simulate.rendering import AUDIO_FOLDER, IMAGES_FOLDER
from recpipe.ingest.simulate.senses import draw_angles
from recpipe.ingest.simulate.settings import SimulateSettings
from recpipe.schemas import AUDIO, IMAGE, ITEM_ID, TEXT, TITLE
from recpipe.seeding import generator

ITEMS_PER_BATCH = 1024
OLD_SHARE = 0.6
"""Share of the items on sale since before day 0. Above LARGEST_BASKET_SHARE, so that nobody runs out of items."""
OLDEST_DAY = -8 * 365
TWO_TOPICS_SHARE = 0.3
SAME_THEME_SHARE = 0.7
"""Share of second topics that come from the theme of the main one; the others come from anywhere."""
SECOND_WEIGHT = 0.6
"""Weight of the second topic relative to the main one."""
QUALITY_SPREAD = 0.2

ITEM_SCHEMA = pa.schema(
    [
        pa.field(ITEM_ID.name, pa.string()),
        pa.field(TITLE.name, pa.string()),
        pa.field(TEXT.name, pa.string()),
        pa.field(columns.CATEGORY.name, pa.string()),
        pa.field(columns.ITEM_TAGS.name, pa.list_(pa.string())),
        pa.field(columns.PRICE.name, pa.float32()),
        pa.field(columns.YEAR.name, pa.int32()),
    ]
)
MEDIA_SCHEMA = pa.schema([*ITEM_SCHEMA, pa.field(IMAGE.name, pa.string()), pa.field(AUDIO.name, pa.string())])


@dataclass(frozen=True, slots=True)
class Catalogue:
    """One entry an item; memory grows with the number of items and nothing else.

    Attributes:
        topic: Main topic. (n_items,) int64
        second: Second topic, or -1. (n_items,) int64
        serial: How many earlier items have the same main topic. (n_items,) int64
        quality: How good it is for anybody; mean 0. (n_items,) float64
        attraction: How well known it is; mean 1. (n_items,) float64
        release_day: First day on sale, counted from the world's start. (n_items,) int64
        senses: Look and sound, in radians. (n_items, n_senses) float32
    """

    topic: npt.NDArray[np.int64]
    second: npt.NDArray[np.int64]
    serial: npt.NDArray[np.int64]
    quality: npt.NDArray[np.float64]
    attraction: npt.NDArray[np.float64]
    release_day: npt.NDArray[np.int64]
    senses: npt.NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.topic)

    def traits(self, start: int, stop: int) -> npt.NDArray[np.float32]:
        """Return the traits of a range of items: unit length, zero outside their topics. (stop - start, n_topics)"""
        topic, second = self.topic[start:stop], self.second[start:stop]
        rows = np.arange(len(topic))
        weights = np.zeros((len(topic), N_TOPICS), dtype=np.float32)
        weights[rows, topic] = main_weight(second)
        both = second >= 0
        weights[rows[both], second[both]] = SECOND_WEIGHT * main_weight(second[both])
        return weights

    def affinity(self, tastes: npt.NDArray[np.float64], items: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        """Return taste · trait for pairs of a taste and an item, without a dense table of traits.

        Args:
            tastes: One taste a pair, (n, n_topics), or one for all items, (1, n_topics).
            items: Rows of the catalogue. (n,)

        Returns:
            (n,) float64
        """
        topic, second = self.topic[items], self.second[items]
        rows = np.arange(len(items)) if len(tastes) > 1 else np.zeros(len(items), dtype=np.int64)
        beside = np.where(second >= 0, SECOND_WEIGHT * tastes[rows, second], 0.0)
        affinity: npt.NDArray[np.float64] = (tastes[rows, topic] + beside) * main_weight(second)
        return affinity


def main_weight(second: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Return the trait weight of the main topic, given the second topic or -1. float64"""
    return np.where(second >= 0, 1 / np.hypot(1, SECOND_WEIGHT), 1.0)


def build_catalogue(settings: SimulateSettings) -> Catalogue:
    """Draw the items of a world."""
    n_items = settings.n_items
    rng = generator(settings.seed, "simulate", "catalogue")
    topic = rng.integers(N_TOPICS, size=n_items)
    second = np.where(rng.random(n_items) < TWO_TOPICS_SHARE, _companions(topic, rng), -1)
    # float32 as the truth table stores it, so that preferences from the file are the same numbers.
    quality = (QUALITY_SPREAD * rng.standard_normal(n_items)).astype(np.float32).astype(np.float64)
    return Catalogue(
        topic=topic,
        second=second,
        serial=_serials(topic),
        quality=quality,
        attraction=_attraction(quality, settings, rng),
        release_day=_release_days(settings, rng),
        senses=draw_angles(n_items, settings, "items"),
    )


def _companions(topic: npt.NDArray[np.int64], rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """Draw another topic for each topic, mostly one of the same theme. (n,)"""
    step = rng.integers(1, TOPICS_PER_THEME, size=len(topic))
    neighbour = topic - topic % TOPICS_PER_THEME + (topic + step) % TOPICS_PER_THEME
    stranger = (topic + rng.integers(1, N_TOPICS, size=len(topic))) % N_TOPICS
    return np.where(rng.random(len(topic)) < SAME_THEME_SHARE, neighbour, stranger)


def _serials(topic: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    order = np.argsort(topic, kind="stable")
    counts = np.bincount(topic, minlength=N_TOPICS)
    serial = np.empty_like(topic)
    serial[order] = np.arange(len(topic)) - np.repeat(np.cumsum(counts) - counts, counts)
    return serial


def _attraction(
    quality: npt.NDArray[np.float64], settings: SimulateSettings, rng: np.random.Generator
) -> npt.NDArray[np.float64]:
    """Zipf's law over a ranking in which good items tend to stand high, but luck matters as much."""
    standing = quality + QUALITY_SPREAD * rng.standard_normal(len(quality))
    rank = np.empty(len(quality))
    rank[np.argsort(-standing, kind="stable")] = np.arange(1, len(quality) + 1)
    attraction: npt.NDArray[np.float64] = rank**-settings.popularity_skew
    attraction /= attraction.mean()
    return attraction.astype(np.float32).astype(np.float64)


def _release_days(settings: SimulateSettings, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    n_items = settings.n_items
    n_old = int(np.ceil(OLD_SHARE * n_items))
    n_new = n_items - n_old - settings.n_cold_items
    days = np.concatenate(
        [
            rng.integers(OLDEST_DAY, 1, size=n_old),
            rng.integers(1, settings.days, size=n_new),
            np.full(settings.n_cold_items, settings.days),
        ]
    )
    return rng.permutation(days)


def item_ids(rows: Iterable[int], *, n_items: int) -> list[str]:
    """Return the ids of items, given their rows in the catalogue."""
    width = max(4, len(str(n_items)))
    return [f"b{row + 1:0{width}d}" for row in rows]


def media_paths(ids: Iterable[str]) -> tuple[list[str], list[str]]:
    """Return the paths of pictures and of sounds, relative to the world's folder."""
    names = list(ids)
    return [f"{IMAGES_FOLDER}/{name}.png" for name in names], [f"{AUDIO_FOLDER}/{name}.wav" for name in names]


def item_tables(catalogue: Catalogue, settings: SimulateSettings) -> Iterator[pa.Table]:
    """Yield the items as tables of ITEM_SCHEMA, with media of MEDIA_SCHEMA, in the order of the catalogue."""
    for start in range(0, len(catalogue), ITEMS_PER_BATCH):
        stop = min(start + ITEMS_PER_BATCH, len(catalogue))
        rng = generator(settings.seed, "simulate", "items", start)
        choices = rng.random((stop - start, writing.DESCRIPTION_CHOICES))
        prices = np.round(np.exp(rng.normal(3.0, 0.35, size=stop - start)) * 2) / 2
        topics, seconds = catalogue.topic[start:stop].tolist(), catalogue.second[start:stop].tolist()
        named = [
            writing.title_and_style(*pair) for pair in zip(topics, catalogue.serial[start:stop].tolist(), strict=True)
        ]
        texts, tags = [], []
        for topic, second, (_, style), row in zip(topics, seconds, named, choices, strict=True):
            texts.append(writing.description(topic, second, style, row))
            tags.append(writing.tags(topic, second, style))
        years = [(settings.start + timedelta(days=day)).year for day in catalogue.release_day[start:stop].tolist()]
        ids = item_ids(range(start, stop), n_items=len(catalogue))
        media = media_paths(ids) if settings.media else ()
        yield pa.Table.from_arrays(
            [
                pa.array(ids, pa.string()),
                pa.array([title for title, _ in named], pa.string()),
                pa.array(texts, pa.string()),
                pa.array([THEMES[THEME_OF_TOPIC[topic]].name for topic in topics], pa.string()),
                pa.array(tags, pa.list_(pa.string())),
                pa.array(prices.astype(np.float32)),
                pa.array(years, pa.int32()),
                *(pa.array(paths, pa.string()) for paths in media),
            ],
            schema=MEDIA_SCHEMA if settings.media else ITEM_SCHEMA,
        )
