"""Equal texts once, long ones first, batches of about equal cost, computed on several cores.

Padding costs as much as text, so texts of like length go together; on a CPU a batch of about
a thousand tokens stays in the cache, which is worth more than a large one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch

# The first part is small, so that computing starts at once; its long texts take longer than to tokenise the next part.
_FIRST_PART, _PART = 256, 16384

A = TypeVar("A")
B = TypeVar("B")


@dataclass(frozen=True, slots=True)
class Tokens:
    """Token ids of many texts, without padding.

    Attributes:
        ids: (total,) int32, all texts behind one another.
        type_ids: Like ids; None where the model takes none.
        offsets: (n + 1,) int64; text i is ids[offsets[i]:offsets[i + 1]].
        truncated: (n,) bool, text was longer than the model reads.
    """

    ids: npt.NDArray[np.int32]
    type_ids: npt.NDArray[np.int32] | None
    offsets: npt.NDArray[np.int64]
    truncated: npt.NDArray[np.bool_]

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """(n,) int64, tokens of each text."""
        return np.diff(self.offsets)


def unique_texts(texts: Sequence[str]) -> tuple[list[str], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return the distinct texts in order of appearance, each text's row among them, and where each first stands."""
    rows: dict[str, int] = {}
    first: list[int] = []
    inverse = np.empty(len(texts), dtype=np.int64)
    for position, text in enumerate(texts):
        row = rows.setdefault(text, len(rows))
        if row == len(first):
            first.append(position)
        inverse[position] = row
    return list(rows), inverse, np.asarray(first, dtype=np.int64)


def parts_of(texts: Sequence[str]) -> list[npt.NDArray[np.int64]]:
    """Return the rows of a small part and of larger ones, longest texts first, all in order where they are few."""
    if len(texts) <= _FIRST_PART:
        return [np.arange(len(texts))]
    # Characters follow tokens closely enough: rows of like length meet in a part, and batches order them exactly.
    order = np.argsort([-len(text) for text in texts], kind="stable")
    return np.split(order, range(_FIRST_PART, len(texts), _PART))


def one_ahead(function: Callable[[A], B], arguments: Iterable[A]) -> Iterator[B]:
    """Yield function(argument) in order, the next one computed in a thread while the caller uses the last."""
    with ThreadPoolExecutor(1, thread_name_prefix="recpipe-ahead") as pool:
        waiting = None
        for argument in arguments:
            following = pool.submit(function, argument)
            if waiting is not None:
                yield waiting.result()
            waiting = following
        if waiting is not None:
            yield waiting.result()


def in_threads(compute: Callable[[A], None], arguments: Iterable[A], threads: int) -> None:
    """Call compute(argument) for all arguments, so many at a time; torch uses one core in each thread.

    A batch on each core takes 1/1.9 of one core's time, every operation on all cores 1/1.85; but where other work
    shares the cores, the second waits for its slowest part and took four times as long as a single core.
    """
    if threads == 1:
        for argument in arguments:
            compute(argument)
        return
    before = torch.get_num_threads()
    try:
        with ThreadPoolExecutor(
            threads, thread_name_prefix="recpipe-batch", initializer=torch.set_num_threads, initargs=(1,)
        ) as pool:
            futures = [pool.submit(compute, argument) for argument in arguments]
            try:
                for future in futures:
                    future.result()
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
    finally:
        torch.set_num_threads(before)  # threads started later take the number that was set last


def token_batches(lengths: npt.NDArray[np.int64], batch_tokens: int) -> Iterator[npt.NDArray[np.int64]]:
    """Yield rows of like length, longest first, whose padded size is at most `batch_tokens` (or a single row).

    Args:
        lengths: (n,) int64, tokens of each text.
    """
    order = np.argsort(-lengths, kind="stable")
    start = 0
    while start < len(order):
        width = max(1, int(lengths[order[start]]))
        stop = start + max(1, batch_tokens // width)
        yield order[start:stop]
        start = stop


def padded(
    values: npt.NDArray[np.int32], tokens: Tokens, *, rows: npt.NDArray[np.int64], fill: int
) -> npt.NDArray[np.int64]:
    """Return the values of some texts, padded on the right.

    Args:
        values: (total,) int32: `tokens.ids` or `tokens.type_ids`.
        rows: (b,) rows of the texts.

    Returns:
        (b, width) int64; width is the longest text's, at least 1.
    """
    lengths = tokens.lengths[rows]
    width = max(1, int(lengths.max()))
    columns = np.arange(width)
    inside = columns < lengths[:, None]  # (b, width)
    result = np.full((len(rows), width), fill, dtype=np.int64)
    result[inside] = values[(tokens.offsets[rows][:, None] + columns)[inside]]
    return result
