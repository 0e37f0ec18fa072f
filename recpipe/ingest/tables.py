"""The canonical tables: every row read and checked once, then published as a stream.

Reading goes through all rows, spills the good ones to a scratch folder and quarantines the
bad ones. Only then are the types of the attributes known; `CanonicalTable.batches` reads
the scratch files back and casts. Interactions are sorted on the way by an external bucket
sort. Memory depends on the number of ids and the size of a bucket, not on the rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from recpipe import schemas
from recpipe.errors import DataError
from recpipe.ingest.attributes import AttributeTypes, cast
from recpipe.ingest.columns import ColumnPlan, column_plan
from recpipe.ingest.decimals import DecimalSigns
from recpipe.ingest.quarantine import BadRow, Quarantine, Reason
from recpipe.ingest.readers import read_chunks
from recpipe.ingest.settings import DataSettings
from recpipe.ingest.sources import Chunk, SourceFile
from recpipe.ingest.spill import Spill
from recpipe.ingest.validate import Checked, Mask

BATCH_ROWS = 32_768
_ARROW_TYPES = {
    schemas.Type.STRING: pa.string(),
    schemas.Type.INT64: pa.int64(),
    schemas.Type.FLOAT32: pa.float32(),
    schemas.Type.TIMESTAMP: pa.timestamp("us", "UTC"),
}


@dataclass(frozen=True, slots=True)
class CanonicalTable:
    """A checked table, ready to be published.

    Attributes:
        schema: Canonical columns that are present, then attributes.
        n_rows: Number of good rows.
        n_bad: Number of quarantined rows.
        counts: Quarantined rows by reason.
        notes: Columns left out or kept as text, for the log.
    """

    name: str
    schema: pa.Schema
    n_rows: int
    n_bad: int
    counts: dict[str, int]
    notes: tuple[str, ...]
    stream: Callable[[], Iterator[pa.Table]] = field(repr=False)
    spills: tuple[Spill, ...] = field(repr=False)

    def batches(self) -> Iterator[pa.Table]:
        """Yield the rows in order, some ten thousand at a time; can be called again until `delete`."""
        for table in self.stream():
            for start in range(0, table.num_rows, BATCH_ROWS):
                yield table.slice(start, BATCH_ROWS)

    def ids(self) -> pa.Array:
        """Return the first column, the ids, as one string array."""
        chunks = [chunk for table in self.stream() for chunk in table.column(self.schema.names[0]).chunks]
        return pa.concat_arrays(chunks) if chunks else pa.array([], pa.string())

    def delete(self) -> None:
        """Remove the scratch files."""
        for spill in self.spills:
            spill.delete()


def conform(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """Give a table the columns and types of a schema; columns it lacks are null."""
    columns = []
    for item in schema:
        if item.name in table.column_names:
            columns.append(cast(table.column(item.name).combine_chunks(), item.type))
        else:
            columns.append(pa.nulls(table.num_rows, item.type))
    return pa.table(columns, schema=schema)


@dataclass(slots=True)
class Rows:
    """Mapped rows of one chunk, with the checks to make on them."""

    chunk: Chunk
    columns: dict[str, pa.Array]
    checks: list[tuple[Reason, Checked]] = field(default_factory=list)

    def check(self, reason: Reason, name: str, checked: Checked) -> None:
        """Replace a column by its checked values."""
        self.columns[name] = checked.values
        self.checks.append((reason, checked))


class TableReader:
    """Reads the rows of one table, quarantines bad ones and remembers what columns hold."""

    def __init__(self, artifact: schemas.Artifact, settings: DataSettings, quarantine: Quarantine) -> None:
        self.artifact = artifact
        self.plan: ColumnPlan = column_plan(artifact, settings)
        self.types = AttributeTypes(getattr(settings.text_columns, artifact.name), decimal=settings.decimal)
        self.decimals = DecimalSigns(settings.decimal)
        self.quarantine = quarantine
        self.settings = settings
        self.n_good = 0
        self.present: dict[str, str] = {}
        self.absent: dict[str, str] = {}

    def chunks(self, sources: Sequence[SourceFile]) -> Iterator[tuple[int, Rows]]:
        """Yield the number of the file and its mapped rows, chunk by chunk."""
        for number, source in enumerate(sources):
            for chunk in read_chunks(source, self.settings):
                for row in chunk.bad:
                    self.quarantine.add(row)
                columns = self.plan.apply(chunk)
                if len(chunk.lines) and not columns:
                    raise DataError(f"{self.artifact.name}: the rows have no column to use", where=str(source.path))
                self._note_presence(chunk, columns)
                yield number, Rows(chunk, columns)
        self.plan.finish()

    def accept(self, rows: Rows) -> tuple[dict[str, pa.Array], npt.NDArray[np.int64]]:
        """Quarantine bad rows; return the columns of the good ones and their lines."""
        bad: Mask = np.zeros(len(rows.chunk.lines), bool)
        for reason, checked in rows.checks:
            for i in np.flatnonzero(checked.bad & ~bad):
                self.quarantine.add(
                    BadRow(
                        str(rows.chunk.file.path),
                        int(rows.chunk.lines[i]),
                        reason,
                        checked.detail(int(i)),
                        rows.chunk.raw(int(i)),
                    )
                )
            bad |= checked.bad
        self.n_good += int((~bad).sum())
        canonical = {column.name for column in self.artifact.columns}
        for name, values in rows.columns.items():
            if name not in canonical:
                self.types.observe(name, values, rows.chunk)
        if not bad.any():
            return rows.columns, rows.chunk.lines
        keep = pa.array(~bad)
        return {name: values.filter(keep) for name, values in rows.columns.items()}, rows.chunk.lines[~bad]

    def finish(self, sources: Sequence[SourceFile]) -> tuple[pa.Schema, tuple[str, ...]]:
        """Return schema and notes; raise when too many rows are bad or a column comes and goes.

        Raises:
            DataError: Too many bad rows, no good row, or a time or position in some files only.
        """
        if not self.n_good and not self.quarantine.n_bad:
            raise DataError(
                f"{self.artifact.name}: the table has no rows",
                where=", ".join(str(source.path) for source in sources[:3]),
                next_step=f"check data.{self.artifact.name} and the program that writes it",
            )
        self.quarantine.check(
            n_good=self.n_good,
            max_bad_rows=self.settings.max_bad_rows,
            max_bad_share=self.settings.max_bad_share,
        )
        fields = []
        for column in self.artifact.columns:
            if column.name not in self.present:
                continue
            if not column.nullable and column.name in self.absent:
                raise DataError(
                    f"{self.artifact.name}: column {column.name} is in {self.present[column.name]} "
                    f"but not in {self.absent[column.name]}",
                    next_step=f"give every row a {column.name}, or leave the column out",
                )
            fields.append(pa.field(column.name, _ARROW_TYPES[column.type], nullable=column.nullable))
        fields += [pa.field(name, self.types.type_of(name)) for name in self.types.names]
        notes = tuple(f"{self.artifact.name}: {note}" for note in (*self.plan.notes.values(), *self.types.notes()))
        return pa.schema(fields), notes

    def _note_presence(self, chunk: Chunk, columns: dict[str, pa.Array]) -> None:
        if not len(chunk.lines):
            return
        place = str(chunk.file.path)
        if chunk.open_ended:
            place += f", lines {chunk.lines[0]} to {chunk.lines[-1]}"
        for column in self.artifact.columns:
            (self.present if column.name in columns else self.absent).setdefault(column.name, place)
