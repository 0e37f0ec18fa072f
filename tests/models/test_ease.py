"""EASE against the dense formula."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from scipy import sparse

from recpipe.models.base import FitContext, Histories, Items, Profiles, TrainingData
from recpipe.models.ease.gram import CoOccurrence, Neighbours
from recpipe.models.ease.model import NEGLIGIBLE, EaseModel, EaseSettings, counted
from recpipe.models.ease.search import Problem, Strengths, climb, search
from recpipe.models.ease.weights import ExactScores, fold, regularised_inverse, whole
from recpipe.models.examples import gather_examples
from recpipe.models.item_content import ItemContent
from recpipe.training.fitting import fit

N_USERS, N_ITEMS, DIM = 60, 24, 5


def world(seed: int = 0) -> tuple[TrainingData, np.ndarray]:
    """Two tastes; the last two items are taken by nobody. Returns the data and users × items of 0 and 1."""
    rng = np.random.default_rng(seed)
    embeddings = rng.normal(size=(N_ITEMS, DIM)).astype(np.float32)
    embeddings[::2, 0] += 4.0
    items = Items(
        ids=pa.array([f"i{row}" for row in range(N_ITEMS)]), embeddings=embeddings, embedded=np.ones(N_ITEMS, bool)
    )
    rows, offsets = [], [0]
    for user in range(N_USERS):
        own = np.arange(user % 2, N_ITEMS - 2, 2)
        rows.append(rng.choice(own, size=6, replace=False))
        offsets.append(offsets[-1] + 6)
    item_rows = np.concatenate(rows).astype(np.int32)
    histories = Histories(items=items, offsets=np.asarray(offsets, np.int64), item_rows=item_rows)
    profiles = Profiles.bare(pa.array([f"u{row}" for row in range(N_USERS)]))
    taken = np.zeros((N_USERS, N_ITEMS), np.float32)
    taken[histories.user_rows(), item_rows] = 1.0
    return TrainingData(items=items, open_blocks=lambda: iter([(profiles, histories)]), n_users=N_USERS), taken


def fitted(data: TrainingData, **settings: object) -> EaseModel:
    plain = {"l2": 10.0, "history_decay": 1.0, "window_weight": 0.0, "content_weight": 0.0, "rank": 0}
    model = EaseModel(EaseSettings.model_validate({**plain, **settings}))
    fit(model, data, FitContext(seed=1))
    return model


def scores(model: EaseModel, data: TrainingData) -> np.ndarray:
    ((profiles, histories),) = data.blocks()
    return model.user_vectors(profiles, histories).vectors @ model.item_vectors(data.items).T


def steck(gram: np.ndarray, l2: float) -> np.ndarray:
    """B of Steck 2019, written down again in double precision."""
    inverse = np.linalg.inv(gram + l2 * np.eye(len(gram)))
    weights = -inverse / np.diag(inverse)
    np.fill_diagonal(weights, 0.0)
    return weights


def test_plain_ease_is_the_formula() -> None:
    data, taken = world()
    seen = taken[:, : N_ITEMS - 2].astype(np.float64)
    expected = seen @ steck(seen.T @ seen, 10.0)
    assert scores(fitted(data), data)[:, : N_ITEMS - 2] == pytest.approx(expected, abs=1e-4)


def test_recency_weights_the_history_and_not_the_matrix() -> None:
    data, taken = world()
    ((_, histories),) = data.blocks()
    history = np.zeros_like(taken)
    for user in range(N_USERS):
        own = histories.item_rows[histories.offsets[user] : histories.offsets[user + 1]]
        history[user, own] = 0.5 ** np.arange(len(own))[::-1]
    seen = taken[:, : N_ITEMS - 2].astype(np.float64)
    expected = history[:, : N_ITEMS - 2] @ steck(seen.T @ seen, 10.0)
    assert scores(fitted(data, history_decay=0.5), data)[:, : N_ITEMS - 2] == pytest.approx(expected, abs=1e-4)


def test_items_outside_are_regressed_on_those_inside() -> None:
    data, taken = world()
    model = fitted(data, max_items=15)
    counts = taken.sum(axis=0)
    inside = np.sort(np.argsort(-counts, kind="stable")[:15])
    outside = np.setdiff1d(np.flatnonzero(counts), inside)
    gram = (taken.T @ taken).astype(np.float64)
    weights = np.linalg.solve(gram[np.ix_(inside, inside)] + 10.0 * np.eye(15), gram[np.ix_(inside, outside)])
    assert scores(model, data)[:, outside] == pytest.approx(taken[:, inside] @ weights, abs=1e-4)


def test_items_nobody_took_come_by_content() -> None:
    data, _ = world()
    found = scores(fitted(data, content_weight=10.0), data)
    even, odd = found[::2], found[1::2]  # users of either taste; item 22 reads like the even ones' items
    assert even[:, N_ITEMS - 2].mean() > odd[:, N_ITEMS - 2].mean()
    assert np.all(scores(fitted(data), data)[:, N_ITEMS - 2 :] == 0.0)


def without(taken: np.ndarray, content: np.ndarray, *, item: int, weight: float) -> np.ndarray:
    """Column of an item by content alone, over the matrix without it: (n_items,), 0 where it or nobody stands."""
    inside = np.setdiff1d(np.flatnonzero(taken.sum(axis=0)), [item])
    gram = taken[:, inside].T.astype(np.float64) @ taken[:, inside]
    kernel = content[inside].astype(np.float64) @ content[inside].T
    column = np.zeros(taken.shape[1])
    right = weight * content[inside].astype(np.float64) @ content[item]
    column[inside] = np.linalg.solve(gram + weight * kernel + 10.0 * np.eye(len(inside)), right)
    return column


def test_new_item_vectors_are_those_of_a_matrix_without_the_item() -> None:
    data, taken = world()
    content = ItemContent.of(data.items).encode(data.items)
    expected = np.stack([without(taken, content, item=item, weight=5.0) for item in range(N_ITEMS)])
    found = fitted(data, content_weight=5.0).new_item_vectors(data.items)
    assert found[:, :-1] == pytest.approx(expected[:, : N_ITEMS - 2], abs=1e-5)
    assert np.all(found[:, -1] == 0.0)


def test_new_item_vectors_in_all_folded_coordinates_lose_nothing() -> None:
    data, taken = world()
    settings = EaseSettings(l2=10.0, window_weight=0.0, content_weight=5.0)
    problem, model = Problem(data, settings, n_items=N_ITEMS), EaseModel(settings)
    exact = problem.solve(l2=10.0, window_weight=0.0, content_weight=5.0)
    users = problem.n_users.astype(np.float32)
    model.take(problem, fold(exact, users, rank=problem.n_inside, seed=0), decay=1.0)
    each = Histories(  # users of one item each
        items=data.items, offsets=np.arange(N_ITEMS + 1, dtype=np.int64), item_rows=np.arange(N_ITEMS, dtype=np.int32)
    )
    profiles = Profiles.bare(pa.array([f"new{row}" for row in range(N_ITEMS)]))
    found = model.user_vectors(profiles, each).vectors @ model.new_item_vectors(data.items).T
    content = ItemContent.of(data.items).encode(data.items)
    for item in range(N_ITEMS):
        others = np.arange(N_ITEMS) != item  # an item is new only to users who did not take it
        expected = without(taken, content, item=item, weight=5.0)
        assert found[others, item] == pytest.approx(expected[others], abs=1e-4)


def test_new_item_vectors_of_items_outside_are_their_content() -> None:
    data, taken = world()
    model = fitted(data, content_weight=5.0, max_items=15)
    renamed = replace(data.items, ids=pa.array([f"new{row}" for row in range(N_ITEMS)]))
    unknown, found = model.item_vectors(renamed), model.new_item_vectors(data.items)
    counts = taken.sum(axis=0)
    inside = {int(row) for row in np.argsort(-counts, kind="stable")[:15]}
    outside = [row for row in range(N_ITEMS) if row not in inside]
    assert found[outside] == pytest.approx(unknown[outside], abs=1e-6)
    assert np.abs(found - unknown)[sorted(inside)].max(axis=1).min() > 1e-6
    assert model.new_item_vectors(renamed) == pytest.approx(unknown, abs=1e-6)


def test_windows_count_each_pair_of_neighbours() -> None:
    data, _ = world()
    examples = gather_examples(data, "implicit", positive_from=None)
    taken = CoOccurrence.of(examples, window=2)
    columns = np.arange(len(taken.seen))
    extra = taken.inside(columns, window_weight=1.0) - taken.inside(columns, window_weight=0.0)
    expected = np.zeros_like(extra)
    places = np.searchsorted(taken.seen, examples.item_rows)
    for user in range(N_USERS):
        own = places[examples.offsets[user] : examples.offsets[user + 1]]
        for start in range(len(own)):
            for first in own[start : start + 2]:
                for second in own[start : start + 2]:
                    expected[first, second] += 1.0
    assert extra == pytest.approx(expected)


def test_neighbours_are_the_co_occurrences_multiplied_out() -> None:
    data, _ = world()
    taken = CoOccurrence.of(gather_examples(data, "implicit", positive_from=None), window=3)
    everything = taken.inside(np.arange(len(taken.seen)), window_weight=0.5)
    inside, others = np.arange(0, 12), np.arange(12, len(taken.seen))
    neighbours = taken.outside(inside, others, window_weight=0.5)
    found = neighbours.widened(2).of(np.eye(len(inside), dtype=np.float32))
    assert found[:, :-2] == pytest.approx(everything[np.ix_(inside, others)], abs=1e-5)
    assert np.all(found[:, -2:] == 0.0)
    assert neighbours.of(np.eye(len(inside), dtype=np.float32)[:0]).shape == (0, len(others))


def test_histories_end_where_their_weights_are_negligible() -> None:
    for decay in (0.5, 0.7, 0.98):
        n = counted(10_000, decay=decay)
        assert decay**n <= NEGLIGIBLE < decay ** (n - 1)
        assert counted(3, decay=decay) == 3
    assert counted(500, decay=1.0) == 500


def exact_world(content_weight: float) -> ExactScores:
    rng = np.random.default_rng(3)
    taken = (rng.random((80, 20)) < 0.2).astype(np.float32)
    content = rng.normal(size=(20, 4)).astype(np.float32)
    nothing = sparse.csr_matrix((0, 20), dtype=np.float32)
    inverse = regularised_inverse(taken.T @ taken, content, content_weight=content_weight, l2=5.0)
    return ExactScores(inverse, Neighbours(nothing, nothing[:, :0]), content, content[:0], content_weight)


def test_folding_into_all_coordinates_loses_nothing() -> None:
    exact = exact_world(2.0)
    full, folded = whole(exact), fold(exact, np.full(20, 16.0, np.float32), rank=20, seed=0)
    assert folded.history_map is not None
    assert folded.history_map @ folded.inside.T == pytest.approx(full.inside.T, abs=1e-4)
    assert folded.history_map @ folded.content_map.T == pytest.approx(full.content_map.T, abs=1e-4)


def test_climbing_stops_at_the_first_peak_on_either_side() -> None:
    heights = {1.0: 0.0, 2.0: 5.0, 3.0: 4.0, 4.0: 3.0, 5.0: 9.0}
    grid = tuple(heights)
    assert climb(grid, 3.0, heights.__getitem__) == (5.0, 2.0)
    assert climb(grid, 4.0, heights.__getitem__) == (9.0, 5.0)
    assert climb((7.0,), 7.0, lambda value: value) == (7.0, 7.0)


def test_the_solution_kept_is_that_of_the_strengths_chosen() -> None:
    data, _ = world()
    settings = EaseSettings()
    problem = Problem(data, settings, n_items=N_ITEMS)
    measured: list[float] = []

    def measure(scorer: object) -> float:  # any measure: the fifth time is the best
        measured.append(0.0)
        return 1.0 if len(measured) == 5 else 1.0 / (1.0 + abs(len(measured) - 5))

    best = Strengths(settings, problem, measure)
    for name in ("window_weight", "content_weight", "l2", "content_weight"):
        best.improve(name)
    values = best.values
    expected = problem.solve(
        l2=values["l2"], window_weight=values["window_weight"], content_weight=values["content_weight"]
    )
    assert best.solution().inverse == pytest.approx(expected.inverse, abs=1e-6)
    assert best.solution().content_weight == values["content_weight"]


def test_strengths_are_chosen_on_held_out_interactions() -> None:
    data, _ = world()
    model = EaseModel(EaseSettings())
    report = fit(model, data, FitContext(seed=1))
    assert set(report.choice) == {"l2", "history_decay", "window_weight", "content_weight", "rank"}
    again = EaseModel(EaseSettings())
    fit(again, data, FitContext(seed=1, choice=report.choice))
    assert scores(again, data) == pytest.approx(scores(model, data), abs=1e-6)


def test_the_decay_is_chosen_where_it_alone_is_open() -> None:
    data, _ = world()
    settings = EaseSettings(l2=10.0, window_weight=0.0, content_weight=0.0, rank=0)
    measured = iter(range(100))  # always better than before: the climb goes to the end of the grid
    found = search(settings, data, FitContext(seed=1), lambda scorer: float(next(measured)))
    assert found == {"history_decay": 1.0}
