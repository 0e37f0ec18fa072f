"""Splitting interactions into training, validation and test by global time."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import numpy.typing as npt

from recpipe.errors import DataError

Timestamps = npt.NDArray[np.int64]


class Part(IntEnum):
    """Part of a split; the values of `assign`."""

    TRAIN = 0
    VALIDATION = 1
    TEST = 2


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
            next_step="check that data.columns.interactions.timestamp is the time of the interaction",
        )
    return TimeBoundaries(int(ordered[first_validation]), test_from)


def assign(timestamps_us: Timestamps, boundaries: TimeBoundaries) -> npt.NDArray[np.int8]:
    """Return the `Part` of each interaction: int8 (n_interactions,)."""
    parts = np.full(len(timestamps_us), Part.TRAIN, np.int8)
    parts[timestamps_us >= boundaries.validation_from] = Part.VALIDATION
    parts[timestamps_us >= boundaries.test_from] = Part.TEST
    return parts


def _cut(ordered: Timestamps, wanted: float, *, low: int) -> int:
    """Return the start of a run of equal values nearest to `wanted`; 0 when there is none.

    `low` distinct values must remain before it.
    """
    starts = np.flatnonzero(np.diff(ordered)) + 1
    starts = starts[low - 1 :]
    if not len(starts):
        return 0
    right = int(np.searchsorted(starts, wanted))
    near = starts[max(right - 1, 0) : right + 1]
    return int(near[np.argmin(np.abs(near - wanted))])
