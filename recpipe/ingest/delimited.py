"""CSV and TSV: every field as text, every bad row with the line on which it starts.

Blocks in which every line is a record go through Arrow's reader; lines are counted, and
rows with a wrong number of fields or invalid bytes taken out, before it sees them. From the
first block with line breaks or quotes inside quoted fields, or with broken quoting, the rest
of the file goes through Python's csv module record by record: there the line of a record is
known whatever its fields hold.
"""

from __future__ import annotations

import csv
import logging
from collections import Counter
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
from pyarrow import csv as arrow_csv

from recpipe.errors import DataError
from recpipe.ingest.blocks import Scan, scan
from recpipe.ingest.quarantine import BadRow, Reason
from recpipe.ingest.records import Records
from recpipe.ingest.sources import Chunk, Format, Lines, SourceFile

logger = logging.getLogger(__name__)

_DELIMITERS = (",", ";", "\t", "|")
_NAMES = {"\t": "tab", ",": "comma", ";": "semicolon", "|": "bar"}
_CHUNK_RECORDS = 32_768
_CHUNK_CHARACTERS = 4 << 20
_NOT_TEXT = "bytes that are not valid text"


def read_delimited(file: SourceFile, *, encoding: str, delimiter: str, quoting: bool) -> Iterator[Chunk]:
    """Yield the rows of a CSV or TSV file; columns are string arrays, unnamed columns are left out.

    Args:
        delimiter: One character, or `auto`: the one the header is most often separated by.

    Raises:
        DataError: The header cannot be read or repeats a name.
    """
    lines = Lines(file, encoding)
    names, delimiter = _read_header(lines, delimiter, quoting)
    if names:
        body = _Body(file, names, delimiter, quoting)
        # a file with a header only still shows its columns
        yield body.chunk([], [], [], [])
        yield from body.read(lines)


def _read_header(lines: Lines, delimiter: str, quoting: bool) -> tuple[list[str], str]:
    """Return column names and delimiter; no names when the file is empty."""
    start, raw = lines.next_line, lines.line()
    while raw and not raw.strip():
        start, raw = lines.next_line, lines.line()
    where = f"{lines.file.path}, line {start}"
    if raw.startswith(b"PAR1") or b"\0" in raw:
        raise DataError(
            "the header is not text",
            where=where,
            next_step="a Parquet file is named .parquet; for UTF-16 set data.encoding",
        )
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        raise DataError("the header is not UTF-8", where=where, next_step="set data.encoding, e.g. cp1252") from None
    if quoting and text.count('"') % 2:
        raise DataError("the header has an open quote", where=where, next_step="close it, or set data.quoting: false")
    usual = "\t" if lines.file.format is Format.TSV else ","
    if delimiter == "auto":
        # max keeps the first of equals, so the usual one wins a tie
        delimiter = max((usual, *_DELIMITERS), key=lambda d: len(_split(text, d, quoting)))
        if delimiter != usual:
            logger.info("%s: fields are separated by %s", lines.file.path, _NAMES[delimiter])
    names = [name.strip() for name in _split(text, delimiter, quoting)]
    repeated = sorted(name for name, count in Counter(names).items() if count > 1 and name)
    if repeated:
        raise DataError(
            f"the header repeats: {', '.join(repeated)}", where=where, next_step="give each column its own name"
        )
    if unnamed := names.count(""):
        logger.info("%s: %d column(s) without a name left out", lines.file.path, unnamed)
    return names, delimiter


def _split(header: str, delimiter: str, quoting: bool) -> list[str]:
    if not quoting:
        return header.rstrip("\r\n").split(delimiter)
    return next(csv.reader([header], delimiter=delimiter), [])


