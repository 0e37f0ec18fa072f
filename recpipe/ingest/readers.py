"""Reading JSONL and Parquet files, and choosing the reader of a file."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from recpipe.errors import DataError
from recpipe.ingest.delimited import read_delimited
from recpipe.ingest.nested import is_nested, object_names, object_values, struct_names, struct_values
from recpipe.ingest.quarantine import BadRow, Reason
from recpipe.ingest.settings import DataSettings
from recpipe.ingest.sources import Chunk, Format, Lines, SourceFile

_CHUNK_RECORDS = 32_768
_CHUNK_CHARACTERS = 4 << 20
_PARQUET_ROWS = 16_384
_INT64 = 1 << 63
UTC_MICROSECONDS = pa.timestamp("us", "UTC")


def read_chunks(file: SourceFile, settings: DataSettings) -> Iterator[Chunk]:
    """Yield the rows of one source file.

    Raises:
        DataError: The file cannot be read at all.
    """
    if file.format is Format.PARQUET:
        yield from _read_parquet(file)
    elif file.format is Format.JSONL:
        yield from _read_jsonl(file, settings.encoding)
    else:
        yield from read_delimited(
            file, encoding=settings.encoding, delimiter=settings.delimiter, quoting=settings.quoting
        )


def _read_jsonl(file: SourceFile, encoding: str) -> Iterator[Chunk]:
    lines = Lines(file, encoding)
    rows: list[dict[str, Any]] = []
    raws: list[str] = []
    numbers: list[int] = []
    bad: list[BadRow] = []
    size = 0
    while block := lines.block():
        for line in block.split(b"\n")[: None if not block.endswith(b"\n") else -1]:
            number, lines.next_line = lines.next_line, lines.next_line + 1
            if not line.strip():
                continue
            found = _parse_object(file, number, line)
            if isinstance(found, BadRow):
                bad.append(found)
            else:
                rows.append(found)
                raws.append(line.decode().rstrip("\r"))
                numbers.append(number)
            size += len(line)
            if len(rows) + len(bad) >= _CHUNK_RECORDS or size >= _CHUNK_CHARACTERS:
                yield _object_chunk(file, rows, raws, numbers, bad)
                rows, raws, numbers, bad, size = [], [], [], [], 0
    if rows or bad:
        yield _object_chunk(file, rows, raws, numbers, bad)


def _parse_object(file: SourceFile, number: int, line: bytes) -> dict[str, Any] | BadRow:
    place = str(file.path)
    raw = line.decode("utf-8", "surrogateescape").rstrip("\r")
    if not raw.isascii():
        try:
            raw.encode()
        except UnicodeEncodeError:
            return BadRow(place, number, Reason.BAD_ENCODING, "bytes that are not valid text", raw)
    if number == 1 and raw.lstrip().startswith("["):
        raise DataError(
            "the file holds a JSON array", where=f"{place}, line 1", next_step="write one object a line (jq -c '.[]')"
        )
    try:
        # NaN is no JSON, but programs write it for a missing number
        value = json.loads(raw, parse_constant=lambda name: None if name == "NaN" else float(name))
    except (ValueError, RecursionError) as error:
        return BadRow(place, number, Reason.BAD_JSON, str(error), raw)
    if not isinstance(value, dict):
        return BadRow(place, number, Reason.BAD_JSON, "not an object in braces", raw)
    if "\\u" in raw and not _is_storable(value):
        return BadRow(place, number, Reason.BAD_ENCODING, "half of a \\u surrogate pair", raw)
    return value


def _is_storable(value: dict[str, Any]) -> bool:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


def _object_chunk(
    file: SourceFile, rows: list[dict[str, Any]], raws: list[str], numbers: list[int], bad: list[BadRow]
) -> Chunk:
    names = dict.fromkeys(name for row in rows for name in row)
    columns: dict[str, pa.Array] = {}
    refused: dict[str, str] = {}
    for name in names:
        values = [row.get(name) for row in rows]
        if (place := _nested_place(file, values, numbers)) is None:
            columns[name] = _typed(values)
        else:
            refused[name] = f"it holds nested values ({place})"
    lines = np.array(numbers, np.int64)

    def inner(name: str) -> pa.Array | None:
        found = object_values(rows, name)
        if found is not None and (place := _nested_place(file, found, numbers)) is not None:
            raise DataError(
                f"{name} cannot be used: it holds nested values itself",
                where=place,
                next_step=f"map one of its values, e.g. {name}.KEY",
            )
        return None if found is None else _typed(found)

    return Chunk(
        file,
        columns,
        lines,
        raws.__getitem__,
        open_ended=True,
        bad=bad,
        refused=refused,
        inner=inner,
        inner_names=lambda: object_names(rows),
    )


def _nested_place(file: SourceFile, values: list[Any], numbers: list[int]) -> str | None:
    """Return the place of the first nested value."""
    row = next((i for i, value in enumerate(values) if is_nested(value)), None)
    return None if row is None else f"{file.path}, line {numbers[row]}"


def _typed(values: list[Any]) -> pa.Array:
    """JSON scalars, or lists of them, as the narrowest Arrow array that holds all."""
    kinds = {type(value) for value in values} - {type(None)}
    if list in kinds:
        lists = [value if isinstance(value, list) or value is None else [value] for value in values]
        return pa.array(
            [None if v is None else [as_text(e) for e in v if e is not None] for v in lists], pa.list_(pa.string())
        )
    if kinds <= {str}:
        return pa.array(values, pa.string())
    if kinds == {bool}:
        return pa.array(values, pa.bool_())
    if kinds <= {int, float} and all(type(v) is not int or -_INT64 <= v < _INT64 for v in values):
        if float not in kinds:
            return pa.array(values, pa.int64())
        exact = all(type(v) is not int or abs(v) <= 1 << 53 for v in values)
        if exact:
            return pa.array([None if v is None else float(v) for v in values], pa.float64())
    return pa.array([None if v is None else as_text(v) for v in values], pa.string())


def as_text(value: Any) -> str:
    """Return a JSON scalar as text: `true`, `1` (also for 1.0), `1.5`."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer() and abs(value) < 1 << 53:
        return str(int(value))
    return str(value)


