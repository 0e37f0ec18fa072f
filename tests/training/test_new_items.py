"""How items nobody took come into the lists of a fitted hybrid, measured on its own scores."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from planted_tastes import Tastes, histories_of, hybrid, planted_tastes, scores_of

from recpipe.models.base import FitContext, Items
from recpipe.models.hybrid import part as part_module
from recpipe.models.hybrid.model import HybridModel
from recpipe.models.hybrid.part import ALIKE, OWN
from recpipe.training import as_if_new
from recpipe.training import new_items as module
from recpipe.training.candidates import Candidates, joined
from recpipe.training.fitting import fit

PARTS = ("ease", "segment_prior", "recent_popularity", "content")


@dataclass(frozen=True)
class Placed:
    """A hybrid, fitted, and its lists for those it was fitted on.

    Attributes:
        log: what it reported.
        scores: float32 (n_users, n_items), -inf for what users took.
    """

    model: HybridModel
    log: str
    scores: np.ndarray


def placed(tastes: Tastes, *, cost: float = 0.01, parts: tuple[str, ...] = PARTS) -> Placed:
    lines: list[str] = []
    model = hybrid(parts, new_item_cost=cost)
    fit(model, tastes.data, FitContext(seed=5, held_out=tastes.held_out, report=lines.append))
    scores = scores_of(model, tastes.profiles, tastes.train)
    return Placed(model, "\n".join(lines), np.where(tastes.taken, -np.inf, scores))


def gain_at_10(scores: np.ndarray, wanted: np.ndarray) -> float:
    """Sum of 1 / log2(1 + rank) of what is wanted and among the first ten."""
    ordered = np.argsort(-scores, axis=1, kind="stable")[:, :10]
    return float((np.take_along_axis(wanted, ordered, axis=1) / np.log2(np.arange(2, 12))).sum())


def hits_at_20(scores: np.ndarray, wanted: np.ndarray) -> int:
    """How much of what is wanted stands among the first twenty."""
    ordered = np.argsort(-scores, axis=1, kind="stable")[:, :20]
    return int(np.take_along_axis(wanted, ordered, axis=1).sum())


def known_gains(found: Placed, tastes: Tastes) -> tuple[float, float]:
    """What is found of known items with the new ones in the lists, and without."""
    wanted = tastes.wanted & ~tastes.is_new
    return gain_at_10(found.scores, wanted), gain_at_10(np.where(tastes.is_new, -np.inf, found.scores), wanted)


def without_later_new_items(tastes: Tastes) -> Tastes:
    """The same world where nobody took a new item later either."""
    rows = [
        [row for row in tastes.later.item_rows[start:stop] if not tastes.is_new[row]]
        for start, stop in zip(tastes.later.offsets[:-1], tastes.later.offsets[1:], strict=True)
    ]
    return replace(tastes, later=histories_of(tastes.items, rows))


def shares_of_own_topic(found: Placed, tastes: Tastes) -> tuple[float, float]:
    """Share of new items among the first twelve, and of these the share of the user's topic."""
    ordered = np.argsort(-found.scores, axis=1)[:, :12]
    new = tastes.is_new[ordered]
    own = tastes.item_topics[ordered] == tastes.user_topics[:, None]
    return float(new.mean()), float(own[new].mean()) if new.any() else 0.0


@pytest.fixture(scope="module")
def tastes() -> Tastes:
    return planted_tastes(n_users=300)


@pytest.fixture(scope="module")
def found(tastes: Tastes) -> Placed:
    return placed(tastes)


def test_new_items_that_read_like_what_a_user_took_surface(tastes: Tastes, found: Placed) -> None:
    share, own = shares_of_own_topic(found, tastes)
    assert share > 0.05
    assert own > 0.8  # of five topics
    # and where they surface they are found far more often than if each user's new items were in any order
    new = np.where(tastes.is_new, found.scores, -np.inf)
    shuffled = new.copy()
    shuffled[:, tastes.is_new] = np.random.default_rng(0).permuted(new[:, tastes.is_new], axis=1)
    wanted = tastes.wanted & tastes.is_new
    assert gain_at_10(new, wanted) > 1.3 * gain_at_10(shuffled, wanted)


@pytest.mark.parametrize("cost", [0.0, 0.03, 0.1, 0.4])
def test_known_items_lose_no_more_than_the_cost(tastes: Tastes, cost: float) -> None:
    """Measured anew, on all scores of the fitted model."""
    found = placed(tastes, cost=cost)
    with_new, without = known_gains(found, tastes)
    assert with_new >= (1.0 - cost) * without - 1e-3 * without
    lost = re.search(r"([\d.]+)% lost on known ones", found.log)
    assert lost is not None
    assert 1.0 - with_new / without == pytest.approx(float(lost[1]) / 100, abs=2e-3)


