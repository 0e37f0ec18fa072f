"""The phrase bank and what is written from it."""

from __future__ import annotations

import re
from itertools import chain
from string import Formatter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recpipe.ingest.simulate import phrases, writing
from recpipe.ingest.simulate.bank import N_TOPICS, TOPIC_NAMES, TOPICS
from recpipe.ingest.simulate.phrases import Topic

choice = st.floats(0, 1, exclude_max=True)
topic_number = st.integers(0, N_TOPICS - 1)


@pytest.mark.parametrize("topic", TOPICS, ids=TOPIC_NAMES)
def test_a_topic_is_complete(topic: Topic) -> None:
    sizes = tuple(len(part) for part in (topic.subjects, topic.objects, topic.activities, topic.confessions))
    assert sizes == (4, 5, 4, 4)
    assert len(topic.tags) == 2


@pytest.mark.parametrize("topic", TOPICS, ids=TOPIC_NAMES)
def test_confessions_avoid_the_tags_of_their_topic(topic: Topic) -> None:
    words = {word for tag in topic.tags for word in tag.lower().split()}
    for confession in topic.confessions:
        used = {word for word in words if word in confession.lower()}
        assert not used, f"{confession!r} gives its topic away: {used}"


def test_no_phrase_serves_two_topics() -> None:
    for part in ("tags", "subjects", "confessions"):
        listed = list(chain.from_iterable(getattr(topic, part) for topic in TOPICS))
        assert sorted(listed) == sorted(set(listed))


def test_titles_are_unique_through_plain_ones_subtitles_and_volumes() -> None:
    n_serials = 120 * (len(phrases.SUBTITLES) + 1) + 300
    titles = [writing.title_and_style(5, serial)[0] for serial in range(n_serials)]
    assert len(set(titles)) == n_serials
    assert not any("Volume" in title or " from " in title.partition(":")[2] for title in titles[:120])
    assert titles[-1].endswith(", Volume 2")
    across = [writing.title_and_style(topic, serial)[0] for topic in range(N_TOPICS) for serial in range(120)]
    assert len(set(across)) == len(across)


@given(topic=topic_number, second=st.integers(-1, N_TOPICS - 1), serial=st.integers(0, 50_000), data=st.data())
def test_a_description_is_readable(topic: int, second: int, serial: int, data: st.DataObject) -> None:
    title, style = writing.title_and_style(topic, serial)
    choices = np.array(data.draw(st.lists(choice, min_size=11, max_size=11)))
    text = writing.description(topic, second, style, choices)
    assert_readable(text)
    assert 2 <= len(re.findall(r"[.!?](?: |$)", text)) <= 5
    assert "{" not in title
    assert writing.tags(topic, second, style)[-1] == style


@given(mentions=st.lists(topic_number, min_size=1, max_size=4, unique=True), data=st.data())
def test_a_profile_confesses_to_every_topic_mentioned(mentions: list[int], data: st.DataObject) -> None:
    choices = np.array(data.draw(st.lists(choice, min_size=10, max_size=10)))
    text = writing.profile(mentions, choices)
    assert_readable(text)
    for topic in mentions:
        assert any(confession[1:] in text for confession in TOPICS[topic].confessions)


def assert_readable(text: str) -> None:
    assert text[0].isupper()
    assert text[-1] in ".!?"
    assert not re.search(r"[{}]|  |\.\.|;", text), text


def test_frames_name_only_known_fields() -> None:
    frames = (*phrases.OPENINGS, *phrases.MIDDLES, *phrases.SIDELINES, *phrases.FRAMES)
    fields = {name for frame in frames for _, name, _, _ in Formatter().parse(frame) if name}
    assert fields == {"object", "Object", "object2", "object3", "activity", "activity2", "clause", "Clause"}
