"""Titles, descriptions and profiles from the phrase bank.

Choices are made by numbers in [0, 1) that the caller draws, so that text is written in
batches from one array of random numbers and nothing here holds random state.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from recpipe.ingest.simulate import phrases
from recpipe.ingest.simulate.bank import TOPICS
from recpipe.ingest.simulate.phrases import Topic

Choices = npt.NDArray[np.float64]
T = TypeVar("T")

DESCRIPTION_CHOICES = 11
PROFILE_CHOICES = 10
MOST_MENTIONS = 4

_PATTERNS = tuple((style, pattern) for style, patterns in phrases.TITLES.items() for pattern in patterns)
# Coprime to the number of plain titles of a topic (checked by a test): neighbours in the
# catalogue differ in subject and pattern, and every title comes once before any returns.
_STRIDE = 37


def title_and_style(topic: int, serial: int) -> tuple[str, str]:
    """Return title and style of the `serial`-th book about a topic.

    Titles are unique: the plain ones first, then those with a subtitle, then volumes.
    """
    subjects = TOPICS[topic].subjects
    n_plain = len(subjects) * len(_PATTERNS)
    assert math.gcd(_STRIDE, n_plain) == 1, (_STRIDE, n_plain)
    edition, place = divmod(serial, n_plain)
    # Another starting point per topic, or the first titles of all topics would look alike.
    pattern, subject = divmod((place * _STRIDE + topic * 11) % n_plain, len(subjects))
    style, frame = _PATTERNS[pattern]
    title = frame.format(subjects[subject])
    volume, subtitle = divmod(edition, len(phrases.SUBTITLES) + 1)
    if subtitle:
        separator = "," if ":" in title else ":"
        title = f"{title}{separator} {phrases.SUBTITLES[subtitle - 1]}"
    if volume:
        title = f"{title}, Volume {volume + 1}"
    return title, style


def tags(topic: int, second: int, style: str) -> list[str]:
    """Return the tags of a book: those of its topic, the first of its second topic, its style."""
    second_tags = TOPICS[second].tags[:1] if second >= 0 else ()
    return [*TOPICS[topic].tags, *second_tags, style]


def description(topic: int, second: int, style: str, choices: Choices) -> str:
    """Return two to four sentences about a book.

    Args:
        topic: Its main topic.
        second: Its second topic, or -1.
        style: As returned by `title_and_style`.
        choices: Numbers in [0, 1). (DESCRIPTION_CHOICES,)
    """
    main = TOPICS[topic]
    object_, object2, object3 = _some(main.objects, choices[0], choices[1], 3)
    activity, activity2 = _some(main.activities, choices[2], choices[3], 2)
    words = {
        "object": object_,
        "Object": _capital(object_),
        "object2": object2,
        "object3": object3,
        "activity": activity,
        "activity2": activity2,
    }
    sentences = [_one(phrases.OPENINGS, choices[4]).format_map(words)]
    if choices[5] < 0.75:
        sentences.append(_one(phrases.MIDDLES, choices[6]).format_map(words))
    if second >= 0:
        sentences.append(_sideline(TOPICS[second], choices[7:10]))
    sentences.append(_one(phrases.CLOSINGS[style], choices[10]))
    return " ".join(sentences)


def _sideline(second: Topic, choices: Choices) -> str:
    words = {"activity": _one(second.activities, choices[0]), "object": _one(second.objects, choices[1])}
    return _one(phrases.SIDELINES, choices[2]).format_map(words)


def profile(mentions: Sequence[int], choices: Choices) -> str:
    """Return what a user writes about himself or herself.

    Args:
        mentions: Topics to confess to, dearest first; at most MOST_MENTIONS.
        choices: Numbers in [0, 1). (PROFILE_CHOICES,)
    """
    sentences = [_one(phrases.ABOUT_ME, choices[0])] if choices[1] < 0.7 else []
    frames = _some(phrases.FRAMES, choices[2], choices[3], len(mentions))
    for topic, frame, choice in zip(mentions, frames, choices[4:], strict=False):
        clause = _one(TOPICS[topic].confessions, choice)
        sentences.append(frame.format(clause=clause, Clause=_capital(clause)))
    if choices[8] < 0.4:
        sentences.append(_one(phrases.FAREWELLS, choices[9]))
    return " ".join(sentences)


def _one(options: Sequence[T], choice: float) -> T:
    return options[int(choice * len(options))]


def _some(options: Sequence[T], start: float, step: float, count: int) -> list[T]:
    """Return `count` different options: neighbours, forwards or backwards from a random start."""
    assert count <= len(options), (count, len(options))
    first = int(start * len(options))
    stride = 1 if step < 0.5 else len(options) - 1
    return [options[(first + stride * place) % len(options)] for place in range(count)]


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
