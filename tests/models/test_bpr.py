from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from planted_groups import mean_rank, planted, scores_of, training_data
from scipy import sparse

from recpipe.models.base import FitContext, FitReport, Histories, Items, Profiles
from recpipe.models.bpr.folding import RIDGE, history_map, history_sums
from recpipe.models.bpr.model import BprModel, BprSettings
from recpipe.models.examples import Examples, gather_examples
from recpipe.models.popularity import PopularityModel, PopularitySettings
from recpipe.training.batches import Batches
from recpipe.training.fitting import fit

PROFILES, HISTORIES, HELD_OUT = planted("user", 1)
DATA = training_data(PROFILES, HISTORIES)
QUICK: dict[str, Any] = {"hidden_dim": 8, "batch_size": 128, "learning_rate": 0.03, "negatives": 32}


def fitted(**values: Any) -> tuple[BprModel, FitReport]:
    model = BprModel(BprSettings.model_validate(QUICK | values))
    return model, fit(model, DATA, FitContext(seed=5))


@pytest.fixture(scope="module")
def learned() -> tuple[BprModel, FitReport]:
    return fitted(n_epochs=30)


def prepared(**values: Any) -> tuple[BprModel, Examples]:
    model = BprModel(BprSettings.model_validate(QUICK | values))
    examples = gather_examples(DATA, "implicit", positive_from=None)
    model.prepare(DATA, examples, FitContext())
    with torch.no_grad():  # zeros would hide a term
        generator = torch.Generator().manual_seed(5)
        for parameter in model.parameters().values():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.5)
    return model, examples


def test_loss_is_the_formula() -> None:
    model, examples = prepared(id_penalty=0.25)
    batches = Batches(examples, model.settings, max_history=model.max_history, seed=0, device="cpu")
    batch = batches.batch(torch.arange(40), 0, torch.Generator().manual_seed(0))
    users, items, biases = (value.detach().numpy().astype(np.float64) for value in model.parameters().values())
    seen = np.flatnonzero(examples.item_counts).tolist()
    taken = [seen.index(row) for row in batch.item_rows.tolist()]
    candidates = [seen.index(row) for row in batch.candidates.tolist()]
    pairs = []
    for user, item in zip(batch.user_rows.tolist(), taken, strict=True):
        for other in candidates:
            if other != item:
                difference = users[user] @ (items[item] - items[other]) + biases[item] - biases[other]
                pairs.append(np.log1p(np.exp(-difference)))
    squares = (users[batch.user_rows] ** 2).sum(1).mean()
    for rows in (taken, candidates):
        squares += ((items[rows] ** 2).sum(1) + biases[rows] ** 2).mean()
    assert model.train_step(batch).item() == pytest.approx(np.mean(pairs) + 0.25 * squares, rel=1e-5)


def test_loss_falls(learned: tuple[BprModel, FitReport]) -> None:
    losses = [row.train_loss for row in learned[1].history]
    assert losses[0] == pytest.approx(np.log(2), abs=0.1)
    assert losses[-1] < 0.5 * losses[0]


def test_planted_groups_are_found_and_unseen_users_come_in(learned: tuple[BprModel, FitReport]) -> None:
    popularity = PopularityModel(PopularitySettings())
    popularity.fit(DATA, FitContext())
    for people in ((PROFILES, HISTORIES, HELD_OUT), planted("new", 2)):
        assert mean_rank(learned[0], *people) < 0.4 * mean_rank(popularity, *people)


def test_epochs_are_chosen_on_held_out_interactions() -> None:
    _, report = fitted(max_epochs=4)
    assert report.metric == "ndcg" and 1 <= int(str(report.choice["n_epochs"])) <= 4


def test_history_map_is_the_ridge_regression() -> None:
    rng = np.random.default_rng(3)
    taken = (rng.random((40, 10)) < 0.4).astype(np.float32)
    taken[0] = 0
    items, users = rng.standard_normal((10, 3)), rng.standard_normal((40, 3))
    sums = taken @ items / np.sqrt(np.maximum(taken.sum(axis=1), 1))[:, None]
    matrix = sparse.csr_matrix(taken)
    np.testing.assert_allclose(history_sums(matrix, items.astype(np.float32)), sums, atol=1e-5)
    ridge = RIDGE * (sums**2).sum() / 3
    stacked = np.concatenate([sums, np.sqrt(ridge) * np.eye(3)])
    expected, *_ = np.linalg.lstsq(stacked, np.concatenate([users, np.zeros((3, 3))]))
    found = history_map(matrix, items.astype(np.float32), users.astype(np.float32))
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_who_is_unknown_and_has_no_known_item_gets_what_is_popular(learned: tuple[BprModel, FitReport]) -> None:
    model, _ = learned
    items = Items.bare(pa.array(["new", "item0", "item1"]))
    past = Histories(items=items, offsets=np.array([0, 0, 1, 2, 2]), item_rows=np.array([0, 1], np.int32))
    people = Profiles.bare(pa.array(["nobody", "newest", "with a past", "user3"]))
    assert model.user_vectors(people, past).source.tolist() == ["popularity", "popularity", "bpr", "bpr"]
    scores = scores_of(model, people, past)
    counts = np.bincount(HISTORIES.item_rows)[:2]
    np.testing.assert_allclose(scores[:2], np.tile(np.log1p([0, *counts]), (2, 1)), rtol=1e-6)
    biases = model.state().weights["item_biases"]
    np.testing.assert_allclose(scores[2:, 0], biases.min(), rtol=1e-5)


def test_only_positive_events_are_learned_from() -> None:
    ratings = np.where(HISTORIES.item_rows == 3, 1.0, 5.0).astype(np.float32)
    rated = Histories(items=HISTORIES.items, offsets=HISTORIES.offsets, item_rows=HISTORIES.item_rows, ratings=ratings)
    model = BprModel(BprSettings(positive_from=4.0, n_epochs=1, hidden_dim=2))
    fit(model, training_data(PROFILES, rated), FitContext())
    ids = model.state().item_ids
    assert ids is not None and "item3" not in ids.to_pylist() and "item4" in ids.to_pylist()
