"""The interactions table: checked against users and items, and sorted within bounded memory.

Order: users as in the users table or, without one, by a hash of their id; within a user by
timestamp, then position, then place in the source. The sort is external: rows go to buckets
(ranges of users, or of hashes) small enough to be sorted in memory one after the other.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from recpipe import schemas
from recpipe.ingest.ids import IdIndex, hash_ids
from recpipe.ingest.quarantine import Quarantine, Reason
from recpipe.ingest.settings import DataSettings
from recpipe.ingest.sources import SourceFile
from recpipe.ingest.spill import Buckets, Spill
from recpipe.ingest.tables import CanonicalTable, Rows, TableReader, conform
from recpipe.ingest.validate import Checked, check_ids, check_positions, check_ratings, check_timestamps

# Source text per bucket: a sorted bucket of it takes about 150 MB of memory.
_BUCKET_BYTES = 16 << 20
# Above 16 GB of source text, buckets grow instead of their number.
_MAX_BUCKETS = 1024
_USER, _PLACE = "\x1fuser", "\x1fplace"
_USER_ID, _ITEM_ID = schemas.USER_ID.name, schemas.ITEM_ID.name
_RATING, _TIMESTAMP, _POSITION = schemas.RATING.name, schemas.TIMESTAMP.name, schemas.POSITION.name


def canonical_interactions(
    sources: Sequence[SourceFile],
    settings: DataSettings,
    *,
    user_ids: pa.Array | None,
    item_ids: pa.Array | None,
    scratch: Path,
    quarantine: Path,
) -> CanonicalTable:
    """Read, check and sort the interactions.

    Args:
        user_ids: Ids of the users table, string (n_users,); None: any user is known.
        item_ids: Ids of the items table, string (n_items,); None: any item is known.
        scratch: Folder for scratch files; they stay until `CanonicalTable.delete`.
        quarantine: Parquet file for the bad rows.

    Raises:
        DataError: A file or its columns cannot be read, too many rows are bad, or none is good.
    """
    users = None if user_ids is None else IdIndex(user_ids)
    items = None if item_ids is None else IdIndex(item_ids)
    n_buckets = min(_MAX_BUCKETS, 1 + sum(source.text_bytes() for source in sources) // _BUCKET_BYTES)
    buckets = Buckets(scratch, name=schemas.INTERACTIONS.name, n_buckets=n_buckets)
    place = 0
    with Quarantine(schemas.INTERACTIONS.name, quarantine) as bad:
        reader = TableReader(schemas.INTERACTIONS, settings, bad)
        for _, rows in reader.chunks(sources):
            if not {_USER_ID, _ITEM_ID} & rows.columns.keys():
                continue
            user_rows = _check(rows, reader, users=users, items=items)
            if user_rows is not None:
                rows.columns[_USER] = pa.array(user_rows)
            columns, lines = _accept(reader, rows)
            if len(lines):
                columns[_PLACE] = pa.array(np.arange(place, place + len(lines)))
                place += len(lines)
                _distribute(pa.table(columns), buckets, n_users=None if users is None else len(users))
        buckets.flush()
    schema, notes = reader.finish(sources)
    return CanonicalTable(
        schemas.INTERACTIONS.name,
        schema,
        reader.n_good,
        bad.n_bad,
        {str(reason): count for reason, count in bad.counts.items()},
        notes,
        lambda: (_sorted(spill, schema) for spill in buckets.spills if spill.path.exists()),
        tuple(buckets.spills),
    )


def users_of(interactions: Iterator[pa.Table]) -> Iterator[pa.Table]:
    """Derive a users table: each user of the sorted interactions once, in their order."""
    last: str | None = None
    schema = pa.schema([pa.field(_USER_ID, pa.string(), nullable=False)])
    for table in interactions:
        ids = table.column(_USER_ID).combine_chunks()
        new = np.ones(len(ids), bool)
        new[1:] = pc.not_equal(ids[1:], ids[:-1]).to_numpy(zero_copy_only=False)
        if len(ids):
            new[0] = ids[0].as_py() != last
            last = ids[-1].as_py()
        if new.any():
            yield pa.table([ids.filter(pa.array(new))], schema=schema)


def _accept(reader: TableReader, rows: Rows) -> tuple[dict[str, pa.Array], npt.NDArray[np.int64]]:
    scratch = rows.columns.pop(_USER, None)
    n_before = len(rows.chunk.lines)
    if scratch is None:
        return reader.accept(rows)
    bad = np.zeros(n_before, bool)
    for _, checked in rows.checks:
        bad |= checked.bad
    columns, lines = reader.accept(rows)
    return {**columns, _USER: scratch.filter(pa.array(~bad))}, lines


def _check(
    rows: Rows, reader: TableReader, *, users: IdIndex | None, items: IdIndex | None
) -> npt.NDArray[np.int64] | None:
    """Add all checks to the rows; return the row of each user in the users table."""
    columns, settings = rows.columns, reader.settings
    for name in (_USER_ID, _ITEM_ID):
        column = columns.get(name, pa.nulls(len(rows.chunk.lines), pa.string()))
        rows.check(Reason.MISSING_ID, name, check_ids(column))
    if _RATING in columns:
        decimal = reader.decimals.of(_RATING, columns[_RATING], rows.chunk)
        checked = check_ratings(columns[_RATING], low=settings.rating_min, high=settings.rating_max, decimal=decimal)
        rows.check(Reason.BAD_RATING, _RATING, checked)
    if _TIMESTAMP in columns:
        rows.check(
            Reason.BAD_TIMESTAMP, _TIMESTAMP, check_timestamps(columns[_TIMESTAMP], unit=settings.timestamp_unit)
        )
    if _POSITION in columns:
        rows.check(Reason.BAD_POSITION, _POSITION, check_positions(columns[_POSITION]))
    user_rows = None
    if users is not None:
        user_rows = _check_known(rows, Reason.UNKNOWN_USER, _USER_ID, users)
    if items is not None:
        _check_known(rows, Reason.UNKNOWN_ITEM, _ITEM_ID, items)
    return user_rows


def _check_known(rows: Rows, reason: Reason, name: str, known: IdIndex) -> npt.NDArray[np.int64]:
    ids = rows.columns[name].fill_null("")
    found = known.rows_of(ids)
    table = "users" if name == _USER_ID else "items"
    rows.checks.append((reason, Checked(ids, found < 0, lambda i: f"{ids[i].as_py()!r} is not in {table}")))
    return found


def _distribute(table: pa.Table, buckets: Buckets, *, n_users: int | None) -> None:
    n_buckets = len(buckets.spills)
    if n_buckets == 1:
        buckets.add(0, table)
        return
    if n_users is not None:
        numbers = table.column(_USER).to_numpy() * n_buckets // max(n_users, 1)
    else:
        # the top 32 bits, so that the order of buckets is the order of hashes
        top = hash_ids(table.column(_USER_ID).combine_chunks()) >> np.uint64(32)
        numbers = (top * np.uint64(n_buckets) >> np.uint64(32)).astype(np.int64)
    order = np.argsort(numbers, kind="stable")
    table = table.take(pa.array(order))
    edges = np.searchsorted(numbers[order], np.arange(n_buckets + 1))
    for number in np.flatnonzero(np.diff(edges)):
        buckets.add(int(number), table.slice(edges[number], edges[number + 1] - edges[number]))


def _sorted(spill: Spill, schema: pa.Schema) -> pa.Table:
    """Return the rows of one bucket in order."""
    scratch = [pa.field(name, pa.int64()) for name in (_USER, _PLACE)]
    tables = list(spill.read())
    kept = pa.schema([*schema, *(item for item in scratch if item.name in tables[0].column_names)])
    table = pa.concat_tables([conform(part, kept) for part in tables])
    if _USER in table.column_names:
        users = table.column(_USER).to_numpy()
    else:
        users = _ranks(table.column(_USER_ID).combine_chunks())
    keys = [table.column(_PLACE).to_numpy()]
    for name in (_POSITION, _TIMESTAMP):
        if name in table.column_names:
            keys.append(table.column(name).cast(pa.int64()).fill_null(0).to_numpy())
    order = np.lexsort((*keys, users))
    return table.select(schema.names).take(pa.array(order)).combine_chunks()


def _ranks(ids: pa.Array) -> npt.NDArray[np.int64]:
    """Rank users by hash of the id, equal hashes by the id itself: int64 (n_rows,)."""
    encoded = ids.dictionary_encode()
    distinct = encoded.dictionary
    order = pc.sort_indices(
        pa.table({"hash": pa.array(hash_ids(distinct)), "id": distinct}),
        sort_keys=[("hash", "ascending"), ("id", "ascending")],
    ).to_numpy()
    ranks = np.empty(len(distinct), np.int64)
    ranks[order] = np.arange(len(distinct))
    codes: npt.NDArray[np.int64] = encoded.indices.to_numpy()
    return ranks[codes]
