from __future__ import annotations

import threading
import time

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from recpipe.encoders.batching import Tokens, in_threads, one_ahead, padded, parts_of, token_batches, unique_texts


@given(st.lists(st.integers(0, 300), max_size=60), st.integers(1, 2000))
def test_batches_hold_every_row_once_and_keep_the_budget(lengths: list[int], batch_tokens: int) -> None:
    batches = list(token_batches(np.asarray(lengths, dtype=np.int64), batch_tokens))
    assert sorted(row for batch in batches for row in batch) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) == 1 or len(batch) * max(lengths[row] for row in batch) <= batch_tokens


def test_longest_texts_come_first_and_equal_ones_in_order() -> None:
    batches = list(token_batches(np.array([3, 9, 3, 5]), 10))
    assert [batch.tolist() for batch in batches] == [[1], [3, 0], [2]]


def test_padding_stands_on_the_right() -> None:
    ids = np.array([7, 8, 9, 5], dtype=np.int32)
    tokens = Tokens(ids, None, np.array([0, 3, 3, 4]), np.zeros(3, dtype=bool))
    assert padded(tokens.ids, tokens, rows=np.array([2, 0]), fill=-1).tolist() == [[5, -1, -1], [7, 8, 9]]
    assert padded(tokens.ids, tokens, rows=np.array([1]), fill=-1).tolist() == [[-1]]


@given(st.lists(st.sampled_from(["a", "b", "c", "aa"]), max_size=30))
def test_distinct_texts_rebuild_all_texts(texts: list[str]) -> None:
    distinct, inverse, first = unique_texts(texts)
    assert [distinct[row] for row in inverse] == texts
    assert len(set(distinct)) == len(distinct)
    assert [texts.index(text) for text in distinct] == first.tolist()


@given(st.integers(0, 700), st.integers(0, 10))
def test_parts_hold_every_row_once_and_the_longest_first(n: int, seed: int) -> None:
    lengths = np.random.default_rng(seed).integers(1, 50, n)
    parts = parts_of(["x" * int(length) for length in lengths])
    rows = np.concatenate(parts)
    assert sorted(rows.tolist()) == list(range(n))
    if n > 256:
        assert len(parts[0]) == 256
        assert (np.diff(lengths[rows]) <= 0).all()


def test_one_ahead_keeps_the_order_and_is_only_one_ahead() -> None:
    started: list[int] = []

    def square(value: int) -> int:
        started.append(value)
        return value * value

    results = one_ahead(square, range(5))
    assert next(results) == 0
    assert max(started) <= 1
    assert list(results) == [1, 4, 9, 16]
    assert list(one_ahead(square, [])) == []


@pytest.mark.parametrize("threads", [1, 3])
def test_threads_compute_everything_once_with_one_core_each(threads: int) -> None:
    before = torch.get_num_threads()
    seen: list[tuple[int, int, str]] = []
    in_threads(
        lambda value: seen.append((value, torch.get_num_threads(), threading.current_thread().name)), range(40), threads
    )
    assert sorted(value for value, *_ in seen) == list(range(40))
    assert torch.get_num_threads() == before
    if threads > 1:
        assert {cores for _, cores, _ in seen} == {1}
        assert all(name.startswith("recpipe-batch") for *_, name in seen)


@pytest.mark.parametrize("threads", [1, 2])
def test_an_error_in_a_thread_reaches_the_caller_and_ends_the_rest(threads: int) -> None:
    seen: list[int] = []

    def compute(value: int) -> None:
        seen.append(value)
        if value == 3:
            raise ValueError("value 3")
        time.sleep(0.001)

    with pytest.raises(ValueError, match="value 3"):
        in_threads(compute, range(1000), threads)
    assert len(seen) < 1000
