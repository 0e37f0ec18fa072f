"""two_tower where items have pictures: training equal to scoring, tastes only pictures show, and pictures that go."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch

from recpipe.models.base import FitContext, Histories, Items, Profiles, TrainingData
from recpipe.models.examples import gather_examples
from recpipe.models.registry import load_model
from recpipe.models.tables import Block
from recpipe.models.two_tower.model import TwoTowerModel, TwoTowerSettings
from recpipe.training.fitting import fit

N_LOOKS, PER_LOOK, TAKEN = 4, 12, 6
LOOKS = np.repeat(np.arange(N_LOOKS), PER_LOOK)


def gallery(*, telling_text: float) -> Items:
    """Pictures that tell the look; the text tells it as much as asked."""
    rng = np.random.default_rng(11)
    n_items = len(LOOKS)
    vectors = np.eye(N_LOOKS, 6)[LOOKS] + 0.1 * rng.standard_normal((n_items, 6))
    text = telling_text * np.eye(N_LOOKS, 5)[LOOKS] + rng.standard_normal((n_items, 5)) * 0.3
    return Items(
        ids=pa.array([f"i{row}" for row in range(n_items)]),
        embeddings=text.astype(np.float32),
        embedded=np.ones(n_items, np.bool_),
        blocks={"image": Block(vectors.astype(np.float32), np.ones(n_items, np.bool_))},
    )


def visitors(items: Items, *, n_users: int, seed: int) -> tuple[Profiles, Histories, np.ndarray]:
    """Users who take items of one look each, and the look."""
    rng = np.random.default_rng(seed)
    liked = rng.integers(N_LOOKS, size=n_users)
    taken = np.stack([look * PER_LOOK + rng.choice(PER_LOOK, TAKEN, replace=False) for look in liked])
    histories = Histories(
        items=items, offsets=np.arange(n_users + 1) * TAKEN, item_rows=np.ascontiguousarray(taken, np.int32).ravel()
    )
    return Profiles.bare(pa.array([f"u{seed}_{row}" for row in range(n_users)])), histories, liked


def data_of(profiles: Profiles, histories: Histories) -> TrainingData:
    def blocks() -> Iterator[tuple[Profiles, Histories]]:
        yield profiles, histories

    return TrainingData(items=histories.items, open_blocks=blocks, n_users=len(profiles))


def fitted(items: Items, *, block_dropout: float) -> TwoTowerModel:
    profiles, histories, _ = visitors(items, n_users=160, seed=1)
    settings = TwoTowerSettings(
        n_epochs=30, hidden_dim=16, batch_size=64, negatives=16, history_order="set", block_dropout=block_dropout
    )
    model = TwoTowerModel(settings)
    fit(model, data_of(profiles, histories), FitContext(seed=1))
    return model


def hits(model: TwoTowerModel, items: Items) -> float:
    """Share of the first five that have the look of strangers, of items that nobody took."""
    profiles, histories, liked = visitors(items, n_users=60, seed=2)
    scores = model.user_vectors(profiles, histories).vectors @ model.item_vectors(items.renamed()).T
    return float((np.argsort(-scores, axis=1)[:, :5] // PER_LOOK == liked[:, None]).mean())


def test_training_sees_the_content_that_scoring_uses() -> None:
    items = gallery(telling_text=0.5)
    profiles, histories, _ = visitors(items, n_users=20, seed=1)
    data = data_of(profiles, histories)
    model = TwoTowerModel(TwoTowerSettings(hidden_dim=4, block_dropout=0.0))
    model.prepare(data, gather_examples(data, "implicit", positive_from=None), FitContext())
    network = model._network
    assert network is not None
    rows = torch.arange(len(items))
    content = network._content_of(rows, torch.Generator().manual_seed(0))
    vectors, biases, _ = network._items(rows, content, torch.ones(len(rows)))
    expected = torch.cat([vectors, biases[:, None]], dim=1).detach().numpy()
    np.testing.assert_allclose(model.item_vectors(items), expected, atol=1e-6)


def test_a_taste_that_only_pictures_show_is_learned(tmp_path: Path) -> None:
    items = gallery(telling_text=0.0)
    model = fitted(items, block_dropout=0.5)
    model.save(tmp_path)
    loaded = load_model(tmp_path)
    assert isinstance(loaded, TwoTowerModel)
    assert hits(loaded, items) == hits(model, items) > 0.8


def test_hiding_blocks_in_training_pays_where_they_go_missing() -> None:
    items = gallery(telling_text=0.5)
    dark = replace(items, blocks={})
    hidden, whole = (hits(fitted(items, block_dropout=share), dark) for share in (0.5, 0.0))
    assert hidden > whole + 0.05
