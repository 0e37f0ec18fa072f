from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from recpipe.errors import DataError, RecpipeError
from recpipe.schemas import ITEM_EMBEDDINGS
from recpipe.store import artifacts, parts
from recpipe.store.arrow import vector_array


def rows(first: int, n_rows: int) -> pa.Table:
    ids = [f"i{row}" for row in range(first, first + n_rows)]
    return pa.table({"item_id": pa.array(ids, pa.string()), "embedding": vector_array(np.full((n_rows, 2), first))})


def test_a_part_and_what_was_counted_survive(tmp_path: Path) -> None:
    path = tmp_path / "x-000000-0-3.parquet"
    assert parts.finished(path) is None
    parts.write(path, rows(0, 3), ITEM_EMBEDDINGS, {"encoded": 2, "größe": 1.5})
    assert parts.finished(path) == {"encoded": 2, "größe": 1.5}


def test_the_same_part_has_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a.parquet", "b.parquet"):
        parts.write(tmp_path / name, rows(0, 3), ITEM_EMBEDDINGS, {"b": 1, "a": 2})
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()


def test_parts_come_in_the_order_asked_for(tmp_path: Path) -> None:
    paths = [tmp_path / f"x-{number:06d}.parquet" for number in range(3)]
    for number in (2, 0, 1):
        parts.write(paths[number], rows(3 * number, 3), ITEM_EMBEDDINGS, {})
    assert pa.concat_tables(parts.tables(paths)).equals(pa.concat_tables([rows(0, 3), rows(3, 3), rows(6, 3)]))


def test_a_bad_part_is_not_published(tmp_path: Path) -> None:
    bad = rows(0, 1).set_column(0, "item_id", pa.array([None], pa.string()))
    with pytest.raises(DataError, match="item_id is null"):
        parts.write(tmp_path / "x.parquet", bad, ITEM_EMBEDDINGS, {})
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_fails_before_the_part_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = artifacts.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(artifacts.shutil, "disk_usage", lambda _: usage._replace(free=2**20))
    with pytest.raises(RecpipeError, match="only 1 MiB of disk are free"):
        parts.write(tmp_path / "x.parquet", rows(0, 1), ITEM_EMBEDDINGS, {})


def test_preparing_keeps_finished_parts_and_clears_half_ones(tmp_path: Path) -> None:
    folder = tmp_path / ".parts" / "ab12"
    parts.prepare(folder)
    parts.write(folder / "x-000000-0-1.parquet", rows(0, 1), ITEM_EMBEDDINGS, {})
    (folder / ".tmp-99-0123abcd-x-000001-1-2.parquet").write_bytes(b"half")
    parts.prepare(folder)
    assert [path.name for path in folder.iterdir()] == ["x-000000-0-1.parquet"]
    parts.discard(folder)
    assert not folder.exists()
    parts.discard(folder)
