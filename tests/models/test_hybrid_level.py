"""The level of a user's list, which new items are placed by."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from planted_tastes import FIXED, planted_tastes, scores_of, weighed

from recpipe.models.base import Histories
from recpipe.models.hybrid import level
from recpipe.models.hybrid.alike import most_taken
from recpipe.models.hybrid.level import PLACE, levels_of


@given(st.lists(st.one_of(st.just(-np.inf), st.integers(-50, 50).map(float)), max_size=30))
def test_it_is_the_tenth_score_or_the_last(scores: list[float]) -> None:
    listed = sorted((score for score in scores if score > -np.inf), reverse=True)
    expected = listed[min(PLACE, len(listed)) - 1] if listed else 0.0
    assert levels_of(np.array([scores], np.float32).reshape(1, -1))[0] == np.float32(expected)


def test_each_list_has_its_own() -> None:
    scores = np.arange(24, dtype=np.float32).reshape(2, 12)
    scores[1, 11] = -np.inf
    np.testing.assert_array_equal(levels_of(scores), [2.0, 13.0])


@pytest.mark.parametrize("block_users", [1, 7, 1024])
def test_it_is_that_of_the_scores_users_get(block_users: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """What they took is not in their lists; users may stand anywhere in a larger table of histories."""
    monkeypatch.setattr(level, "BLOCK_USERS", block_users)
    tastes = planted_tastes(n_users=60)
    model = weighed(tastes, FIXED)
    scores = np.where(tastes.taken | tastes.is_new, -np.inf, scores_of(model, tastes.profiles, tastes.train))
    expected = np.sort(scores, axis=1)[:, -PLACE]
    found = model.user_vectors(tastes.profiles.rows(20, 60), tastes.train.rows(20, 60)).vectors[:, -2]
    np.testing.assert_allclose(found, expected[20:], atol=1e-4)


def test_it_is_measured_on_what_stands_in_the_catalogue() -> None:
    """Also after another catalogue was asked for."""
    tastes = planted_tastes(n_users=60)
    model = weighed(tastes, FIXED)
    people = tastes.profiles.rows(0, 1)
    first = tastes.items.rows(np.arange(5, 60))  # without the items that most users took
    levels = [model.user_vectors(people, Histories.empty(1, items)).vectors[0, -2] for items in (tastes.items, first)]
    for items, found in zip((tastes.items, first), levels, strict=True):
        scores = scores_of(model, people, Histories.empty(1, items))[0][~model.is_new(items)]
        assert np.sort(scores)[-PLACE] == pytest.approx(found, abs=1e-4)
    assert levels[1] < levels[0]


def test_lists_of_all_users_hold_about_as_many_new_items() -> None:
    """Scores of known items reach higher the more a history tells: one offset for all would favour strangers."""
    tastes = planted_tastes(n_users=300)
    model = weighed(tastes, replace(FIXED, new=FIXED.new * np.float32(0.01), offset=-0.01))
    scores = np.where(tastes.taken, -np.inf, scores_of(model, tastes.profiles, tastes.train))
    shares = tastes.is_new[np.argsort(-scores, axis=1)[:, :20]].mean(axis=1)
    lengths = np.diff(tastes.train.offsets)
    by_length = [shares[lengths == length].mean() for length in np.unique(lengths)]
    assert min(by_length) > 0.7 * max(by_length) > 0.3


def test_of_many_items_the_most_taken_count() -> None:
    np.testing.assert_array_equal(most_taken(np.array([1, 5, 0, 2, 9, 1]), 3), [1, 3, 4])
    np.testing.assert_array_equal(most_taken(np.array([0, 5, 0]), 3), [1])
