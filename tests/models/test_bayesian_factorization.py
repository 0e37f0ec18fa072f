from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from recpipe.errors import DataError
from recpipe.models.base import FitContext, Histories, Items, Profiles, TrainingData
from recpipe.models.bayesian_factorization.fit import matrices
from recpipe.models.bayesian_factorization.model import BayesianFactorizationModel, BayesianFactorizationSettings
from recpipe.models.registry import load_model

QUICK: dict[str, Any] = {
    "n_factors": 4,
    "n_chains": 2,
    "burn_in": 20,
    "kept_draws": 5,
    "sweeps_per_draw": 4,
    "svd_dimensions": 3,
}
N_USERS, N_ITEMS, N_COLD = 120, 90, 30
NOISE = 0.4
KINDS = ("a", "b", "c", "d", "e", "f")


@dataclass
class Planted:
    """Users like kinds of items; the last `N_COLD` items have no rating in training.

    Attributes:
        table: the noiseless ratings, (n_users, n_items).
        given: bool, in training.
    """

    items: Items
    profiles: Profiles
    histories: Histories
    table: np.ndarray
    given: np.ndarray
    noisy: np.ndarray

    def data(self) -> TrainingData:
        def blocks() -> Iterator[tuple[Profiles, Histories]]:
            yield self.profiles, self.histories

        return TrainingData(
            items=self.items, open_blocks=blocks, n_users=N_USERS, targets=frozenset({"implicit", "rating"})
        )


def histories_of(items: Items, ratings: np.ndarray, given: np.ndarray) -> Histories:
    counts = given.sum(axis=1)
    return Histories(
        items=items,
        offsets=np.append(0, np.cumsum(counts)).astype(np.int64),
        item_rows=np.nonzero(given)[1].astype(np.int32),
        ratings=ratings[given].astype(np.float32),
    )


@cache
def planted() -> Planted:
    rng = np.random.default_rng(0)
    kinds = rng.integers(0, len(KINDS), N_ITEMS)
    item_vectors = rng.standard_normal((len(KINDS), 2))[kinds] + 0.2 * rng.standard_normal((N_ITEMS, 2))
    table = 3 + 0.7 * rng.standard_normal((N_USERS, 2)) @ item_vectors.T
    table += 0.3 * rng.standard_normal(N_USERS)[:, None]
    noisy = table + NOISE * rng.standard_normal(table.shape)
    given = rng.random(table.shape) < 0.35
    given[:, -N_COLD:] = False
    ids = [f"i{row}" for row in range(N_ITEMS)]
    attributes = pa.table({"item_id": ids, "kind": [KINDS[kind] for kind in kinds]})
    bare = Items.bare(pa.array(ids))
    items = Items(ids=bare.ids, embeddings=bare.embeddings, embedded=bare.embedded, attributes=attributes)
    profiles = Profiles.bare(pa.array([f"u{row}" for row in range(N_USERS)]))
    return Planted(items, profiles, histories_of(items, noisy, given), table, given, noisy)


@cache
def fitted(*, attributes: bool = True) -> BayesianFactorizationModel:
    model = BayesianFactorizationModel(BayesianFactorizationSettings(**QUICK))
    world = planted()
    data = world.data()
    if not attributes:
        bare = Items.bare(world.items.ids)
        histories = histories_of(bare, world.noisy, world.given)
        data = TrainingData(
            items=bare,
            open_blocks=lambda: iter([(world.profiles, histories)]),
            n_users=N_USERS,
            targets=frozenset({"rating"}),
        )
    model.fit(data, FitContext(seed=1))
    return model


def rmse(predicted: np.ndarray, actual: np.ndarray) -> float:
    return float(np.sqrt(np.mean((predicted - actual) ** 2)))


