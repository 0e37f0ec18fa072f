"""Settings of the source tables and of the split."""

from __future__ import annotations

import codecs
from typing import Annotated, Literal

from pydantic import Field, NonNegativeInt, field_validator, model_validator

from recpipe.config import Execution, Settings

Paths = str | list[str] | None


class ColumnMaps(Settings):
    """Which source column becomes which canonical column, for each table."""

    users: dict[str, str | list[str]] = Field(default_factory=dict)
    """Canonical or attribute name -> source column, or several that are joined by ". "; `info.text` is the value
    `text` inside the JSON objects or structs of `info`."""
    items: dict[str, str | list[str]] = Field(default_factory=dict)
    """Canonical or attribute name -> source column, or several that are joined by ". "; `info.text` is the value
    `text` inside the JSON objects or structs of `info`."""
    interactions: dict[str, str | list[str]] = Field(default_factory=dict)
    """Canonical or attribute name -> source column, or several that are joined by ". "; `info.text` is the value
    `text` inside the JSON objects or structs of `info`."""


class ListColumns(Settings):
    """Text columns that hold several values, for each table."""

    users: dict[str, str] = Field(default_factory=dict)
    """Column -> the separator its values are split at, e.g. `{hobbies: "|"}`."""
    items: dict[str, str] = Field(default_factory=dict)
    """Column -> the separator its values are split at, e.g. `{genres: "|"}`."""
    interactions: dict[str, str] = Field(default_factory=dict)
    """Column -> the separator its values are split at."""


class TextColumns(Settings):
    """Columns that stay text although every value looks like a number, for each table."""

    users: list[str] = Field(default_factory=list)
    """Names of such columns, e.g. postcodes."""
    items: list[str] = Field(default_factory=list)
    """Names of such columns, e.g. category codes."""
    interactions: list[str] = Field(default_factory=list)
    """Names of such columns."""


class KeptColumns(Settings):
    """Columns kept beside the canonical ones, for each table."""

    users: list[str] | None = None
    """Attributes to keep; null keeps all, [] none."""
    items: list[str] | None = None
    """Attributes to keep; null keeps all, [] none."""
    interactions: list[str] | None = None
    """Attributes to keep; null keeps all, [] none."""


class DataSettings(Settings):
    """Where the source tables are and how to read them."""

    users: Annotated[Paths, Execution()] = None
    """File, folder or glob (or a list of them): CSV, TSV, JSONL or Parquet. Null: users come from the interactions."""
    items: Annotated[Paths, Execution()] = None
    """File, folder or glob (or a list of them): CSV, TSV, JSONL or Parquet."""
    interactions: Annotated[Paths, Execution()] = None
    """File, folder or glob (or a list of them): CSV, TSV, JSONL or Parquet."""
    columns: ColumnMaps = ColumnMaps()
    """Names of the source columns, where they are not the canonical ones."""
    list_columns: ListColumns = ListColumns()
    """Text columns to split into lists."""
    text_columns: TextColumns = TextColumns()
    """Columns that stay text although every value looks like a number."""
    keep: KeptColumns = KeptColumns()
    """Attributes to keep beside the canonical columns."""
    timestamp_unit: Literal["auto", "s", "ms", "us", "ns"] = "auto"
    """Unit of numeric timestamps; auto tells it from each value's size. Text is ISO 8601, UTC where it has no zone."""
    rating_min: float | None = None
    """Lowest valid rating."""
    rating_max: float | None = None
    """Highest valid rating."""
    media_root: str | None = None
    """Folder that relative paths of pictures and sounds start from; null: the current directory."""
    max_bad_rows: Annotated[NonNegativeInt, Execution()] = 100
    """More bad rows than this in one table fail the run; 0 allows none."""
    max_bad_share: Annotated[float, Execution(), Field(ge=0, le=1)] = 0.05
    """A larger share of bad rows in one table fails the run too, from the fifth bad row on; 1 allows any share."""
    encoding: str = "auto"
    """Encoding of text files: auto is UTF-8, or UTF-16 where the file starts with its mark; or e.g. cp1252."""
    delimiter: str = "auto"
    """One character or `tab`; auto tells it from the header (comma, semicolon, tab or bar)."""
    decimal: Literal["auto", ".", ","] = "auto"
    """Decimal sign of ratings and numeric attributes that are text. auto: a point; a comma in files that commas do
    not delimit, where a column's values say so: 4,5 does, 1,234 alone may be a thousand and does not."""
    quoting: bool = True
    """Whether double quotes enclose fields in CSV and TSV."""

    @field_validator("encoding")
    @classmethod
    def _known_encoding(cls, value: str) -> str:
        if value != "auto":
            try:
                codecs.lookup(value)
            except LookupError:
                raise ValueError("unknown encoding; write auto, utf-8, utf-16, cp1252, latin-1, ...") from None
        return value

    @field_validator("delimiter")
    @classmethod
    def _one_character(cls, value: str) -> str:
        if value in {"tab", "\\t"}:
            return "\t"
        if value != "auto" and (len(value) != 1 or not value.isascii() or value in '"\r\n'):
            raise ValueError("a delimiter is auto, tab or one ASCII character other than a quote")
        return value

    @model_validator(mode="after")
    def _rating_bounds(self) -> DataSettings:
        if self.rating_min is not None and self.rating_max is not None and self.rating_min >= self.rating_max:
            raise ValueError("rating_min must be below rating_max")
        return self


class SplitFiles(Settings):
    """Files of a supplied split: user_id and item_id of interactions, and timestamp or position where all have it."""

    train: Paths = None
    """File, folder or glob (or a list of them) of the training interactions; null: all in neither of the others."""
    validation: Paths = None
    """The same of the validation interactions."""
    test: Paths = None
    """The same of the test interactions."""


class SplitSettings(Settings):
    """How interactions are held out for the evaluation view."""

    by: Literal["auto", "time", "leave_one_out", "random", "cold_items", "files"] = "auto"
    """`time`: the newest of all; `leave_one_out`: each user's last; `random`: some of each user's; `cold_items`: all
    those of some items; `files`: as supplied. auto: time; with positions only leave_one_out; else random."""
    test_share: float = Field(default=0.1, gt=0, lt=1)
    """Share held out for the metrics: of the interactions, or of the items by cold_items."""
    validation_share: float = Field(default=0.1, gt=0, lt=1)
    """Share held out to choose hyper-parameters, by time just before the test."""
    files: SplitFiles = SplitFiles()
    """The parts, for `by: files`, with the column names of data.interactions or the canonical ones."""

    @model_validator(mode="after")
    def _something_left(self) -> SplitSettings:
        if self.test_share + self.validation_share >= 1:
            raise ValueError("test_share and validation_share leave nothing to train on")
        return self

    @model_validator(mode="after")
    def _files_where_used(self) -> SplitSettings:
        given = [name for name in SplitFiles.model_fields if getattr(self.files, name) is not None]
        if self.by == "files":
            missing = [name for name in ("validation", "test") if name not in given]
            if missing:
                raise ValueError(f"by: files needs {' and '.join(f'files.{name}' for name in missing)}")
        elif given:
            raise ValueError(f"files.{given[0]} is given, but by is {self.by}: set by: files")
        return self
