"""Cold items: some items are held out with all their interactions, drawn by seed."""

from __future__ import annotations

import numpy as np

from recpipe.errors import DataError
from recpipe.ingest.splits.base import Part, Parts, ReadColumns, Splitter
from recpipe.ingest.splits.keys import HashSet, hash_column, seeded
from recpipe.ingest.splits.whole_users import UserBlock, one_array
from recpipe.schemas import ITEM_ID


class ColdItems(Splitter):
    """Holds out a share of the items that anybody took.

    Items are told apart by a 64-bit hash of their id, 8 bytes an item: two that collide (one
    chance in 40,000 among 30 million items) would only go the same way.

    Args:
        read: Reads the interactions; gone through once, for the items.
        test_share: Share of the items.
        validation_share: Share of the items.

    Raises:
        DataError: Too few items for three parts.
    """

    by = "cold_items"

    def __init__(self, read: ReadColumns, *, test_share: float, validation_share: float, seed: int) -> None:
        self._shares = (test_share, validation_share)
        self._seed = seed
        items = HashSet()
        for batch in read([ITEM_ID.name]):
            items.add(hash_column(one_array(batch.column(ITEM_ID.name)))[0])
        keys = np.sort(seeded(items.values(), seed, "split", "items"))
        n_items = len(keys)
        self._n_test = max(1, round(n_items * test_share))
        self._n_validation = max(1, round(n_items * validation_share))
        if n_items - self._n_test - self._n_validation < 1:
            raise DataError(
                f"the interactions are with {n_items:,} items: too few to hold out {self._n_test:,} for test and "
                f"{self._n_validation:,} for validation",
                next_step="lower split.test_share and split.validation_share, or set split.by: random",
            )
        self._last_test = keys[self._n_test - 1]
        self._last_validation = keys[self._n_test + self._n_validation - 1]

    def parts(self, block: UserBlock) -> Parts:
        hashes, codes = hash_column(block.column(ITEM_ID.name))
        keys = seeded(hashes, self._seed, "split", "items")
        parts = np.full(len(keys), Part.TRAIN, np.int8)
        parts[keys <= self._last_validation] = Part.VALIDATION
        parts[keys <= self._last_test] = Part.TEST
        return np.asarray(parts[codes])

    def protocol(self) -> str:
        return (
            f"cold items: {self._n_test:,} items are test and {self._n_validation:,} validation, each with all "
            f"its interactions (seed {self._seed})"
        )

    def details(self) -> dict[str, object]:
        return {
            "test_share": self._shares[0],
            "validation_share": self._shares[1],
            "split_seed": self._seed,
        }
