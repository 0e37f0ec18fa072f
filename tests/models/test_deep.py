"""The formula of deep, and its scores for all pairs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from small_catalogue import DATA, HISTORIES, ITEMS, PROFILES

from recpipe.models.base import FitContext
from recpipe.models.deep.model import DeepModel, DeepSettings
from recpipe.models.deep.network import all_pairs
from recpipe.models.examples import Examples, gather_examples
from recpipe.models.iterative import Batch
from recpipe.training.batches import Batches
from recpipe.training.fitting import fit


def prepared(target: Any, **values: Any) -> tuple[DeepModel, Examples]:
    model = DeepModel(DeepSettings(target=target, hidden_dim=4, **values))
    examples = gather_examples(DATA, target, positive_from=None)
    model.prepare(DATA, examples, FitContext())
    with torch.no_grad():
        generator = torch.Generator().manual_seed(5)
        for parameter in model.parameters().values():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.5)
    model.refresh()
    return model, examples


def by_formula(model: DeepModel, user: int, item: int) -> float:
    """w·relu(W_u p + W_v v + b) + b_j, with b_i and the mean rating for ratings."""
    w = {name: parameter.detach().numpy().astype(np.float64) for name, parameter in model.parameters().items()}
    assert model._learned is not None and HISTORIES.ratings is not None
    p = model._learned.space.encode(PROFILES).astype(np.float64)[user]
    mean = ITEMS.embeddings[ITEMS.embedded].mean(axis=0)
    v = (ITEMS.embeddings[item] - mean) if ITEMS.embedded[item] else np.zeros(2)
    hidden = np.maximum(p @ w["profile_map"] + v @ w["item_map"] + w["hidden_bias"], 0)
    score = float(hidden @ w["output"])
    items_seen = [0, 1, 2, 4]
    score += w["item_id_biases"][items_seen.index(item)] if item in items_seen else 0.0
    if "user_id_biases" in w:
        score += (w["user_id_biases"][user] if user < 3 else 0.0) + HISTORIES.ratings.mean()
    return score


def test_predicted_rating_is_the_formula() -> None:
    model, _ = prepared("rating")
    users, items = (grid.reshape(-1) for grid in np.meshgrid(np.arange(4), np.arange(5), indexing="ij"))
    predicted = model.predict_rating(PROFILES, HISTORIES, ITEMS, user_rows=users, item_rows=items)
    expected = [np.clip(by_formula(model, user, item), 1, 5) for user, item in zip(users, items, strict=True)]
    np.testing.assert_allclose(predicted, expected, atol=1e-5)


@pytest.mark.parametrize("target", ["rating", "implicit"])
def test_scores_are_the_formula_less_a_constant_of_each_user(target: Any) -> None:
    model, _ = prepared(target)
    scores = model.score_block(PROFILES, HISTORIES, ITEMS).scores
    expected = np.array([[by_formula(model, user, item) for item in range(5)] for user in range(4)])
    np.testing.assert_allclose(scores - scores[:, :1], expected - expected[:, :1], atol=1e-5)


@given(
    n_users=st.integers(1, 9), n_items=st.sampled_from([1, 5, 1024, 1030]), hidden_dim=st.integers(1, 70),
    seed=st.integers(0, 99),
)  # fmt: skip
def test_all_pairs_is_the_plain_broadcast(n_users: int, n_items: int, hidden_dim: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    users, items = (rng.standard_normal((n, hidden_dim)).astype(np.float32) for n in (n_users, n_items))
    output = rng.standard_normal(hidden_dim).astype(np.float32)
    output[0] = 0.0
    plain = (np.maximum(users[:, None].astype(np.float64) + items[None], 0) * output).sum(axis=-1)
    dropped = users.astype(np.float64) @ output  # relu(a + b) = max(b, -a) + a
    np.testing.assert_allclose(all_pairs(users, items, output), plain - dropped[:, None], atol=1e-4)


def test_rating_loss_is_squared_error() -> None:
    model, examples = prepared("rating", id_dropout=0.0, id_penalty=0.0, weight_decay=0.0)
    batches = Batches(examples, model.settings, max_history=model.max_history, seed=0, device="cpu")
    batch = batches.batch(torch.arange(len(examples)), 0, torch.Generator())
    errors = [
        by_formula(model, user, item) - rating
        for user, item, rating in zip(examples.user_rows, examples.item_rows, examples.ratings, strict=True)
    ]
    assert model.train_step(batch).item() == pytest.approx(np.mean(np.square(errors)), rel=1e-5)


def test_implicit_step_scores_candidates_by_the_formula() -> None:
    model, examples = prepared("implicit", id_dropout=0.0, weight_decay=0.0, negatives=3)
    batches = Batches(examples, model.settings, max_history=model.max_history, seed=0, device="cpu")
    batch = batches.batch(torch.arange(len(examples)), 0, torch.Generator().manual_seed(1))
    assert batch.histories.shape[1] == 0 and len(batch.candidates) == 3
    seen: list[torch.Tensor] = []

    def watching(taken: torch.Tensor, candidates: torch.Tensor) -> torch.Tensor:
        seen.extend([taken, candidates])
        return taken.sum()

    fields = {name: getattr(batch, name) for name in Batch.__dataclass_fields__ if name != "loss"}
    model.train_step(Batch(**fields, loss=watching))
    for row, (user, item) in enumerate(zip(examples.user_rows, examples.item_rows, strict=True)):
        assert seen[0][row].item() == pytest.approx(by_formula(model, user, item), abs=1e-5)
        for place, candidate in enumerate(batch.candidates.tolist()):
            if candidate != item:
                expected = by_formula(model, user, candidate) - batch.log_expected[place].item()
                assert seen[1][row, place].item() == pytest.approx(expected, abs=1e-5)


def test_hidden_ids_leave_no_bias() -> None:
    """With every id hidden in training, biases stay where they began."""
    model = DeepModel(DeepSettings(target="rating", n_epochs=2, id_dropout=0.9999999, hidden_dim=2))
    fit(model, DATA, FitContext())
    state = model.state().weights
    assert (state["item_id_biases"] == 0).all() and (state["user_id_biases"] == 0).all()
    assert (state["profile_map"] != 0).any()
