"""Leave one out: each user's last interaction is test, the one before it validation."""

from __future__ import annotations

import numpy as np

from recpipe.ingest.splits.base import Part, Parts, Splitter
from recpipe.ingest.splits.whole_users import UserBlock

LEAST_INTERACTIONS = 3
"""Users with fewer stay in training: one interaction at least has to be learned from."""


class LeaveOneOut(Splitter):
    """Holds out the last two interactions of each user, in the order of the interactions table.

    Interactions of one moment keep the table's order: by position, then by place in the source.
    """

    by = "leave_one_out"

    def __init__(self, *, warnings: tuple[str, ...] = ()) -> None:
        self.warnings = warnings
        self._n_whole = 0

    def parts(self, block: UserBlock) -> Parts:
        enough = block.lengths >= LEAST_INTERACTIONS
        self._n_whole += int((~enough).sum())
        ends = block.offsets[1:][enough]
        parts = np.full(block.table.num_rows, Part.TRAIN, np.int8)
        parts[ends - 1] = Part.TEST
        parts[ends - 2] = Part.VALIDATION
        return parts

    def protocol(self) -> str:
        return "leave one out: each user's last interaction is test, the one before it validation"

    def details(self) -> dict[str, object]:
        return {"users_too_short": self._n_whole, "least_interactions": LEAST_INTERACTIONS}
