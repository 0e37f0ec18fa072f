"""From source columns to canonical columns and attributes."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from recpipe import schemas
from recpipe.errors import DataError
from recpipe.ingest.attributes import to_text
from recpipe.ingest.settings import DataSettings
from recpipe.ingest.sources import Chunk

_JOINT = ". "
_PATHS = (schemas.IMAGE.name, schemas.AUDIO.name)
_TEXTS = (schemas.TITLE.name, schemas.TEXT.name, *_PATHS)
_SHOWN_NAMES = 20
_SEPARATORS = (";", "\t", "|", ",")


@dataclass(slots=True)
class ColumnPlan:
    """Maps the columns of one table.

    A source column mapped alone is renamed; columns joined into one stay available as
    attributes. Extra columns are attributes unless `keep` leaves them out. A source column with
    dots that is no column is looked for inside the nested columns.

    Attributes:
        mapping: Canonical or attribute name -> source columns.
        keep: Names of attributes to keep; None keeps all.
        separators: Column -> separator that makes a list of its text.
        notes: What was left out, and why.
    """

    artifact: schemas.Artifact
    mapping: Mapping[str, Sequence[str]]
    keep: frozenset[str] | None
    separators: Mapping[str, str]
    media_root: str | None = None
    notes: dict[str, str] = field(default_factory=dict)
    _missing: set[str] = field(default_factory=set)
    _met: set[str] = field(default_factory=set)
    _inside: dict[str, None] = field(default_factory=dict)

    @property
    def table(self) -> str:
        """Name of the table."""
        return self.artifact.name

    def apply(self, chunk: Chunk) -> dict[str, pa.Array]:
        """Return canonical columns, then attributes; empty text is null, lists are split.

        Raises:
            DataError: A required or mapped column is not in the file, or holds nested values.
        """
        columns = {**chunk.columns, **self._inner(chunk)}
        self._check(chunk, columns)
        taken = {sources[0] for sources in self.mapping.values() if len(sources) == 1}
        result: dict[str, pa.Array] = {}
        for name in [column.name for column in self.artifact.columns]:
            if (values := self._mapped(name, columns)) is not None:
                result[name] = self._as_text(name, values) if name in _TEXTS else values
        names = [*self.mapping, *(name for name in chunk.columns if name not in taken)]
        for name in dict.fromkeys(names):
            kept = self.keep is None or name in self.keep
            if name not in result and kept and (values := self._mapped(name, columns)) is not None:
                result[name] = self._finite(name, self._split(name, values), chunk)
        return result

    def finish(self) -> None:
        """Check, after the last chunk, that each mapped column was met.

        Raises:
            DataError: A source column named in the settings is nowhere in the data.
        """
        for source in sorted(self._missing - self._met):
            guess = _like(source, [*self._met, *self._inside])
            step = f"did you mean '{guess}'?" if guess else "check its name"
            raise DataError(
                f"{self.table}: data.columns names '{source}', which no row has",
                next_step=f"{step} {_inside(list(self._inside))}".rstrip(),
            )

    def _inner(self, chunk: Chunk) -> dict[str, pa.Array]:
        """Return the mapped columns that lie inside nested ones."""
        wanted = {source for sources in self.mapping.values() for source in sources if "." in source}
        found = {source: chunk.inner(source) for source in wanted - chunk.columns.keys()}
        return {source: values for source, values in found.items() if values is not None}

    def _mapped(self, name: str, columns: Mapping[str, pa.Array]) -> pa.Array | None:
        sources = self.mapping.get(name, (name,))
        found = [_blank_to_null(columns[source]) for source in sources if source in columns]
        if len(found) <= 1:
            return found[0] if found else None
        joined, *others = (_blank_to_null(to_text(values)) for values in found)
        for other in others:
            # null_handling="skip" loses rows in which every value is null (seen in pyarrow 26)
            joined = pc.coalesce(pc.binary_join_element_wise(joined, other, _JOINT), joined, other)
        return joined

    def _as_text(self, name: str, values: pa.Array) -> pa.Array:
        text = _blank_to_null(to_text(values))
        if name in _PATHS and self.media_root is not None:
            root = Path(self.media_root)
            paths = [None if p is None else p if "://" in p else str(root / p) for p in text.to_pylist()]
            return pa.array(paths, pa.string())
        return text

    def _split(self, name: str, values: pa.Array) -> pa.Array:
        separator = self.separators.get(name)
        if separator is None or not pa.types.is_string(values.type):
            return values
        lists = [
            None if text is None else [part.strip() for part in text.split(separator) if part.strip()]
            for text in values.to_pylist()
        ]
        return pa.array(lists, pa.list_(pa.string()))

    def _finite(self, name: str, values: pa.Array, chunk: Chunk) -> pa.Array:
        if not pa.types.is_floating(values.type):
            return values
        finite = pc.is_finite(values)
        if pc.all(finite).as_py() is not False:
            return values
        self.notes.setdefault(name, f"column {name}: infinite values are taken as missing ({chunk.file.path})")
        return pc.if_else(finite, values, pa.scalar(None, values.type))

    def _check(self, chunk: Chunk, columns: Mapping[str, pa.Array]) -> None:
        needed = {source for sources in self.mapping.values() for source in sources}
        required = [c.name for c in self.artifact.columns if not c.optional]
        canonical = {c.name for c in self.artifact.columns if c.name not in self.mapping}
        for name, why in chunk.refused.items():
            if name in needed | canonical:
                raise self._nested(name, why, chunk)
            used = any(source.startswith(f"{name}.") for source in needed)
            if not used and (self.keep is None or name in self.keep):
                inside = next((inner for inner in chunk.inner_names() if inner.startswith(f"{name}.")), None)
                step = f"; data.columns can map what is inside, e.g. {inside}" if inside else ""
                self.notes.setdefault(name, f"column {name} is left out: {why}{step}")
        self._met |= needed & columns.keys()
        if chunk.open_ended and not columns:
            return
        missing = [
            name for name in required if not any(source in columns for source in self.mapping.get(name, (name,)))
        ]
        if missing:
            raise self._missing_columns(missing, chunk)
        absent = sorted(needed - columns.keys())
        if chunk.open_ended:
            self._missing |= set(absent)
            if absent and len(self._inside) < _SHOWN_NAMES:
                self._inside.update(dict.fromkeys(chunk.inner_names()))
        elif absent:
            raise self._unmapped(absent[0], chunk)

    def _nested(self, name: str, why: str, chunk: Chunk) -> DataError:
        target = next((target for target, sources in self.mapping.items() if name in sources), name)
        inside = [inner for inner in chunk.inner_names() if inner.startswith(f"{name}.")]
        step = f"write data.columns: {{{self.table}: {{{target}: {inside[0]}}}}}; {_inside(inside)}" if inside else ""
        return DataError(
            f"{self.table}: column {name} cannot be used: {why}", next_step=step or "give plain values or lists of them"
        )

    def _missing_columns(self, names: list[str], chunk: Chunk) -> DataError:
        found = [*chunk.columns, *chunk.inner_names()]
        guesses = {name: guess for name in names if (guess := _like(name, found))}
        mapping = ", ".join(f"{name}: {guesses.get(name, 'SOURCE_COLUMN')}" for name in names)
        step = f"write data.columns: {{{self.table}: {{{mapping}}}}}"
        if guesses:
            step = f"did you mean {' and '.join(repr(guess) for guess in guesses.values())}? {step}"
        if chunk.untyped and all(part.replace(".", "", 1).isdigit() for part in ":".join(found).split(":") if part):
            step = "the first line looks like data: add a line with the column names"
        elif len(found) == 1 and "::" in found[0]:
            step = "fields are separated by '::': replace it by one character, e.g. sed 's/::/\\t/g'"
        elif len(found) == 1 and (separator := next((s for s in _SEPARATORS if s in found[0]), None)):
            step = f"its one column holds {separator!r}: set data.delimiter to what separates fields"
        wanted = ", ".join(" + ".join(self.mapping.get(name, (name,))) for name in names)
        what = f"{self.table}: no column {wanted}; found: {', '.join(found)}"
        return DataError(what, where=_header(chunk), next_step=step)

    def _unmapped(self, source: str, chunk: Chunk) -> DataError:
        target = next(name for name, sources in self.mapping.items() if source in sources)
        found = [*chunk.columns, *chunk.inner_names()]
        guess = _like(source, found)
        return DataError(
            f"{self.table}: data.columns maps {target} to '{source}', which is not there; found: {', '.join(found)}",
            where=_header(chunk),
            next_step=f"did you mean '{guess}'?" if guess else f"mend data.columns.{self.table}.{target}",
        )


def column_plan(artifact: schemas.Artifact, settings: DataSettings) -> ColumnPlan:
    """Return the plan of one of the tables users, items and interactions."""
    mapping = {
        name: (source,) if isinstance(source, str) else tuple(source)
        for name, source in getattr(settings.columns, artifact.name).items()
    }
    keep = getattr(settings.keep, artifact.name)
    separators = getattr(settings.list_columns, artifact.name)
    kept = None if keep is None else frozenset(keep)
    return ColumnPlan(artifact, mapping, kept, separators, settings.media_root)


def _blank_to_null(values: pa.Array) -> pa.Array:
    if not pa.types.is_string(values.type):
        return values
    lengths = pc.binary_length(values)
    if not pc.any(pc.equal(lengths, 0)).as_py():
        return values
    return pc.if_else(pc.equal(lengths, 0), pa.scalar(None, pa.string()), values)


def _inside(names: Sequence[str]) -> str:
    more = ", ..." if len(names) > _SHOWN_NAMES else ""
    return f"inside nested columns: {', '.join(names[:_SHOWN_NAMES])}{more}" if names else ""


def _like(name: str, found: Sequence[str]) -> str | None:
    """The column that `name` may be meant by: the same letters, or nearly."""
    plain = {_plain(column): column for column in reversed(found)}
    stem = _plain(name).removesuffix("id")
    close = difflib.get_close_matches(_plain(name), list(plain), n=1, cutoff=0.6)
    if close:
        return plain[close[0]]
    return next((column for key, column in plain.items() if stem and key.startswith(stem)), None)


def _plain(name: str) -> str:
    return "".join(letter for letter in name.lower() if letter.isalnum())


def _header(chunk: Chunk) -> str:
    return f"{chunk.file.path}, line 1" if chunk.untyped else str(chunk.file.path)
