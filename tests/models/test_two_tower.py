"""The formula of the two towers, term by term; the loop is tested in tests/training."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from small_catalogue import HISTORIES, ITEMS, PROFILES

from recpipe.models.attribute_space import AttributeSpace
from recpipe.models.base import FitContext, Histories, Items, Profiles, TrainingData
from recpipe.models.examples import Examples, gather_examples
from recpipe.models.iterative import Batch
from recpipe.models.two_tower.model import DECAYS, MODEL, TwoTowerModel, TwoTowerSettings
from recpipe.training.batches import Batches
from recpipe.training.fitting import fit

GENRES = pa.table({"item_id": ITEMS.ids, "genre": ["x|y", "y", "x", "y", "x"], "year": [1.0, 2.0, 2.0, 3.0, None]})
AGES = pa.table({"user_id": PROFILES.user_ids, "age": ["old", "young", "old", "young"]})
RICH_ITEMS = replace(ITEMS, attributes=GENRES)
RICH_PROFILES = replace(PROFILES, attributes=AGES)
SEEN = [0, 1, 2, 4]  # nobody took item 3
ORDERS = ["sequence", "set"]


def data_of(items: Items, profiles: Profiles) -> TrainingData:
    histories = replace(HISTORIES, items=items)
    return TrainingData(items=items, open_blocks=lambda: iter([(profiles, histories)]), n_users=4, as_of_us=6)


DATA = data_of(RICH_ITEMS, RICH_PROFILES)


def prepared(order: str, data: TrainingData = DATA, **values: Any) -> tuple[TwoTowerModel, Examples]:
    model = TwoTowerModel(TwoTowerSettings.model_validate({"hidden_dim": 3, "history_order": order} | values))
    examples = gather_examples(data, "implicit", positive_from=None)
    model.prepare(data, examples, FitContext())
    with torch.no_grad():  # zeros would hide a term
        generator = torch.Generator().manual_seed(5)
        for parameter in model.parameters().values():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.5)
    model.refresh()
    return model, examples


def whole_batch(model: TwoTowerModel, examples: Examples) -> Batch:
    batches = Batches(
        examples,
        model.settings,
        max_history=model.max_history,
        seed=0,
        device="cpu",
        history_order=model.history_order,
    )
    return batches.batch(torch.arange(len(examples)), 0, torch.Generator().manual_seed(0))


def arrays(model: TwoTowerModel) -> dict[str, np.ndarray]:
    return {name: parameter.detach().numpy().astype(np.float64) for name, parameter in model.parameters().items()}


def score_by_formula(model: TwoTowerModel, user: int, past: list[int], item: int, *, length: int = 100) -> float:
    """The score of one user and one item; `past` is the newest last."""
    w = arrays(model)
    mean = ITEMS.embeddings[ITEMS.embedded].mean(axis=0)
    v = np.where(ITEMS.embedded[:, None], ITEMS.embeddings - mean, 0)
    y = np.concatenate([v, AttributeSpace.of(GENRES).encode(GENRES, 5).toarray()], axis=1).astype(np.float64)
    ids, id_biases = np.zeros((5, 3)), np.zeros(5)
    ids[SEEN], id_biases[SEEN] = w["item_ids"], w["item_id_biases"]
    q, b = y @ w["content_map"] + ids, y @ w["content_bias_map"] + id_biases
    assert model._learned is not None
    ages = AttributeSpace.of(AGES).encode(AGES, 4).toarray()
    p = model._learned.space.encode(PROFILES)[user] @ w["profile_map"] + ages[user] @ w["attribute_map"]
    recent = past[-length:] if model.history_order == "sequence" else past
    parts = []
    for decay in DECAYS[model.history_order]:
        weights = decay ** np.arange(len(recent))[::-1]
        parts.append((weights @ q[recent]) / weights.sum() if recent else np.zeros(3))
    n = max(len(recent), 1)
    parts.append(q[recent].sum(axis=0) / n * np.sqrt(min(n, length)) if recent else np.zeros(3))
    u = p + sum(part @ step for part, step in zip(parts, w["history_maps"], strict=True))
    hidden = np.concatenate([*parts, p]) @ w["hidden_map"] + w["hidden_bias"]
    return float((u + np.maximum(hidden, 0) @ w["output_map"]) @ q[item] + b[item])


def pasts(histories: Histories = HISTORIES) -> Iterator[tuple[int, list[int]]]:
    for user in range(len(histories)):
        yield user, histories.item_rows[histories.offsets[user] : histories.offsets[user + 1]].tolist()


@pytest.mark.parametrize("length", [100, 2])
@pytest.mark.parametrize("order", ORDERS)
def test_score_is_the_formula(order: str, length: int) -> None:
    model, _ = prepared(order, history=length)
    histories = replace(HISTORIES, items=RICH_ITEMS)
    scores = model.user_vectors(RICH_PROFILES, histories).vectors @ model.item_vectors(RICH_ITEMS).T
    for user, past in pasts():
        expected = [score_by_formula(model, user, past, item, length=length) for item in range(5)]
        np.testing.assert_allclose(scores[user], expected, atol=1e-4)


@pytest.mark.parametrize("order", ORDERS)
def test_training_scores_like_the_model_and_never_sees_what_it_looks_for(order: str) -> None:
    model, examples = prepared(order, id_dropout=0.0, dropout=0.0, negatives=4)
    batch = whole_batch(model, examples)
    seen: dict[str, torch.Tensor] = {}

    def watching(taken: torch.Tensor, candidates: torch.Tensor) -> torch.Tensor:
        seen["taken"], seen["candidates"] = taken, candidates
        return taken.sum()

    fields = {name: getattr(batch, name) for name in Batch.__dataclass_fields__}
    model.train_step(Batch(**fields | {"loss": watching}))
    for row, (user, item) in enumerate(zip(batch.user_rows.tolist(), batch.item_rows.tolist(), strict=True)):
        past = [other for other in batch.histories[row].tolist()[::-1] if other >= 0]
        own = dict(pasts())[user]
        assert past == (own[: own.index(item)] if order == "sequence" else past)
        assert set(past) == set(own) - {item} if order == "set" else True
        assert seen["taken"][row].item() == pytest.approx(score_by_formula(model, user, past, item), abs=1e-4)
        for place, candidate in enumerate(batch.candidates.tolist()):
            raw = seen["candidates"][row, place].item()
            if candidate == item:
                assert raw == -np.inf
            else:
                expected = score_by_formula(model, user, past, candidate) - batch.log_expected[place].item()
                assert raw == pytest.approx(expected, abs=1e-4)


def test_penalties_are_squared_lengths() -> None:
    losses = []
    for values in ({}, {"weight_decay": 2.0}, {"id_penalty": 3.0}):
        model, examples = prepared("sequence", id_dropout=0.0, dropout=0.0, **values)
        losses.append(model.train_step(whole_batch(model, examples)).item())
    w = arrays(model)
    maps = sum((w[name] ** 2).sum() for name in ("content_map", "content_bias_map", "profile_map", "attribute_map"))
    slots = [SEEN.index(item) for item in examples.item_rows.tolist()]
    assert losses[1] - losses[0] == pytest.approx(2.0 * maps, rel=1e-4)
    assert losses[2] - losses[0] == pytest.approx(3.0 * (w["item_ids"][slots] ** 2).sum(axis=1).mean(), rel=1e-4)


def test_gradient_is_that_of_the_loss() -> None:
    model, examples = prepared("sequence")
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


def test_unseen_items_come_in_by_content_and_attributes() -> None:
    model, _ = prepared("sequence")
    new = Items(
        ids=pa.array(["new"]),
        embeddings=ITEMS.embeddings[:1],
        embedded=ITEMS.embedded[:1],
        attributes=GENRES.slice(0, 1),
    )
    w = arrays(model)
    same = model.item_vectors(RICH_ITEMS)[0]
    np.testing.assert_allclose(model.item_vectors(new)[0, :3], same[:3] - w["item_ids"][0], atol=1e-6)
    np.testing.assert_allclose(model.item_vectors(new)[0, 3], same[3] - w["item_id_biases"][0], atol=1e-6)


def test_users_have_no_parameters_of_their_own() -> None:
    model, _ = prepared("sequence")
    renamed = replace(RICH_PROFILES, user_ids=pa.array(["p", "q", "r", "s"]))
    histories = replace(HISTORIES, items=RICH_ITEMS)
    known, unknown = (model.user_vectors(profiles, histories) for profiles in (RICH_PROFILES, renamed))
    np.testing.assert_array_equal(known.vectors, unknown.vectors)
    assert known.source.tolist() == ["two_tower"] * 3 + ["popularity"]
    nobody = model.user_vectors(RICH_PROFILES, Histories.empty(4, RICH_ITEMS))
    assert nobody.source.tolist() == ["segment"] * 3 + ["popularity"]
    assert model.state().user_ids is not None and len(model.state().user_ids) == 0


@pytest.mark.parametrize("positive_from", [None, 3.0])
def test_events_that_are_not_positive_do_not_count(positive_from: float | None) -> None:
    model, _ = prepared("sequence", positive_from=positive_from)
    histories = replace(HISTORIES, items=RICH_ITEMS)
    assert HISTORIES.ratings is not None
    scores = model.user_vectors(RICH_PROFILES, histories).vectors @ model.item_vectors(RICH_ITEMS).T
    for user, past in pasts():
        ratings = HISTORIES.ratings[HISTORIES.offsets[user] : HISTORIES.offsets[user + 1]]
        liked = [item for item, rating in zip(past, ratings, strict=True) if rating >= (positive_from or 0.0)]
        np.testing.assert_allclose(scores[user, 0], score_by_formula(model, user, liked, 0), atol=1e-4)


@pytest.mark.parametrize("order", ORDERS)
def test_ids_alone_are_enough(order: str) -> None:
    bare = data_of(Items.bare(ITEMS.ids), Profiles.bare(PROFILES.user_ids))
    model = TwoTowerModel(TwoTowerSettings.model_validate({"n_epochs": 2, "history_order": order}))
    report = fit(model, bare, FitContext())
    profiles, histories = next(bare.blocks())
    scores = model.user_vectors(profiles, histories).vectors @ model.item_vectors(bare.items).T
    assert np.isfinite(scores).all() and np.isfinite(report.history[-1].train_loss)


def test_order_is_chosen_where_it_is_left_open() -> None:
    model = TwoTowerModel(TwoTowerSettings())
    assert model.alternatives == ({"history_order": "sequence"}, {"history_order": "set"})
    assert TwoTowerModel(TwoTowerSettings(history_order="set")).alternatives == ()
    report = fit(model, DATA, FitContext(choice={"history_order": "set", "n_epochs": 1}))
    assert report.choice == {"history_order": "set", "n_epochs": 1} and model.history_order == "set"
    again = MODEL.create(TwoTowerSettings())
    again.restore(model.state())
    assert isinstance(again, TwoTowerModel) and again.history_order == "set"
    histories = replace(HISTORIES, items=RICH_ITEMS)
    np.testing.assert_array_equal(
        again.user_vectors(RICH_PROFILES, histories).vectors, model.user_vectors(RICH_PROFILES, histories).vectors
    )
