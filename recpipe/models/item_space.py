"""Item embeddings as network input: v centred, zero where an item has none."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from recpipe.errors import DataError
from recpipe.models.tables import Items

if TYPE_CHECKING:
    from recpipe.models.tables import Float32


def embedding_mean(items: Items) -> Float32:
    """Return the mean of the embeddings that exist, float32 (dim,)."""
    total = items.embeddings[items.embedded].sum(axis=0, dtype=np.float64)
    mean: Float32 = (total / max(int(items.embedded.sum()), 1)).astype(np.float32)
    return mean


def centred(items: Items, mean: Float32) -> Float32:
    """Return v - mean, float32 (n_items, dim); zeros where an item has no embedding.

    Raises:
        DataError: The embeddings have another width than the mean.
    """
    if items.embeddings.shape[1] != len(mean):
        raise DataError(
            f"item embeddings have {items.embeddings.shape[1]} dimensions, the model was trained on {len(mean)}",
            where="item_embeddings",
            next_step="run: recpipe train",
        )
    shifted: Float32 = np.where(items.embedded[:, None], items.embeddings - mean, np.float32(0.0))
    return shifted
