"""A world in which taste can be learned: six groups of users, each taking mostly from its own items.

Item 0 of each group is taken by many of the other groups as well, so that popularity is not
worthless. The last item of every user is held out.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from recpipe.models.base import FactoredModel, Histories, Items, Model, PairwiseModel, Profiles, TrainingData

N_GROUPS, USERS_PER_GROUP, ITEMS_PER_GROUP, TAKEN = 6, 30, 15, 7
N_ITEMS = N_GROUPS * ITEMS_PER_GROUP
ITEMS = Items.bare(pa.array([f"item{row}" for row in range(N_ITEMS)]))


def planted(prefix: str, seed: int) -> tuple[Profiles, Histories, np.ndarray]:
    """Return users, what they took, and the item held out for each."""
    rng = np.random.default_rng(seed)
    rows = []
    for group in np.repeat(np.arange(N_GROUPS), USERS_PER_GROUP):
        own = group * ITEMS_PER_GROUP + rng.choice(ITEMS_PER_GROUP, TAKEN, replace=False)
        famous = ITEMS_PER_GROUP * rng.integers(N_GROUPS)
        if famous not in own:
            own[0] = famous
        rows.append(own)
    n_users = len(rows)
    taken = np.array(rows, np.int32)
    histories = Histories(
        items=ITEMS, offsets=np.arange(n_users + 1) * (TAKEN - 1), item_rows=np.ascontiguousarray(taken[:, :-1]).ravel()
    )
    return Profiles.bare(pa.array([f"{prefix}{row}" for row in range(n_users)])), histories, taken[:, -1]


def training_data(profiles: Profiles, histories: Histories) -> TrainingData:
    """Everybody in one block."""

    def blocks() -> Iterator[tuple[Profiles, Histories]]:
        yield profiles, histories

    return TrainingData(items=histories.items, open_blocks=blocks, n_users=len(profiles))


def scores_of(model: Model, profiles: Profiles, histories: Histories) -> np.ndarray:
    """All scores: float32 (n_users, n_items)."""
    if isinstance(model, FactoredModel):
        return model.user_vectors(profiles, histories).vectors @ model.item_vectors(histories.items).T
    assert isinstance(model, PairwiseModel)
    return model.score_block(profiles, histories, histories.items).scores


def mean_rank(model: Model, profiles: Profiles, histories: Histories, held_out: np.ndarray) -> float:
    """Mean number of unseen items ranked above the one held out, ties counted half."""
    scores = scores_of(model, profiles, histories).copy()
    scores[histories.user_rows(), histories.item_rows] = -np.inf
    own = scores[np.arange(len(scores)), held_out][:, None]
    return float(((scores > own).sum(axis=1) + ((scores == own).sum(axis=1) - 1) / 2).mean())
