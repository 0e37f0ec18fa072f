"""Vectors of users that `bpr` did not see in training, from what they took."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from recpipe.models.tables import Float32
    from recpipe.models.taken_matrix import Matrix

RIDGE = 1.0
"""Added to the Gram's diagonal, in units of its mean."""

BLOCK_USERS = 8192


def history_sums(taken: Matrix, item_vectors: Float32) -> Float32:
    """Return Σ_i q_i / √n over the n items taken: float32 (n_users, dim), zeros for who took nothing."""
    lengths = np.diff(taken.indptr)
    sums = taken @ item_vectors
    return np.asarray(sums / np.sqrt(np.maximum(lengths, 1))[:, None], dtype=np.float32)


def history_map(taken: Matrix, item_vectors: Float32, user_vectors: Float32) -> Float32:
    """Return the linear map from histories to learned user vectors, by ridge regression over the training users.

    Args:
        taken: csr (n_users, n_items).
        item_vectors: float32 (n_items, dim).
        user_vectors: float32 (n_users, dim).

    Returns:
        float32 (dim, dim), so that `history_sums(...) @ map` is a user vector.
    """
    dim = item_vectors.shape[1]
    gram, products = np.zeros((dim, dim)), np.zeros((dim, dim))
    for start in range(0, len(user_vectors), BLOCK_USERS):
        rows = slice(start, start + BLOCK_USERS)
        sums = history_sums(taken[rows], item_vectors).astype(np.float64)
        gram += sums.T @ sums
        products += sums.T @ user_vectors[rows]
    gram += np.eye(dim) * max(RIDGE * np.trace(gram) / dim, 1e-9)
    return np.asarray(np.linalg.solve(gram, products), dtype=np.float32)
