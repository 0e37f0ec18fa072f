"""Artifacts as Parquet files: streamed in, streamed out, published atomically."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from recpipe.errors import DataError, MissingInputError, RecpipeError
from recpipe.schemas import Artifact, Column, Type
from recpipe.store import publish
from recpipe.store.arrow import conform, vector_matrix
from recpipe.store.manifest import Manifest, read_manifest

BATCH_ROWS = 16_384
_FREE_BYTES_KEPT = 64 * 1024 * 1024


class ArtifactReader:
    """Reads one artifact, by row range or in batches; never the whole table by itself.

    Columns come in the order asked for, whatever their order in the file.

    Raises:
        MissingInputError: There is no such file.
        DataError: Not Parquet, a required column is missing, or another schema version.
    """

    def __init__(self, path: Path, artifact: Artifact) -> None:
        self.path = path
        self.artifact = artifact
        if not path.exists():
            raise MissingInputError(f"{artifact.name} missing", where=str(path), next_step="run: recpipe status")
        self.manifest = read_manifest(path)
        try:
            self._file = pq.ParquetFile(path, memory_map=True, page_checksum_verification=True)
        except (pa.ArrowException, OSError) as error:
            raise DataError(f"cannot be read as Parquet: {error}", where=str(path)) from error
        self._check()
        metadata = self._file.metadata
        sizes = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
        self._group_starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        self._last: tuple[tuple[int, ...], tuple[str, ...] | None, pa.Table] | None = None

    def _check(self) -> None:
        if self.manifest and self.manifest.schema_version != self.artifact.version:
            raise DataError(
                f"{self.artifact.name} has schema version {self.manifest.schema_version}, not {self.artifact.version}",
                where=str(self.path),
                next_step=f"run: recpipe {self.manifest.stage.replace('_', '-')} --force",
            )
        present = set(self.columns)
        missing = [
            column.name for column in self.artifact.columns if not column.optional and column.name not in present
        ]
        if missing:
            columns = "the column" if len(missing) == 1 else "the columns"
            raise DataError(
                f"{self.artifact.name} lacks {columns} {', '.join(missing)}",
                where=f"{self.path} (columns: {', '.join(self.columns)})",
            )

    @property
    def columns(self) -> list[str]:
        """Names of the columns present, attributes included."""
        return list(self._file.schema_arrow.names)

    @property
    def schema(self) -> pa.Schema:
        return self._file.schema_arrow

    @property
    def rows(self) -> int:
        return int(self._file.metadata.num_rows)

    def has(self, column: Column) -> bool:
        """Say whether an optional column is present."""
        return column.name in self.columns

    def row_range(self, start: int, stop: int, columns: Sequence[str] | None = None) -> pa.Table:
        """Read rows `start` to `stop` (exclusive); only the row groups that hold them."""
        starts = self._group_starts
        stop = min(stop, self.rows)
        first = max(0, int(np.searchsorted(starts, start, side="right")) - 1)
        last = int(np.searchsorted(starts, stop, side="left"))
        groups = tuple(range(first, max(last, first)))
        wanted = tuple(columns) if columns is not None else None
        if not groups or start >= stop:
            return self._conform(self._file.schema_arrow.empty_table(), wanted)
        # neighbouring shards share a row group: keep the last one decoded
        if self._last is None or self._last[:2] != (groups, wanted):
            with self._readable():
                table = self._file.read_row_groups(list(groups), columns=list(wanted) if wanted is not None else None)
            self._last = (groups, wanted, self._conform(table, wanted))
        return self._last[2].slice(start - int(starts[first]), stop - start)

    def batches(self, columns: Sequence[str] | None = None, batch_rows: int = BATCH_ROWS) -> Iterator[pa.Table]:
        """Yield the rows in order, `batch_rows` at a time."""
        names = list(columns) if columns is not None else None
        batches = self._file.iter_batches(batch_rows, columns=names)
        while True:
            with self._readable():
                batch = next(batches, None)
            if batch is None:
                return
            yield self._conform(pa.Table.from_batches([batch]), names)

    def table(self, columns: Sequence[str] | None = None) -> pa.Table:
        """Read whole columns; for tables that are small by nature (items, segments)."""
        names = list(columns) if columns is not None else None
        with self._readable():
            table = self._file.read(columns=names)
        return self._conform(table, names)

    @contextmanager
    def _readable(self) -> Iterator[None]:
        """Say which file is damaged, and which command makes it again."""
        try:
            yield
        except (pa.ArrowException, OSError) as error:
            stage = f"run: recpipe {self.manifest.stage.replace('_', '-')} --force" if self.manifest else None
            raise DataError(
                f"{self.artifact.name} is damaged: {error}", where=str(self.path), next_step=stage
            ) from error

    def _conform(self, table: pa.Table, columns: Sequence[str] | None) -> pa.Table:
        # Parquet gives the columns in the order of the file
        selected = table.select(list(columns)) if columns is not None else table
        return conform(selected, self.artifact, str(self.path))


class ArtifactWriter:
    """Writes one artifact as a stream of tables and publishes it with its manifest.

    Use as a context manager and call `commit` last: without it, or after an exception,
    nothing is published and an older file stays as it was.
    """

    def __init__(self, path: Path, artifact: Artifact, manifest: Manifest) -> None:
        self._path = path
        self._artifact = artifact
        self._manifest = manifest
        self._writer: pq.ParquetWriter | None = None
        self._rows = 0
        self._temporary = publish.temporary_for(path)

    def __enter__(self) -> ArtifactWriter:
        return self

    def write(self, table: pa.Table) -> None:
        """Append rows.

        Raises:
            DataError: A wrong type, a null where none may be, or a number that is not finite.
            RecpipeError: The disk is full.
        """
        table = conform(table, self._artifact, str(self._path))
        if self._writer is None:
            require_free_space(self._path.parent)
            self._writer = parquet_writer(self._temporary, table.schema)
        check(table, self._artifact, str(self._path))
        self._writer.write_table(table.cast(self._writer.schema) if table.schema != self._writer.schema else table)
        self._rows += table.num_rows

    def commit(self, **details: object) -> Manifest:
        """Publish, with `details` (counts) in the manifest."""
        if self._writer is None:
            raise RecpipeError(f"{self._artifact.name}: nothing was written, not even an empty table")
        manifest = dataclasses.replace(
            self._manifest,
            rows=self._rows,
            details={**self._manifest.details, **details},
            created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        )
        self._writer.add_key_value_metadata(manifest.footer())
        self._writer.close()
        publish.finish(self._temporary, self._path)
        return manifest

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self._writer is not None:
                self._writer.close()
        except OSError:
            # closing writes the footer: a full disk fails again here, and must not hide the first error
            if error is None:
                raise
        finally:
            self._temporary.unlink(missing_ok=True)


def check(table: pa.Table, artifact: Artifact, where: str) -> None:
    """Check a table against its declaration: columns, nulls, finite numbers.

    Raises:
        DataError: What is wrong, in which column, and the key of the first bad row.
    """
    for column in artifact.columns:
        if column.name not in table.column_names:
            if column.optional:
                continue
            raise DataError(f"{artifact.name} lacks the column {column.name}", where=where)
        values = table.column(column.name)
        if not column.nullable and values.null_count:
            bad = pc.index(pc.is_null(values), True).as_py()
            raise DataError(f"{artifact.name}.{column.name} is null{_at(table, artifact, bad)}", where=where)
        if column.type in (Type.FLOAT32, Type.FLOAT64):
            finite = pc.is_finite(values)
            if pc.any(pc.invert(finite)).as_py():
                bad = pc.index(finite, False).as_py()
                raise DataError(f"{artifact.name}.{column.name} is not finite{_at(table, artifact, bad)}", where=where)
        elif column.type is Type.VECTOR:
            _check_vectors(table, artifact, column, where)


def _check_vectors(table: pa.Table, artifact: Artifact, column: Column, where: str) -> None:
    if table.num_rows == 0:
        return
    matrix, _ = vector_matrix(table.column(column.name))
    # one sum a row finds every NaN and infinity without a second matrix of booleans
    with np.errstate(invalid="ignore"):  # inf - inf
        finite = np.isfinite(matrix.sum(axis=1, dtype=np.float64))
    if not finite.all():
        bad = int(np.flatnonzero(~finite)[0])
        raise DataError(f"{artifact.name}.{column.name} is not finite{_at(table, artifact, bad)}", where=where)


def _at(table: pa.Table, artifact: Artifact, row: int) -> str:
    keys = [f"{name} {table.column(name)[row].as_py()!r}" for name in artifact.key if name in table.column_names]
    return f" for {', '.join(keys)}" if keys else ""


def parquet_writer(path: Path, schema: pa.Schema) -> pq.ParquetWriter:
    """Open a Parquet file: vectors uncompressed, everything else zstd, dictionaries for strings."""
    compression: dict[str, str] = {}
    dictionary: list[str] = []
    for field in schema:
        if pa.types.is_fixed_size_list(field.type):
            # dense floats do not compress (7 % at four times the cost): see docs/decisions.md
            compression[f"{field.name}.list.element"] = "NONE"
        elif pa.types.is_list(field.type):
            compression[f"{field.name}.list.element"] = "ZSTD"
        else:
            compression[field.name] = "ZSTD"
            if pa.types.is_string(field.type):
                dictionary.append(field.name)
    return pq.ParquetWriter(
        path, schema, compression=compression, use_dictionary=dictionary or False, write_page_checksum=True
    )


def require_free_space(folder: Path) -> None:
    """Fail before writing when the disk is all but full.

    Raises:
        RecpipeError: Less than 64 MiB are free.
    """
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if free < _FREE_BYTES_KEPT:
        raise RecpipeError(
            f"only {free // 2**20} MiB of disk are free", where=str(folder), next_step="free some space, then run again"
        )
