"""What every way of splitting has in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from enum import IntEnum
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from recpipe.ingest.splits.whole_users import UserBlock

LEFT_OUT = -1
"""In the place of a `Part`: the row is in none of them."""

Parts = npt.NDArray[np.int8]
"""int8 (n_rows,): the `Part` of each row, or `LEFT_OUT`."""

ReadColumns = Callable[[Sequence[str]], Iterator[pa.Table]]
"""Reads some columns of the interactions, batch by batch, from the first row."""


class Part(IntEnum):
    """Part of a split; the values of `Splitter.parts`."""

    TRAIN = 0
    VALIDATION = 1
    TEST = 2


class Splitter(ABC):
    """Says of each interaction to which part it belongs.

    The answer depends on the rows, the settings and the seed, never on how the rows were cut
    into blocks.

    Attributes:
        by: The value of `split.by`.
        warnings: What a reader of the metrics should know against this split.
    """

    by: ClassVar[str]
    warnings: tuple[str, ...] = ()

    @abstractmethod
    def parts(self, block: UserBlock) -> Parts:
        """Return the part of each row of a block; the blocks come once each, in any order."""

    def finish(self) -> None:  # noqa: B027  most have nothing to check
        """Check, after the last block, that all that was asked for has been done.

        Raises:
            DataError: It was not.
        """

    @abstractmethod
    def protocol(self) -> str:
        """Return one phrase that states the protocol beside a metric."""

    def details(self) -> dict[str, object]:
        """Return boundaries, seed and counts as plain values, for the manifest; after `finish`."""
        return {}
