"""Four users and five items; user 3 took nothing, nobody took item 3, item 4 has no embedding."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from recpipe.models.base import Histories, Items, Profiles, TrainingData

ITEMS = Items(
    ids=pa.array(["a", "b", "c", "unseen", "blank"]),
    embeddings=np.array([[1, 0], [0, 1], [0.6, 0.8], [0.8, -0.6], [0, 0]], np.float32),
    embedded=np.array([True, True, True, True, False]),
)
_SEGMENTS = np.array([0, 1, 0, -1], np.int32)
_CENTRES = np.array([[1, 0.5], [0, 1], [0.5, 0.5]], np.float32)
PROFILES = Profiles(
    user_ids=pa.array(["u", "v", "w", "nobody"]),
    embeddings=np.array([[1, 0], [0, 1], [0.6, 0.8], [0, 0]], np.float32),
    embedded=_SEGMENTS >= 0,
    features=np.array([[1, 2], [3, 1], [2, 0], [0, 0]], np.float32),
    segments=_SEGMENTS,
    centres=_CENTRES[_SEGMENTS],
)
HISTORIES = Histories(
    items=ITEMS,
    offsets=np.array([0, 3, 4, 6, 6]),
    item_rows=np.array([0, 1, 4, 2, 0, 2], np.int32),
    ratings=np.array([5, 3, 1, 4, 2, 3], np.float32),
    timestamps_us=np.arange(6),
    as_of_us=6,
)
DATA = TrainingData(
    items=ITEMS,
    open_blocks=lambda: iter([(PROFILES, HISTORIES)]),
    n_users=4,
    targets=frozenset({"implicit", "rating"}),
    as_of_us=6,
)
