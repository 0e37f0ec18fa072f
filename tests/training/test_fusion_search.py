"""Weights of the parts of a hybrid: what the search may and may not do."""

from __future__ import annotations

import statistics
from unittest.mock import patch

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import rankdata

from recpipe.models.hybrid.fusion import CLASS_NAMES
from recpipe.training import fusion_search
from recpipe.training.candidates import Candidates, joined
from recpipe.training.fusion_search import MIN_USERS, best_alone, climb, search_weights

PARTS = ("one", "two", "three")


def silent(message: str) -> None:
    """Say nothing."""


def random_candidates(
    seed: int, *, n_users: int, width: int, n_parts: int, levels: int = 5, classes: int = 4
) -> Candidates:
    """Scores with many ties, some places without an item, at least one item to find for everybody."""
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, levels, (n_users, width, n_parts)).astype(np.float32)
    there = rng.random((n_users, width)) < 0.8
    wanted = rng.random((n_users, width)) < 0.3
    wanted[:, 0] = there[:, 0] = True
    scores[~there] = -np.inf
    return Candidates(scores, wanted & there, np.full(n_users, classes, np.int64))


def noisy(n_users: int, noises: tuple[float, ...], *, seed: int, number: int, width: int = 60) -> Candidates:
    """Every part sees what users want through noise of its own."""
    rng = np.random.default_rng(seed)
    wanted = np.zeros((n_users, width), bool)
    wanted[:, :3] = True
    seen = [2.0 * wanted + noise * rng.standard_normal(wanted.shape) for noise in noises]
    scores = np.stack(seen, axis=2).astype(np.float32)
    return Candidates(scores / scores.std(axis=1, keepdims=True), wanted, np.full(n_users, number, np.int64))


def independent_ndcg(candidates: Candidates, weights: np.ndarray) -> list[float]:
    """NDCG@100 of each user with the mean rank of equals, one user after the other."""
    values = []
    for scores, wanted in zip(candidates.scores, candidates.wanted, strict=True):
        there = np.isfinite(scores[:, 0])
        ranks = rankdata(-(scores[there].astype(np.float64) @ weights), method="average")[wanted[there]]
        gain = sum(1.0 / np.log2(1.0 + rank) for rank in ranks if rank <= 100)
        ideal = sum(1.0 / np.log2(1.0 + rank) for rank in range(1, min(len(ranks), 100) + 1))
        values.append(gain / ideal)
    return values


@given(seed=st.integers(0, 10**6), n_users=st.integers(1, 5), width=st.sampled_from([1, 4, 150, 400]))
def test_ndcg_is_that_of_the_ranking(seed: int, n_users: int, width: int) -> None:
    candidates = random_candidates(seed, n_users=n_users, width=width, n_parts=3)
    weights = np.random.default_rng(seed).choice([0.0, 0.5, 1.0, 2.0], 3).astype(np.float32)
    np.testing.assert_allclose(candidates.ndcg(weights), independent_ndcg(candidates, weights), atol=1e-5)


def test_ndcg_does_not_depend_on_padding_and_others() -> None:
    weights = np.array([1.0, 0.5, 2.0], np.float32)
    several = [random_candidates(seed, n_users=4, width=width, n_parts=3) for seed, width in ((1, 7), (2, 30))]
    together = joined(several)
    assert together.scores.shape == (8, 30, 3)
    np.testing.assert_array_equal(together.ndcg(weights), np.concatenate([one.ndcg(weights) for one in several]))
    some = np.array([True, False, True, False, False, True, False, True])
    np.testing.assert_array_equal(together.of(some).ndcg(weights), together.ndcg(weights)[some])


