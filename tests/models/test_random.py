from __future__ import annotations

import numpy as np
import pyarrow as pa

from recpipe.models.base import FitContext, Histories, Items, Profiles, TrainingData
from recpipe.models.random import RandomModel, RandomSettings

ITEMS = Items.bare(pa.array([f"i{row}" for row in range(400)]))
PROFILES = Profiles.bare(pa.array([f"u{row}" for row in range(50)]))
HISTORIES = Histories.empty(50, ITEMS)


def scores(seed: int = 1, items: Items = ITEMS, profiles: Profiles = PROFILES) -> np.ndarray:
    model = RandomModel(RandomSettings())
    data = TrainingData(items=ITEMS, open_blocks=lambda: iter([(PROFILES, HISTORIES)]), n_users=50)
    model.fit(data, FitContext(seed=seed))
    return model.score_block(profiles, Histories.empty(len(profiles), items), items).scores


def test_uniform_and_unrelated_between_users_and_items() -> None:
    found = scores()
    assert found.min() >= 0 and found.max() < 1
    assert abs(found.mean() - 0.5) < 0.01
    assert abs(found.std() - 12**-0.5) < 0.01
    users = np.corrcoef(found)[~np.eye(50, dtype=bool)]
    items = np.corrcoef(found.T)[~np.eye(400, dtype=bool)]
    assert abs(users).max() < 0.25 and abs(users.mean()) < 0.01  # 400 items: a deviation of 0.05
    assert abs(items.mean()) < 0.02


def test_a_pair_keeps_its_score_in_any_catalogue_and_block() -> None:
    few = Items.bare(pa.array(["i7", "i3"]))
    found = scores(items=few, profiles=PROFILES.rows(10, 12))
    np.testing.assert_array_equal(found, scores()[10:12][:, [7, 3]])


def test_seed_decides() -> None:
    assert (scores(1) == scores(1)).all()
    assert (scores(1) == scores(2)).mean() < 0.01
