"""Decimal signs of numbers in text: told column by column and file by file.

A comma is ambiguous: 4,5 can only be a decimal, 1,234 may be a thousand. So `auto` reads commas
as decimal signs only in a column of a file that has a comma number no thousand can be, and only
where commas do not separate the fields. A column that uses both signs is read by neither guess.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc

from recpipe.ingest.sources import Chunk

Sign = Literal[".", ","]

COMMA_NUMBER = r"^\s*[+-]?[0-9]*,[0-9]+([eE][+-]?[0-9]{1,2})?\s*$"
_POINT_NUMBER = r"^\s*[+-]?([0-9]+\.[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,2})?\s*$"
_MAYBE_THOUSAND = r"^\s*[+-]?[1-9][0-9]{0,2},[0-9]{3}\s*$"


@dataclass(slots=True)
class Signs:
    """Counts of values by their decimal sign.

    Attributes:
        points: Numbers with a decimal point.
        commas: Numbers whose comma is a decimal sign for certain.
        unclear: Numbers whose comma may mark a thousand.
    """

    points: int = 0
    commas: int = 0
    unclear: int = 0

    def add(self, text: pa.Array) -> None:
        """Count the values of a string array."""
        self.points += _count(text, _POINT_NUMBER)
        if pc.any(pc.match_substring(text, ",")).as_py():
            unclear = _count(text, _MAYBE_THOUSAND)
            self.unclear += unclear
            self.commas += _count(text, COMMA_NUMBER) - unclear


def _count(text: pa.Array, pattern: str) -> int:
    return int(pc.sum(pc.match_substring_regex(text, pattern)).as_py() or 0)


@dataclass(slots=True)
class DecimalSigns:
    """Tells the sign of the numbers in a column, chunk by chunk.

    With `auto` the first chunk of a file that has a clear sign decides for the rest of that
    column in that file, the more frequent sign where it has both; the values that use the other
    one are no numbers.

    Args:
        setting: `data.decimal`.
    """

    setting: Literal["auto"] | Sign
    _found: dict[str, tuple[Path, Sign]] = field(default_factory=dict)

    def of(self, name: str, values: pa.Array, chunk: Chunk) -> Sign:
        """Return the decimal sign of a column of a chunk."""
        if self.setting != "auto":
            return self.setting
        if chunk.delimiter == "," or not pa.types.is_string(values.type):
            return "."
        known = self._found.get(name)
        if known is not None and known[0] == chunk.file.path:
            return known[1]
        signs = Signs()
        signs.add(values)
        if not signs.points and not signs.commas:
            return "."
        found: Sign = "," if signs.commas > signs.points else "."
        self._found[name] = (chunk.file.path, found)
        return found


def with_points(text: pa.Array) -> pa.Array:
    """Return numbers written with a decimal comma with a point instead."""
    return pc.replace_substring(text, ",", ".")
