"""The simulated world: sizes, determinism, plausibility, and interactions that follow the truth."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from recpipe.ingest.simulate.bank import N_TOPICS, THEME_OF_TOPIC
from recpipe.ingest.simulate.catalogue import build_catalogue
from recpipe.ingest.simulate.people import interaction_counts
from recpipe.ingest.simulate.settings import SimulateSettings
from recpipe.ingest.simulate.shelves import Shelves
from recpipe.ingest.simulate.truth import freshness
from recpipe.ingest.simulate.world import World, simulate
from recpipe.seeding import generator


def joined(world: World, name: str) -> pa.Table:
    return pa.concat_tables(getattr(world, name)())


@pytest.fixture(scope="module")
def world() -> World:
    return simulate(SimulateSettings())


@pytest.fixture(scope="module")
def interactions(world: World) -> pa.Table:
    return joined(world, "interactions")


def as_rows(interactions: pa.Table) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return rows of users and items; ids count from 1 in the order of the tables."""
    users, items = (
        np.array([int(text[1:]) - 1 for text in interactions[name].to_pylist()]) for name in ("user_id", "item_id")
    )
    return users, items


@settings(max_examples=20, deadline=None)
@given(
    n_users=st.integers(20, 700),
    n_items=st.integers(80, 300),
    per_user=st.floats(1, 5),
    seed=st.integers(0, 2**31),
    days=st.integers(28, 900),
)
def test_every_size_holds_its_promises(n_users: int, n_items: int, per_user: float, seed: int, days: int) -> None:
    n_interactions = max(100, int(n_users * per_user))
    chosen = SimulateSettings(n_users=n_users, n_items=n_items, n_interactions=n_interactions, seed=seed, days=days)
    world = simulate(chosen)
    users, items, interactions = (joined(world, name) for name in ("users", "items", "interactions"))
    assert (len(users), len(items), len(interactions)) == (n_users, n_items, n_interactions)
    assert len(set(users["user_id"].to_pylist())) == n_users
    assert len(set(items["item_id"].to_pylist())) == n_items
    assert len(set(items["title"].to_pylist())) == n_items
    user_rows, item_rows = as_rows(interactions)
    assert len(np.unique(user_rows * n_items + item_rows)) == n_interactions, "an item was taken twice"
    truth = world.truth()
    day = truth.day_of(interactions["timestamp"].to_numpy())
    assert day.min() >= 0
    assert day.max() < days
    assert (day >= truth.release_day[item_rows]).all(), "taken before its release"
    order = np.lexsort((interactions["timestamp"].to_numpy(), user_rows))
    assert (order == np.arange(n_interactions)).all(), "rows are not in the order of users and time"
    assert set(np.unique(interactions["rating"].to_numpy() * 2)) <= set(range(1, 11))


@given(
    n_users=st.integers(20, 5000),
    per_user=st.integers(1, 6),
    cold=st.floats(0, 0.5),
    seed=st.integers(0, 2**31),
)
@settings(max_examples=50, deadline=None)
def test_counts_are_exact_and_bounded(n_users: int, per_user: int, cold: float, seed: int) -> None:
    chosen = SimulateSettings(
        n_users=n_users, n_items=200, n_interactions=max(100, n_users * per_user), cold_user_share=cold, seed=seed
    )
    counts = interaction_counts(chosen)
    assert counts.sum() == chosen.n_interactions
    assert (counts == 0).sum() == chosen.n_cold_users
    assert counts.max() <= chosen.largest_basket


def test_the_same_seed_gives_the_same_world_and_another_seed_another(world: World, interactions: pa.Table) -> None:
    again, other = simulate(SimulateSettings()), simulate(SimulateSettings(seed=43))
    for name in ("users", "items"):
        assert joined(again, name).equals(joined(world, name))
        assert not joined(other, name).equals(joined(world, name))
    assert joined(again, "interactions").equals(interactions)
    assert joined(world, "interactions").equals(interactions), "iterating twice gave different rows"


def test_shares_of_the_cold_and_the_silent(world: World, interactions: pa.Table) -> None:
    users = joined(world, "users")
    assert 0.13 < users["text"].null_count / len(users) < 0.27
    assert len(users) - len(pc.unique(interactions["user_id"])) == round(0.03 * 400)
    assert len(list(world.truth().item_ids)) - len(pc.unique(interactions["item_id"])) >= round(0.03 * 600)


def test_activity_and_popularity_have_long_tails(interactions: pa.Table) -> None:
    users, items = as_rows(interactions)
    per_user, per_item = np.sort(np.bincount(users))[::-1], np.sort(np.bincount(items))[::-1]
    assert per_user[:40].sum() > 2.5 * per_user.sum() * 0.1
    assert per_item[:60].sum() > 2 * per_item.sum() * 0.1


def test_new_items_are_taken_more_than_old_ones(world: World, interactions: pa.Table) -> None:
    truth = world.truth()
    _, items = as_rows(interactions)
    age = truth.day_of(interactions["timestamp"].to_numpy()) - truth.release_day[items]
    new = (truth.release_day > 0) & (truth.release_day <= 335)
    first_month = np.bincount(items[age < 30], minlength=len(truth.item_ids))[new].mean() / 30
    old = truth.release_day <= 0
    usual = np.bincount(items, minlength=len(truth.item_ids))[old].mean() / 365
    assert first_month > 1.5 * usual


def test_hours_follow_the_theme(world: World, interactions: pa.Table) -> None:
    items = joined(world, "items")
    category = dict(zip(items["item_id"].to_pylist(), items["category"].to_pylist(), strict=True))
    hours = pc.hour(interactions["timestamp"]).to_numpy()
    shelf = np.array([category[item] for item in interactions["item_id"].to_pylist()])
    assert np.median(hours[shelf == "Wildlife"]) < 9
    assert np.median(hours[shelf == "Cooking"]) > 15


