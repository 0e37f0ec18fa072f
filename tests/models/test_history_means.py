from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from recpipe.models.base import Histories, Items
from recpipe.models.history_means import history_means
from recpipe.models.network_parts import history_weights

ITEMS = Items.bare(pa.array([str(row) for row in range(6)]))
VECTORS = np.random.default_rng(0).standard_normal((6, 3)).astype(np.float32)


def test_by_hand() -> None:
    histories = Histories(
        items=ITEMS,
        offsets=np.array([0, 3, 3, 4]),
        item_rows=np.array([0, 1, 1, 5], np.int32),
        ratings=np.array([5, 1, np.nan, 4], np.float32),
    )
    means, found = history_means(histories, VECTORS, decay=0.5, length=9, positive_from=None)
    np.testing.assert_allclose(means[0], (0.25 * VECTORS[0] + 1.5 * VECTORS[1]) / 1.75, rtol=1e-5)
    np.testing.assert_allclose(means[1], 0)
    np.testing.assert_allclose(means[2], VECTORS[5], rtol=1e-6)
    assert found.tolist() == [True, False, True]
    positive, _ = history_means(histories, VECTORS, decay=0.5, length=9, positive_from=3.0)
    np.testing.assert_allclose(positive[0], (0.5 * VECTORS[0] + VECTORS[1]) / 1.5, rtol=1e-5)
    last, _ = history_means(histories, VECTORS, decay=0.5, length=1, positive_from=None)
    np.testing.assert_allclose(last[0], VECTORS[1], rtol=1e-6)


@given(
    sizes=st.lists(st.integers(0, 7), min_size=1, max_size=6),
    length=st.integers(1, 5),
    decay=st.sampled_from([0.6, 0.98]),
    start=st.integers(0, 3),
)
def test_is_what_training_computes(sizes: list[int], length: int, decay: float, start: int) -> None:
    """Rows of a block, offsets that do not begin at 0; against the network's own weights."""
    offsets = np.append(0, np.cumsum(sizes)).astype(np.int64)
    rows = np.random.default_rng(1).integers(0, 6, int(offsets[-1])).astype(np.int32)
    start = min(start, len(sizes) - 1)
    block = Histories(items=ITEMS, offsets=offsets, item_rows=rows).rows(start, len(sizes))
    means, _ = history_means(block, VECTORS, decay=decay, length=length, positive_from=None)
    weights = history_weights(length, (decay,))[0]
    for user in range(start, len(sizes)):
        newest_first = torch.from_numpy(VECTORS[rows[offsets[user] : offsets[user + 1]][::-1][:length]].copy())
        share = weights[: len(newest_first)]
        expected = (share[:, None] * newest_first).sum(0) / share.sum().clamp(min=1e-9)
        assert means[user - start] == pytest.approx(expected.numpy(), abs=1e-5)
