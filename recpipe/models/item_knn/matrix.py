"""The similarities of `item_knn`: weighting, product and choice of neighbours, block by block."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
from scipy import sparse

if TYPE_CHECKING:
    from collections.abc import Iterator

    from recpipe.models.tables import Float32, Int32, Int64
    from recpipe.models.taken_matrix import Matrix

Weighting = Literal["cosine", "tfidf", "bm25"]

BM25_SATURATION = 1.2
BM25_LENGTH = 0.75
"""k1 and b of Robertson & Walker 1994, at their customary values."""

BLOCK_PRODUCTS = 8_000_000
"""Most similarities held before the neighbours are chosen, 8 bytes each."""


def weighted_items(taken: Matrix, weighting: Weighting) -> Matrix:
    """Return the items' vectors over users, whose dot products are the similarities.

    With n items, f_u items of user u, l_i users of item i, l their mean and idf_u = log(n / (1 + f_u)):

    - cosine: 1 / √l_i
    - tfidf: idf_u / √Σ_u idf_u²
    - bm25: idf_u (k1 + 1) / (k1 (1 - b + b l_i / l) + 1)

    A user is the "term", an item the "document": who takes everything says little.

    Args:
        taken: (n_users, n_items), ones.

    Returns:
        csr float32 (n_items, n_users).
    """
    vectors = taken.T.tocsr()  # (n_items, n_users)
    n_items, n_users = vectors.shape
    lengths = np.diff(vectors.indptr)
    rows = np.repeat(np.arange(n_items), lengths)
    idf = np.log(n_items) - np.log1p(np.bincount(vectors.indices, minlength=n_users))
    if weighting == "bm25":
        norms = 1.0 - BM25_LENGTH + BM25_LENGTH * lengths / max(lengths.mean(), 1e-9)
        weights = idf[vectors.indices] * (BM25_SATURATION + 1.0) / (BM25_SATURATION * norms[rows] + 1.0)
    else:
        weights = idf[vectors.indices] if weighting == "tfidf" else np.ones(len(rows))
        squares = np.bincount(rows, weights**2, minlength=n_items)
        weights = weights / np.sqrt(np.maximum(squares, 1e-12))[rows]
    return sparse.csr_matrix((weights.astype(np.float32), vectors.indices, vectors.indptr), shape=vectors.shape)


def nearest_items(vectors: Matrix, *, n_neighbors: int, block_products: int = BLOCK_PRODUCTS) -> Matrix:
    """Return each item's similarities to its nearest items, itself left out.

    Among equally near items at the end of the list those with more users are taken, then those
    that come first. Memory: the result, and at most `block_products` similarities or one
    item's at a time.

    Args:
        vectors: csr float32 (n_items, n_users), from `weighted_items`.
        n_neighbors: Most neighbours kept.

    Returns:
        csr float32 (n_items, n_items), row i the neighbours of i; everything stored is above 0.
    """
    n_items = vectors.shape[0]
    # columns with more users first: of a tie, the first columns are taken
    order = np.argsort(-np.diff(vectors.indptr), kind="stable").astype(np.int32)
    own_columns = np.argsort(order)
    by_user = vectors[order].T.tocsr()  # (n_users, n_items)
    values: list[Float32] = [np.zeros(0, np.float32)]
    columns: list[Int32] = [np.zeros(0, np.int32)]
    lengths = np.zeros(n_items, dtype=np.int64)
    for start, stop in _blocks(vectors, block_products):
        block = vectors[start:stop] @ by_user
        for row in range(start, stop):
            span = slice(block.indptr[row - start], block.indptr[row - start + 1])
            row_values, row_columns = block.data[span], block.indices[span]
            kept = _largest(np.where(row_columns == own_columns[row], 0.0, row_values), row_columns, n_neighbors)
            values.append(row_values[kept])
            columns.append(order[row_columns[kept]])
            lengths[row] = len(kept)
    offsets = np.append(0, np.cumsum(lengths))
    nearest = sparse.csr_matrix((np.concatenate(values), np.concatenate(columns), offsets), shape=(n_items, n_items))
    nearest.sort_indices()
    return nearest


def _blocks(vectors: Matrix, block_products: int) -> Iterator[tuple[int, int]]:
    """Ranges of items with so many possible similarities together, at least one item each."""
    n_items = vectors.shape[0]
    per_user = np.bincount(vectors.indices, minlength=vectors.shape[1]).astype(np.float64)
    reached = sparse.csr_matrix((per_user[vectors.indices], vectors.indices, vectors.indptr), shape=vectors.shape)
    # an item meets at most the items of its users, and at most all
    ends = np.cumsum(np.minimum(np.asarray(reached.sum(axis=1)).reshape(-1), n_items))
    start = 0
    while start < n_items:
        before = ends[start - 1] if start else 0.0
        stop = max(int(np.searchsorted(ends, before + block_products, side="right")), start + 1)
        yield start, stop
        start = stop


def _largest(values: Float32, columns: Int32, n: int) -> Int64:
    """Return the places of the n largest values above 0: int64 (at most n,). Of a tie, the first columns."""
    least = 0.0 if len(values) <= n else float(np.partition(values, len(values) - n)[len(values) - n])
    places = np.flatnonzero((values >= least) & (values > 0))
    if len(places) > n:
        places = places[np.lexsort((columns[places], -values[places]))[:n]]
    return places
