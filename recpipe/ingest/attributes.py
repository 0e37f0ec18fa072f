"""Types of attributes: decided from all values, because the first rows can mislead."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recpipe.ingest.decimals import Sign, Signs, with_points
from recpipe.ingest.sources import Chunk

STRINGS = pa.list_(pa.string())
# A leading zero or plus sign marks a code (postcode, telephone number), not a quantity.
_INTEGER = r"^-?(0|[1-9][0-9]{0,17})$"
_NUMBER = r"^-?((0|[1-9][0-9]*)(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]{1,2})?$"
_COMMA_NUMBER = r"^-?((0|[1-9][0-9]*)(,[0-9]+)?|,[0-9]+)([eE][+-]?[0-9]{1,2})?$"
_EXACT_FLOAT = float(1 << 53)


@dataclass(slots=True)
class _Seen:
    kinds: set[str] = field(default_factory=set)
    n_numbers: int = 0
    n_words: int = 0
    first_word: str = ""
    first_comma: str = ""
    signs: dict[Path, Signs] = field(default_factory=dict)

    def unsure_of(self) -> str:
        """Say why commas cannot be taken as decimal signs, or nothing."""
        for path, signs in self.signs.items():
            if signs.points and signs.commas + signs.unclear:
                return f"{path} has numbers with a point and with a comma"
            if signs.unclear and not signs.commas:
                return f"its commas in {path} may mark thousands"
        return ""


class AttributeTypes:
    """Watches every value of every attribute and then names its type.

    Untyped text becomes int64 or float64 only if all its non-empty values are such numbers.

    Args:
        text_columns: Columns that stay text.
        decimal: `data.decimal`.
    """

    def __init__(self, text_columns: Collection[str], *, decimal: Literal["auto"] | Sign = "auto") -> None:
        self._text_columns = text_columns
        self._decimal = decimal
        self._seen: dict[str, _Seen] = {}

    @property
    def names(self) -> list[str]:
        """Attributes seen, in the order of their first appearance."""
        return list(self._seen)

    def observe(self, name: str, values: pa.Array, chunk: Chunk) -> None:
        """Take note of some values of one attribute; empty text must be null already."""
        seen = self._seen.setdefault(name, _Seen())
        if values.null_count == len(values):
            return
        if name in self._text_columns:
            seen.kinds.add("text")
        elif chunk.untyped and pa.types.is_string(values.type):
            _observe_text(seen, values, chunk, self._decimal)
        else:
            seen.kinds.add(_kind(values.type))

    def type_of(self, name: str) -> pa.DataType:
        """Return string, int64, float64, bool, timestamp or list<string>."""
        seen = self._seen[name]
        kinds = {*seen.kinds, "text"} if seen.unsure_of() else seen.kinds
        if "list" in kinds:
            return STRINGS
        if kinds == {"int"}:
            return pa.int64()
        if kinds and kinds <= {"int", "float"}:
            return pa.float64()
        if kinds == {"bool"}:
            return pa.bool_()
        if kinds == {"timestamp"}:
            return pa.timestamp("us", "UTC")
        return pa.string()

    def notes(self) -> list[str]:
        """Columns that are text although most values are numbers, and why: a few words, or their commas."""
        notes = []
        for name, seen in self._seen.items():
            why = ""
            mostly_numbers = seen.n_numbers >= seen.n_words
            if mostly_numbers and (unsure := seen.unsure_of()):
                why = f"{unsure}; set data.decimal if they are numbers"
            elif seen.first_comma:
                why = f"{seen.first_comma}; if that is a decimal comma, set data.decimal"
            elif mostly_numbers and seen.first_word:
                why = f"{seen.first_word} among {seen.n_numbers:,} numbers"
            if why:
                notes.append(f"column {name} stays text: {why}")
        return notes


def _observe_text(seen: _Seen, values: pa.Array, chunk: Chunk, decimal: Literal["auto"] | Sign) -> None:
    if seen.n_words > seen.n_numbers:
        return
    n_values = len(values) - values.null_count
    if pc.all(pc.match_substring_regex(values, _INTEGER)).as_py():
        seen.kinds.add("int")
        seen.n_numbers += n_values
        return
    numeric, commas = pc.match_substring_regex(values, _NUMBER), pc.match_substring_regex(values, _COMMA_NUMBER)
    if decimal == ",":
        numeric = commas
    elif decimal == "auto" and chunk.delimiter != ",":
        numeric = pc.or_(numeric, commas)
        seen.signs.setdefault(chunk.file.path, Signs()).add(values.filter(numeric))
    n_numbers = pc.sum(numeric).as_py()
    seen.n_numbers += n_numbers
    if n_numbers == n_values:
        seen.kinds.add("float")
        return
    seen.kinds.add("text")
    seen.n_words += n_values - n_numbers
    if decimal == "auto" and not seen.first_comma and pc.all(commas).as_py():
        seen.first_comma = _first(values, chunk, numeric)
    if not seen.first_word:
        seen.first_word = _first(values, chunk, numeric)


def _first(values: pa.Array, chunk: Chunk, numeric: pa.Array) -> str:
    """Name the first value that is no number."""
    row = int(np.argmin(numeric.fill_null(True).to_numpy(zero_copy_only=False)))
    return f"{chunk.file.path}, line {chunk.lines[row]} has {values[row].as_py()!r}"


def _kind(data_type: pa.DataType) -> str:
    if pa.types.is_list(data_type):
        return "list"
    if pa.types.is_boolean(data_type):
        return "bool"
    if pa.types.is_timestamp(data_type):
        return "timestamp"
    if pa.types.is_integer(data_type):
        return "int"
    if pa.types.is_floating(data_type):
        return "float"
    return "text"


def to_text(values: pa.Array) -> pa.Array:
    """Return values as strings: whole floats without a point, lists joined by ", "."""
    if pa.types.is_string(values.type):
        return values
    if pa.types.is_list(values.type):
        return pc.binary_join(values, ", ")
    if pa.types.is_floating(values.type):
        whole = pc.and_(pc.equal(pc.floor(values), values), pc.less(pc.abs(values), _EXACT_FLOAT))
        integers = pc.if_else(whole, values, pa.scalar(None, values.type)).cast(pa.int64()).cast(pa.string())
        return pc.coalesce(integers, values.cast(pa.string()))
    return values.cast(pa.string())


def cast(values: pa.Array, data_type: pa.DataType) -> pa.Array:
    """Cast values of one attribute to the type that all its values fit."""
    if values.type == data_type:
        return values
    if values.null_count == len(values):
        return pa.nulls(len(values), data_type)
    if data_type == STRINGS:
        return pa.array([None if v is None else [v] for v in to_text(values).to_pylist()], STRINGS)
    if pa.types.is_string(data_type):
        return to_text(values)
    if pa.types.is_string(values.type) and pa.types.is_floating(data_type):
        # only numbers come here, so any comma is a decimal sign
        return with_points(values).cast(data_type)
    return values.cast(data_type)
