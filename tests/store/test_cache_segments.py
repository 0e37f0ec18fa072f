from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from recpipe.store import cache_segments
from recpipe.store.cache_segments import DamagedSegmentError, Rows, Segment, segment_name, write_segment


def rows_of(n_rows: int, *, dim: int = 5, seed: int = 0) -> Rows:
    rng = np.random.default_rng(seed)
    keys = rng.integers(0, 2**63, (n_rows, 2)).astype(np.uint64)
    return Rows(keys, rng.standard_normal((n_rows, dim)).astype(np.float32), rng.random(n_rows) < 0.3)


@pytest.mark.parametrize("n_rows", [1, 6, 7, 8, 50])
def test_rows_come_back_in_any_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, n_rows: int) -> None:
    monkeypatch.setattr(cache_segments, "_GROUP_ROWS", 7)
    written = rows_of(n_rows)
    path = tmp_path / segment_name(written.keys)
    write_segment(path, written)
    segment = Segment.open(path)
    assert (segment.rows, segment.dim, segment.checked) == (n_rows, 5, True)
    keys, truncated = segment.index()
    assert np.array_equal(keys, written.keys) and np.array_equal(truncated, written.truncated)
    rng = np.random.default_rng(1)
    for asked in (np.arange(n_rows), rng.permutation(n_rows), rng.integers(0, n_rows, 3 * n_rows), np.arange(0)):
        vectors, sound = segment.read(asked, keys=keys[asked], truncated=truncated[asked])
        assert np.array_equal(vectors, written.vectors[asked])
        assert vectors.dtype == np.float32 and sound.all() and sound.shape == asked.shape


def test_a_segment_of_full_row_groups_of_real_width_has_one_page_each(tmp_path: Path) -> None:
    """The place of a row is worked out from the footer: a writer that cut pages would break it."""
    written = rows_of(20_000, dim=384)
    write_segment(tmp_path / "s.parquet", written)
    assert pq.read_metadata(tmp_path / "s.parquet").num_row_groups == 2
    segment = Segment.open(tmp_path / "s.parquet")
    asked = np.array([19_999, 0, 10_415, 10_416, 10_417, 5])
    vectors, sound = segment.read(asked, keys=written.keys[asked], truncated=written.truncated[asked])
    assert np.array_equal(vectors, written.vectors[asked]) and sound.all()


def test_many_narrow_rows_are_cut_into_groups(tmp_path: Path) -> None:
    written = rows_of(40_000, dim=1)
    write_segment(tmp_path / "s.parquet", written)
    asked = np.arange(40_000)[::-1]
    segment = Segment.open(tmp_path / "s.parquet")
    vectors, sound = segment.read(asked, keys=written.keys[asked], truncated=written.truncated[asked])
    assert np.array_equal(vectors, written.vectors[asked]) and sound.all()


def test_every_parquet_reader_reads_it(tmp_path: Path) -> None:
    written = rows_of(9)
    write_segment(tmp_path / "s.parquet", written)
    table = pq.read_table(tmp_path / "s.parquet", page_checksum_verification=True)
    assert table.column_names == ["key", "vector", "truncated", "check"]
    assert np.array_equal(np.array(table.column("vector").to_pylist(), np.float32), written.vectors)
    assert table.column("truncated").to_pylist() == written.truncated.tolist()


def test_rows_of_another_key_or_flag_are_not_sound(tmp_path: Path) -> None:
    written = rows_of(4)
    write_segment(tmp_path / "s.parquet", written)
    segment = Segment.open(tmp_path / "s.parquet")
    asked = np.arange(4)
    other_keys = written.keys.copy()
    other_keys[1, 1] ^= np.uint64(1)
    assert segment.read(asked, keys=other_keys, truncated=written.truncated)[1].tolist() == [True, False, True, True]
    flags = written.truncated.copy()
    flags[3] = ~flags[3]
    assert segment.read(asked, keys=written.keys, truncated=flags)[1].tolist() == [True, True, True, False]


def test_what_is_gone_and_what_is_damaged_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Segment.open(tmp_path / "none.parquet")
    written = rows_of(4)
    path = tmp_path / "s.parquet"
    write_segment(path, written)
    segment = Segment.open(path)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(DamagedSegmentError) as found:
        Segment.open(path)
    assert found.value.for_good
    # shortened after its footer was read: what is missing is not sound
    assert not segment.read(np.arange(4), keys=written.keys, truncated=written.truncated)[1].any()
    path.unlink()
    with pytest.raises(FileNotFoundError):
        segment.read(np.arange(4), keys=written.keys, truncated=written.truncated)
    with pytest.raises(FileNotFoundError):
        segment.index()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_not_damaged_for_good(tmp_path: Path) -> None:
    write_segment(tmp_path / "s.parquet", rows_of(4))
    (tmp_path / "s.parquet").chmod(0)
    with pytest.raises(DamagedSegmentError) as found:
        Segment.open(tmp_path / "s.parquet")
    assert not found.value.for_good


def test_joining_and_taking_rows() -> None:
    first, second = rows_of(3), rows_of(2, seed=1)
    joined = Rows.join([first, second])
    assert len(joined) == 5
    assert np.array_equal(joined.take(np.array([3, 4])).vectors, second.vectors)
    assert np.array_equal(joined.take(np.arange(5) < 3).keys, first.keys)
