"""The scores of the model hybrid against its formulas written out densely."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from planted_tastes import (
    BY_CLASS,
    FIXED,
    NEW,
    QUICK_PARTS,
    Tastes,
    data_of,
    histories_of,
    hybrid,
    planted_tastes,
    scores_of,
    weighed,
)

from recpipe.models.base import FactoredModel, FitContext, Histories, Items, Profiles
from recpipe.models.hybrid.fusion import CLASS_NAMES, FusionWeights, class_of
from recpipe.models.hybrid.model import HybridModel
from recpipe.models.registry import find_model
from recpipe.training.fitting import fit
from recpipe.training.validation import ndcg


@pytest.fixture(scope="module")
def tastes() -> Tastes:
    return planted_tastes(n_users=90)


@pytest.fixture(scope="module")
def fused(tastes: Tastes) -> HybridModel:
    return weighed(tastes, FIXED)


def spreads(scores: np.ndarray) -> np.ndarray:
    """σ of scores (n_users, n_taken) of each user; infinite where all score the same."""
    found = scores.astype(np.float64).std(axis=1, keepdims=True)
    return np.where(found > 1e-6, found, np.inf)


def part_scores(model: HybridModel, name: str, tastes: Tastes, items: Items) -> np.ndarray:
    users = model.parts[name].user_vectors(tastes.profiles, tastes.train).vectors.astype(np.float64)
    return users @ model.parts[name].item_vectors(items).astype(np.float64).T


def lengths(tastes: Tastes) -> np.ndarray:
    return np.diff(tastes.train.offsets)


def test_scores_are_weighted_sums_of_z_scores(tastes: Tastes, fused: HybridModel) -> None:
    taken = tastes.items.rows(np.flatnonzero(~tastes.is_new))
    classes = np.digitize(lengths(tastes), [1, 3, 6, 16])
    expected = np.zeros((len(tastes.profiles), len(taken)))
    for name, weights in zip(QUICK_PARTS[:3], BY_CLASS, strict=False):
        scores = part_scores(fused, name, tastes, taken)
        expected += weights[classes][:, None] * (scores - scores.mean(axis=1, keepdims=True)) / spreads(scores)
    found = scores_of(fused, tastes.profiles, tastes.train)[:, ~tastes.is_new]
    np.testing.assert_allclose(found, expected, atol=2e-4)
    assert expected.std() > 0.5


def test_spread_of_wide_vectors_is_near_enough() -> None:
    """EASE with 600 items has vectors of 601 coordinates: σ and the ranking are nearly those of all scores."""
    tastes = planted_tastes(n_users=1500, n_items=600, n_new=0, seed=2)
    parts = ("ease", "segment_prior")
    by_class = np.repeat(np.array([[1.0], [0.5]], np.float32), len(CLASS_NAMES), axis=1)
    model = weighed(tastes, FusionWeights(parts, by_class, np.zeros((2, 2), np.float32)))
    taken = tastes.items.rows(np.flatnonzero(~tastes.is_new))
    assert model.fused["ease"].width > 512
    ease, segments = (part_scores(model, name, tastes, taken) for name in parts)
    told = lengths(tastes) > 0  # without a history, ease scores by popularity alone
    vectors = model.parts["ease"].user_vectors(tastes.profiles, tastes.train).vectors
    ratios = model.fused["ease"].spread.inverse(vectors) * spreads(ease)[:, 0]
    np.testing.assert_allclose(ratios[told], 1.0, atol=0.05)
    assert np.std(ratios[told]) > 0.0  # it is an approximation

    exact = np.zeros((len(told), len(tastes.items)))
    for weight, scores in ((1.0, ease), (0.5, segments)):
        exact[:, ~tastes.is_new] += weight * (scores - scores.mean(axis=1, keepdims=True)) / spreads(scores)
    wanted = [np.flatnonzero(row) for row in tastes.wanted & ~tastes.is_new]
    found = scores_of(model, tastes.profiles, tastes.train)
    values = []
    for scores in (found, exact):
        ranked = np.where(tastes.taken | tastes.is_new, -np.inf, scores).astype(np.float32)
        values.append(np.mean([ndcg(row, rows.astype(np.int32)) for row, rows in zip(ranked, wanted, strict=True)]))
    assert values[0] > 0.99 * values[1]


def test_weights_depend_on_the_length_of_the_history(tastes: Tastes, fused: HybridModel) -> None:
    np.testing.assert_array_equal(
        class_of(np.array([0, 1, 2, 3, 5, 6, 15, 16, 999])), np.array([0, 1, 1, 2, 2, 3, 3, 4, 4])
    )
    known = np.flatnonzero(~tastes.is_new)
    people = histories_of(tastes.items, [known[:length] for length in (0, 1, 2, 3, 16)])
    np.testing.assert_array_equal(fused.classes(people), [0, 1, 1, 2, 4])
    np.testing.assert_array_equal(fused.classes(people.rows(2, 5)), [1, 2, 4])
    vectors = fused.user_vectors(tastes.profiles.rows(0, 5), people).vectors
    totals = BY_CLASS.sum(axis=0)
    np.testing.assert_allclose(FIXED.totals, totals)
    np.testing.assert_allclose(vectors[:, -1], totals[[0, 1, 1, 2, 4]])
    # known items have a block with the weight of the class, new ones another with the sum of all weights
    width = fused.fused["segment_prior"].width
    ease, recent = (fused.fused[name].width for name in ("ease", "recent_popularity"))
    of_new = ease + width + recent + ease
    known_block, new_block = vectors[:, ease : ease + width], vectors[:, of_new : of_new + width]
    ratio = BY_CLASS[1, [0, 1, 1, 2, 4]] / totals[[0, 1, 1, 2, 4]]
    np.testing.assert_allclose(known_block, new_block * ratio[:, None], rtol=1e-5)
    assert new_block.any()
    assert not vectors[0, : fused.fused["ease"].width].any()


def test_only_positive_interactions_make_a_history_long(tastes: Tastes) -> None:
    model = hybrid(("recent_popularity",), positive_from=4.0)
    histories = replace(
        histories_of(tastes.items, [[0, 1, 2], [3, 4, 5], [6]]),
        ratings=np.array([5, 4, 4, 3, 5, np.nan, 1], np.float32),
    )
    np.testing.assert_array_equal(model.classes(histories), [2, 1, 0])


@pytest.mark.parametrize("new_weights", [NEW, NEW * [1.0, 0.0], NEW * [0.0, 1.0]], ids=["both", "own", "alike"])
def test_new_items_are_scored_by_both_ways(tastes: Tastes, new_weights: np.ndarray) -> None:
    """κ own + κ' alike, both centred, over σ, from the level on; by refits, one item out at a time."""
    weights = replace(FIXED, new=new_weights.astype(np.float32))
    model = weighed(tastes, weights)
    new, taken = (tastes.items.rows(np.flatnonzero(rows)) for rows in (tastes.is_new, ~tastes.is_new))
    n_users = np.bincount(tastes.train.item_rows, minlength=len(tastes.items))[~tastes.is_new]
    of_new, of_taken = unit_content(tastes, new), unit_content(tastes, taken)
    classes = np.digitize(lengths(tastes), [1, 3, 6, 16])
    totals = BY_CLASS.sum(axis=0)
    scores = scores_of(model, tastes.profiles, tastes.train)
    levels = [np.sort(row[keep])[-10] for row, keep in zip(scores, ~tastes.taken & ~tastes.is_new, strict=True)]
    expected = (np.array(levels) + 1.25 * totals[classes])[:, None] + np.zeros((1, len(new)))
    for number, name in enumerate(QUICK_PARTS):
        if name not in model.parts:
            continue
        part = model.parts[name]
        users = part.user_vectors(tastes.profiles, tastes.train).vectors.astype(np.float64)
        anchors = part.item_vectors(taken).astype(np.float64)
        anchors -= anchors.mean(axis=0)
        own = part.item_vectors(new) - part.new_item_vectors(taken).mean(axis=0)
        alike = predicted(of_taken, n_users, anchors, of_new)
        rest = [np.delete(np.arange(len(taken)), row) for row in range(len(taken))]
        left_out = [
            predicted(of_taken[kept], n_users[kept], anchors[kept], of_taken[[row]]) for row, kept in enumerate(rest)
        ]
        alike = alike - np.concatenate(left_out).mean(axis=0)
        vectors = new_weights[number, 0] * own + new_weights[number, 1] * alike
        expected += totals[classes][:, None] / spreads(part_scores(model, name, tastes, taken)) * (users @ vectors.T)
    found = scores[:, tastes.is_new]
    np.testing.assert_allclose(found, expected, atol=1e-3)
    assert found.std(axis=1).mean() > 0.1


