from __future__ import annotations

import numpy as np
import torch
from small_world import small_world

from recpipe.models.examples import Examples, gather_examples
from recpipe.models.settings import IterativeSettings
from recpipe.training.batches import Batches

EXAMPLES = Examples(
    target="implicit",
    n_users=3,
    n_items=9,
    user_rows=np.array([0, 0, 0, 2, 2], dtype=np.int32),
    item_rows=np.array([5, 6, 7, 8, 5], dtype=np.int32),
    ratings=np.zeros(0, np.float32),
    offsets=np.array([0, 3, 3, 5]),
)


def batches(examples: Examples, *, batch_size: int = 2, seed: int = 0, max_history: int = 2) -> Batches:
    settings = IterativeSettings(batch_size=batch_size, negatives=4)
    return Batches(examples, settings, max_history=max_history, seed=seed, device="cpu")


def test_history_is_what_the_user_took_before_newest_first() -> None:
    everything = torch.arange(5)
    batch = batches(EXAMPLES, batch_size=5).batch(everything, 0, torch.Generator())
    assert batch.histories.tolist() == [[-1, -1], [5, -1], [6, 5], [-1, -1], [8, -1]]
    assert batch.user_rows.tolist() == [0, 0, 0, 2, 2]
    assert batch.item_rows.tolist() == [5, 6, 7, 8, 5]


def test_in_a_set_any_other_items_of_the_user_are_the_history() -> None:
    """User 0 took 1, 2, 3, 4 and 2 again; user 1 nothing, user 2 one item, user 3 two."""
    examples = Examples(
        target="implicit",
        n_users=4,
        n_items=9,
        user_rows=np.array([0, 0, 0, 0, 0, 2, 3, 3], dtype=np.int32),
        item_rows=np.array([1, 2, 3, 4, 2, 5, 6, 7], dtype=np.int32),
        ratings=np.zeros(0, np.float32),
        offsets=np.array([0, 5, 5, 6, 8]),
    )
    others = {1: [2, 2, 3, 4], 2: [1, 3, 4], 3: [1, 2, 2, 4], 4: [1, 2, 2, 3], 5: [], 6: [7], 7: [6]}
    settings = IterativeSettings(batch_size=8, negatives=4)
    generator = torch.Generator().manual_seed(0)
    for length in (6, 2):
        found = Batches(examples, settings, max_history=length, seed=0, device="cpu", history_order="set")
        met: dict[int, set[int]] = {item: set() for item in others}
        for _ in range(60):
            batch = found.batch(torch.arange(8), 0, generator)
            assert sorted(batch.item_rows.tolist()) == [1, 2, 2, 3, 4, 5, 6, 7]
            for item, history in zip(batch.item_rows.tolist(), batch.histories.tolist(), strict=True):
                there = sorted(row for row in history if row >= 0)
                met[item].update(there)
                if length == 6:
                    assert there == others[item]
                else:
                    assert len(there) <= min(2, len(others[item])) and item not in there
        # in the end every other item was in every history
        assert met == {item: set(rows) for item, rows in others.items()}


def test_an_epoch_holds_every_interaction_once() -> None:
    found = batches(EXAMPLES)
    assert found.n_steps == 3
    order = found.order(1)
    seen = [row for step in range(3) for row in found.batch(order, step, torch.Generator()).item_rows.tolist()]
    assert sorted(seen) == [5, 5, 6, 7, 8]


def test_order_depends_on_seed_and_epoch() -> None:
    examples = gather_examples(small_world().data, "implicit", positive_from=None)
    orders = [batches(examples, seed=seed).order(epoch).tolist() for seed, epoch in ((0, 1), (0, 1), (0, 2), (1, 1))]
    assert orders[0] == orders[1]
    assert len({tuple(order) for order in orders}) == 3


def test_examples_of_ratings_are_the_rated_of_implicit_the_positive() -> None:
    world = small_world()
    assert world.train.ratings is not None
    world.train.ratings[::5] = np.nan
    rated = gather_examples(world.data, "rating", positive_from=4.0)
    assert len(rated) == np.isfinite(world.train.ratings).sum() == len(rated.ratings)
    positive = gather_examples(world.in_blocks(world.train, 7), "implicit", positive_from=4.0)
    expected = np.isnan(world.train.ratings) | (world.train.ratings >= 4.0)
    np.testing.assert_array_equal(positive.item_rows, world.train.item_rows[expected])
    np.testing.assert_array_equal(positive.user_rows, np.repeat(np.arange(40), 10)[expected])
    assert len(positive.ratings) == 0
