"""taste: against the formula written out, and what it does where little is known."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from recpipe.models.base import FitContext, Histories, Items, Profiles, TrainingData
from recpipe.models.item_content import ItemContent
from recpipe.models.taste import TasteModel, TasteSettings

CONTEXT = FitContext()


def world() -> tuple[Items, Profiles, Histories]:
    """Twelve items of three genres; six users, the last without a history; item11 is taken by nobody."""
    rng = np.random.default_rng(3)
    embeddings = rng.standard_normal((12, 5)).astype(np.float32)
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    ids = pa.array([f"item{number}" for number in range(12)])
    table = pa.table({"item_id": ids, "genre": [["a", "b", "c"][number % 3] for number in range(12)]})
    items = Items(ids=ids, embeddings=embeddings, embedded=np.ones(12, bool), attributes=table)
    own = [[0, 3, 6], [1, 4], [2, 5, 8, 9], [7, 10], [0, 1, 2], []]
    histories = Histories(
        items=items,
        offsets=np.append(0, np.cumsum([len(rows) for rows in own])).astype(np.int64),
        item_rows=np.concatenate([np.array(rows, np.int32) for rows in own]),
    )
    return items, Profiles.bare(pa.array([f"user{number}" for number in range(6)])), histories


def fitted(items: Items, profiles: Profiles, histories: Histories, **values: float) -> TasteModel:
    data = TrainingData(items=items, open_blocks=lambda: iter([(profiles, histories)]), n_users=len(profiles))
    model = TasteModel(TasteSettings.model_validate(values))
    model.fit(data, CONTEXT)
    return model


def test_scores_are_the_formula() -> None:
    items, profiles, histories = world()
    model = fitted(items, profiles, histories, history_decay=0.7)
    content = ItemContent.of(items, category_weight=1.0, number_weight=1.0).encode(items).astype(np.float64)
    centred = content - content[:11].mean(axis=0)  # over the items somebody took
    users = model.user_vectors(profiles, histories)
    scores = users.vectors @ model.item_vectors(items).T
    for row, taken in enumerate([[0, 3, 6], [1, 4], [2, 5, 8, 9]]):
        weights = 0.7 ** np.arange(len(taken))[::-1]
        taste = (weights / weights.sum()) @ centred[taken]
        np.testing.assert_allclose(scores[row], centred @ taste, atol=1e-5)
    assert list(users.source) == ["taste"] * 5 + ["popularity"]


def test_new_items_stand_among_those_they_read_like() -> None:
    items, profiles, histories = world()
    scores = fitted(items, profiles, histories).user_vectors(profiles, histories).vectors @ (
        fitted(items, profiles, histories).item_vectors(items).T
    )
    assert scores[2, 11] > np.median(scores[2])  # user2 took genre c, item11 is of it
    others = scores[0, 11]
    assert scores[2, 11] > others


def test_without_history_or_content_popularity_decides() -> None:
    items, profiles, histories = world()
    model = fitted(items, profiles, histories)
    last = model.user_vectors(profiles, histories).vectors[5] @ model.item_vectors(items).T
    assert set(np.argsort(-last)[:3]) == {0, 1, 2}  # two users each
    bare = Items.bare(items.ids)
    nothing = Histories(items=bare, offsets=histories.offsets, item_rows=histories.item_rows)
    unknown = fitted(bare, profiles, nothing)
    assert set(unknown.user_vectors(profiles, nothing).source) == {"popularity"}
