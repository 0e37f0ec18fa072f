"""Users and items: checked, without duplicates, in source order."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from recpipe import schemas
from recpipe.errors import DataError
from recpipe.ingest.ids import hash_ids, repeated_rows
from recpipe.ingest.quarantine import BadRow, Quarantine, Reason
from recpipe.ingest.settings import DataSettings
from recpipe.ingest.sources import SourceFile
from recpipe.ingest.spill import Spill
from recpipe.ingest.tables import CanonicalTable, Rows, TableReader, conform
from recpipe.ingest.validate import Checked, check_ids

# Names of scratch columns; the control character keeps them apart from attributes.
FILE, LINE = "\x1ffile", "\x1fline"


def canonical_users(
    sources: Sequence[SourceFile], settings: DataSettings, *, scratch: Path, quarantine: Path
) -> CanonicalTable:
    """Read and check the users.

    Args:
        scratch: Folder for scratch files; they stay until `CanonicalTable.delete`.
        quarantine: Parquet file for the bad rows.

    Returns:
        The users in source order; of several rows with one id the first stays.

    Raises:
        DataError: A file or its columns cannot be read, too many rows are bad, or none is good.
    """
    return _entities(schemas.USERS, sources, settings, scratch=scratch, quarantine=quarantine)


def canonical_items(
    sources: Sequence[SourceFile], settings: DataSettings, *, scratch: Path, quarantine: Path
) -> CanonicalTable:
    """Read and check the items; each needs a title, text, image or audio.

    Arguments, result and errors are those of `canonical_users`.
    """
    return _entities(schemas.ITEMS, sources, settings, scratch=scratch, quarantine=quarantine)


def _entities(
    artifact: schemas.Artifact,
    sources: Sequence[SourceFile],
    settings: DataSettings,
    *,
    scratch: Path,
    quarantine: Path,
) -> CanonicalTable:
    key = artifact.key[0]
    spill = Spill(scratch / f"{artifact.name}.arrow")
    hashes: list[npt.NDArray[np.uint64]] = []
    with Quarantine(artifact.name, quarantine) as bad:
        reader = TableReader(artifact, settings, bad)
        for number, rows in reader.chunks(sources):
            if key not in rows.columns:
                continue
            rows.check(Reason.MISSING_ID, key, check_ids(rows.columns[key]))
            if artifact is schemas.ITEMS:
                _check_content(rows)
            columns, lines = reader.accept(rows)
            if len(lines):
                hashes.append(hash_ids(columns[key]))
                place = {FILE: pa.repeat(pa.scalar(number, pa.int32()), len(lines)), LINE: pa.array(lines)}
                spill.append(pa.table({**columns, **place}))
        repeated = repeated_rows(np.concatenate(hashes)) if hashes else np.empty(0, np.int64)
        duplicates = _quarantine_duplicates(spill, repeated, key=key, sources=sources, quarantine=bad)
        reader.n_good -= len(duplicates)
    schema, notes = reader.finish(sources)
    return CanonicalTable(
        artifact.name,
        schema,
        reader.n_good,
        bad.n_bad,
        {str(reason): count for reason, count in bad.counts.items()},
        notes,
        lambda: (conform(table, schema) for table in _without(spill, duplicates)),
        (spill,),
    )


def _check_content(rows: Rows) -> None:
    names = [c.name for c in (schemas.TITLE, schemas.TEXT, schemas.IMAGE, schemas.AUDIO)]
    present = [rows.columns[name] for name in names if name in rows.columns]
    if not present and not rows.chunk.open_ended:
        raise DataError(
            f"items: none of the columns {', '.join(names)}; "
            f"found: {', '.join([*rows.chunk.columns, *rows.chunk.inner_names()])}",
            where=str(rows.chunk.file.path),
            next_step="name what describes an item, e.g. data.columns: {items: {title: NAME, text: [BRAND, COLOUR]}}",
        )
    empty = np.ones(len(rows.chunk.lines), bool)
    for values in present:
        empty &= np.asarray(values.is_null().to_numpy(zero_copy_only=False), bool)
    rows.checks.append(
        (Reason.NOTHING_TO_SHOW, Checked(pa.nulls(len(empty)), empty, lambda i: f"no {', '.join(names)}"))
    )


def _quarantine_duplicates(
    spill: Spill, repeated: npt.NDArray[np.int64], *, key: str, sources: Sequence[SourceFile], quarantine: Quarantine
) -> npt.NDArray[np.int64]:
    """Quarantine all but the first row of each id; return those rows, ascending."""
    if not len(repeated):
        return repeated
    first: dict[str, tuple[int, int]] = {}
    duplicates: list[int] = []
    start = 0
    for table in spill.read():
        low, high = np.searchsorted(repeated, [start, start + table.num_rows])
        rows = repeated[low:high]
        for row, content in zip(rows.tolist(), table.take(pa.array(rows - start)).to_pylist(), strict=True):
            number, line = content.pop(FILE), content.pop(LINE)
            entity = content[key]
            if entity not in first:
                first[entity] = (number, line)
                continue
            duplicates.append(row)
            original, original_line = first[entity]
            detail = f"{entity!r} is already in {sources[original].path}, line {original_line}"
            raw = json.dumps(content, ensure_ascii=False, default=str)
            quarantine.add(BadRow(str(sources[number].path), line, Reason.DUPLICATE_ID, detail, raw))
        start += table.num_rows
    return np.array(duplicates, np.int64)


def _without(spill: Spill, rows: npt.NDArray[np.int64]) -> Iterator[pa.Table]:
    start = 0
    for table in spill.read():
        low, high = np.searchsorted(rows, [start, start + table.num_rows])
        keep = np.ones(table.num_rows, bool)
        keep[rows[low:high] - start] = False
        start += table.num_rows
        yield table.filter(pa.array(keep)) if high > low else table
