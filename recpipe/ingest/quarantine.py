"""Bad rows: counted by reason, kept with file, line and content, never dropped in silence."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from types import TracebackType

import pyarrow as pa
import pyarrow.parquet as pq

from recpipe.errors import DataError
from recpipe.ingest.publish import finish, temporary_for

_SCHEMA = pa.schema(
    [
        pa.field("file", pa.string(), nullable=False),
        pa.field("line", pa.int64(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("detail", pa.string(), nullable=False),
        pa.field("raw", pa.string(), nullable=False),
    ]
)
_BUFFERED_ROWS = 10_000
_N_EXAMPLES = 3
# A share says nothing about a handful of rows: 1 bad row of 12 is a slip, 7 are a mistake.
_SHARE_FROM = 5


class Reason(StrEnum):
    """Why a row is bad."""

    MISSING_ID = "missing_id"
    DUPLICATE_ID = "duplicate_id"
    UNKNOWN_USER = "unknown_user"
    UNKNOWN_ITEM = "unknown_item"
    BAD_RATING = "bad_rating"
    BAD_TIMESTAMP = "bad_timestamp"
    BAD_POSITION = "bad_position"
    WRONG_COLUMN_COUNT = "wrong_column_count"
    BAD_QUOTING = "bad_quoting"
    BAD_JSON = "bad_json"
    BAD_ENCODING = "bad_encoding"
    NOTHING_TO_SHOW = "nothing_to_show"


_HINTS = {
    Reason.BAD_RATING: "the decimal sign is data.decimal, the range data.rating_min to data.rating_max",
    Reason.BAD_ENCODING: "if the file is not UTF-8, set data.encoding, e.g. cp1252",
    Reason.BAD_QUOTING: "if quotes mean nothing in this file, set data.quoting: false",
    Reason.WRONG_COLUMN_COUNT: "if fields hold the delimiter, quote them or set data.delimiter",
    Reason.BAD_JSON: "JSONL holds one whole object on each line (jq -c . makes it so)",
    Reason.NOTHING_TO_SHOW: "name what describes an item in data.columns.items, e.g. {title: NAME, text: [info.text]}",
    Reason.BAD_TIMESTAMP: "numbers are read in data.timestamp_unit, text as ISO 8601",
}


@dataclass(frozen=True, slots=True)
class BadRow:
    """One bad row.

    Attributes:
        line: Line on which the row starts, from 1; in Parquet the number of the row, from 1.
        detail: What is wrong, with the value.
        raw: The row as it stands in the file; JSON for Parquet rows.
    """

    file: str
    line: int
    reason: Reason
    detail: str
    raw: str

    def place(self) -> str:
        """Return file, line, reason and detail as one phrase."""
        unit = "row" if self.file.endswith((".parquet", ".pq")) else "line"
        return f"{self.file}, {unit} {self.line}: {self.reason}: {self.detail}"


class Quarantine:
    """Collects the bad rows of one table and writes them to one Parquet file.

    Use as a context manager: leaving it publishes the file also when reading failed. A file
    left by an earlier run is removed when there are no bad rows.

    Attributes:
        counts: Number of bad rows by reason.
        examples: The first bad rows met.
    """

    def __init__(self, table: str, path: Path) -> None:
        self.table = table
        self.path = path
        self.counts: Counter[Reason] = Counter()
        self.examples: list[BadRow] = []
        self._buffer: list[BadRow] = []
        self._writer: pq.ParquetWriter | None = None
        self._temporary: Path | None = None

    def __enter__(self) -> Quarantine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._flush()
            if self._writer is None or self._temporary is None:
                self.path.unlink(missing_ok=True)
                return
            self._writer.close()
            self._writer = None
            finish(self._temporary, self.path)
        finally:
            if self._temporary is not None:
                self._temporary.unlink(missing_ok=True)

    @property
    def n_bad(self) -> int:
        """Number of bad rows so far."""
        return self.counts.total()

    def add(self, row: BadRow) -> None:
        """Record one bad row."""
        self.counts[row.reason] += 1
        if len(self.examples) < _N_EXAMPLES:
            self.examples.append(row)
        self._buffer.append(row)
        if len(self._buffer) >= _BUFFERED_ROWS:
            self._flush()

    def check(self, *, n_good: int, max_bad_rows: int, max_bad_share: float) -> None:
        """Raise when there are too many bad rows, or no good one.

        Raises:
            DataError: More than `max_bad_rows` bad rows, at least five and a larger share of the rows than
                `max_bad_share`, or none good.
        """
        total = n_good + self.n_bad
        too_many = self.n_bad > max_bad_rows
        too_large = self.n_bad >= _SHARE_FROM and self.n_bad > max_bad_share * total
        if n_good and not too_many and not too_large:
            return
        by_reason = ", ".join(f"{count:,} {reason}" for reason, count in self.counts.most_common())
        limits = [f"data.max_bad_rows is {max_bad_rows}"] * too_many
        limits += [f"data.max_bad_share is {max_bad_share}"] * too_large
        limit = ", ".join(limits) if n_good else "no good row is left"
        steps = [f"all of them are in {self.path}", *(hint for reason, hint in _HINTS.items() if reason in self.counts)]
        if n_good:
            keys = [f"--set data.max_bad_rows={self.n_bad}"] * too_many
            keys += [f"--set data.max_bad_share={math.ceil(100 * self.n_bad / total) / 100}"] * too_large
            steps.append(f"mend them, or accept them with {' '.join(keys)}")
        raise DataError(
            f"{self.table}: {self.n_bad:,} of {total:,} rows are bad ({limit}): {by_reason}",
            where="; ".join(row.place() for row in self.examples),
            next_step="; ".join(steps),
        )

    def _flush(self) -> None:
        if not self._buffer:
            return
        if self._writer is None:
            self._temporary = temporary_for(self.path)
            self._writer = pq.ParquetWriter(self._temporary, _SCHEMA)
        rows = self._buffer
        columns = {
            "file": [row.file for row in rows],
            "line": [row.line for row in rows],
            "reason": [str(row.reason) for row in rows],
            "detail": [_storable(row.detail) for row in rows],
            "raw": [_storable(row.raw) for row in rows],
        }
        self._writer.write_table(pa.table(columns, schema=_SCHEMA))
        self._buffer = []


def _storable(text: str) -> str:
    """Undecodable bytes as \\x escapes, so that Arrow can hold the text and a reader sees them."""
    if text.isascii():
        return text
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