def bias_predictions(world: Planted) -> np.ndarray:
    """μ + b_u + b_i by least squares with a small ridge, the usual baseline."""
    users, items = np.nonzero(world.given)
    ratings = world.noisy[world.given]
    design = np.zeros((len(ratings), N_USERS + N_ITEMS))
    design[np.arange(len(ratings)), users] = 1
    design[np.arange(len(ratings)), N_USERS + items] = 1
    mean = ratings.mean()
    solved = np.linalg.solve(design.T @ design + np.eye(N_USERS + N_ITEMS), design.T @ (ratings - mean))
    return mean + solved[:N_USERS, None] + solved[None, N_USERS:]


def predictions(model: BayesianFactorizationModel, wanted: np.ndarray, method: str = "predict_rating") -> Any:
    world = planted()
    users, items = np.nonzero(wanted)
    return getattr(model, method)(world.profiles, world.histories, world.items, user_rows=users, item_rows=items)


def held_out(*, cold: bool) -> np.ndarray:
    wanted = ~planted().given
    wanted[:, : N_ITEMS - N_COLD] &= not cold
    wanted[:, N_ITEMS - N_COLD :] &= cold
    return wanted


def test_recovers_a_planted_table_better_than_biases() -> None:
    world, wanted = planted(), held_out(cold=False)
    ours = rmse(predictions(fitted(), wanted), world.table[wanted])
    theirs = rmse(bias_predictions(world)[wanted], world.table[wanted])
    assert ours < 0.5 * theirs


def test_attributes_help_items_nobody_rated() -> None:
    world, wanted = planted(), held_out(cold=True)
    with_attributes = rmse(predictions(fitted(), wanted), world.table[wanted])
    without = rmse(predictions(fitted(attributes=False), wanted), world.table[wanted])
    assert with_attributes < 0.6 * without


@pytest.mark.parametrize("cold", [False, True])
def test_intervals_hold_nine_of_ten_ratings(cold: bool) -> None:
    wanted = held_out(cold=cold)
    low, high = predictions(fitted(), wanted, "rating_interval")
    centre = predictions(fitted(), wanted)
    ratings = np.clip(planted().noisy[wanted], low.min(), high.max())  # ends are clipped to the range of ratings
    assert ((low <= centre) & (centre <= high)).all()
    assert 0.86 < np.mean((low <= ratings) & (ratings <= high)) < 0.95
    assert low.dtype == high.dtype == np.float32


def test_an_interval_is_wider_where_less_is_known() -> None:
    world = planted()
    pairs = {"user_rows": np.zeros(N_ITEMS, np.int64), "item_rows": np.arange(N_ITEMS)}
    known = fitted().rating_interval(world.profiles, world.histories, world.items, **pairs)
    stranger = fitted().rating_interval(world.profiles, Histories.empty(N_USERS, world.items), world.items, **pairs)
    assert np.mean(stranger[1] - stranger[0]) > 1.1 * np.mean(known[1] - known[0])


def test_a_user_is_their_history() -> None:
    """Somebody unseen in training is predicted what a user with the same history is."""
    world = planted()
    pairs = {"user_rows": np.full(N_ITEMS, 3), "item_rows": np.arange(N_ITEMS)}
    strangers = Profiles.bare(pa.array([f"new-{row}" for row in range(N_USERS)]))
    seen = fitted().predict_rating(world.profiles, world.histories, world.items, **pairs)
    unseen = fitted().predict_rating(strangers, world.histories, world.items, **pairs)
    np.testing.assert_array_equal(seen, unseen)


def test_ratings_not_given_still_say_what_was_taken() -> None:
    world = planted()
    nothing = np.full(len(world.histories.item_rows), np.nan, np.float32)
    unrated = Histories(
        items=world.items, offsets=world.histories.offsets, item_rows=world.histories.item_rows, ratings=nothing
    )
    ratings, taken = matrices(unrated, np.arange(N_ITEMS), n_items=N_ITEMS, offset=3.0)
    assert ratings.nnz == 0
    np.testing.assert_array_equal(taken.toarray() > 0, world.given)


