"""Weighted means of the vectors of the items users took last."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse

from recpipe.models.tables import Histories
from recpipe.models.taken_matrix import Matrix

if TYPE_CHECKING:
    from recpipe.models.tables import Bool, Float32, Int64


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
    matrix = history_matrix(
        histories,
        np.arange(len(item_vectors)),
        n_columns=len(item_vectors),
        decay=decay,
        length=length,
        positive_from=positive_from,
        normalised=True,
    )
    means: Float32 = np.asarray(matrix @ item_vectors, dtype=np.float32)
    return means, np.diff(matrix.indptr) > 0


def history_matrix(
    histories: Histories,
    columns: Int64,
    *,
    n_columns: int,
    decay: float,
    length: int,
    positive_from: float | None,
    normalised: bool = False,
) -> Matrix:
    """Return who took what lately: decay^l for the l-th last positive item, l = 0 the newest.

    Args:
        histories: Of a block of users, oldest first.
        columns: int64 (n_items,): the column of each item of the histories' catalogue, -1: left out.
        length: Most items counted.
        normalised: Let each user's weights sum to 1.

    Returns:
        csr float32 (n_users, n_columns). Items left out do not age the others.
    """
    taken = columns[histories.item_rows[histories.events()]]
    kept = histories.positive(positive_from) & (taken >= 0)
    users, taken = histories.user_rows()[kept], taken[kept]
    counts = np.bincount(users, minlength=len(histories))
    ages = np.repeat(np.cumsum(counts), counts) - 1 - np.arange(len(users))  # 0: the newest
    recent = ages < length
    users, taken, ages = users[recent], taken[recent], ages[recent]
    weights = np.float64(decay) ** ages
    if normalised:
        weights /= np.maximum(np.bincount(users, weights, minlength=len(histories)), 1e-9)[users]
    offsets = np.append(0, np.cumsum(np.minimum(counts, length)))
    # rows as they come: an item taken twice counts twice
    return sparse.csr_matrix(
        (weights.astype(np.float32), taken, offsets),
        shape=(len(histories), n_columns),
        copy=False,
    )
