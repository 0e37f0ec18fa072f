"""The order of items with equal scores: by a hash of the id, so that no id is favoured by its name."""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt
    import pyarrow as pa


def tie_order(item_ids: pa.StringArray) -> npt.NDArray[np.int32]:
    """Return the place of each item among equals: int32 (n_items,), a permutation, smaller first.

    Depends on the set of ids alone: not on their order, the machine or the Python hash seed.
    About a second for a million ids; call it once per catalogue.
    """
    digests = b"".join([blake2b(item_id.encode(), digest_size=8).digest() for item_id in item_ids.to_pylist()])
    order = np.argsort(np.frombuffer(digests, dtype=">u8"), kind="stable")
    places = np.empty(len(order), dtype=np.int32)
    places[order] = np.arange(len(order), dtype=np.int32)
    return places
