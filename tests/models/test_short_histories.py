from __future__ import annotations

import numpy as np
import pyarrow as pa
from scipy import sparse

from recpipe.models.base import Histories, Items, Profiles, TrainingData
from recpipe.models.examples import gather_examples
from recpipe.models.segment_prior.short_histories import LENGTHS, N_WANTED, ShortHistories, short_histories
from recpipe.models.taken_matrix import taken_matrix

N_USERS, N_ITEMS = 150, 30


def data_of(rows: list[np.ndarray]) -> TrainingData:
    items = Items.bare(pa.array([f"i{row}" for row in range(N_ITEMS + 10)]))
    offsets = np.append(0, np.cumsum([len(row) for row in rows]))
    histories = Histories(items=items, offsets=offsets, item_rows=np.concatenate(rows).astype(np.int32))
    profiles = Profiles.bare(pa.array([f"u{row}" for row in range(len(rows))]))
    return TrainingData(items=items, open_blocks=lambda: iter([(profiles, histories)]), n_users=len(rows))


def items_of(matrix: sparse.csr_matrix, row: int, seen: np.ndarray) -> set[int]:
    return set(seen[matrix.indices[matrix.indptr[row] : matrix.indptr[row + 1]]].tolist())


def test_first_events_are_known_and_the_next_ones_wanted() -> None:
    rng = np.random.default_rng(0)
    rows = [rng.integers(0, N_ITEMS, size) + 5 for size in rng.integers(1, 14, N_USERS)]
    examples = gather_examples(data_of(rows), "implicit", positive_from=None)
    _, seen = taken_matrix(examples)
    found = short_histories(examples, seen, seed=3)
    assert found is not None
    left_out = np.flatnonzero(~found.fitted)
    assert len(left_out) == round(0.2 * sum(len(row) > 1 for row in rows))
    expected = []
    for length in LENGTHS:
        for user in left_out:
            known, later = set(rows[user][:length].tolist()), rows[user][length : length + N_WANTED].tolist()
            if set(later) - known:
                expected.append((user, known, set(later) - known))
    cases = [
        (user, items_of(found.known, row, seen), items_of(found.wanted, row, seen))
        for row, user in enumerate(found.users)
    ]
    assert cases == expected


def test_nobody_is_drawn_from_a_handful_or_where_nothing_new_follows() -> None:
    for row, n_users in (([0, 1], 30), ([0, 0], 300)):
        examples = gather_examples(data_of([np.array(row)] * n_users), "implicit", positive_from=None)
        assert short_histories(examples, taken_matrix(examples)[1], seed=0) is None


def test_ndcg_leaves_known_items_out_and_shares_ranks() -> None:
    cases = ShortHistories(
        fitted=np.array([False, False]),
        users=np.array([0, 1]),
        known=sparse.csr_matrix(np.array([[1, 0, 0, 0], [0, 0, 0, 0]], np.float32)),
        wanted=sparse.csr_matrix(np.array([[0, 0, 1, 0], [1, 1, 0, 0]], np.float32)),
    )
    scores = np.array([[9, 3, 2, 1], [5, 1, 1, 0]], np.float32)
    second = 1 / np.log2(3)
    shared = (1 + 1 / np.log2(3.5)) / (1 + second)  # rank 1, and ranks 2 and 3 in equal parts
    assert np.isclose(cases.ndcg(lambda users, known: scores[users]), (second + shared) / 2)


def test_ndcg_ends_at_ten() -> None:
    cases = ShortHistories(
        fitted=np.array([False]),
        users=np.array([0]),
        known=sparse.csr_matrix((1, 20), dtype=np.float32),
        wanted=sparse.csr_matrix(([1.0], ([0], [10])), shape=(1, 20)),
    )
    assert cases.ndcg(lambda users, known: -np.arange(20, dtype=np.float32)[None]) == 0
    last = np.where(np.arange(20) == 3, -20, -np.arange(20)).astype(np.float32)[None]
    assert np.isclose(cases.ndcg(lambda users, known: last), 1 / np.log2(11))
