"""CSV record by record, where quotes may hold line breaks or be broken."""

from __future__ import annotations

import csv
import io
from collections import deque
from collections.abc import Iterator

from recpipe.ingest.sources import Lines


class Records:
    """Iterates over (line, fields or what is wrong, raw text) of the records that follow.

    After a record with broken quoting, reading resumes on the line after the one where that
    record starts, so one open quote costs one row and not the rest of the file.

    Args:
        block: UTF-8 text that begins with a record.
        lines: What follows it.
    """

    def __init__(self, block: bytes, lines: Lines, *, delimiter: str, quoting: bool) -> None:
        self.delimiter = delimiter
        self.quoting = quoting
        self.pending: deque[str] = deque()
        self.consumed: list[str] = []
        self.block = block
        self.lines = lines

    def __iter__(self) -> Iterator[tuple[int, list[str] | str, str]]:
        reader = self._reader()
        line = self.lines.next_line
        while True:
            self.consumed = []
            problem = ""
            row: list[str] = []
            try:
                row = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                problem = str(error)
                self.pending.extendleft(reversed(self.consumed[1:]))
                del self.consumed[1:]
                reader = self._reader()
            if row or problem:
                yield line, problem or row, "".join(self.consumed).rstrip("\r\n")
            line += len(self.consumed)

    def _reader(self) -> Iterator[list[str]]:
        if self.quoting:
            return csv.reader(self._feed(), delimiter=self.delimiter, strict=True)
        return csv.reader(self._feed(), delimiter=self.delimiter, quoting=csv.QUOTE_NONE)

    def _feed(self) -> Iterator[str]:
        while True:
            while not self.pending:
                if not self.block:
                    self.block = self.lines.block()
                if not self.block:
                    return
                text = self.block.decode("utf-8", "surrogateescape")
                self.block = b""
                self.pending.extend(io.StringIO(text, newline=""))
            line = self.pending.popleft()
            self.consumed.append(line)
            yield line
