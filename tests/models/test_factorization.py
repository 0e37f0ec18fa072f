"""The formulas of factorization, term by term; the loop is tested in tests/training."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from small_catalogue import DATA, HISTORIES, ITEMS, PROFILES

from recpipe.models.base import FitContext, Histories, Profiles
from recpipe.models.examples import Examples, gather_examples
from recpipe.models.factorization.model import DECAYS, FactorizationModel, FactorizationSettings
from recpipe.models.iterative import Batch
from recpipe.training.batches import Batches
from recpipe.training.fitting import fit


def prepared(target: Any, **values: Any) -> tuple[FactorizationModel, Examples]:
    settings = FactorizationSettings(target=target, hidden_dim=3, **values)
    model = FactorizationModel(settings)
    examples = gather_examples(DATA, target, positive_from=None)
    model.prepare(DATA, examples, FitContext())
    with torch.no_grad():  # zeros would hide a term
        generator = torch.Generator().manual_seed(5)
        for parameter in model.parameters().values():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.5)
    model.refresh()
    return model, examples


def whole_batch(model: FactorizationModel, examples: Examples) -> Batch:
    batches = Batches(examples, model.settings, max_history=model.max_history, seed=0, device="cpu")
    return batches.batch(torch.arange(len(examples)), 0, torch.Generator().manual_seed(0))


def arrays(model: FactorizationModel) -> dict[str, np.ndarray]:
    return {name: parameter.detach().numpy().astype(np.float64) for name, parameter in model.parameters().items()}


def content(model: FactorizationModel) -> tuple[np.ndarray, np.ndarray]:
    """p of every user and v of every item, from the definition."""
    mean = ITEMS.embeddings[ITEMS.embedded].mean(axis=0)
    v = np.where(ITEMS.embedded[:, None], ITEMS.embeddings - mean, 0).astype(np.float64)
    assert model._learned is not None
    return model._learned.space.encode(PROFILES).astype(np.float64), v


def rating_by_formula(model: FactorizationModel, user: int, item: int, *, user_id: bool, item_id: bool) -> float:
    w, (p, v) = arrays(model), content(model)
    ratings = HISTORIES.ratings
    assert ratings is not None
    users_seen = [0, 1, 2]  # user 3 took nothing
    items_seen = [0, 1, 2, 4]  # nobody took item 3
    left = p[user] @ w["profile_map"] + (w["user_ids"][users_seen.index(user)] if user_id else 0)
    right = v[item] @ w["item_map"] + (w["item_ids"][items_seen.index(item)] if item_id else 0)
    biases = p[user] @ w["profile_bias_map"] + v[item] @ w["item_bias_map"]
    biases += w["user_id_biases"][users_seen.index(user)] if user_id else 0
    biases += w["item_id_biases"][items_seen.index(item)] if item_id else 0
    return float(ratings.mean() + biases + left @ right)


@pytest.mark.parametrize(
    ("user", "item", "user_id", "item_id"),
    [(0, 1, True, True), (3, 1, False, True), (2, 3, True, False), (3, 3, False, False)],
)
def test_predicted_rating_is_the_formula(user: int, item: int, user_id: bool, item_id: bool) -> None:
    model, _ = prepared("rating")
    predicted = model.predict_rating(PROFILES, HISTORIES, ITEMS, user_rows=np.array([user]), item_rows=np.array([item]))
    expected = rating_by_formula(model, user, item, user_id=user_id, item_id=item_id)
    assert predicted[0] == pytest.approx(np.clip(expected, 1.0, 5.0), abs=1e-5)


def test_ranking_score_is_the_item_part_of_the_rating() -> None:
    model, _ = prepared("rating")
    scores = model.user_vectors(PROFILES, HISTORIES).vectors @ model.item_vectors(ITEMS).T
    expected = [rating_by_formula(model, 0, item, user_id=True, item_id=item != 3) for item in range(5)]
    np.testing.assert_allclose(scores[0] - scores[0, 0], np.array(expected) - expected[0], atol=1e-5)


def test_rating_loss_is_squared_error_plus_penalties() -> None:
    model, examples = prepared("rating", id_dropout=0.0, id_penalty=0.0, weight_decay=0.0)
    loss = model.train_step(whole_batch(model, examples)).item()
    errors = [
        rating_by_formula(model, user, item, user_id=True, item_id=True) - rating
        for user, item, rating in zip(examples.user_rows, examples.item_rows, examples.ratings, strict=True)
    ]
    assert loss == pytest.approx(np.mean(np.square(errors)), rel=1e-5)
    heavier, _ = prepared("rating", id_dropout=0.0, id_penalty=0.0, weight_decay=2.0)
    w = arrays(heavier)
    squares = sum((w[name] ** 2).sum() for name in ("profile_map", "item_map", "item_bias_map", "profile_bias_map"))
    assert heavier.train_step(whole_batch(heavier, examples)).item() == pytest.approx(loss + 2.0 * squares, rel=1e-5)


def score_by_formula(model: FactorizationModel, user: int, past: list[int], item: int) -> float:
    w, (p, v) = arrays(model), content(model)
    items_seen = [0, 1, 2, 4]
    ids = np.zeros((5, 3))
    ids[items_seen] = w["item_ids"]
    q = v @ w["item_map"] + ids
    left = p[user] @ w["profile_map"] + (w["user_ids"][user] if user < 3 else 0)
    for decay, step in zip(DECAYS, w["history_maps"], strict=True):
        weights = decay ** np.arange(len(past))[::-1]
        if past:
            left = left + (weights @ q[past]) / weights.sum() @ step
    bias = w["item_id_biases"][items_seen.index(item)] if item in items_seen else 0
    return float(left @ q[item] + bias + v[item] @ w["item_bias_map"])


def test_implicit_score_is_the_formula() -> None:
    model, _ = prepared("implicit")
    scores = model.user_vectors(PROFILES, HISTORIES).vectors @ model.item_vectors(ITEMS).T
    for user in range(4):
        past = HISTORIES.item_rows[HISTORIES.offsets[user] : HISTORIES.offsets[user + 1]].tolist()
        expected = [score_by_formula(model, user, past, item) for item in range(5)]
        np.testing.assert_allclose(scores[user], expected, atol=1e-4)


def test_training_sees_only_the_past_and_scores_like_the_model() -> None:
    model, examples = prepared("implicit", id_dropout=0.0, dropout=0.0, id_penalty=0.0, weight_decay=0.0, negatives=4)
    batch = whole_batch(model, examples)
    seen: dict[str, torch.Tensor] = {}

    def watching(taken: torch.Tensor, candidates: torch.Tensor) -> torch.Tensor:
        seen["taken"], seen["candidates"] = taken, candidates
        return taken.sum() + candidates[torch.isfinite(candidates)].sum()

    torch.autograd.backward(
        model.train_step(
            Batch(
                **{name: getattr(batch, name) for name in Batch.__dataclass_fields__ if name != "loss"}, loss=watching
            )
        )
    )
    for row, (user, item) in enumerate(zip(examples.user_rows, examples.item_rows, strict=True)):
        past = examples.item_rows[examples.offsets[user] : row].tolist()
        assert seen["taken"][row].item() == pytest.approx(score_by_formula(model, user, past, item), abs=1e-4)
        for place, candidate in enumerate(batch.candidates.tolist()):
            raw = seen["candidates"][row, place].item()
            if candidate == item:
                assert raw == -np.inf
            else:
                expected = score_by_formula(model, user, past, candidate) - batch.log_expected[place].item()
                assert raw == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("target", ["rating", "implicit"])
def test_gradient_is_that_of_the_loss(target: Any) -> None:
    model, examples = prepared(target)
    batch = whole_batch(model, examples)
    state = batch.generator.get_state()

    def loss() -> torch.Tensor:
        batch.generator.set_state(state)  # the same dropout again
        return model.train_step(batch)

    torch.autograd.backward(loss())
    for name, parameter in model.parameters().items():
        assert parameter.grad is not None, name
        flat, gradient = parameter.data.view(-1), parameter.grad.view(-1)
        place = int(gradient.abs().argmax())
        whole = flat[place].item()
        values = []
        for change in (0.01, -0.01):
            flat[place] = whole + change
            values.append(loss().item())
        flat[place] = whole
        assert gradient[place].item() == pytest.approx((values[0] - values[1]) / 0.02, rel=0.02, abs=1e-3), name


def test_sources_tell_what_is_known() -> None:
    for target, expected in (("implicit", "factorization"), ("rating", "segment")):
        model = FactorizationModel(FactorizationSettings(target=target, n_epochs=1, hidden_dim=2))  # type: ignore[arg-type]
        fit(model, DATA, FitContext())
        assert model.predicts_ratings == (target == "rating")
        new = Profiles(
            user_ids=pa.array(["new"]),
            embeddings=PROFILES.embeddings[:1],
            embedded=PROFILES.embedded[:1],
            features=PROFILES.features[:1],
            segments=np.array([1], np.int32),
            centres=PROFILES.centres[:1],
        )
        history = Histories(items=ITEMS, offsets=np.array([0, 1]), item_rows=np.array([2], np.int32))
        assert model.user_vectors(new, history).source.tolist() == [expected]
        assert model.user_vectors(new, Histories.empty(1, ITEMS)).source.tolist() == ["segment"]
        assert model.user_vectors(PROFILES, HISTORIES).source.tolist() == ["factorization"] * 3 + ["popularity"]


def test_implicit_model_predicts_no_rating() -> None:
    model, _ = prepared("implicit")
    with pytest.raises(TypeError, match="not fitted to ratings"):
        model.predict_rating(PROFILES, HISTORIES, ITEMS, user_rows=np.array([0]), item_rows=np.array([0]))


def test_fit_of_the_model_itself_refuses() -> None:
    with pytest.raises(TypeError, match=r"training\.fitting"):
        FactorizationModel(FactorizationSettings()).fit(DATA, FitContext())