def unit_content(tastes: Tastes, items: Items) -> np.ndarray:
    """Content vectors by hand: embeddings less the catalogue's mean, length 1."""
    rows = items.embeddings.astype(np.float64) - tastes.items.embeddings.mean(axis=0, dtype=np.float64)
    unit: np.ndarray = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return unit


def predicted(content: np.ndarray, n_users: np.ndarray, vectors: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Kernel ridge regression, written out: λ = 1, h = 10."""
    kernel = np.maximum(content @ content.T, 0.0) ** 2
    solved = np.linalg.solve(kernel + np.diag(1.0 + 10.0 / n_users), vectors)
    found: np.ndarray = np.maximum(wanted @ content.T, 0.0) ** 2 @ solved
    return found


def test_a_part_without_history_still_counts_for_new_items_only(tastes: Tastes, fused: HybridModel) -> None:
    known, new = (np.flatnonzero(rows) for rows in (~tastes.is_new, tastes.is_new))
    parts = [(name, fused.fused[name].width) for name in QUICK_PARTS]
    start = sum(width for name, width in parts if name != "content")
    start += sum(width for name, width in parts if name in ("ease", "segment_prior"))
    vectors = fused.item_vectors(tastes.items)
    own = vectors[:, start : start + fused.fused["content"].width]
    assert not own[known].any() and own[new].any()
    assert not vectors[known, -2:].any() and (vectors[new, -2:] == [1.0, 1.25]).all()


def test_source_says_who_served_a_user(tastes: Tastes, fused: HybridModel) -> None:
    source = fused.user_vectors(tastes.profiles, tastes.train).source
    told = lengths(tastes) > 0
    assert set(source[told]) == {"hybrid"}
    assert set(source[~told]) == {"segment_prior"}  # of countries; ease, first otherwise, weighs nothing there
    bare = Profiles.bare(tastes.profiles.user_ids)
    strangers = Histories.empty(len(bare), tastes.items)
    assert set(fused.user_vectors(bare, strangers).source) == {"popularity"}


def test_parts_see_no_segments(tastes: Tastes, fused: HybridModel) -> None:
    """Segments come from interactions, and weights were chosen without them; content alone would take their centres."""
    count = len(tastes.profiles)
    plain = replace(
        tastes.profiles, embeddings=np.zeros_like(tastes.profiles.embeddings), embedded=np.zeros(count, bool)
    )
    seen = replace(
        plain,
        segments=np.zeros(count, np.int32),
        centres=tastes.profiles.embeddings,
        features=np.full((count, 3), np.nan, np.float32),
    )
    np.testing.assert_array_equal(
        fused.user_vectors(seen, tastes.train).vectors, fused.user_vectors(plain, tastes.train).vectors
    )


def test_regression_that_no_weight_needs_is_not_kept(tastes: Tastes) -> None:
    model = weighed(tastes, FIXED)
    sizes = {name: len(part.coefficients) for name, part in model.fused.items()}
    n_taken = int((~tastes.is_new).sum())
    assert sizes == {"ease": n_taken, "segment_prior": n_taken, "recent_popularity": 0, "content": 0}


def test_only_training_fits_it(tastes: Tastes) -> None:
    with pytest.raises(TypeError, match="fitting"):
        hybrid().fit(tastes.data, FitContext())
    with pytest.raises(RuntimeError, match="fit or load"):
        hybrid().is_new(tastes.items)


def test_users_of_whom_nothing_is_told_are_scored(tastes: Tastes, fused: HybridModel) -> None:
    """No attributes and no history: what is taken most, not zeros."""
    bare = Profiles.bare(pa.array(["stranger"]))
    scores = scores_of(fused, bare, Histories.empty(1, tastes.items))[0]
    known = ~tastes.is_new
    counts = np.bincount(tastes.train.item_rows, minlength=len(tastes.items))
    assert np.isfinite(scores).all()
    assert np.corrcoef(scores[known], np.log1p(counts[known]))[0, 1] > 0.7


def test_nothing_depends_on_the_blocks_users_come_in(tastes: Tastes) -> None:
    models = []
    for block_users in (7, 90):
        model = hybrid(QUICK_PARTS)
        data = data_of(tastes.profiles, tastes.train, block_users)
        fit(model, data, FitContext(seed=3, choice=FIXED.choice()))
        models.append(scores_of(model, tastes.profiles, tastes.train))
    np.testing.assert_allclose(models[0], models[1], atol=1e-4)


@pytest.mark.parametrize("name", QUICK_PARTS)
def test_the_vector_of_an_item_does_not_depend_on_the_others_asked_for(tastes: Tastes, name: str) -> None:
    """Parts are measured on some items and scored on all; tonight's catalogue may lack the most popular one."""
    spec = find_model(name)
    part = spec.create(spec.settings())
    assert isinstance(part, FactoredModel)
    fit(part, tastes.data, FitContext(seed=3))
    counts = np.bincount(tastes.train.item_rows, minlength=len(tastes.items))
    rows = np.flatnonzero(counts < counts.max())
    np.testing.assert_allclose(
        part.item_vectors(tastes.items.rows(rows)), part.item_vectors(tastes.items)[rows], atol=1e-6
    )