@given(
    seed=st.integers(0, 10**6),
    n_users=st.integers(1, 9),
    n_parts=st.integers(1, 4),
    min_gain=st.sampled_from([0.0, 0.5, 1.0, 3.0]),
)
def test_every_step_gains_enough(seed: int, n_users: int, n_parts: int, min_gain: float) -> None:
    """No step below its threshold is accepted, each starts from the last accepted, and the end is no worse."""
    candidates = random_candidates(seed, n_users=n_users, width=8, n_parts=n_parts)
    start = best_alone(candidates.ndcg, n_parts)
    reached = [candidates.ndcg(start)]
    judge = fusion_search.clearly_better

    def watched(found: np.ndarray, current: np.ndarray, least: float) -> bool:
        np.testing.assert_array_equal(current, reached[-1])
        accepted = judge(found, current, least)
        if accepted:
            gains = [float(after) - float(before) for after, before in zip(found, current, strict=True)]
            error = statistics.stdev(gains) / len(gains) ** 0.5 if len(gains) > 1 else 0.0
            assert statistics.mean(gains) > max(min_gain * error - 1e-6, 0.0)
            reached.append(found)
        return accepted

    with patch.object(fusion_search, "clearly_better", watched):
        weights = climb(candidates.ndcg, start, min_gain=min_gain)
    np.testing.assert_array_equal(candidates.ndcg(weights), reached[-1])
    assert candidates.ndcg(weights).mean() >= candidates.ndcg(start).mean()
    assert weights.any() and (weights >= 0.0).all()


@given(seed=st.integers(0, 10**6), sizes=st.lists(st.integers(0, 70), min_size=5, max_size=5))
def test_search_is_never_below_the_best_part(seed: int, sizes: list[int]) -> None:
    """Of all users with a history together, and of each class that has weights of its own."""
    parts = [
        random_candidates(seed + number, n_users=size, width=6, n_parts=3, classes=number)
        for number, size in enumerate(sizes)
        if size
    ]
    if not parts:
        return
    candidates = joined(parts)
    weights = search_weights(candidates, PARTS, report=silent)
    assert weights.shape == (3, len(CLASS_NAMES))
    values, alone = np.empty(len(candidates), np.float32), np.eye(3, dtype=np.float32)
    for number in range(len(CLASS_NAMES)):
        own = candidates.classes == number
        values[own] = candidates.of(own).ndcg(weights[:, number])
        if own.sum() >= MIN_USERS:
            assert values[own].mean() >= max(candidates.of(own).ndcg(one).mean() for one in alone) - 1e-6
    counted = candidates.classes > 0
    if counted.any():
        assert values[counted].mean() >= max(candidates.ndcg(one)[counted].mean() for one in alone) - 1e-6


def test_a_mix_that_is_better_is_found() -> None:
    """Two parts with independent noise: both count, the one that says nothing does not, and it is near the best mix."""
    candidates = noisy(800, (1.0, 1.3, 1e6), seed=0, number=4)
    weights = search_weights(candidates, PARTS, report=silent)[:, 4]
    assert weights[0] > 0.0 and weights[1] > 0.0
    assert weights[2] <= 0.1 * weights[:2].max()
    found = candidates.ndcg(weights).mean()
    ratios = np.arange(0.1, 2.0, 0.05)
    best = max(candidates.ndcg(np.array([1.0, ratio, 0.0], np.float32)).mean() for ratio in ratios)
    alone = candidates.ndcg(best_alone(candidates.ndcg, 3)).mean()
    assert best > alone + 0.03
    assert found > best - 0.1 * (best - alone)


def test_few_users_move_nothing_and_the_same_gains_of_many_do() -> None:
    """The second part draws what one user wants from rank 2 to 1, and what two others want to rank 3: chance?"""
    wanted = np.zeros((3, 4), bool)
    wanted[:, 0] = True
    first, second = np.zeros((3, 4), np.float32), np.zeros((3, 4), np.float32)
    first[:, :2] = 1.0, 2.0
    second[0, 0] = 4.0
    second[1:, 0], second[1:, 2] = -0.5, 4.0
    few = Candidates(np.stack([first, second], axis=2), wanted, np.full(3, 4, np.int64))
    many = Candidates(*(np.concatenate([getattr(few, name)] * 60) for name in ("scores", "wanted", "classes")))
    alone, both = np.array([1.0, 0.0], np.float32), np.ones(2, np.float32)
    assert few.ndcg(both).mean() > few.ndcg(alone).mean() + 0.03
    np.testing.assert_array_equal(search_weights(few, PARTS[:2], report=silent), np.repeat([[1], [0]], 5, axis=1))
    assert search_weights(many, PARTS[:2], report=silent)[1].all()


