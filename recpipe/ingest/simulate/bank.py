"""The whole phrase bank in one order: the numbering of topics in tastes and traits."""

from __future__ import annotations

from recpipe.ingest.simulate.phrases import Theme, Topic
from recpipe.ingest.simulate.themes_indoors import INDOORS
from recpipe.ingest.simulate.themes_outdoors import OUTDOORS

THEMES: tuple[Theme, ...] = OUTDOORS + INDOORS
TOPICS: tuple[Topic, ...] = tuple(topic for theme in THEMES for topic in theme.topics)
THEME_OF_TOPIC: tuple[int, ...] = tuple(number for number, theme in enumerate(THEMES) for _ in theme.topics)

N_THEMES = len(THEMES)
N_TOPICS = len(TOPICS)
TOPICS_PER_THEME = N_TOPICS // N_THEMES
"""The same for every theme; a test checks it."""

TOPIC_NAMES: tuple[str, ...] = tuple(topic.tags[0] for topic in TOPICS)
"""Coordinate of tastes and traits → what it stands for."""
