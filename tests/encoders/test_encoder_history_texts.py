from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from hypothesis import given
from hypothesis import strategies as st

from recpipe.encoders.history_texts import history_texts
from recpipe.encoders.settings import UsersSettings


def words(texts: Sequence[str]) -> npt.NDArray[np.int64]:
    return np.array([len(re.findall(r"\w+|[^\w\s]", text)) for text in texts], dtype=np.int64)


def characters(texts: Sequence[str]) -> npt.NDArray[np.int64]:
    # Not additive: pairs of equal neighbours merge, as in byte-pair encoding.
    return np.array([len(text) - sum(a == b for a, b in pairwise(text)) for text in texts])


def test_profile_first_then_newest_titles_until_the_budget() -> None:
    result = history_texts(
        ["I like space", None, "I like space", None, "a b c d e f g h i j", None],
        [["Alien", "Heat", "Up"], ["Alien", None, " "], [], [], ["Alien"], ["Alien", "Heat", "Up", "M"]],
        budget=9,
        count_tokens=words,
        settings=UsersSettings(),
    )
    assert result.texts == [
        "I like space. Recently liked: Alien",
        "Recently liked: Alien",
        "I like space",
        None,
        "a b c d e f g h i j",
        "Recently liked: Alien; Heat; Up",
    ]
    assert result.titles_used.tolist() == [1, 1, 0, 0, 0, 3]
    assert result.titles_given.tolist() == [3, 1, 0, 0, 1, 4]
    assert result.shortened == 3


def test_no_users_are_no_error() -> None:
    assert history_texts([], [], budget=5, count_tokens=words, settings=UsersSettings()).texts == []


@given(
    st.lists(st.tuples(st.none() | st.text("ab. ", max_size=8), st.lists(st.text("ab;", max_size=6))), max_size=5),
    st.integers(1, 60),
)
def test_a_text_with_titles_never_exceeds_the_budget(users: list[tuple[str | None, list[str]]], budget: int) -> None:
    result = history_texts(
        [profile for profile, _ in users],
        [titles for _, titles in users],
        budget=budget,
        count_tokens=characters,
        settings=UsersSettings(),
    )
    for text, used in zip(result.texts, result.titles_used, strict=True):
        assert used == 0 or (text is not None and characters([text])[0] <= budget)
