"""Held-out interactions among the items that could stand before them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from planted_tastes import FIXED, QUICK_PARTS, Tastes, histories_of, planted_tastes, weighed

from recpipe.models.base import Histories, Items, Profiles
from recpipe.models.hybrid.model import HybridModel
from recpipe.training import candidates as module
from recpipe.training.candidates import Wanted, gather_candidates, shortened, some


@pytest.fixture(scope="module")
def tastes() -> Tastes:
    return planted_tastes(n_users=180, n_items=330, n_new=15)


@pytest.fixture(scope="module")
def model(tastes: Tastes) -> HybridModel:
    return weighed(tastes, replace(FIXED, by_class=np.ones_like(FIXED.by_class)))


def wanted_of(tastes: Tastes) -> Wanted:
    return Wanted(tastes.profiles, tastes.train, tastes.train, tastes.later.offsets, tastes.later.item_rows)


def cut(values: np.ndarray, places: np.ndarray, n_wanted: int) -> float:
    """NDCG@100 written out, with the mean rank of equals."""
    ranks = np.array([(values > values[place]).sum() + ((values == values[place]).sum() + 1) / 2 for place in places])
    ideal = (1.0 / np.log2(np.arange(2, n_wanted + 2))).sum()
    return float((1.0 / np.log2(1.0 + ranks[ranks <= 100])).sum() / ideal)


@pytest.mark.parametrize("part", [0, 1, 3])
def test_first_items_of_a_part_tell_its_ranking_of_all(
    tastes: Tastes, model: HybridModel, part: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond the first items of each part nothing can reach the first hundred of any; popularity has ties there."""
    monkeypatch.setattr(module, "DEPTH", 110)
    told = np.flatnonzero(np.diff(tastes.train.offsets) > 0)  # without a history, ease is popularity
    wanted = some(wanted_of(tastes), told)
    found = gather_candidates(model, wanted)
    assert 110 < found.scores.shape[1] < len(tastes.items) - 15  # a pool, not everything
    name = QUICK_PARTS[part]
    one = model.parts[name]
    scores = one.user_vectors(tastes.profiles, tastes.train).vectors @ one.item_vectors(tastes.items).T
    scores = np.where(tastes.taken | tastes.is_new, -np.inf, scores)[told]
    known = (tastes.wanted & ~tastes.is_new)[told]
    expected = [
        cut(row, np.flatnonzero(own), int(own.sum())) for row, own in zip(scores, known, strict=True) if any(own)
    ]
    values = found.ndcg(np.eye(4, dtype=np.float32)[part])[known.any(axis=1)]
    # EASE and segments leave the rarest items equal; what stands that low hardly counts
    np.testing.assert_allclose(values, expected, atol=1e-3)
    assert np.std(expected) > 0.05
    np.testing.assert_array_equal(found.classes, np.digitize(np.diff(tastes.train.offsets)[told], [1, 3, 6, 16]))


def test_all_scores_are_z_scores_of_what_may_be_recommended(tastes: Tastes, model: HybridModel) -> None:
    wanted = wanted_of(tastes)
    found = gather_candidates(model, wanted)
    np.testing.assert_array_equal(
        found.wanted.sum(axis=1), (tastes.wanted & ~tastes.taken & ~tastes.is_new).sum(axis=1)
    )
    allowed = ~tastes.is_new & ~tastes.taken
    assert (np.isfinite(found.scores[:, :, 0]).sum(axis=1) <= allowed.sum(axis=1)).all()
    assert not found.wanted[found.scores[:, :, 0] == -np.inf].any()
    # the highest of content among those allowed is there, as a z-score over the items somebody took
    one = model.parts["content"]
    scores = one.user_vectors(tastes.profiles, tastes.train).vectors @ one.item_vectors(tastes.items).T
    known = scores[:, ~tastes.is_new]
    scores = (scores - known.mean(axis=1, keepdims=True)) / known.std(axis=1, keepdims=True)
    np.testing.assert_allclose(
        found.scores[:, :, 3].max(axis=1), np.where(allowed, scores, -np.inf).max(axis=1), atol=1e-3
    )


