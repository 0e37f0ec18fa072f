"""Finding source files and opening text files as UTF-8 bytes, whatever their encoding."""

from __future__ import annotations

import codecs
import glob
import gzip
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import IO, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from recpipe.errors import DataError, MissingInputError
from recpipe.ingest.quarantine import BadRow

BLOCK_BYTES = 4 << 20
_MAX_LINE_BYTES = 64 << 20
# What a byte on disk becomes in memory, roughly; only sizes the buckets of the sort.
_GZIP_RATIO = 4
_PARQUET_RATIO = 5


class Format(StrEnum):
    """Formats of source files, told by their suffix."""

    CSV = "csv"
    TSV = "tsv"
    JSONL = "jsonl"
    PARQUET = "parquet"


_SUFFIXES = {
    ".csv": Format.CSV,
    ".tsv": Format.TSV,
    ".jsonl": Format.JSONL,
    ".ndjson": Format.JSONL,
    ".parquet": Format.PARQUET,
    ".pq": Format.PARQUET,
}


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One source file."""

    path: Path
    format: Format
    compressed: bool

    def text_bytes(self) -> int:
        """Estimate the size of the content as plain text."""
        ratio = _GZIP_RATIO if self.compressed else _PARQUET_RATIO if self.format is Format.PARQUET else 1
        return self.path.stat().st_size * ratio


@dataclass(slots=True)
class Chunk:
    """A run of rows of one file.

    Attributes:
        columns: Source column -> array of n_rows values. Empty text may stand for null.
        lines: int64 (n_rows,): line on which each row starts; row number in Parquet.
        raw: Row index -> the row as it stands in the file.
        untyped: Every value is text because the format knows no types (CSV, TSV).
        delimiter: What separates the fields; empty where nothing does (JSONL, Parquet).
        open_ended: Columns may be absent because rows name their own (JSONL).
        bad: Rows of this run that could not be read.
        refused: Columns that no table can hold -> why.
        inner: Dotted name -> that value inside nested columns; None where no row has it.
        inner_names: Returns the dotted names of the values inside nested columns.
    """

    file: SourceFile
    columns: dict[str, pa.Array]
    lines: npt.NDArray[np.int64]
    raw: Callable[[int], str]
    untyped: bool = False
    delimiter: str = ""
    open_ended: bool = False
    bad: list[BadRow] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)
    inner: Callable[[str], pa.Array | None] = lambda name: None
    inner_names: Callable[[], list[str]] = list


def format_of(path: Path) -> tuple[Format, bool] | None:
    """Return format and whether the file is gzipped, or None for an unknown suffix."""
    name = path.name.lower()
    compressed = name.endswith(".gz")
    found = _SUFFIXES.get(Path(name.removesuffix(".gz")).suffix)
    if found is None or (compressed and found is Format.PARQUET):
        return None
    return found, compressed


def find_sources(paths: str | Path | Sequence[str], *, table: str) -> list[SourceFile]:
    """List the files behind a path, folder or glob, in a fixed order.

    A folder stands for the files with a known suffix directly in it, sorted by name; hidden
    files and those starting with an underscore are passed over.

    Raises:
        MissingInputError: Nothing is there.
        DataError: A file has an unknown suffix, or a folder no file with a known one.
    """
    found: list[SourceFile] = []
    for entry in [paths] if isinstance(paths, str | Path) else paths:
        for path in _expand(str(entry), table):
            known = format_of(path)
            if known is None:
                raise DataError(
                    f"{table}: cannot tell the format of {path.name}",
                    where=str(path),
                    next_step="name it .csv, .tsv, .jsonl (each also with .gz) or .parquet",
                )
            found.append(SourceFile(path, *known))
    return found


def _expand(entry: str, table: str) -> list[Path]:
    path = Path(entry)
    if path.is_dir():
        files = [p for p in sorted(path.iterdir()) if p.is_file() and p.name[0] not in "._" and format_of(p)]
        if not files:
            raise DataError(
                f"{table}: the folder holds no table",
                where=entry,
                next_step="put CSV, TSV, JSONL or Parquet files there",
            )
        return files
    if path.is_file():
        return [path]
    matches = sorted(p for p in map(Path, glob.glob(entry, recursive=True)) if p.is_file())  # noqa: PTH207
    if not matches:
        raise MissingInputError(
            f"{table}: file not found: {entry}",
            where=str(path.absolute()),
            next_step=f"check data.{table}: relative paths start from the current directory (recpipe -C changes it)",
        )
    return matches


class Lines:
    """Reads a text file as runs of whole lines in UTF-8, without loading it whole.

    Attributes:
        next_line: Number of the line that comes next, from 1.
    """

    def __init__(self, file: SourceFile, encoding: str) -> None:
        self.file = file
        self.next_line = 1
        self._blocks = utf8_blocks(file, encoding)
        self._rest = b""

    def line(self) -> bytes:
        """Return the next line with its end; empty at the end of the file."""
        data = self.block()
        if not data:
            return b""
        ends = [end for end in (data.find(b"\n"), data.find(b"\r")) if end >= 0]
        end = min(ends, default=len(data) - 1) + 1
        if data[end - 1 : end + 1] == b"\r\n":
            end += 1
        self._rest = data[end:] + self._rest
        self.next_line += 1
        return data[:end]

    def block(self) -> bytes:
        """Return some whole lines, about BLOCK_BYTES; empty at the end. The caller advances `next_line`."""
        data, self._rest = self._rest, b""
        while True:
            end = max(data.rfind(b"\n"), data.rfind(b"\r", 0, len(data) - 1) if b"\n" not in data else -1) + 1
            if end and len(data) >= BLOCK_BYTES:
                break
            more = next(self._blocks, b"")
            if not more:
                return data
            data += more
            if len(data) > _MAX_LINE_BYTES:
                raise DataError(
                    "the file has a line longer than 64 MB: it is no text table",
                    where=f"{self.file.path}, line {self.next_line}",
                )
        self._rest = data[end:]
        return data[:end]


def utf8_blocks(file: SourceFile, encoding: str) -> Iterator[bytes]:
    """Yield the content as UTF-8 without its mark; bytes invalid in `encoding` stay invalid.

    Raises:
        DataError: The file cannot be read or is cut off, or is not UTF-16 where it must be.
    """
    try:
        with _open(file) as stream:
            first = stream.read(BLOCK_BYTES)
            name = _encoding(first) if encoding == "auto" else codecs.lookup(encoding).name
            if name in {"utf-8", "utf-8-sig"}:
                yield first.removeprefix(codecs.BOM_UTF8)
                while block := stream.read(BLOCK_BYTES):
                    yield block
                return
            # surrogateescape carries an undecodable byte through to the line that is then reported.
            decoder = codecs.getincrementaldecoder(name)(errors="surrogateescape")
            block = first
            while block:
                text = decoder.decode(block).removeprefix("\ufeff" if block is first else "")
                if text:
                    yield text.encode("utf-8", "surrogateescape")
                block = stream.read(BLOCK_BYTES)
            if text := decoder.decode(b"", final=True):
                yield text.encode("utf-8", "surrogateescape")
    except UnicodeError as error:
        raise DataError(
            f"the file is not {name}: {error}", where=str(file.path), next_step="set data.encoding"
        ) from error
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"the gzip file is damaged or cut off: {error}", where=str(file.path)) from error
    except OSError as error:
        raise DataError(f"the file cannot be read: {error.strerror or error}", where=str(file.path)) from error


def _open(file: SourceFile) -> IO[bytes]:
    if file.compressed:
        return cast(IO[bytes], gzip.open(file.path, "rb"))
    return file.path.open("rb")


def _encoding(start: bytes) -> str:
    if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    return "utf-8"
