"""Weighted means of the vectors of the items users took last."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse

from recpipe.models.tables import Histories

if TYPE_CHECKING:
    from recpipe.models.tables import Bool, Float32


def history_means(
    histories: Histories, item_vectors: Float32, *, decay: float, length: int, positive_from: float | None
) -> tuple[Float32, Bool]:
    """Return Σ_l decay^l q_l / Σ_l decay^l over the last positive items, l = 0 the newest.

    Args:
        histories: Of a block of users, oldest first.
        item_vectors: float32 (n_items, k) of the histories' catalogue.
        length: Most items counted.

    Returns:
        float32 (n_users, k), zeros for a user without positive items, and bool (n_users,): they have some.
    """
    positive = histories.positive(positive_from)
    users = histories.user_rows()[positive]
    rows = histories.item_rows[histories.events()][positive]
    counts = np.bincount(users, minlength=len(histories))
    ages = np.repeat(np.cumsum(counts), counts) - 1 - np.arange(len(users))  # 0: the newest
    recent = ages < length
    users, rows, ages = users[recent], rows[recent], ages[recent]
    weights = np.float64(decay) ** ages
    weights /= np.maximum(np.bincount(users, weights, minlength=len(histories)), 1e-9)[users]
    offsets = np.append(0, np.cumsum(np.minimum(counts, length)))
    # rows as they come: an item taken twice counts twice
    matrix = sparse.csr_matrix(
        (weights.astype(np.float32), rows, offsets), shape=(len(histories), len(item_vectors)), copy=False
    )
    means: Float32 = np.asarray(matrix @ item_vectors, dtype=np.float32)
    return means, counts > 0
