"""A segment of the embedding cache: rows of (content key, vector, truncated, check), written once.

A segment is Parquet that every reader opens, laid out so that single rows can be read too:
uncompressed, and in each row group one page a column, so that the footer tells where the
bytes of a row are. A night that asks in another order costs one read a row, not the file.

Every row carries a checksum of its key, vector and flag: bytes that are not those that were
written never become a vector, wherever they come from. Segments of earlier versions have no
such column; they are read whole, with the checksums of their pages, until they are merged.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from zlib import crc32

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from recpipe.store import publish
from recpipe.store.arrow import vector_array, vector_matrix

_KEY, _VECTOR, _TRUNCATED, _CHECK = "key", "vector", "truncated", "check"
_KEY_BYTES = 16
_FORMAT = {b"recpipe.cache": b"one page a column and row group"}
# bounds the memory of reading and writing; pages of more than 20,000 rows would be cut by the writer
_GROUP_BYTES, _GROUP_ROWS = 16_000_000, 16_384


class DamagedSegmentError(Exception):
    """A segment cannot be read, or its bytes are not those that were written.

    Attributes:
        for_good: Reading it again will not help.
    """

    def __init__(self, problem: str, *, for_good: bool) -> None:
        super().__init__(problem)
        self.for_good = for_good


@dataclass(frozen=True, slots=True)
class Rows:
    """What the cache keeps of n contents.

    Attributes:
        keys: (n, 2) uint64.
        vectors: (n, dim) float32.
        truncated: (n,) bool, the encoder read only the beginning.
    """

    keys: NDArray[np.uint64]
    vectors: NDArray[np.float32]
    truncated: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.keys)

    def take(self, rows: NDArray[np.int64] | NDArray[np.bool_]) -> Rows:
        """Return some of the rows, by number or by mask."""
        return Rows(self.keys[rows], self.vectors[rows], self.truncated[rows])

    @classmethod
    def join(cls, parts: list[Rows]) -> Rows:
        """Return the rows of all parts, in order."""
        return cls(
            np.concatenate([part.keys for part in parts]),
            np.concatenate([part.vectors for part in parts]),
            np.concatenate([part.truncated for part in parts]),
        )


def segment_name(keys: NDArray[np.uint64]) -> str:
    """Return the file name of the segment of these keys: the same keys twice are one file."""
    return f"{hashlib.blake2b(keys.tobytes(), digest_size=16).hexdigest()}.parquet"


def write_segment(path: Path, rows: Rows) -> None:
    """Publish a segment atomically."""
    n_rows, dim = rows.vectors.shape
    raw_keys = pa.py_buffer(np.ascontiguousarray(rows.keys, dtype="<u8").tobytes())
    columns = {
        _KEY: pa.FixedSizeBinaryArray.from_buffers(pa.binary(_KEY_BYTES), n_rows, [None, raw_keys]),
        _VECTOR: vector_array(rows.vectors),
        _TRUNCATED: pa.array(rows.truncated),
        _CHECK: pa.array(_checks(rows)),
    }
    fields = [pa.field(name, column.type, nullable=False) for name, column in columns.items()]
    table = pa.table(list(columns.values()), schema=pa.schema(fields, metadata=_FORMAT))
    with publish.replacing(path) as temporary:
        pq.write_table(
            table,
            temporary,
            row_group_size=max(1, min(_GROUP_ROWS, _GROUP_BYTES // (4 * dim or 1))),
            data_page_size=2**30,
            data_page_version="1.0",
            compression="NONE",
            use_dictionary=False,
            write_statistics=False,
            write_page_checksum=True,
        )


def _checks(rows: Rows) -> NDArray[np.uint32]:
    """Return (n,) checksums of keys, flags and vectors."""
    flags = rows.truncated.astype(np.uint8)[:, None]
    heads = np.concatenate([rows.keys.astype("<u8").view(np.uint8).reshape(-1, _KEY_BYTES), flags], axis=1)
    bodies = np.ascontiguousarray(rows.vectors, dtype="<f4").view(np.uint8)  # (n, 4 * dim)
    checks = [crc32(body, crc32(head)) for head, body in zip(heads, bodies, strict=True)]
    return np.array(checks, np.uint32)


@dataclass(frozen=True, slots=True)
class _Layout:
    """Where the rows of each row group begin.

    Attributes:
        first_rows: (n_groups,) int64, number of the first row.
        vectors: (n_groups,) int64, byte of the first row's vector.
        checks: (n_groups,) int64, byte of the first row's check.
    """

    first_rows: NDArray[np.int64]
    vectors: NDArray[np.int64]
    checks: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Segment:
    """A segment that was found on disk. Make one with `open`.

    Attributes:
        rows: How many.
        dim: Length of the vectors.
    """

    path: Path
    rows: int
    dim: int
    _layout: _Layout | None

    @property
    def checked(self) -> bool:
        """Every row has a checksum of its own."""
        return self._layout is not None

    @classmethod
    def open(cls, path: Path) -> Segment:
        """Read a segment's footer.

        Raises:
            FileNotFoundError: It was removed by somebody who makes room.
            DamagedSegmentError: It is damaged or another kind of file.
        """
        try:
            metadata = pq.read_metadata(path)
            schema = metadata.schema.to_arrow_schema()
            kept = all(schema.get_field_index(name) >= 0 for name in (_KEY, _VECTOR, _TRUNCATED))
            if not kept or not pa.types.is_fixed_size_list(schema.field(_VECTOR).type):
                raise DamagedSegmentError("it is no cache segment", for_good=False)
            dim = int(schema.field(_VECTOR).type.list_size)
            single_pages = (schema.metadata or {}).items() >= _FORMAT.items()
            return cls(path, metadata.num_rows, dim, _layout(metadata, dim) if single_pages else None)
        except FileNotFoundError:
            raise
        except (pa.ArrowException, OSError, LookupError, ValueError, OverflowError) as error:
            raise _damaged(error) from error  # names and numbers of a damaged footer can be anything

    def index(self) -> tuple[NDArray[np.uint64], NDArray[np.bool_]]:
        """Return the keys (n, 2) and the flags (n,) of all rows.

        Raises:
            FileNotFoundError: It was removed by somebody who makes room.
            DamagedSegmentError: It is damaged.
        """
        table = self._table([_KEY, _TRUNCATED])
        parts = [
            np.frombuffer(chunk.buffers()[1], "<u8", 2 * len(chunk), offset=chunk.offset * _KEY_BYTES)
            for chunk in table.column(_KEY).chunks
            if len(chunk)
        ]
        keys = np.concatenate(parts).reshape(-1, 2) if parts else np.zeros((0, 2), np.uint64)
        return keys.astype(np.uint64), np.asarray(table.column(_TRUNCATED).to_numpy(), dtype=bool)

    def read(
        self, rows: NDArray[np.int64], *, keys: NDArray[np.uint64], truncated: NDArray[np.bool_]
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Return the vectors (n, dim) of some rows, and which of them are what was written.

        Args:
            rows: (n,) row numbers, in any order.
            keys: (n, 2), what `index` says of these rows.
            truncated: (n,), what `index` says of these rows.

        Raises:
            FileNotFoundError: It was removed by somebody who makes room.
            DamagedSegmentError: It cannot be read.
        """
        if self._layout is None:
            vectors = vector_matrix(self._table([_VECTOR]).column(_VECTOR))[0][rows]
            return vectors, np.ones(len(rows), bool)
        distinct, inverse = np.unique(rows, return_inverse=True)
        group = np.searchsorted(self._layout.first_rows, distinct, side="right") - 1
        within = distinct - self._layout.first_rows[group]
        try:
            descriptor = os.open(self.path, os.O_RDONLY)
            try:
                raw = _gather(descriptor, self._layout.vectors[group] + 4 * self.dim * within, 4 * self.dim)
                written = _gather(descriptor, self._layout.checks[group] + 4 * within, 4)
            finally:
                os.close(descriptor)
        except FileNotFoundError:
            raise
        except OSError as error:
            raise _damaged(error) from error
        vectors = raw.view("<f4").astype(np.float32, copy=False)[inverse]
        checks = written.view("<u4")[:, 0][inverse]
        return vectors, _checks(Rows(keys, vectors, truncated)) == checks

    def _table(self, columns: list[str]) -> pa.Table:
        try:
            return pq.read_table(
                self.path, columns=columns, memory_map=False, partitioning=None, page_checksum_verification=True
            )
        except FileNotFoundError:
            raise
        except (pa.ArrowException, OSError) as error:
            raise _damaged(error) from error