class _Body:
    """Reads the rows after the header."""

    def __init__(self, file: SourceFile, names: list[str], delimiter: str, quoting: bool) -> None:
        self.file = file
        self.names = names
        self.delimiter = delimiter
        self.quoting = quoting

    def read(self, lines: Lines) -> Iterator[Chunk]:
        while block := lines.block():
            found = scan(block, delimiter=self.delimiter, quoting=self.quoting)
            if found is None:
                yield from self._records(block, lines)
                return
            yield self._plain(block, found, lines.next_line)
            lines.next_line += block.count(b"\n")

    def _plain(self, block: bytes, found: Scan, first_line: int) -> Chunk:
        """Read a block in which every line is one record."""
        filled = found.ends > found.starts
        numbers = first_line + np.flatnonzero(filled)
        starts, ends, n_fields = found.starts[filled], found.ends[filled], found.n_fields[filled]
        good = n_fields == len(self.names)
        bad = [
            self._wrong_count(int(numbers[i]), int(n_fields[i]), _escape(block[starts[i] : ends[i]]))
            for i in np.flatnonzero(~good)
        ]
        if not _is_utf8(block):
            for i in np.flatnonzero(good):
                line = block[starts[i] : ends[i]]
                if not _is_utf8(line):
                    good[i] = False
                    bad.append(self._bad(int(numbers[i]), Reason.BAD_ENCODING, _NOT_TEXT, _escape(line)))
        if bad:
            starts, ends, numbers = starts[good], ends[good], numbers[good]
            block = b"\n".join(block[a:b] for a, b in zip(starts.tolist(), ends.tolist(), strict=True))
            edges = np.concatenate([[0], np.cumsum(ends - starts + 1)])
            starts, ends = edges[:-1], edges[1:] - 1
        table = self._parse(block, found.quoted) if len(starts) else self._nothing()
        if table.num_rows != len(starts):
            raise AssertionError(f"{self.file.path}: {table.num_rows} rows parsed of {len(starts)}")
        return Chunk(
            self.file,
            {
                name: table.column(key).combine_chunks()
                for key, name in zip(self._keys(), self.names, strict=True)
                if name
            },
            numbers,
            lambda i: block[starts[i] : ends[i]].decode(),
            untyped=True,
            delimiter=self.delimiter,
            bad=bad,
        )

    def _keys(self) -> list[str]:
        return [str(i) for i in range(len(self.names))]

    def _nothing(self) -> pa.Table:
        return pa.table({key: pa.array([], pa.string()) for key in self._keys()})

    def _parse(self, block: bytes, quoted: bool) -> pa.Table:
        return arrow_csv.read_csv(
            pa.BufferReader(block),
            read_options=arrow_csv.ReadOptions(column_names=self._keys(), use_threads=False, block_size=len(block) + 1),
            parse_options=arrow_csv.ParseOptions(
                delimiter=self.delimiter, quote_char='"' if quoted else False, escape_char=False
            ),
            convert_options=arrow_csv.ConvertOptions(
                column_types={key: pa.string() for key in self._keys()}, strings_can_be_null=False
            ),
        )

    def _records(self, block: bytes, lines: Lines) -> Iterator[Chunk]:
        """Read from `block` to the end of the file with the csv module."""
        rows: list[list[str]] = []
        raws: list[str] = []
        numbers: list[int] = []
        bad: list[BadRow] = []
        size = 0
        for line, row, raw in Records(block, lines, delimiter=self.delimiter, quoting=self.quoting):
            size += len(raw)
            if isinstance(row, str):
                bad.append(self._bad(line, Reason.BAD_QUOTING, row, raw))
            elif not raw.isascii() and not _is_encodable(raw):
                bad.append(self._bad(line, Reason.BAD_ENCODING, _NOT_TEXT, raw))
            elif len(row) != len(self.names):
                bad.append(self._wrong_count(line, len(row), raw))
            else:
                rows.append(row)
                raws.append(raw)
                numbers.append(line)
            if len(rows) + len(bad) >= _CHUNK_RECORDS or size >= _CHUNK_CHARACTERS:
                yield self.chunk(rows, raws, numbers, bad)
                rows, raws, numbers, bad, size = [], [], [], [], 0
        if rows or bad:
            yield self.chunk(rows, raws, numbers, bad)

    def chunk(self, rows: list[list[str]], raws: list[str], numbers: list[int], bad: list[BadRow]) -> Chunk:
        values = zip(*rows, strict=True) if rows else ([] for _ in self.names)
        columns = {name: pa.array(column, pa.string()) for name, column in zip(self.names, values, strict=True) if name}
        return Chunk(
            self.file,
            columns,
            np.array(numbers, np.int64),
            raws.__getitem__,
            untyped=True,
            delimiter=self.delimiter,
            bad=bad,
        )

    def _wrong_count(self, line: int, n_fields: int, raw: str) -> BadRow:
        detail = f"{n_fields} fields, the header has {len(self.names)}"
        return self._bad(line, Reason.WRONG_COLUMN_COUNT, detail, raw)

    def _bad(self, line: int, reason: Reason, detail: str, raw: str) -> BadRow:
        return BadRow(str(self.file.path), line, reason, detail, raw)


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _is_encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _escape(line: bytes) -> str:
    return line.decode("utf-8", "surrogateescape")
