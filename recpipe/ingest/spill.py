"""Scratch files of Arrow tables, appended to now and read back later."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

_BUFFERED_BYTES = 16 << 20


class Spill:
    """A file of tables whose schemas may differ: each is an Arrow stream of its own."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)

    def append(self, table: pa.Table) -> None:
        """Write one table at the end."""
        with self.path.open("ab") as file, pa.ipc.new_stream(file, table.schema) as writer:
            writer.write_table(table)

    def read(self) -> Iterator[pa.Table]:
        """Yield the tables in the order of writing."""
        if not self.path.exists():
            return
        with pa.OSFile(str(self.path)) as file:
            size = file.size()
            while file.tell() < size:
                yield pa.ipc.open_stream(file).read_all()

    def delete(self) -> None:
        """Remove the file."""
        self.path.unlink(missing_ok=True)


class Buckets:
    """Spills rows into numbered buckets, holding back a bounded amount of memory."""

    def __init__(self, folder: Path, *, name: str, n_buckets: int) -> None:
        self.spills = [Spill(folder / f"{name}-{number:05d}.arrow") for number in range(n_buckets)]
        self._held: list[list[pa.Table]] = [[] for _ in range(n_buckets)]
        self._held_bytes = 0

    def add(self, number: int, table: pa.Table) -> None:
        """Put rows into one bucket."""
        self._held[number].append(table)
        self._held_bytes += table.nbytes
        if self._held_bytes >= _BUFFERED_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write what is held back."""
        for spill, tables in zip(self.spills, self._held, strict=True):
            if tables:
                for group in _same_schema(tables):
                    spill.append(pa.concat_tables(group))
                tables.clear()
        self._held_bytes = 0


def _same_schema(tables: list[pa.Table]) -> Iterator[list[pa.Table]]:
    group: list[pa.Table] = []
    for table in tables:
        if group and table.schema != group[0].schema:
            yield group
            group = []
        group.append(table)
    if group:
        yield group