def test_blocks_of_users_do_not_matter(tastes: Tastes, model: HybridModel, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = np.array([1.0, 0.5, 0.2, 0.5], np.float32)
    whole = gather_candidates(model, wanted_of(tastes))
    monkeypatch.setattr(module, "BLOCK_NUMBERS", 7 * len(tastes.items))
    parts = gather_candidates(model, wanted_of(tastes))
    np.testing.assert_array_equal(parts.classes, whole.classes)
    np.testing.assert_allclose(parts.ndcg(weights), whole.ndcg(weights), atol=1e-4)


ITEMS = Items.bare(pa.array([f"i{row}" for row in range(50)]))
Lists = list[list[int]]
lists = st.lists(st.integers(0, 49), max_size=6)


@st.composite
def several(draw: st.DrawFn) -> tuple[Wanted, Lists, Lists, list[int]]:
    """Users (some before and after them left out), what each took, what each wants, and which are chosen."""
    n_users = draw(st.integers(1, 6))
    took, wants = (draw(st.lists(lists, min_size=n_users, max_size=n_users)) for _ in range(2))
    start = draw(st.integers(0, n_users - 1))
    stop = draw(st.integers(start + 1, n_users))
    chosen = draw(st.lists(st.integers(0, stop - start - 1), min_size=1, max_size=4, unique=True).map(sorted))
    past, later = histories_of(ITEMS, took), histories_of(ITEMS, wants)
    users = pa.array([f"u{row}" for row in range(n_users)])
    profiles = replace(
        Profiles.bare(users),
        embeddings=np.ones((n_users, 2), np.float32),
        embedded=np.ones(n_users, bool),
        attributes=pa.table({"user_id": users}),
    )
    wanted = Wanted(profiles, past, past, later.offsets, later.item_rows).rows(start, stop)
    return wanted, took[start:stop], wants[start:stop], chosen


def listed(histories: Histories) -> tuple[Lists, Lists]:
    """The items and the times of each user."""
    assert histories.timestamps_us is not None
    pairs = zip(histories.offsets[:-1], histories.offsets[1:], strict=True)
    spans = [slice(start, stop) for start, stop in pairs]
    return (
        [histories.item_rows[span].tolist() for span in spans],
        [(histories.timestamps_us[span] // 10**6).tolist() for span in spans],
    )


def to_find(wanted: Wanted) -> Lists:
    found: Lists = [[] for _ in range(len(wanted))]
    for user, item in zip(wanted.users(), wanted.own, strict=True):
        found[user].append(int(item))
    return found


@given(case=several())
def test_some_users_keep_all_that_is_theirs(case: tuple[Wanted, Lists, Lists, list[int]]) -> None:
    wanted, took, wants, chosen = case
    found = some(wanted, np.array(chosen))
    assert len(found) == len(chosen)
    assert found.profiles.user_ids.equals(wanted.profiles.user_ids.take(pa.array(chosen)))
    assert to_find(wanted) == wants
    assert to_find(found) == [wants[user] for user in chosen]
    for histories in (found.histories, found.taken):
        assert listed(histories) == ([took[user] for user in chosen], [list(range(len(took[user]))) for user in chosen])


@given(case=several(), data=st.data())
def test_shortened_histories_end_with_the_newest(
    case: tuple[Wanted, Lists, Lists, list[int]], data: st.DataObject
) -> None:
    wanted, took, wants, chosen = case
    lengths = data.draw(st.lists(st.integers(0, 8), min_size=len(chosen), max_size=len(chosen)))
    found = shortened(wanted, np.array(chosen), np.array(lengths))
    items, times = listed(found.histories)
    for user, length, own, when in zip(chosen, lengths, items, times, strict=True):
        count = len(took[user])
        assert own == took[user][max(count - length, 0) :]
        assert when == list(range(max(count - length, 0), count))
    assert listed(found.taken)[0] == [took[user] for user in chosen]
    assert to_find(found) == [wants[user] for user in chosen]
    # the embedding is made of the whole history, the attributes are not
    assert found.profiles.embeddings.shape[1] == 0 and not found.profiles.embedded.any()
    assert found.profiles.attributes is not None
    assert found.profiles.attributes["user_id"].to_pylist() == found.profiles.user_ids.to_pylist()
