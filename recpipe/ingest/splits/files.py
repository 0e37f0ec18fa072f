"""Supplied files: somebody else's split, found again in the interactions.

The files only say which interactions belong where; ratings, times and context come from the
interactions themselves. A row of a file means the interactions of that user with that item
and, where all files and the interactions have the column, of that timestamp and position.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from recpipe.errors import DataError
from recpipe.ingest.columns import ColumnPlan
from recpipe.ingest.readers import read_chunks
from recpipe.ingest.settings import DataSettings
from recpipe.ingest.sources import SourceFile
from recpipe.ingest.splits.base import LEFT_OUT, Part, Parts, Splitter
from recpipe.ingest.splits.keys import Hashes, combine, hash_column
from recpipe.ingest.splits.whole_users import UserBlock
from recpipe.ingest.validate import Checked, check_ids, check_positions, check_timestamps
from recpipe.schemas import INTERACTIONS, ITEM_ID, POSITION, TIMESTAMP, USER_ID

_KEY = (USER_ID.name, ITEM_ID.name)
_TELLING_APART = (TIMESTAMP.name, POSITION.name)

PartFiles = Mapping[Part, Sequence[SourceFile]]


class SuppliedFiles(Splitter):
    """Takes validation and test, and if given training, from files.

    Rows are compared by a 64-bit hash: 9 bytes a row of the files. Among 100 million rows one
    collision has a chance of one in 3,700.

    Args:
        files: The files of each part. Without any for training, it is what the others leave.
        data: How source tables are read; the files have the columns of the interactions, under
            their source names or the canonical ones. Attributes and ratings are not read.
        columns: Columns of the interactions table.

    Raises:
        DataError: A bad row in a file, or the same interaction in two parts.
    """

    by = "files"

    def __init__(self, files: PartFiles, *, data: DataSettings, columns: Sequence[str]) -> None:
        self._files = {part: sources for part, sources in files.items() if sources}
        self._data = data
        everything = [source for sources in self._files.values() for source in sources]
        compared = [name for name in _TELLING_APART if name in columns]
        self._columns = [*_KEY, *(name for name in compared if all(_has(file, name, data) for file in everything))]
        self._keys: dict[Part, Hashes] = {}
        for part, sources in self._files.items():
            keys = [rows.keys for rows in self._rows(sources)]
            self._keys[part] = np.unique(np.concatenate([*keys, np.empty(0, np.uint64)]))
        self._require_disjoint()
        self._found = {part: np.zeros(len(keys), bool) for part, keys in self._keys.items()}
        self._n_left_out = 0

    def parts(self, block: UserBlock) -> Parts:
        keys = _keys({name: block.column(name) for name in self._columns})
        parts = np.full(len(keys), LEFT_OUT if Part.TRAIN in self._keys else Part.TRAIN, np.int8)
        for part, known in self._keys.items():
            if not len(known):
                continue
            places = np.minimum(np.searchsorted(known, keys), len(known) - 1)
            same = known[places] == keys
            parts[same] = part
            self._found[part][places[same]] = True
        self._n_left_out += int((parts == LEFT_OUT).sum())
        return parts

    def finish(self) -> None:
        for part, found in self._found.items():
            if not found.all():
                place = self._first(part, self._keys[part][~found])
                raise DataError(
                    f"{int((~found).sum()):,} interactions of split.files.{part.name.lower()} are not in the "
                    f"interactions table, the first {place.row}",
                    where=place.where,
                    next_step="give files of interactions that data.interactions has; bad rows left out of it are "
                    "in the quarantine",
                )
        if self._n_left_out:
            self.warnings = (f"{self._n_left_out:,} interactions are in none of split.files and are left out",)

    def protocol(self) -> str:
        names = "; ".join(
            f"{part.name.lower()} {', '.join(source.path.name for source in sources)}"
            for part, sources in self._files.items()
        )
        rest = "" if Part.TRAIN in self._files else "; train the rest"
        return f"supplied files: {names}{rest}"

    def details(self) -> dict[str, object]:
        return {"compared_by": list(self._columns)}

    def _rows(self, sources: Sequence[SourceFile]) -> Iterator[_FileRows]:
        for source in sources:
            yield from _read(source, self._columns, self._data)

    def _require_disjoint(self) -> None:
        for one, other in combinations(self._keys, 2):
            shared = np.intersect1d(self._keys[one], self._keys[other], assume_unique=True)
            if len(shared):
                first, second = self._first(one, shared), self._first(other, shared)
                same = self._first(other, _only(first.key)) if second.key != first.key else second
                raise DataError(
                    f"{len(shared):,} interactions are in two parts of the split, the first {first.row}",
                    where=f"{first.where} and {same.where}",
                    next_step="leave each in one file; where users repeat an item, give the files the timestamp or "
                    f"position column, which tells repeats apart (compared now: {', '.join(self._columns)})",
                )

    def _first(self, part: Part, keys: Hashes) -> _Place:
        """Return the first row of a part's files whose key is among `keys`."""
        for rows in self._rows(self._files[part]):
            hits = np.flatnonzero(np.isin(rows.keys, keys))
            if len(hits):
                i = int(hits[0])
                row = ", ".join(f"{name} {rows.columns[name][i].as_py()}" for name in self._columns)
                return _Place(row, f"{rows.path}, {_unit(rows.path)} {rows.lines[i]}", int(rows.keys[i]))
        raise AssertionError("a key that came from these files")