def _damaged(error: Exception) -> DamagedSegmentError:
    # what Arrow says of the content has no errno; what the system says of the file has one, and may pass
    return DamagedSegmentError(str(error), for_good=getattr(error, "errno", None) is None)


def _layout(metadata: pq.FileMetaData, dim: int) -> _Layout:
    """Find the rows' bytes: a page ends with its values, and the only page of a column with the column."""
    first_rows, places = [0], []
    for group in (metadata.row_group(number) for number in range(metadata.num_row_groups)):
        columns = {found.path_in_schema.partition(".")[0]: found for found in map(group.column, range(4))}
        starts = []
        for column, width in ((columns[_VECTOR], 4 * dim), (columns[_CHECK], 4)):
            starts.append(column.data_page_offset + column.total_compressed_size - group.num_rows * width)
            if starts[-1] < column.data_page_offset:
                raise ValueError("its columns are shorter than its rows")
        places.append(starts)
        first_rows.append(first_rows[-1] + group.num_rows)
    vectors, checks = np.array(places, np.int64).reshape(-1, 2).T
    return _Layout(np.array(first_rows[:-1], np.int64), vectors, checks)


def _gather(descriptor: int, offsets: NDArray[np.int64], width: int) -> NDArray[np.uint8]:
    """Read (n, width) bytes at ascending offsets; neighbours by one read."""
    found = np.zeros((len(offsets), width), np.uint8)
    if not found.size:
        return found
    buffer = found.reshape(-1).data
    starts = np.flatnonzero(np.diff(offsets, prepend=offsets[0] - width - 1) != width)
    stops = np.append(starts[1:], len(offsets))
    for start, stop, offset in zip(starts.tolist(), stops.tolist(), offsets[starts].tolist(), strict=True):
        os.preadv(descriptor, [buffer[start * width : stop * width]], offset)  # what is short fails its check
    return found
