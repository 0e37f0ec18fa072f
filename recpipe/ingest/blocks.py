"""Telling, with array operations, whether a block of CSV is simple: one record on every line."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

_NEWLINE, _RETURN, _QUOTE = b"\n"[0], b"\r"[0], b'"'[0]


@dataclass(frozen=True, slots=True)
class Scan:
    """Lines of a simple block.

    Attributes:
        starts: int64 (n_lines,): offset of the first byte of each line.
        ends: int64 (n_lines,): offset after its last byte, without the line break.
        n_fields: int64 (n_lines,).
        quoted: Some fields are enclosed in quotes.
    """

    starts: npt.NDArray[np.int64]
    ends: npt.NDArray[np.int64]
    n_fields: npt.NDArray[np.int64]
    quoted: bool


def scan(block: bytes, *, delimiter: str, quoting: bool) -> Scan | None:
    """Find lines and count fields; None when the block is not simple.

    Simple means: lines end with \\n or \\r\\n, and quotes, where they mean something, enclose
    whole fields that hold no quote and no line break.
    """
    if block.count(b"\r") != block.count(b"\r\n"):
        return None
    data = np.frombuffer(block, np.uint8)
    newlines = np.flatnonzero(data == _NEWLINE)
    marks = np.flatnonzero(data == ord(delimiter))
    quoted = quoting and b'"' in block
    if quoted:
        quotes = np.flatnonzero(data == _QUOTE)
        if not _encloses_fields(data, quotes, ord(delimiter)):
            return None
        if (np.searchsorted(quotes, newlines) % 2).any():
            return None
        marks = marks[np.searchsorted(quotes, marks) % 2 == 0]
    ends = newlines
    if not len(ends) or ends[-1] != len(data) - 1:
        ends = np.append(ends, len(data))
    starts = np.concatenate([[0], ends[:-1] + 1])
    ends = ends - ((ends > starts) & (data[np.maximum(ends - 1, 0)] == _RETURN))
    n_fields = np.searchsorted(marks, ends) - np.searchsorted(marks, starts) + 1
    return Scan(starts, ends, n_fields, quoted)


def _encloses_fields(data: npt.NDArray[np.uint8], quotes: npt.NDArray[np.int64], delimiter: int) -> bool:
    """Whether every odd quote starts a field and every even one ends it."""
    if len(quotes) % 2:
        return False
    padded = np.concatenate([[_NEWLINE], data, [_NEWLINE]])
    before, after = padded[quotes[0::2]], padded[quotes[1::2] + 2]
    opens = (before == delimiter) | (before == _NEWLINE)
    closes = (after == delimiter) | (after == _NEWLINE) | (after == _RETURN)
    return bool(opens.all() and closes.all())
