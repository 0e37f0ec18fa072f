"""What an executor is: it places shards and knows nothing of what they compute.

*Engines schedule, recpipe writes*: a task reads its shard, computes and publishes one file
atomically under a deterministic name. It may run more than once; late writers are harmless.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class Shard:
    """A fixed range of rows and the file its result goes to.

    Attributes:
        index: Number of the shard, from 0.
        start: First row.
        stop: One past the last row.
        output: The part file to publish.
    """

    index: int
    start: int
    stop: int
    output: Path

    @property
    def rows(self) -> int:
        return self.stop - self.start


class Task(Protocol):
    """Work on shards. Small to send to a worker: big inputs are opened in `setup`."""

    def setup(self) -> None:
        """Open inputs and load models; called once a worker before its first shard."""

    def __call__(self, shard: Shard) -> dict[str, Any]:
        """Compute one shard, publish its file and return small statistics. Idempotent."""


class Executor(Protocol):
    """Maps a task over shards."""

    def map_shards(self, task: Task, shards: Sequence[Shard]) -> Iterator[tuple[Shard, dict[str, Any]]]:
        """Yield each shard with its statistics as it finishes, in any order.

        Raises:
            RecpipeError: What the task raised; or, when a worker died, that it did.
        """


def shards_of(n_rows: int, shard_rows: int, folder: Path, name: str) -> list[Shard]:
    """Cut `n_rows` rows into shards of `shard_rows`, the last one shorter.

    The cut depends on the row count alone, never on workers, so results do not either.
    """
    return [
        Shard(index, start, stop, folder / f"{name}-{index:06d}-{start}-{stop}.parquet")
        for index, start in enumerate(range(0, n_rows, shard_rows))
        for stop in (min(start + shard_rows, n_rows),)
    ]