def test_matrices_count_ratings_and_items_apart() -> None:
    items = Items.bare(pa.array(["a", "b", "c"]))
    histories = Histories(
        items=items,
        offsets=np.array([0, 4, 4]),
        item_rows=np.array([2, 2, 1, 0], np.int32),
        ratings=np.array([5, 3, np.nan, 4], np.float32),
    )
    # the catalogue's "a" is unknown, "b" is item 0 and "c" item 1
    ratings, taken = matrices(histories, np.array([-1, 0, 1]), n_items=2, offset=3.0)
    assert ratings.data.tolist() == [2.0, 0.0]  # both ratings of "c"
    assert ratings.indices.tolist() == [1, 1]
    assert taken.toarray().tolist() == [[1, 1], [0, 0]]


def test_ranking_is_by_predicted_rating() -> None:
    """Two chains of five draws and four factors are 40 numbers, which 64 dimensions hold exactly."""
    world = planted()
    model = fitted()
    everything = np.ones((N_USERS, N_ITEMS), bool)
    scores = model.user_vectors(world.profiles, world.histories).vectors @ model.item_vectors(world.items).T
    predicted = predictions(model, everything).reshape(N_USERS, N_ITEMS)
    inside = (predicted > predicted.min()) & (predicted < predicted.max())  # clipped ones are equal
    offsets = (predicted - scores)[inside]
    np.testing.assert_allclose(offsets, offsets.mean(), atol=1e-4)


def test_a_loaded_model_predicts_the_same(tmp_path: Path) -> None:
    fitted().save(tmp_path)
    loaded = load_model(tmp_path)
    assert isinstance(loaded, BayesianFactorizationModel)
    everything = np.ones((N_USERS, N_ITEMS), bool)
    np.testing.assert_array_equal(predictions(loaded, everything), predictions(fitted(), everything))
    for ours, theirs in zip(
        predictions(loaded, everything, "rating_interval"),
        predictions(fitted(), everything, "rating_interval"),
        strict=True,
    ):
        np.testing.assert_array_equal(ours, theirs)


def test_without_a_rating_there_is_nothing_to_learn() -> None:
    world = planted()
    histories = Histories(items=world.items, offsets=world.histories.offsets, item_rows=world.histories.item_rows)
    data = TrainingData(items=world.items, open_blocks=lambda: iter([(world.profiles, histories)]), n_users=N_USERS)
    model = BayesianFactorizationModel(BayesianFactorizationSettings(**QUICK))
    with pytest.raises(DataError, match="ratings"):
        model.fit(data, FitContext())


@pytest.mark.parametrize("sizes", [[1], [1, 1], [3]])
def test_tiny_data_are_fitted(sizes: list[int]) -> None:
    """One user, one item, one rating: no SVD, no variance."""
    items = Items.bare(pa.array(["a", "b", "c"]))
    histories = Histories(
        items=items,
        offsets=np.append(0, np.cumsum(sizes)).astype(np.int64),
        item_rows=np.arange(sum(sizes), dtype=np.int32),
        ratings=np.full(sum(sizes), 4.0, np.float32),
    )
    profiles = Profiles.bare(pa.array([f"u{row}" for row in range(len(sizes))]))
    data = TrainingData(
        items=items,
        open_blocks=lambda: iter([(profiles, histories)]),
        n_users=len(sizes),
        targets=frozenset({"implicit", "rating"}),
    )
    model = BayesianFactorizationModel(BayesianFactorizationSettings(**QUICK))
    report = model.fit(data, FitContext())
    assert report.counts["draws"] == QUICK["n_chains"] * QUICK["kept_draws"]
    predicted = model.predict_rating(profiles, histories, items, user_rows=np.zeros(3, int), item_rows=np.arange(3))
    np.testing.assert_array_equal(predicted, 4.0)
