"""Values inside JSON objects and Parquet structs, by dotted names: `info.text`.

A column whose own name has the dots comes first; this is asked only where there is none.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

# Names are listed for messages only: a few rows show them, and keys may be data (one a user).
_LISTED_ROWS = 1000
_LISTED_DEPTH = 5


def is_nested(value: Any) -> bool:
    """Return whether a JSON value is more than a scalar or a list of scalars."""
    return isinstance(value, dict) or (
        isinstance(value, list) and any(isinstance(element, dict | list) for element in value)
    )


def object_values(rows: Sequence[Mapping[str, Any]], name: str) -> list[Any] | None:
    """Return the value of each row, None where it has none; None altogether where no row has the key."""
    *parents, last = name.split(".")
    values: list[Any] = []
    met = False
    for row in rows:
        found: Any = row
        for parent in parents:
            found = found.get(parent) if isinstance(found, Mapping) else None
        inside = isinstance(found, Mapping) and last in found
        met |= inside
        values.append(found[last] if inside else None)
    return values if met else None


def object_names(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the dotted names of the plain values inside the objects of the first rows."""
    names = (name for row in rows[:_LISTED_ROWS] for name in _names_in(row, "", 0))
    return list(dict.fromkeys(name for name in names if "." in name))


def _names_in(value: Mapping[str, Any], prefix: str, depth: int) -> Iterator[str]:
    for key, entry in value.items():
        if isinstance(entry, Mapping) and depth < _LISTED_DEPTH:
            yield from _names_in(entry, f"{prefix}{key}.", depth + 1)
        elif not is_nested(entry):
            yield f"{prefix}{key}"


def struct_values(batch: pa.RecordBatch, name: str) -> pa.Array | None:
    """Return a field inside a struct column, null where the struct is; None where there is no such field."""
    first, *fields = name.split(".")
    if batch.schema.get_field_index(first) < 0:
        return None
    values = batch.column(first)
    for entry in fields:
        if not pa.types.is_struct(values.type) or values.type.get_field_index(entry) < 0:
            return None
        values = pc.struct_field(values, entry)
    return values


def struct_names(schema: pa.Schema) -> list[str]:
    """Return the dotted names of the fields inside the structs of a schema."""
    return [name for item in schema for name in _fields_in(item.type, item.name) if pa.types.is_struct(item.type)]


def _fields_in(kind: pa.DataType, prefix: str) -> Iterator[str]:
    if not pa.types.is_struct(kind):
        yield prefix
        return
    for item in kind:
        yield from _fields_in(item.type, f"{prefix}.{item.name}")
