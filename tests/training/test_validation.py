from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_world import SmallWorld, small_world

from recpipe.errors import DataError
from recpipe.models.base import FactoredModel, FitContext, Items, TrainingData, UserVectors
from recpipe.models.popularity import PopularityModel, PopularitySettings
from recpipe.training.validation import HeldOut, better, gather_held_out, ndcg


class Fixed(FactoredModel):
    """Item row r has the score r; rates what it is told."""

    settings = PopularitySettings()

    def user_vectors(self, profiles: Any, histories: Any) -> UserVectors:
        return UserVectors(np.ones((len(profiles), 1), np.float32), np.full(len(profiles), "x"))

    def item_vectors(self, items: Items) -> Any:
        return np.arange(len(items), dtype=np.float32)[:, None]

    def predict_rating(self, profiles: Any, histories: Any, items: Any, *, user_rows: Any, item_rows: Any) -> Any:
        return np.full(len(user_rows), 3.0, dtype=np.float32)

    fit = state = restore = None  # type: ignore[assignment]


Fixed.__abstractmethods__ = frozenset()


def gathered(world: SmallWorld, target: Any, **changes: Any) -> HeldOut:
    values: dict[str, Any] = {"positive_from": None, "max_users": 1000, "seed": 0} | changes
    return gather_held_out(world.data, world.held_out, target, **values)


def test_ndcg_by_hand() -> None:
    scores = np.array([5, 4, 3, 2, 1], dtype=np.float32)
    assert ndcg(scores, np.array([0], np.int32)) == 1.0
    assert ndcg(scores, np.array([1], np.int32)) == pytest.approx(1 / np.log2(3))
    expected = (1 / np.log2(2) + 1 / np.log2(4)) / (1 / np.log2(2) + 1 / np.log2(3))
    assert ndcg(scores, np.array([0, 2, 2], np.int32)) == pytest.approx(expected)


def test_ndcg_of_ties_is_that_of_the_mean_rank() -> None:
    assert ndcg(np.zeros(7, np.float32), np.array([3], np.int32)) == pytest.approx(1 / np.log2(5))


@given(st.lists(st.integers(0, 4), min_size=2, max_size=12), st.data())
def test_ndcg_stays_between_0_and_1(scores: list[int], data: st.DataObject) -> None:
    wanted = data.draw(st.lists(st.integers(0, len(scores) - 1), min_size=1))
    assert 0.0 <= ndcg(np.array(scores, np.float32), np.array(wanted, np.int32)) <= 1.0


def test_an_item_already_taken_is_not_ranked() -> None:
    assert ndcg(np.array([1, -np.inf], np.float32), np.array([1], np.int32)) == 0.0


def test_measured_against_a_plain_loop() -> None:
    world = small_world()
    held = gathered(world, "implicit")
    values = []
    for user in range(40):
        seen = set(world.train.item_rows[user * 10 : user * 10 + 10].tolist())
        ranking = [row for row in range(29, -1, -1) if row not in seen]
        relevant = set(world.later.item_rows[user * 2 : user * 2 + 2].tolist())
        gain = sum(1 / np.log2(ranking.index(row) + 2) for row in relevant)
        values.append(gain / sum(1 / np.log2(place + 2) for place in range(len(relevant))))
    assert held.metric == "ndcg"
    assert held.measure(Fixed()) == pytest.approx(np.mean(values))


def test_rmse_of_held_out_ratings() -> None:
    world = small_world()
    held = gathered(world, "rating")
    assert held.metric == "rmse" and world.later.ratings is not None
    assert held.measure(Fixed()) == pytest.approx(np.sqrt(np.mean((world.later.ratings - 3.0) ** 2)))


@pytest.mark.parametrize("target", ["implicit", "rating"])
def test_blocks_make_no_difference(target: Any) -> None:
    world = small_world()
    kwargs: dict[str, Any] = {"positive_from": 3.0, "max_users": 9, "seed": 5}
    whole = gather_held_out(world.data, world.held_out, target, **kwargs)
    parts = gather_held_out(world.in_blocks(world.train, 7), world.in_blocks(world.later, 7), target, **kwargs)
    assert len(whole.profiles) == 9
    assert whole.profiles.user_ids.equals(parts.profiles.user_ids)
    for name in ("offsets", "item_rows", "ratings"):
        np.testing.assert_array_equal(getattr(whole, name), getattr(parts, name))
    np.testing.assert_array_equal(whole.histories.item_rows, parts.histories.item_rows)
    np.testing.assert_array_equal(whole.histories.offsets, parts.histories.offsets)


def test_only_positive_events_are_wanted() -> None:
    world = small_world()
    assert world.later.ratings is not None
    held = gathered(world, "implicit", positive_from=4.0)
    assert len(held.item_rows) == (world.later.ratings >= 4.0).sum() > 0
    assert (np.diff(held.offsets) > 0).all()


def test_nothing_held_out_says_what_to_do() -> None:
    world = small_world()
    with pytest.raises(DataError, match="validation"):
        gathered(world, "implicit", positive_from=99.0)


def test_other_users_or_items_are_refused() -> None:
    world, other = small_world(), small_world(n_items=31)
    with pytest.raises(ValueError, match="catalogue"):
        gather_held_out(world.data, other.held_out, "implicit", positive_from=None, max_users=9, seed=0)
    shuffled = replace(world, profiles=_reversed(world))
    with pytest.raises(ValueError, match="other users"):
        gather_held_out(world.data, shuffled.held_out, "implicit", positive_from=None, max_users=9, seed=0)


def _reversed(world: SmallWorld) -> Any:
    return replace(world.profiles, user_ids=world.profiles.user_ids.take(list(range(39, -1, -1))))


def test_better() -> None:
    assert better("rmse", 1.0, None) and better("rmse", 0.9, 1.0) and not better("rmse", 1.0, 1.0)
    assert better("ndcg", 0.2, 0.1) and not better("ndcg", 0.1, 0.2)
    assert not better("ndcg", float("nan"), None)


def test_models_fitted_at_once_are_measured_too() -> None:
    world = small_world()
    model = PopularityModel(PopularitySettings())
    data: TrainingData = world.data
    model.fit(data, FitContext())
    assert 0.0 < gathered(world, "implicit").measure(model) < 1.0


@pytest.mark.parametrize("max_users", [1000, 7])
def test_attributes_stay_with_their_users(max_users: int) -> None:
    world = small_world()
    assert gathered(world, "implicit").profiles.attributes is None
    ages = pa.table({"user_id": world.profiles.user_ids, "age": np.arange(40)})
    aged = replace(world, profiles=replace(world.profiles, attributes=ages))
    found = gather_held_out(
        aged.in_blocks(aged.train, 9),
        aged.in_blocks(aged.later, 9),
        "implicit",
        positive_from=None,
        max_users=max_users,
        seed=0,
    ).profiles
    assert found.attributes is not None and len(found) == min(max_users, 40)
    assert found.attributes.column("user_id").to_pylist() == found.user_ids.to_pylist()
    assert [f"user{age}" for age in found.attributes.column("age").to_pylist()] == found.user_ids.to_pylist()
