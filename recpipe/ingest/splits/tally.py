"""What a split has done, in the numbers a reader of the metrics has to know."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from recpipe.errors import DataError
from recpipe.ingest.splits.base import LEFT_OUT, Part, Parts, Splitter
from recpipe.ingest.splits.keys import HashSet, hash_column
from recpipe.ingest.splits.whole_users import UserBlock
from recpipe.schemas import ITEM_ID

HELD_OUT = (Part.VALIDATION, Part.TEST)


class SplitTally:
    """Counts rows, users and items of each part, block by block; 8 bytes an item and part.

    Cold is a user or item without a training interaction. A repeat is a held-out interaction
    of a user with an item that the same user has in training: no model is asked for it, as
    what was seen is not recommended. It stays in its part and is counted here, and `evaluate`
    leaves it out of what is relevant.
    """

    def __init__(self) -> None:
        self.rows = dict.fromkeys(Part, 0)
        self.left_out = 0
        self.users = 0
        self.users_in = dict.fromkeys(Part, 0)
        self.users_cold = dict.fromkeys(HELD_OUT, 0)
        self.repeats = dict.fromkeys(HELD_OUT, 0)
        self._items = {part: HashSet() for part in Part}

    def update(self, block: UserBlock, parts: Parts) -> None:
        """Add a block and the part of each of its rows."""
        hashes, codes = hash_column(block.column(ITEM_ID.name))
        users = block.user_of_row
        n_users = len(block.offsets) - 1
        pairs = users * len(hashes) + codes
        member = {part: parts == part for part in Part}
        present = {part: np.bincount(users[member[part]], minlength=n_users) > 0 for part in Part}
        self.users += n_users
        self.left_out += int((parts == LEFT_OUT).sum())
        for part in Part:
            self.rows[part] += int(member[part].sum())
            self.users_in[part] += int(present[part].sum())
            self._items[part].add(hashes[np.unique(codes[member[part]])])
        for part in HELD_OUT:
            self.users_cold[part] += int((present[part] & ~present[Part.TRAIN]).sum())
            self.repeats[part] += _n_repeated(pairs[member[part]], pairs[member[Part.TRAIN]])

    def require_parts(self, splitter: Splitter) -> None:
        """Fail when a part is empty.

        Raises:
            DataError: Which part, and under which protocol.
        """
        empty = [part.name.lower() for part in Part if not self.rows[part]]
        if empty:
            raise DataError(
                f"the split leaves nothing for {' and '.join(empty)}",
                where=splitter.protocol(),
                next_step="change split.test_share and split.validation_share, choose another split.by, or give "
                "more interactions",
            )

    def details(self) -> dict[str, object]:
        """Return the counts as plain values, for the manifest."""
        train_items = self._items[Part.TRAIN].values()
        found: dict[str, object] = {
            "rows_left_out": self.left_out,
            "users": self.users,
            "train_rows": self.rows[Part.TRAIN],
            "train_users": self.users_in[Part.TRAIN],
            "train_items": len(train_items),
        }
        for part in HELD_OUT:
            name = part.name.lower()
            items = self._items[part].values()
            cold = ~np.isin(items, train_items, assume_unique=True)
            found |= {
                f"{name}_rows": self.rows[part],
                f"{name}_repeats": self.repeats[part],
                f"{name}_users": self.users_in[part],
                f"{name}_users_cold": self.users_cold[part],
                f"{name}_items": len(items),
                f"{name}_items_cold": int(cold.sum()),
            }
        return found


def _n_repeated(pairs: npt.NDArray[np.int64], trained: npt.NDArray[np.int64]) -> int:
    return int(np.isin(pairs, trained).sum())