def test_users_prefer_what_they_take_and_rate_it_by_preference(world: World, interactions: pa.Table) -> None:
    truth = world.truth()
    users, items = as_rows(interactions)
    rows = np.arange(0, len(users), 7)
    days = truth.day_of(interactions["timestamp"].to_numpy())[rows]
    preference = world.true_preference(users[rows], days)
    assert preference.shape == (len(rows), 600)
    taken = preference[np.arange(len(rows)), items[rows]]
    assert (taken[:, None] > preference).mean() > 0.7
    assert np.corrcoef(taken, interactions["rating"].to_numpy()[rows])[0, 1] > 0.5


def test_the_oracle_beats_preference_which_beats_popularity(world: World, interactions: pa.Table) -> None:
    """Mean reciprocal rank of the last item of each user among the items the user did not have."""
    truth = world.truth()
    users, items = as_rows(interactions)
    last = np.flatnonzero(np.diff(users, append=-1))
    days = truth.day_of(interactions["timestamp"].to_numpy())[last]
    tastes = world.tastes(users[last], days)
    popularity = np.bincount(np.delete(items, last), minlength=600).astype(float)
    seen = np.zeros((400, 600), dtype=bool)
    seen[np.delete(users, last), np.delete(items, last)] = True

    def reciprocal_rank(scores: npt.NDArray[np.float64]) -> float:
        scores = np.where(seen[users[last]], -np.inf, scores)
        own = scores[np.arange(len(last)), items[last]]
        return float((1 / (1 + (scores > own[:, None]).sum(axis=1))).mean())

    oracle = reciprocal_rank(truth.choice(tastes, days))
    preference = reciprocal_rank(truth.preference(tastes))
    popular = reciprocal_rank(np.broadcast_to(popularity, (len(last), 600)))
    assert oracle > 1.3 * preference
    assert preference > 1.3 * popular


def test_taste_drifts_from_start_to_end(world: World) -> None:
    rows = np.array([3, 399, 256, 255])
    first, middle, last = (world.tastes(rows, day) for day in (0, 182.5, 365))
    np.testing.assert_allclose(middle, (first + last) / 2, atol=1e-7)
    np.testing.assert_allclose(last.sum(axis=1), 1, atol=1e-6)
    assert np.abs(first - last).sum(axis=1).min() > 0.1
    block_by_block = np.concatenate([np.array(table["taste_start"].to_pylist()) for table in world.truth_users()])
    np.testing.assert_allclose(first, block_by_block[rows], atol=1e-7)


@pytest.mark.parametrize("day", [0, 5, 27])
def test_shelves_draw_in_proportion_to_the_true_choice(day: int) -> None:
    chosen = SimulateSettings(n_users=20, n_items=400, n_interactions=100, days=28, freshness_days=7)
    catalogue = build_catalogue(chosen)
    traits = catalogue.traits(0, 400).astype(float)
    weights = traits * (catalogue.attraction * freshness(day - catalogue.release_day.astype(float), chosen))[:, None]
    shelves = Shelves(catalogue, chosen)
    np.testing.assert_allclose(shelves.mass[day], weights.sum(axis=0), rtol=1e-6)
    topic, n_draws = int(weights.sum(axis=0).argmax()), 40_000
    drawn = shelves.draw(np.full(n_draws, topic), np.full(n_draws, day), generator(1, "test"))
    expected = weights[:, topic] / weights[:, topic].sum()
    observed = np.bincount(drawn, minlength=400) / n_draws
    assert (observed[expected == 0] == 0).all()
    assert (np.abs(observed - expected) < 5 * np.sqrt(expected / n_draws) + 1e-9).all()


def test_a_catalogue_far_in_the_past_keeps_its_precision() -> None:
    chosen = SimulateSettings(n_users=20, n_items=2000, n_interactions=100, days=3650, freshness_days=7)
    catalogue = build_catalogue(chosen)
    shelves = Shelves(catalogue, chosen)
    weights = catalogue.traits(0, 2000) * (
        catalogue.attraction * freshness(3 - catalogue.release_day.astype(float), chosen)
    ).reshape(-1, 1)
    np.testing.assert_allclose(shelves.mass[3], weights.sum(axis=0), rtol=1e-6)


def test_users_who_run_out_of_favourites_take_something_else() -> None:
    """Narrow tastes and few items: drawing again finds nothing new, the last rows come from all items."""
    chosen = SimulateSettings(n_users=300, n_items=60, n_interactions=1746, curiosity=0.001)
    users, items = as_rows(joined(simulate(chosen), "interactions"))
    assert len(np.unique(users * 60 + items)) == len(users) == 1746


def test_interactions_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValidationError, match="n_interactions must lie between"):
        SimulateSettings(n_users=20, n_items=60, n_interactions=100_000)
    with pytest.raises(ValidationError, match="n_interactions must lie between"):
        SimulateSettings(n_users=1000, n_interactions=500)


def test_batches_do_not_grow_with_the_number_of_users() -> None:
    world = simulate(SimulateSettings(n_users=2000, n_items=600, n_interactions=10_000))
    sizes = [len(table) for table in world.interactions()]
    assert sum(sizes) == 10_000
    assert max(sizes) < 3000
    assert max(len(table) for table in world.users()) <= 256


def test_topics_are_numbered_theme_by_theme() -> None:
    assert len(THEME_OF_TOPIC) == N_TOPICS
    assert list(THEME_OF_TOPIC) == sorted(THEME_OF_TOPIC)
    assert len(set(np.bincount(THEME_OF_TOPIC).tolist())) == 1, "themes of unequal size break the numbering of tastes"
