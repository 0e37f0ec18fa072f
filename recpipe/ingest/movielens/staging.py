"""Files of a layout as source tables: read in place where they are CSV on disk, else converted to scratch files."""

from __future__ import annotations

import lzma
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from recpipe.errors import DataError
from recpipe.ingest.imports import DELIMITER, ForeignFile
from recpipe.ingest.movielens.layouts import EXPECTED, Member
from recpipe.ingest.movielens.members import ZIP_REMEDY, Members
from recpipe.ingest.sources import BLOCK_BYTES, Format, SourceFile

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_MAX_LINE_BYTES = 1 << 20
_DAMAGED = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, NotImplementedError)


def check_header(members: Members, member: Member) -> None:
    """Check the column names in the first line of a file that has them.

    Raises:
        DataError: They are others, or the zip is damaged there.
    """
    if not member.header:
        return
    try:
        with members.open(member.name) as stream:
            line = stream.readline(_MAX_LINE_BYTES)
    except _DAMAGED as error:
        raise _damaged(error, members.label(member.name)) from error
    header = line.removeprefix(_BYTE_ORDER_MARK).decode("utf-8", "replace").strip()
    expected = ",".join(member.columns)
    if header != expected:
        where = f"{members.label(member.name)}, line 1"
        raise DataError(f"the header is {header!r}, not {expected!r}", where=where, next_step=EXPECTED)


def stage(members: Members, member: Member, *, scratch: Path) -> ForeignFile:
    """Return a CSV source with a header and the lines of the file, each on one line.

    Raises:
        DataError: The zip is damaged there.
    """
    label = members.label(member.name)
    on_disk = members.paths.get(member.name)
    if member.header and on_disk is not None:
        return ForeignFile(SourceFile(on_disk, Format.CSV, False), label, EXPECTED)
    scratch.mkdir(parents=True, exist_ok=True)
    path = scratch / f"{member.name}.csv"
    try:
        with members.open(member.name) as stream, path.open("wb") as converted:
            if not member.header:
                converted.write(f"{DELIMITER.join(member.columns)}\n".encode())
            for block in _whole_lines(stream):
                converted.write(block if member.header else _convert(block, member))
    except _DAMAGED as error:
        raise _damaged(error, label) from error
    source = SourceFile(path, Format.CSV, False)
    if member.header:
        return ForeignFile(source, label, EXPECTED)
    return ForeignFile(source, label, EXPECTED, member.separator, 1)


def _whole_lines(stream: IO[bytes]) -> Iterator[bytes]:
    while block := stream.read(BLOCK_BYTES):
        yield block + stream.readline(_MAX_LINE_BYTES)


def _convert(block: bytes, member: Member) -> bytes:
    """Put `DELIMITER` where the separator is; a separator inside free text stays."""
    separator, delimiter = member.separator.encode(), DELIMITER.encode()
    if member.text_column is None:
        return block.replace(separator, delimiter)
    n_before, n_after = member.text_column, len(member.columns) - member.text_column - 1
    lines = []
    for line in block.split(b"\n"):
        *before, rest = line.split(separator, n_before)
        lines.append(delimiter.join([*before, *rest.rsplit(separator, n_after)]))
    return b"\n".join(lines)


def _damaged(error: Exception, label: str) -> DataError:
    return DataError(f"the zip is damaged: {error}", where=label, next_step=ZIP_REMEDY)
