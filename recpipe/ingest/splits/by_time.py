"""Splitting interactions into training, validation and test by global time."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from recpipe.errors import DataError
from recpipe.ingest.splits.base import Part, Parts, ReadColumns, Splitter
from recpipe.ingest.splits.whole_users import UserBlock, one_array
from recpipe.schemas import TIMESTAMP

Timestamps = npt.NDArray[np.int64]
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class GlobalTime(Splitter):
    """Holds out the newest interactions of all users: nothing is learned from what came later.

    Args:
        read: Reads the interactions; gone through once, for the times: 16 bytes a row.
        n_rows: Number of interactions.

    Raises:
        DataError: Too few different times for three parts.
    """

    by = "time"

    def __init__(self, read: ReadColumns, *, n_rows: int, test_share: float, validation_share: float) -> None:
        self._shares = (test_share, validation_share)
        times = np.empty(n_rows, np.int64)
        start = 0
        for batch in read([TIMESTAMP.name]):
            times[start : start + batch.num_rows] = _microseconds(one_array(batch.column(TIMESTAMP.name)))
            start += batch.num_rows
        assert start == n_rows
        self.boundaries = time_boundaries(times, test_share=test_share, validation_share=validation_share)

    def parts(self, block: UserBlock) -> Parts:
        return assign(_microseconds(block.column(TIMESTAMP.name)), self.boundaries)

    def protocol(self) -> str:
        since = self._since()
        return f"global time: test from {since['test_from']}, validation from {since['validation_from']}"

    def details(self) -> dict[str, object]:
        return {"test_share": self._shares[0], "validation_share": self._shares[1], **self._since()}

    def _since(self) -> dict[str, str]:
        return {
            "validation_from": _moment(self.boundaries.validation_from),
            "test_from": _moment(self.boundaries.test_from),
        }


@dataclass(frozen=True, slots=True)
class TimeBoundaries:
    """Where validation and test begin, in microseconds since 1970; both inclusive.

    An interaction is test from `test_from` on, validation from `validation_from` on.
    """

    validation_from: int
    test_from: int


def time_boundaries(timestamps_us: Timestamps, *, test_share: float, validation_share: float) -> TimeBoundaries:
    """Choose the two moments that hold out the newest interactions.

    Equal timestamps stay on one side, so the shares are met as nearly as ties allow.

    Args:
        timestamps_us: int64 (n_interactions,) microseconds since 1970, in any order; sorted
            as a copy, 8 bytes a row.
        test_share: Share of the interactions wanted as test.
        validation_share: Share wanted as validation, just before the test.

    Raises:
        DataError: There are no timestamps, or too few distinct ones for three parts.
    """
    if not len(timestamps_us):
        raise DataError("a split by time needs timestamps", next_step="map data.columns.interactions.timestamp")
    ordered = np.sort(timestamps_us)
    n_rows = len(ordered)
    first_test = _cut(ordered, n_rows * (1 - test_share), low=2)
    test_from = int(ordered[first_test]) if first_test else 0
    older = ordered[:first_test]
    first_validation = _cut(older, n_rows * (1 - test_share - validation_share), low=1) if first_test else 0
    if not first_test or not first_validation:
        n_distinct = len(np.unique(ordered))
        raise DataError(
            f"{n_rows:,} interactions at {n_distinct:,} different times cannot be split into training, "
            "validation and test by time",
            next_step="check that data.columns.interactions.timestamp is the time of the interaction, or set split.by: "
            "leave_one_out or random",
        )
    return TimeBoundaries(int(ordered[first_validation]), test_from)


def assign(timestamps_us: Timestamps, boundaries: TimeBoundaries) -> Parts:
    """Return the `Part` of each interaction: int8 (n_interactions,)."""
    parts = np.full(len(timestamps_us), Part.TRAIN, np.int8)
    parts[timestamps_us >= boundaries.validation_from] = Part.VALIDATION
    parts[timestamps_us >= boundaries.test_from] = Part.TEST
    return parts


def _microseconds(times: pa.Array) -> Timestamps:
    return np.asarray(times.cast(pa.int64()).to_numpy(), np.int64)


def _moment(microseconds: int) -> str:
    return (_EPOCH + timedelta(microseconds=microseconds)).isoformat(sep=" ")


def _cut(ordered: Timestamps, wanted: float, *, low: int) -> int:
    """Return the start of a run of equal values nearest to `wanted`; 0 when there is none.

    `low` distinct values must remain before it. Only searches: an array of all starts would
    take as much memory again as the values.
    """
    n_rows = len(ordered)
    least = 0
    for _ in range(low):
        least = _next_start(ordered, least)
    if least >= n_rows:
        return 0
    at = min(math.ceil(wanted), n_rows - 1)
    before = int(np.searchsorted(ordered, ordered[max(at - 1, 0)], side="left"))
    after = at if ordered[at] != ordered[max(at - 1, 0)] else _next_start(ordered, at)
    found = [start for start in (before, max(after, least)) if least <= start < n_rows]
    return min(found, key=lambda start: abs(start - wanted), default=0)


def _next_start(ordered: Timestamps, row: int) -> int:
    """Return the first row with a larger value; the number of rows when there is none."""
    return int(np.searchsorted(ordered, ordered[row], side="right")) if row < len(ordered) else row
