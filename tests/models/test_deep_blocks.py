"""deep where items have pictures and sounds: its formula, training equal to scoring, and tastes only pictures show."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from small_catalogue import DATA, HISTORIES, ITEMS, PROFILES

from recpipe.models.base import FitContext, Histories, Items, Profiles, TrainingData
from recpipe.models.deep.block_inputs import DECAY, BlockInputs, user_inputs
from recpipe.models.deep.model import DeepModel, DeepSettings
from recpipe.models.examples import gather_examples
from recpipe.models.item_blocks import ItemBlocks
from recpipe.models.registry import load_model
from recpipe.models.tables import Block
from recpipe.training.batches import Batches
from recpipe.training.fitting import fit

_IMAGE = np.array([[3, 0, 1], [0, 2, 1], [1, 1, 0], [2, 0, 2], [0, 0, 0]], np.float32)
SEEN = replace(ITEMS, blocks={"image": Block(_IMAGE, np.array([True, True, True, True, False]))})
SEEN_HISTORIES = replace(HISTORIES, items=SEEN)
SEEN_DATA = replace(DATA, items=SEEN, open_blocks=lambda: iter([(PROFILES, SEEN_HISTORIES)]))


def fused(blocks: ItemBlocks, vectors: list[np.ndarray], present: np.ndarray) -> np.ndarray:
    """By loops: every block that is there weighs the same, then the flags."""
    count = max(int(present.sum()), 1)
    return np.concatenate(
        [*(vector * has / np.sqrt(count) for vector, has in zip(vectors, present, strict=True)), present]
    )


def apart(blocks: ItemBlocks, row: np.ndarray) -> list[np.ndarray]:
    return np.split(row, np.cumsum(blocks.sizes)[:-1])


def test_users_are_given_the_recency_weighted_mean_of_each_block() -> None:
    blocks = ItemBlocks.of(SEEN)
    assert blocks is not None
    items = blocks.vectors(SEEN)
    given = user_inputs(blocks, SEEN_HISTORIES, items, DeepSettings())
    for user in range(4):
        rows = SEEN_HISTORIES.item_rows[SEEN_HISTORIES.offsets[user] : SEEN_HISTORIES.offsets[user + 1]][::-1]
        means, present = [], np.zeros(2)
        for place in range(2):
            weights = [DECAY**age * items.present[row, place] for age, row in enumerate(rows)]
            present[place] = sum(weights) > 0
            own = [weight * apart(blocks, items.vectors[row])[place] for weight, row in zip(weights, rows, strict=True)]
            size = blocks.sizes[place]
            means.append(sum(own, np.zeros(size)) / (sum(weights) or 1.0))
        np.testing.assert_allclose(given[user], fused(blocks, means, present), atol=1e-6)
    assert (given[3] == 0).all(), "without history there is nothing to give"


def test_training_is_given_what_scoring_is() -> None:
    blocks = ItemBlocks.of(SEEN)
    assert blocks is not None
    items, settings = blocks.vectors(SEEN), DeepSettings()
    inputs = BlockInputs(blocks, items, settings=settings, share=0.0, device="cpu")
    histories = np.full((4, 3), -1)
    for user in range(4):
        own = SEEN_HISTORIES.item_rows[SEEN_HISTORIES.offsets[user] : SEEN_HISTORIES.offsets[user + 1]][::-1]
        histories[user, : len(own)] = own
    generator = torch.Generator().manual_seed(1)
    users = inputs.of_users(torch.from_numpy(histories), None, generator)
    np.testing.assert_allclose(users.numpy(), user_inputs(blocks, SEEN_HISTORIES, items, settings), atol=1e-6)
    rows = inputs.of_items(torch.arange(5), None, generator)
    np.testing.assert_allclose(rows.numpy(), blocks.flagged(items), atol=1e-6)


def test_hidden_blocks_are_as_missing_ones() -> None:
    blocks = ItemBlocks.of(SEEN)
    assert blocks is not None
    inputs = BlockInputs(blocks, blocks.vectors(SEEN), settings=DeepSettings(), share=0.4, device="cpu")
    generator = torch.Generator().manual_seed(2)
    blind = blocks.flagged(blocks.vectors(replace(SEEN, blocks={})))
    rows = inputs.of_items(torch.arange(5), torch.tensor([1.0, 0.0]), generator)
    np.testing.assert_allclose(rows.numpy(), blind, atol=1e-6)
    flags = inputs.of_items(torch.zeros(20_000, dtype=torch.int64), None, generator)[:, -2:]
    np.testing.assert_allclose(flags.mean(0).numpy(), 0.6, atol=0.02)
    steps = [inputs.drawn(generator) for _ in range(4000)]
    whole = torch.stack([kept for kept in steps if kept is not None])
    assert len(whole) == pytest.approx(2000, abs=150)
    np.testing.assert_allclose(whole.mean(0).numpy(), 0.6, atol=0.05)


def test_scores_are_the_formula_less_a_constant_of_each_user() -> None:
    model = DeepModel(DeepSettings(target="implicit", hidden_dim=4))
    assert model.max_history == 0
    examples = gather_examples(SEEN_DATA, "implicit", positive_from=None)
    model.prepare(SEEN_DATA, examples, FitContext())
    assert model.max_history == model.settings.history
    with torch.no_grad():
        generator = torch.Generator().manual_seed(5)
        for parameter in model.parameters().values():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.5)
    model.refresh()
    w = {name: parameter.detach().numpy().astype(np.float64) for name, parameter in model.parameters().items()}
    assert model._learned is not None and model._blocks is not None
    items = model._blocks.vectors(SEEN)
    users = model._learned.space.encode(PROFILES) @ w["profile_map"] + w["hidden_bias"]
    users = users + user_inputs(model._blocks, SEEN_HISTORIES, items, model.settings) @ w["history_map"]
    hidden = np.maximum(users[:, None] + (model._blocks.flagged(items) @ w["item_map"])[None], 0)
    biases = np.array([w["item_id_biases"][[0, 1, 2, 4].index(row)] if row != 3 else 0.0 for row in range(5)])
    expected = hidden @ w["output"] + biases
    found = model.score_block(PROFILES, SEEN_HISTORIES, SEEN).scores
    np.testing.assert_allclose(found - found[:, :1], expected - expected[:, :1], atol=1e-5)


def test_without_histories_the_blocks_of_items_are_learned_from_all_the_same() -> None:
    model = DeepModel(DeepSettings(target="implicit", n_epochs=1, hidden_dim=4, history=0))
    fit(model, SEEN_DATA, FitContext())
    assert np.isfinite(model.score_block(PROFILES, SEEN_HISTORIES, SEEN).scores).all()


def test_ratings_take_the_items_blocks_and_no_history(tmp_path: Path) -> None:
    model = DeepModel(DeepSettings(target="rating", n_epochs=2, hidden_dim=4))
    fit(model, SEEN_DATA, FitContext())
    assert "history_map" not in model.state().weights
    pairs = {"user_rows": np.array([0, 1]), "item_rows": np.array([3, 2])}
    model.save(tmp_path)
    before, after = (
        each.predict_rating(PROFILES, SEEN_HISTORIES, SEEN, **pairs) for each in (model, load_model(tmp_path))
    )
    np.testing.assert_array_equal(before, after)


def test_a_fit_to_the_same_items_with_other_blocks_forgets_the_first() -> None:
    model = DeepModel(DeepSettings(target="implicit", n_epochs=1, hidden_dim=4))
    fit(model, SEEN_DATA, FitContext())
    model.score_block(PROFILES, SEEN_HISTORIES, SEEN)
    fit(model, DATA, FitContext())
    fresh = DeepModel(model.settings)
    fit(fresh, DATA, FitContext())
    found, expected = (each.score_block(PROFILES, HISTORIES, ITEMS).scores for each in (model, fresh))
    np.testing.assert_array_equal(found, expected)


N_LOOKS, PER_LOOK, TAKEN = 4, 12, 6


def gallery(prefix: str, seed: int, *, n_users: int = 160) -> tuple[Profiles, Histories, np.ndarray]:
    """Users who take pictures of one look each, and the look; texts are the same for all looks."""
    rng = np.random.default_rng(11)
    n_items = N_LOOKS * PER_LOOK
    looks = np.repeat(np.arange(N_LOOKS), PER_LOOK)
    vectors = np.eye(N_LOOKS, 6)[looks] + 0.1 * rng.standard_normal((n_items, 6))
    text = rng.standard_normal((n_items, 5)).astype(np.float32)
    items = Items(
        ids=pa.array([f"i{row}" for row in range(n_items)]),
        embeddings=text,
        embedded=np.ones(n_items, np.bool_),
        blocks={"image": Block(vectors.astype(np.float32), np.ones(n_items, np.bool_))},
    )
    drawn = np.random.default_rng(seed)
    liked = drawn.integers(N_LOOKS, size=n_users)
    taken = np.stack([look * PER_LOOK + drawn.choice(PER_LOOK, TAKEN, replace=False) for look in liked])
    histories = Histories(
        items=items, offsets=np.arange(n_users + 1) * TAKEN, item_rows=np.ascontiguousarray(taken, np.int32).ravel()
    )
    return Profiles.bare(pa.array([f"{prefix}{row}" for row in range(n_users)])), histories, liked


def test_a_taste_that_only_pictures_show_is_learned_for_unseen_users_and_new_items(tmp_path: Path) -> None:
    profiles, histories, _ = gallery("u", 1)

    def blocks() -> Iterator[tuple[Profiles, Histories]]:
        yield profiles, histories

    model = DeepModel(DeepSettings(target="implicit", n_epochs=30, hidden_dim=16, batch_size=64, negatives=16))
    fit(model, TrainingData(items=histories.items, open_blocks=blocks, n_users=len(profiles)), FitContext(seed=1))
    model.save(tmp_path)
    strangers, pasts, liked = gallery("stranger", 2, n_users=60)
    for model_ in (model, load_model(tmp_path)):
        assert isinstance(model_, DeepModel)
        block = model_.score_block(strangers, pasts, pasts.items.renamed())
        best = np.argsort(-block.scores, axis=1)[:, :5] // PER_LOOK
        assert (best == liked[:, None]).mean() > 0.8
        assert (block.source == "deep").all(), "a history is enough to know a user by"
    dark = replace(pasts.items, blocks={})
    unseen = model.score_block(strangers, replace(pasts, items=dark), dark).scores
    assert np.isfinite(unseen).all()


def test_batches_bring_the_history() -> None:
    model = DeepModel(DeepSettings(target="implicit", hidden_dim=4, history=2))
    examples = gather_examples(SEEN_DATA, "implicit", positive_from=None)
    model.prepare(SEEN_DATA, examples, FitContext())
    batches = Batches(examples, model.settings, max_history=model.max_history, seed=0, device="cpu")
    batch = batches.batch(torch.arange(len(examples)), 0, torch.Generator().manual_seed(1))
    assert batch.histories.shape == (len(examples), 2)
    model.train_step(batch).backward()
    gradient = model.parameters()["history_map"].grad
    assert gradient is not None and gradient.abs().sum() > 0


def test_a_single_block_is_never_hidden() -> None:
    bare = replace(SEEN, embeddings=np.empty((5, 0), np.float32), embedded=np.zeros(5, np.bool_))
    histories = replace(HISTORIES, items=bare)
    data = replace(DATA, items=bare, open_blocks=lambda: iter([(PROFILES, histories)]))

    def item_map(share: float) -> np.ndarray:
        model = DeepModel(DeepSettings(target="implicit", n_epochs=3, hidden_dim=4, block_dropout=share))
        fit(model, data, FitContext())
        return model.state().weights["item_map"]

    np.testing.assert_array_equal(item_map(0.9), item_map(0.0))
