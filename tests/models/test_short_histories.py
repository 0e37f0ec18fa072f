from __future__ import annotations

import numpy as np
import pyarrow as pa
from scipy import sparse

from recpipe.models.base import Histories, Items, Profiles, TrainingData
from recpipe.models.examples import gather_examples
from recpipe.models.short_histories import LENGTHS, ShortHistories, short_histories
from recpipe.models.taken_matrix import taken_matrix

N_USERS, N_ITEMS = 150, 60


def data_of(rows: list[np.ndarray]) -> TrainingData:
    items = Items.bare(pa.array([f"i{row}" for row in range(N_ITEMS)]))
    offsets = np.append(0, np.cumsum([len(row) for row in rows]))
    histories = Histories(items=items, offsets=offsets, item_rows=np.concatenate(rows).astype(np.int32))
    profiles = Profiles.bare(pa.array([f"u{row}" for row in range(len(rows))]))
    return TrainingData(items=items, open_blocks=lambda: iter([(profiles, histories)]), n_users=len(rows))


def drawn(held_out: list[np.ndarray] | None) -> tuple[ShortHistories, list[np.ndarray], np.ndarray]:
    rng = np.random.default_rng(0)
    rows = [rng.integers(0, N_ITEMS - 10, size) for size in rng.integers(1, 14, N_USERS)]
    examples = gather_examples(data_of(rows), "implicit", positive_from=None)
    _, seen = taken_matrix(examples)
    later = None if held_out is None else data_of(held_out)
    found = short_histories(examples, seen, held_out=later, positive_from=None, seed=3)
    assert found is not None
    return found, rows, seen


def items_of(matrix: sparse.csr_matrix, row: int, seen: np.ndarray) -> set[int]:
    return set(seen[matrix.indices[matrix.indptr[row] : matrix.indptr[row + 1]]].tolist())


def test_the_last_event_is_wanted_where_nothing_is_held_out() -> None:
    found, rows, seen = drawn(None)
    assert not found.fitted[found.judged].any() and found.fitted.sum() == N_USERS - len(found.judged)
    for row, user in enumerate(found.judged):
        before = rows[user][:-1]
        assert items_of(found.seen, row, seen) == set(before.tolist())
        assert items_of(found.known, row, seen) == set(before[-LENGTHS[row % len(LENGTHS)] :].tolist())
        assert items_of(found.wanted, row, seen) == {int(rows[user][-1])}
        assert rows[user][-1] not in before


def test_held_out_events_are_wanted_unless_taken_before_or_unknown() -> None:
    rng = np.random.default_rng(1)
    later = [rng.integers(0, N_ITEMS, 4) for _ in range(N_USERS)]
    found, rows, seen = drawn(later)
    for row, user in enumerate(found.judged):
        assert items_of(found.seen, row, seen) == set(rows[user].tolist())
        expected = (set(later[user].tolist()) & set(seen.tolist())) - set(rows[user].tolist())
        assert expected and items_of(found.wanted, row, seen) == expected


def test_nobody_is_drawn_from_a_handful() -> None:
    examples = gather_examples(data_of([np.array([0, 1])] * 30), "implicit", positive_from=None)
    assert short_histories(examples, np.array([0, 1]), held_out=None, positive_from=None, seed=0) is None


def test_ndcg_counts_wanted_items_among_those_unseen_and_shares_ranks() -> None:
    one = ShortHistories(
        fitted=np.array([False, False]),
        judged=np.array([0, 1]),
        known=sparse.csr_matrix(np.array([[1, 0, 0, 0], [0, 0, 0, 0]], np.float32)),
        seen=sparse.csr_matrix(np.array([[1, 0, 0, 0], [0, 0, 0, 0]], np.float32)),
        wanted=sparse.csr_matrix(np.array([[0, 0, 1, 0], [1, 1, 0, 0]], np.float32)),
    )
    scores = np.array([[9, 3, 2, 1], [5, 1, 1, 0]], np.float32)
    second = 1 / np.log2(3)
    shared = (1 + 1 / np.log2(3.5)) / (1 + second)  # rank 1, and ranks 2 and 3 in equal parts
    assert np.isclose(one.ndcg(lambda users, known: scores[users]), (second + shared) / 2)