@dataclass(frozen=True, slots=True)
class _Place:
    row: str
    where: str
    key: int


@dataclass(frozen=True, slots=True)
class _FileRows:
    """Rows of one file: their columns, lines and keys."""

    path: Path
    columns: dict[str, pa.Array]
    lines: npt.NDArray[np.int64]
    keys: Hashes


def _read(source: SourceFile, names: Sequence[str], data: DataSettings) -> Iterator[_FileRows]:
    plan: ColumnPlan | None = None
    for chunk in read_chunks(source, data):
        if chunk.bad:
            raise DataError("split.files: a row cannot be read", where=chunk.bad[0].place())
        if not len(chunk.lines):
            continue
        plan = plan or _plan(names, list(chunk.columns), data)
        found = plan.apply(chunk)
        columns: dict[str, pa.Array] = {}
        for name in names:
            values = found.get(name, pa.nulls(len(chunk.lines), pa.string()))
            checked = _check(name, values, data)
            if checked.bad.any():
                i = int(np.flatnonzero(checked.bad)[0])
                raise DataError(
                    f"split.files: {name}: {checked.detail(i)}",
                    where=f"{source.path}, {_unit(source.path)} {chunk.lines[i]}",
                )
            columns[name] = checked.values
        yield _FileRows(source.path, columns, chunk.lines, _keys(columns))


def _check(name: str, values: pa.Array, data: DataSettings) -> Checked:
    checks: dict[str, Callable[[pa.Array], Checked]] = {
        TIMESTAMP.name: lambda column: check_timestamps(column, unit=data.timestamp_unit),
        POSITION.name: check_positions,
    }
    return checks.get(name, check_ids)(values)


def _plan(names: Sequence[str], found: Sequence[str], data: DataSettings) -> ColumnPlan:
    """Map the columns as those of the interactions; canonical names do as well."""
    mapping = {}
    for name in names:
        sources = _sources(name, data)
        if all(source in found for source in sources) or name not in found:
            mapping[name] = sources
    return ColumnPlan(INTERACTIONS, mapping, frozenset(), {})


def _sources(name: str, data: DataSettings) -> tuple[str, ...]:
    source = data.columns.interactions.get(name, name)
    return (source,) if isinstance(source, str) else tuple(source)


def _has(source: SourceFile, name: str, data: DataSettings) -> bool:
    """Say whether a file has a column; one without rows is in nobody's way."""
    for chunk in read_chunks(source, data):
        if len(chunk.lines):
            return name in chunk.columns or all(column in chunk.columns for column in _sources(name, data))
    return True


def _keys(columns: Mapping[str, pa.Array]) -> Hashes:
    """Return one hash a row of ids, times and positions."""
    parts: list[Hashes] = []
    for name, values in columns.items():
        if name in _KEY:
            hashes, codes = hash_column(values)
            parts.append(hashes[codes])
        else:
            parts.append(np.asarray(values.cast(pa.int64()).to_numpy(), np.int64).view(np.uint64))
    keys, *others = parts
    for other in others:
        keys = combine(keys, other)
    return keys


def _only(key: int) -> Hashes:
    return np.array([key], np.uint64)


def _unit(path: Path) -> str:
    return "row" if path.suffix.lower() in (".parquet", ".pq") else "line"