def test_what_may_be_spent_is_spent(tastes: Tastes) -> None:
    """More is found of all items, the more known ones may lose within the first ten."""
    hits = [hits_at_20(placed(tastes, cost=cost).scores, tastes.wanted) for cost in (0.0, 0.02, 0.5)]
    assert hits[0] <= hits[1] < hits[2]


def test_without_a_cost_new_items_leave_the_first_ten_to_known_ones(tastes: Tastes) -> None:
    found = placed(tastes, cost=0.0)
    ordered = np.argsort(-found.scores, axis=1)[:, :20]
    new = tastes.is_new[ordered]
    assert new[:, :10].mean() < 0.02
    assert new[:, 10:].mean() > 0.2


def test_new_items_take_no_more_places_than_they_earn(tastes: Tastes) -> None:
    """Where hardly anybody takes them, they do not push out what is found."""
    random = np.random.default_rng(0)
    rows = [
        [row for row in tastes.later.item_rows[start:stop] if not tastes.is_new[row] or random.random() < 0.1]
        for start, stop in zip(tastes.later.offsets[:-1], tastes.later.offsets[1:], strict=True)
    ]
    seldom = replace(tastes, later=histories_of(tastes.items, rows))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "MIN_EVENTS", 10)
        shares = [tastes.is_new[np.argsort(-placed(world).scores, axis=1)[:, :20]].mean() for world in (tastes, seldom)]
    assert shares[1] < 0.5 * shares[0]


def test_new_items_found_are_what_was_reported(tastes: Tastes, found: Placed) -> None:
    told = re.search(r"; ([\d,]+) of ([\d,]+) interactions with new items within the first 20", found.log)
    assert told is not None
    wanted = tastes.wanted & tastes.is_new
    assert int(told[2].replace(",", "")) == int(wanted.sum()) == 300
    assert hits_at_20(found.scores, wanted) == int(told[1])


def test_where_nothing_new_is_held_out_a_fifth_of_the_others_stands_in(tastes: Tastes) -> None:
    """Each item somebody took is new once, so that every held-out interaction counts; new ones surface all the same."""
    known = without_later_new_items(tastes)
    found = placed(known)
    told = re.search(r"; ([\d,]+) of ([\d,]+) interactions with new items", found.log)
    assert told is not None
    assert int(told[2].replace(",", "")) == int((known.wanted & ~known.taken).sum())
    assert int(told[1].replace(",", "")) > 0
    share, own = shares_of_own_topic(found, tastes)
    assert share > 0.02
    assert own > 0.7


def test_what_users_took_is_not_ranked_among_what_stands_in(tastes: Tastes, monkeypatch: pytest.MonkeyPatch) -> None:
    among: list[Candidates] = []

    def watched(several: Sequence[Candidates]) -> Candidates:
        among.append(joined(several))
        return among[-1]

    monkeypatch.setattr(module, "joined", watched)
    known = without_later_new_items(tastes)
    placed(known)
    ranked = np.isfinite(among[0].scores[:, :, 0])
    assert int(ranked.sum()) == int((~known.taken & ~known.is_new).sum())
    assert int(among[0].wanted.sum()) == int((known.wanted & ~known.taken).sum())


