"""Equality with independent implementations: trec_eval through ir-measures, and scikit-learn."""

from __future__ import annotations

import ir_measures
import numpy as np
import pytest
from ir_measures import AP, RR, R, Success, nDCG
from sklearn.metrics import mean_absolute_error, mean_squared_error, ndcg_score

from recpipe.metrics.ranking import Relevant, per_user
from recpipe.metrics.rating import RatingAccumulator
from recpipe.metrics.values import Metric

PEERS = {"ndcg": nDCG, "recall": R, "hit_rate": Success, "mrr": RR, "map": AP}
KS = (1, 5, 10, 20)


@pytest.mark.parametrize("seed", range(5))
def test_equals_trec_eval(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n_users, n_items = 60, 80
    ranked = np.full((n_users, max(KS)), -1, dtype=np.int32)
    for row in ranked:
        length = rng.integers(1, max(KS) + 1)
        row[:length] = rng.permutation(n_items)[:length]
    held_out = [rng.permutation(n_items)[: rng.integers(1, 40)] for _ in range(n_users)]
    relevant = Relevant.distinct(
        np.repeat(np.arange(n_users), [len(items) for items in held_out]),
        np.concatenate(held_out).astype(np.int32),
        n_users=n_users,
    )
    found = per_user(ranked, relevant, KS)

    judged = {str(user): {str(item): 1 for item in items} for user, items in enumerate(held_out)}
    run = {
        str(user): {str(item): float(-rank) for rank, item in enumerate(row) if item >= 0}
        for user, row in enumerate(ranked)
    }
    measures = {peer @ k: Metric(name, k) for name, peer in PEERS.items() for k in KS}
    compared = 0
    for result in ir_measures.iter_calc(list(measures), judged, run):
        value = found.column(measures[result.measure])[int(result.query_id)]
        assert value == pytest.approx(result.value, abs=1e-6), result
        compared += 1
    assert compared == n_users * len(measures)


def test_ndcg_equals_scikit_learn() -> None:
    rng = np.random.default_rng(7)
    scores = rng.permuted(np.tile(np.arange(50.0), (200, 1)), axis=1)  # no ties
    relevant = rng.random((200, 50)) < 0.1
    relevant[:, 0] = True
    users, items = np.nonzero(relevant)
    ranked = np.argsort(-scores, axis=1).astype(np.int32)
    for k in (1, 10, 50):
        found = per_user(ranked, Relevant.distinct(users, items.astype(np.int32), n_users=200), (k,))
        assert found.means()[Metric("ndcg", k)] == pytest.approx(ndcg_score(relevant, scores, k=k), abs=1e-12)


def test_rating_errors_equal_scikit_learn() -> None:
    rng = np.random.default_rng(3)
    actual = rng.integers(1, 6, 500).astype(np.float32)
    predicted = (actual + rng.normal(0, 1, 500)).astype(np.float32)
    offsets = np.concatenate([[0], np.sort(rng.integers(0, 501, 40)), [500]]).astype(np.int64)
    accumulator = RatingAccumulator()
    accumulator.add(offsets, predicted, actual)
    rmse, mae = accumulator.result().figures()
    assert rmse == pytest.approx(np.sqrt(mean_squared_error(actual, predicted)), rel=1e-6)
    assert mae == pytest.approx(mean_absolute_error(actual, predicted), rel=1e-6)