def _read_parquet(file: SourceFile) -> Iterator[Chunk]:
    where = str(file.path)
    try:
        with pq.ParquetFile(file.path, memory_map=False) as reader:
            names = reader.schema_arrow.names
            if len(set(names)) != len(names):
                raise DataError(
                    "the file repeats a column name", where=where, next_step="give each column its own name"
                )
            row = 1
            # a file without rows still shows its columns
            yield _arrow_chunk(file, pa.RecordBatch.from_pylist([], schema=reader.schema_arrow), row)
            for batch in reader.iter_batches(batch_size=_PARQUET_ROWS, use_threads=False):
                yield _arrow_chunk(file, batch, row)
                row += batch.num_rows
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"the Parquet file cannot be read: {error}", where=where, next_step="write it again") from error


def _arrow_chunk(file: SourceFile, batch: Any, first_row: int) -> Chunk:
    columns: dict[str, pa.Array] = {}
    refused: dict[str, str] = {}
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        normal = normalise(column)
        if normal is None:
            refused[name] = f"it holds {column.type} ({file.path})"
        else:
            columns[name] = normal
    lines = np.arange(first_row, first_row + batch.num_rows, dtype=np.int64)

    def inner(name: str) -> pa.Array | None:
        found = struct_values(batch, name)
        normal = None if found is None else normalise(found)
        if found is not None and normal is None:
            raise DataError(f"{name} cannot be used: it holds {found.type}", where=str(file.path))
        return normal

    return Chunk(
        file,
        columns,
        lines,
        lambda i: _row_json(batch, i),
        refused=refused,
        inner=inner,
        inner_names=lambda: struct_names(batch.schema),
    )


def _row_json(batch: Any, i: int) -> str:
    return json.dumps(batch.slice(i, 1).to_pylist()[0], ensure_ascii=False, default=str)


def normalise(column: pa.Array) -> pa.Array | None:
    """Return the column as string, int64, float64, bool, timestamp or list<string>; None when it fits none."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        return normalise(column.dictionary_decode())
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return column.cast(pa.string())
    if pa.types.is_boolean(kind):
        return column
    if pa.types.is_null(kind):
        return column.cast(pa.string())
    if pa.types.is_uint64(kind) and (pc.max(column).as_py() or 0) >= _INT64:
        return column.cast(pa.string())
    if pa.types.is_integer(kind):
        return column.cast(pa.int64())
    if pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        floats = column.cast(pa.float64(), safe=False)
        return pc.if_else(pc.is_nan(floats), pa.scalar(None, pa.float64()), floats)
    if pa.types.is_date(kind):
        return normalise(column.cast(pa.timestamp("us")))
    if pa.types.is_timestamp(kind):
        # without a zone the time is read as UTC
        return column.cast(pa.timestamp("us", kind.tz), safe=False).cast(UTC_MICROSECONDS)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        element = kind.value_type
        if pa.types.is_string(element) or pa.types.is_large_string(element):
            return column.cast(pa.list_(pa.string()))
    return None
