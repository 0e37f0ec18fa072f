"""What the importers share: bad rows and errors that name the foreign file, tables published whole."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from recpipe.errors import DataError
from recpipe.ingest.publish import finish, temporary_for
from recpipe.ingest.sources import SourceFile
from recpipe.ingest.tables import CanonicalTable

logger = logging.getLogger(__name__)

_LIMIT = "data.max_bad_rows"
DELIMITER = "\x1f"
"""Separates fields in converted files; the control character is in no title, tag or name."""


@dataclass(frozen=True, slots=True)
class ForeignFile:
    """A file of a foreign layout, or what it was converted to.

    Attributes:
        source: The file to read.
        label: The foreign file as people find it, e.g. "ml-1m.zip/ml-1m/users.dat".
        remedy: The next step when it cannot be read.
        separator: What separates its fields, where `source` has `DELIMITER` instead; else empty.
        n_added_lines: Lines of `source` before the first of the foreign file.
    """

    source: SourceFile
    label: str
    remedy: str
    separator: str = ""
    n_added_lines: int = 0

    def retell(self, text: str) -> str:
        """Put the foreign file and its lines in place of those of `source`."""
        path = re.escape(str(self.source.path))
        lines = re.compile(rf"{path}, line (?P<line>\d+)")
        told = lines.sub(lambda found: f"\0, line {int(found['line']) - self.n_added_lines}", text)
        return told.replace(str(self.source.path), "\0").replace("\0", self.label)


@contextmanager
def bad_rows(file: ForeignFile, *, scratch: Path, target: Path) -> Iterator[Path]:
    """Read a foreign file inside; publish its bad rows, and retell errors, in its own terms.

    Args:
        scratch: Folder for scratch files.
        target: Parquet file for the bad rows; removed where there are none.

    Yields:
        The quarantine to name to `canonical_items` and the like.

    Raises:
        DataError: What was raised inside, with a next step that an import has.
    """
    collected = scratch / target.name
    try:
        yield collected
    except DataError as error:
        raise _retold(error, file, collected, target) from error
    finally:
        if collected.exists():
            publish_tables(target, _relabelled(collected, file))
            collected.unlink()
        else:
            target.unlink(missing_ok=True)


def publish_tables(path: Path, tables: Iterable[pa.Table]) -> int:
    """Write tables of one schema to one Parquet file, visible only when whole; return the number of rows."""
    temporary = temporary_for(path)
    n_rows = 0
    writer: pq.ParquetWriter | None = None
    try:
        with temporary.open("wb") as file:
            for table in tables:
                writer = writer or pq.ParquetWriter(file, table.schema)
                writer.write_table(table)
                n_rows += table.num_rows
            if writer is not None:
                writer.close()
        finish(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return n_rows


def publish_canonical(path: Path, table: CanonicalTable, tables: Iterable[pa.Table]) -> int:
    """Publish what `tables` made of a checked table, say how many rows were bad, delete its scratch files."""
    if table.n_bad:
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in table.counts.items())
        logger.warning("%s: %d bad rows left out (%s)", path.stem, table.n_bad, reasons)
    n_rows = publish_tables(path, tables)
    table.delete()
    return n_rows


def _retold(error: DataError, file: ForeignFile, collected: Path, target: Path) -> DataError:
    step = error.next_step or file.remedy
    if str(collected) in step:
        # no limit helps where no row is good
        limit = f", or leave them out with --max-bad-rows {pq.read_metadata(collected).num_rows}"
        step = f"all of them are in {target}; mend them{limit if _LIMIT in step else ''}"
    elif "data." in step:  # a key of the configuration, which an import has not
        step = file.remedy
    # the limit is told as a key of the configuration too
    what = error.what.replace(f"{_LIMIT} is", "--max-bad-rows is")
    where = file.label if error.where is None else file.retell(error.where)
    return DataError(file.retell(what), where=where, next_step=step)


def _relabelled(collected: Path, file: ForeignFile) -> Iterator[pa.Table]:
    with pq.ParquetFile(collected) as reader:
        for batch in reader.iter_batches():
            rows = batch.to_pylist()
            for row in rows:
                row["file"] = file.label
                row["line"] -= file.n_added_lines
                row["detail"] = file.retell(row["detail"])
                if file.separator:
                    row["raw"] = row["raw"].replace(DELIMITER, file.separator)
            yield pa.Table.from_pylist(rows, schema=reader.schema_arrow)