def test_items_that_stand_in_are_not_known_at_the_same_time(tastes: Tastes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Were all to stand in at once, there would be no known ones to measure a cost by."""
    monkeypatch.setattr(as_if_new, "FOLDS", 1)
    monkeypatch.setattr(as_if_new, "MAX_FOLDS", 1)
    found = placed(without_later_new_items(tastes))
    assert "lost on known ones" not in found.log
    assert found.model.weights.offset < 0.0
    assert found.model.weights.new.any()


@pytest.mark.parametrize(("n_new", "sizes"), [(0, [13] * 5), (15, [13] * 5), (5, [5] * 13)])
def test_about_as_many_stand_in_as_there_are_new_ones(
    n_new: int, sizes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a place costs depends on how many want it."""
    found: list[int] = []

    def watched(*arguments: Any, least: int) -> list[as_if_new.Fold]:
        found.clear()
        folds = list(as_if_new.folds(*arguments, least=least))
        found.extend(len(fold.rows) for fold in folds)
        return folds

    monkeypatch.setattr(module, "folds", watched)
    placed(without_later_new_items(planted_tastes(n_users=300, n_items=65 + n_new, n_new=n_new)))
    assert sorted(found) == sizes


def test_few_new_items_held_out_are_not_relied_on(tastes: Tastes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MIN_PLACED", 301)
    found = placed(tastes)
    line = re.search(r"of ([\d,]+) interactions with new items", found.log)
    assert line is not None
    assert int(line[1].replace(",", "")) == int((tastes.wanted & ~tastes.is_new).sum())


def test_what_stands_in_is_scored_as_if_nobody_had_taken_it(tastes: Tastes) -> None:
    """By refits of the regression without the item, and the own way of each part that never saw it."""
    model = hybrid(PARTS)
    context = FitContext(seed=5)
    for unfitted in model.parts.values():
        fit(unfitted, tastes.data, context)
    regression = model.measure_parts(tastes.data, seed=5)
    rows = np.array([3, 11, 40])
    items = tastes.items.rows(rows)
    taken = tastes.items.rows(np.flatnonzero(~tastes.is_new))
    n_users = np.bincount(tastes.train.item_rows, minlength=len(tastes.items))[~tastes.is_new]
    content = tastes.items.embeddings - tastes.items.embeddings.mean(axis=0)
    content = (content / np.linalg.norm(content, axis=1, keepdims=True)).astype(np.float64)
    kernel = np.maximum(content @ content.T, 0.0) ** 2
    known = np.flatnonzero(~tastes.is_new)
    for part in model.fused.values():
        own, likened = part.as_if_new(items, model.alike, regression)
        np.testing.assert_allclose(own + part.own_centre, part.model.new_item_vectors(items), atol=1e-5)
        vectors = part.model.item_vectors(taken).astype(np.float64)
        vectors -= vectors.mean(axis=0)
        for row, vector in zip(rows, likened, strict=True):
            kept = np.flatnonzero(known != row)
            ridge = np.diag(1.0 + 10.0 / n_users[kept])
            solved = np.linalg.solve(kernel[np.ix_(known[kept], known[kept])] + ridge, vectors[kept])
            expected = kernel[row, known[kept]] @ solved - part.alike_centre
            np.testing.assert_allclose(vector, expected, atol=1e-3 * np.abs(vectors).max())
    # an item outside the likened ones is regressed on these as a new one is: same content, same vector
    strangers = items.renamed()
    for part in model.fused.values():
        outside = part.as_if_new(strangers, model.alike, regression)[1]
        np.testing.assert_allclose(
            outside, model.alike.kernel(items) @ part.coefficients - part.alike_centre, atol=1e-4
        )


def test_items_without_content_do_not_break_it(tastes: Tastes) -> None:
    """Nothing is known of any item: new ones cannot be told apart, and no known item is given up for them unduly."""
    bare = Items.bare(tastes.items.ids)
    world = replace(
        tastes,
        items=bare,
        train=replace(tastes.train, items=bare),
        later=replace(tastes.later, items=bare),
        profiles=replace(tastes.profiles, embeddings=np.zeros((300, 0), np.float32), embedded=np.zeros(300, bool)),
    )
    found = placed(world)
    assert np.isfinite(found.scores[~world.taken]).all()
    with_new, without = known_gains(found, world)
    assert with_new >= 0.99 * without - 1e-3 * without


def test_users_are_drawn_where_there_are_many(tastes: Tastes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(as_if_new, "MAX_USERS", 250)
    found = placed(tastes)
    line = re.search(r"of ([\d,]+) interactions with new items", found.log)
    assert line is not None and int(line[1]) == 250  # one each


@pytest.mark.parametrize(("parts", "way"), [(("ease", "content"), ALIKE), (("ease",), OWN)])
def test_vectors_as_wide_as_the_catalogue_never_reach_new_items_by_regression(
    tastes: Tastes, monkeypatch: pytest.MonkeyPatch, parts: tuple[str, ...], way: int
) -> None:
    """Where nothing tells how to weigh new items, parts that have a regression take it, and one without its own way."""
    monkeypatch.setattr(part_module, "EXACT_WIDTH", 40)  # ease has 65 coordinates here, content fewer
    monkeypatch.setattr(module, "folds", lambda model, wanted, seed, least: iter(()))
    found = placed(tastes, parts=parts)
    assert "nothing to choose by" in found.log
    new = found.model.weights.new
    expected = np.zeros_like(new)
    expected[-1, way] = 0.01
    np.testing.assert_array_equal(new, expected)
    assert np.isfinite(found.model.item_vectors(tastes.items)).all()
