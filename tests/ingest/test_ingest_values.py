"""Ids, values, attribute types and scratch files, each on its own."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recpipe.ingest import ids as ids_module
from recpipe.ingest.attributes import STRINGS, cast, to_text
from recpipe.ingest.ids import IdIndex, hash_ids, repeated_rows
from recpipe.ingest.spill import Buckets, Spill
from recpipe.ingest.validate import check_positions, check_ratings, check_timestamps

_TEXTS = st.lists(st.text(max_size=6), max_size=30)


@given(_TEXTS, st.integers(0, 5))
def test_a_hash_depends_on_the_id_alone(values: list[str], start: int) -> None:
    array = pa.array(values, pa.string())
    whole = hash_ids(array)
    assert whole.dtype == np.uint64
    assert np.array_equal(hash_ids(array.slice(start)), whole[start:])
    assert np.array_equal(hash_ids(array.cast(pa.large_string())), whole)
    assert len(set(whole.tolist())) == len(set(values))


def _hash_in_plain_integers(text: str) -> int:
    value = sum((byte + 1) * 0x100000001B3 ** (place + 1) for place, byte in enumerate(text.encode())) % 2**64
    value = (value ^ value >> 30) * 0xBF58476D1CE4E5B9 % 2**64
    value = (value ^ value >> 27) * 0x94D049BB133111EB % 2**64
    return value ^ value >> 31


@given(_TEXTS)
def test_hashes_follow_the_formula(values: list[str]) -> None:
    expected = [_hash_in_plain_integers(value) for value in values]
    assert hash_ids(pa.array(values, pa.string())).tolist() == expected


def test_hashes_spread_like_chance() -> None:
    counts = np.bincount(
        (hash_ids(pa.array([str(i) for i in range(64_000)])) >> np.uint64(58)).astype(int), minlength=64
    )
    assert ((counts - 1000) ** 2 / 1000).sum() < 110  # chi-square, 63 degrees of freedom, p < 0.0003


def test_nulls_have_no_hash() -> None:
    with pytest.raises(ValueError, match="nulls"):
        hash_ids(pa.array(["a", None]))


@given(st.lists(st.integers(0, 8), max_size=20))
def test_repeated_rows(values: list[int]) -> None:
    expected = [row for row, value in enumerate(values) if values.count(value) > 1]
    assert repeated_rows(np.array(values, np.uint64)).tolist() == expected


@pytest.mark.parametrize("collide", [False, True])
def test_id_index(monkeypatch: pytest.MonkeyPatch, collide: bool) -> None:
    if collide:
        monkeypatch.setattr(ids_module, "hash_ids", lambda ids: np.ones(len(ids), np.uint64))
    index = IdIndex(pa.array(["b", "a", "007", "7"]))
    assert index.rows_of(pa.array(["7", "x", "007", "b", "b", ""])).tolist() == [3, -1, 2, 0, 0, -1]
    assert IdIndex(pa.array([], pa.string())).rows_of(pa.array(["a"])).tolist() == [-1]
    assert len(index) == 4


@pytest.mark.parametrize(
    ("value", "unit", "expected"),
    [
        (964982703, "auto", "2000-07-30T18:45:03+00:00"),
        (964982703123, "auto", "2000-07-30T18:45:03.123000+00:00"),
        (964982703123456, "auto", "2000-07-30T18:45:03.123456+00:00"),
        (964982703123456789, "auto", "2000-07-30T18:45:03.123456+00:00"),
        (5000, "ms", "1970-01-01T00:00:05+00:00"),
        (20240131, "s", "1970-08-23T06:15:31+00:00"),
        ("964982703", "auto", "2000-07-30T18:45:03+00:00"),
        ("964982703.5", "auto", "2000-07-30T18:45:03.500000+00:00"),
        (" 9.64982703e8 ", "auto", "2000-07-30T18:45:03+00:00"),
        ("2024-02-29", "auto", "2024-02-29T00:00:00+00:00"),
        ("2024-02-29 12:30", "auto", "2024-02-29T12:30:00+00:00"),
        ("2024-02-29T12:30:01.25", "auto", "2024-02-29T12:30:01.250000+00:00"),
        ("2024-02-29T12:30:01Z", "auto", "2024-02-29T12:30:01+00:00"),
        ("2024-02-29T12:30:01+02:00", "auto", "2024-02-29T10:30:01+00:00"),
        ("2024-02-29T12:30:01-0130", "auto", "2024-02-29T14:00:01+00:00"),
        (0, "auto", "1970-01-01T00:00:00+00:00"),
        (datetime(2024, 2, 29, 12, tzinfo=UTC), "auto", "2024-02-29T12:00:00+00:00"),
    ],
)
def test_timestamps(value: object, unit: str, expected: str) -> None:
    array = pa.array([value], pa.timestamp("us", "UTC")) if isinstance(value, datetime) else pa.array([value])
    checked = check_timestamps(array, unit=unit)
    assert not checked.bad.any()
    assert checked.values.type == pa.timestamp("us", "UTC")
    assert checked.values[0].as_py().isoformat() == expected


def test_kinds_of_times_mix_within_a_column() -> None:
    values = ["964982703", "2024-01-01", "2024-01-01T00:00:00Z", "no", None, "", "964982703000", "inf"]
    checked = check_timestamps(pa.array(values), unit="auto")
    assert checked.bad.tolist() == [False, False, False, True, True, True, False, True]
    assert checked.values[0] == checked.values[6]
    assert checked.values[1] == checked.values[2]


@given(
    st.lists(st.datetimes(datetime(1970, 1, 1), datetime(2099, 12, 31)), min_size=1, max_size=8),
    st.sampled_from([None, timedelta(hours=-5), timedelta(hours=5, minutes=30)]),
)
def test_iso_times_round_trip(moments: list[datetime], offset: timedelta | None) -> None:
    texts = []
    for moment in moments:
        local = (moment + (offset or timedelta(0))).isoformat(timespec="microseconds")
        sign, size = ("-", -offset) if offset and offset < timedelta(0) else ("+", offset)
        texts.append(local if size is None else f"{local}{sign}{str(size)[:-3]:0>5}")
    checked = check_timestamps(pa.array(texts), unit="auto")
    assert not checked.bad.any()
    assert [value.replace(tzinfo=None) for value in checked.values.to_pylist()] == moments


@given(
    st.lists(st.integers(100_000_000, 4_102_444_799), min_size=1, max_size=8), st.sampled_from(["s", "ms", "us", "ns"])
)
def test_auto_agrees_with_the_unit_named(seconds: list[int], unit: str) -> None:
    scale = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[unit]
    array = pa.array([second * scale for second in seconds])
    named, told = check_timestamps(array, unit=unit), check_timestamps(array, unit="auto")
    assert not named.bad.any()
    assert named.values.equals(told.values)
    assert named.values.cast(pa.int64()).to_pylist() == [second * 10**6 for second in seconds]


@given(st.lists(st.none() | st.floats(width=32, allow_nan=False, allow_infinity=False), max_size=8))
def test_ratings_as_text_are_the_ratings(values: list[float | None]) -> None:
    expected = pa.array(values, pa.float32())
    texts = pa.array([None if value is None else repr(value) for value in values], pa.string())
    for column in (texts, pa.array(values, pa.float64())):
        checked = check_ratings(column, low=None, high=None)
        assert not checked.bad.any()
        assert checked.values.equals(expected)


def test_ratings_of_other_types() -> None:
    assert check_ratings(pa.array([True, False]), low=None, high=None).values.to_pylist() == [1.0, 0.0]
    assert check_ratings(pa.array([1, 9]), low=1, high=5).bad.tolist() == [False, True]
    assert check_ratings(pa.array([["1"], ["a"]]), low=None, high=None).bad.tolist() == [False, True]
    assert check_ratings(pa.array([float("inf"), 1.0]), low=None, high=None).bad.tolist() == [True, False]


def test_positions_of_other_types() -> None:
    assert check_positions(pa.array(["1", "2.0", " 3 "])).values.to_pylist() == [1, 2, 3]
    assert check_positions(pa.array([1.5, None, 2.0])).bad.tolist() == [True, True, False]


def test_casts_to_the_type_all_values_fit() -> None:
    assert to_text(pa.array([1.0, 1.5, None, -0.25])).to_pylist() == ["1", "1.5", None, "-0.25"]
    assert to_text(pa.array([True, None])).to_pylist() == ["true", None]
    assert to_text(pa.array([["a", "b"], []])).to_pylist() == ["a, b", ""]
    assert cast(pa.array([1, None]), STRINGS).to_pylist() == [["1"], None]
    assert cast(pa.array(["1", None]), pa.int64()).to_pylist() == [1, None]
    assert cast(pa.nulls(2, pa.string()), pa.bool_()).to_pylist() == [None, None]


def test_spill_keeps_tables_of_different_schemas(tmp_path: Path) -> None:
    tables = [pa.table({"a": [1, 2]}), pa.table({"a": ["x"], "b": [[True]]}), pa.table({"a": [3]})]
    spill = Spill(tmp_path / "s" / "x.arrow")
    assert list(spill.read()) == []
    for table in tables:
        spill.append(table)
    assert list(spill.read()) == tables
    spill.delete()
    assert list(spill.read()) == []


def test_buckets_hold_back_and_flush(tmp_path: Path) -> None:
    buckets = Buckets(tmp_path, name="b", n_buckets=2)
    buckets.add(0, pa.table({"a": [1]}))
    buckets.add(0, pa.table({"a": [2]}))
    buckets.add(0, pa.table({"a": ["x"]}))
    assert not list(tmp_path.iterdir())
    buckets.flush()
    assert [table.column("a").to_pylist() for table in buckets.spills[0].read()] == [[1, 2], ["x"]]
    assert not buckets.spills[1].path.exists()