def test_a_single_user_moves_nothing() -> None:
    candidates = noisy(1, (1.0, 1.0), seed=10, number=4)
    start = best_alone(candidates.ndcg, 2)
    assert candidates.ndcg(np.ones(2, np.float32))[0] > candidates.ndcg(start)[0] + 0.05
    np.testing.assert_array_equal(climb(candidates.ndcg, start, min_gain=0.5), start)
    np.testing.assert_array_equal(search_weights(candidates, PARTS[:2], report=silent), np.repeat(start[:, None], 5, 1))


def test_a_mix_that_no_single_step_leads_to_is_found() -> None:
    """Only all three together put what is wanted first: two of them leave it behind one of the others."""
    scores = np.zeros((60, 4, 3), np.float32)
    scores[:, 0] = 1.0
    for part in range(3):
        scores[:, 1 + part, part] = 2.5
    wanted = np.zeros((60, 4), bool)
    wanted[:, 0] = True
    candidates = Candidates(scores, wanted, np.full(60, 4, np.int64))
    values = [candidates.ndcg(np.array(weights, np.float32)).mean() for weights in ((1, 0, 0), (1, 1, 0), (1, 1, 1))]
    assert values[0] > values[1] and values[2] > values[0]
    weights = search_weights(candidates, PARTS, report=silent)
    assert (weights > 0).all()
    assert candidates.ndcg(weights[:, 4]).mean() == 1.0


def test_classes_with_few_users_have_the_weights_of_all() -> None:
    several = [
        noisy(900, (9.0, 1.0), seed=1, number=0),
        noisy(MIN_USERS - 1, (9.0, 0.5), seed=2, number=1),
        noisy(MIN_USERS, (9.0, 0.5), seed=3, number=3),
        noisy(300, (0.5, 9.0), seed=4, number=4),
    ]
    weights = search_weights(joined(several), PARTS[:2], report=silent)
    assert weights[1, 0] > weights[0, 0] and weights[1, 3] > weights[0, 3]  # enough users for themselves
    assert weights[0, 4] > weights[1, 4]
    everybody = weights[:, 2]  # a class without users
    assert everybody[0] > everybody[1]  # users without history, three times as many, do not count for all
    np.testing.assert_array_equal(weights[:, 1], everybody)


def test_where_nobody_has_a_history_all_count() -> None:
    weights = search_weights(noisy(200, (9.0, 1.0), seed=1, number=0), PARTS[:2], report=silent)
    assert (weights[1] > weights[0]).all()


def test_of_equal_parts_the_first_is_kept() -> None:
    one = noisy(80, (1.0,), seed=1, number=4)
    same = Candidates(np.repeat(one.scores, 3, axis=2), one.wanted, one.classes)
    np.testing.assert_array_equal(
        search_weights(same, PARTS, report=silent), np.repeat([[1], [0], [0]], len(CLASS_NAMES), axis=1)
    )


def test_nothing_to_find_leaves_the_first_part() -> None:
    one = noisy(80, (1.0, 1.0, 1.0), seed=1, number=4)
    lines: list[str] = []
    weights = search_weights(Candidates(one.scores, ~one.wanted & False, one.classes), PARTS, report=lines.append)
    np.testing.assert_array_equal(weights, np.repeat([[1], [0], [0]], len(CLASS_NAMES), axis=1))
    assert len(lines) == 1 and "one alone" in lines[0]


def test_what_was_found_is_reported() -> None:
    lines: list[str] = []
    candidates = noisy(100, (1.0, 9.0), seed=1, number=4)
    weights = search_weights(candidates, PARTS[:2], report=lines.append)
    assert [line.split(":")[0] for line in lines] == ["histories all", "histories 16+"]
    assert f"{candidates.ndcg(weights[:, 4]).mean():.4f} of 100 users" in lines[1]
    assert f"best part one {candidates.ndcg(np.array([1, 0], np.float32)).mean():.4f}" in lines[1]
