from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from recpipe.encoders.batching import Tokens, padded, token_batches, unique_texts


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
