"""Reading files: formats, encodings, delimiters, quotes and true line numbers."""

from __future__ import annotations

import csv
import gzip
import io
import json
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from recpipe.errors import DataError, MissingInputError
from recpipe.ingest import delimited, sources
from recpipe.ingest.quarantine import BadRow
from recpipe.ingest.readers import read_chunks
from recpipe.ingest.settings import DataSettings
from recpipe.ingest.sources import find_sources

Row = tuple[int, dict[str, object]]


def read(path: Path, options: DataSettings | None = None) -> tuple[list[Row], list[BadRow]]:
    rows: list[Row] = []
    bad: list[BadRow] = []
    for file in find_sources(path, table="items"):
        for chunk in read_chunks(file, options or DataSettings()):
            table = pa.table(chunk.columns) if chunk.columns else pa.table({})
            rows += zip(chunk.lines.tolist(), table.to_pylist(), strict=True)
            bad += chunk.bad
    return rows, bad


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_line_ends_blank_lines_and_missing_last_newline(tmp_path: Path, end: bytes) -> None:
    path = write(tmp_path / "a.csv", end.join([b"a,b", b"1,2", b"", b"3", b"4,5"]))
    rows, bad = read(path)
    assert rows == [(2, {"a": "1", "b": "2"}), (5, {"a": "4", "b": "5"})]
    assert [(row.line, row.reason, row.raw) for row in bad] == [(4, "wrong_column_count", "3")]


def test_blank_lines_before_the_header(tmp_path: Path) -> None:
    assert read(write(tmp_path / "a.csv", b"\n\na,b\n1,2\n"))[0] == [(4, {"a": "1", "b": "2"})]


def test_quoted_newlines_keep_the_line_of_the_row_start(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", b'a,b\n1,"x\ny\r\nz"\n2,"says ""hi"", ok"\n3\n4,w\n')
    rows, bad = read(path)
    assert rows == [
        (2, {"a": "1", "b": "x\ny\r\nz"}),
        (5, {"a": "2", "b": 'says "hi", ok'}),
        (7, {"a": "4", "b": "w"}),
    ]
    assert [(row.line, row.detail, row.raw) for row in bad] == [(6, "1 fields, the header has 2", "3")]


def test_an_open_quote_costs_one_row(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.csv", b'a,b\n1,ok\n2,"open\n3,fine\n4,"good"\n5,"x" y\n6,last\n7,"open at the end\n8,z\n'
    )
    rows, bad = read(path)
    assert [line for line, _ in rows] == [2, 4, 5, 7, 9]
    assert [(row.line, row.reason) for row in bad] == [(3, "bad_quoting"), (6, "bad_quoting"), (8, "bad_quoting")]


def test_quoting_off_takes_quotes_as_they_are(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tsv", b'a\tb\n"1\t5" pipe\n')
    assert read(path, DataSettings(quoting=False)) == ([(2, {"a": '"1', "b": '5" pipe'})], [])


def test_blocks_and_chunks_join_without_a_seam(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "BLOCK_BYTES", 64)
    monkeypatch.setattr(delimited, "_CHUNK_RECORDS", 7)
    lines = [f"{i},{'x' * (i % 50)}" for i in range(200)]
    lines[150] = '150,"now quoted, with\nbreaks"'
    lines[20] = "20"
    rows, bad = read(write(tmp_path / "a.csv", ("a,b\n" + "\n".join(lines) + "\n").encode()))
    assert [row["a"] for _, row in rows] == [str(i) for i in range(200) if i != 20]
    assert [line for line, _ in rows] == [i + 2 + (i > 150) for i in range(200) if i != 20]
    assert [row.line for row in bad] == [22]


@pytest.mark.parametrize("name", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "cp1252"])
@pytest.mark.parametrize("suffix", [".csv", ".csv.gz"])
def test_encodings(tmp_path: Path, name: str, suffix: str) -> None:
    content = "a,b\n1,né – x\n".encode(name)
    path = write(tmp_path / f"a{suffix}", gzip.compress(content) if suffix.endswith("gz") else content)
    encoding = name if name in {"utf-16-le", "cp1252"} else "auto"
    assert read(path, DataSettings(encoding=encoding))[0] == [(2, {"a": "1", "b": "né – x"})]


@pytest.mark.parametrize("quote", [b"", b'"'])
def test_bytes_of_another_encoding_are_bad_rows_with_their_line(tmp_path: Path, quote: bytes) -> None:
    path = write(tmp_path / "a.csv", b"a,b\n1,caf\xc3\xa9\n2,caf\xe9\n3," + quote + b"x" + quote + b"\n4,\xff\n")
    rows, bad = read(path)
    assert [(line, row["b"]) for line, row in rows] == [(2, "café"), (4, "x")]
    assert [(row.line, row.reason) for row in bad] == [(3, "bad_encoding"), (5, "bad_encoding")]


def test_undefined_bytes_of_a_stated_encoding_are_bad_rows(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", b"a,b\n1,caf\xe9\n2,\x81\n")
    rows, bad = read(path, DataSettings(encoding="cp1252"))
    assert rows == [(2, {"a": "1", "b": "café"})]
    assert [(row.line, row.reason) for row in bad] == [(3, "bad_encoding")]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a,caf\xe9\n1,2\n", "header is not UTF-8"),
        (b"PAR1xyz\n", "header is not text"),
        ("a,b\n1,2\n".encode("utf-16-le"), "header is not text"),
        (b"a,b,a\n1,2,3\n", "header repeats: a"),
        (b'a,"b\n1,2\n', "open quote"),
    ],
)
def test_headers_that_cannot_be_read(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        read(write(tmp_path / "a.csv", content))
    assert "a.csv, line 1" in str(caught.value)
    assert caught.value.next_step


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_delimiter_is_told_from_the_header(tmp_path: Path, delimiter: str) -> None:
    path = write(tmp_path / "a.csv", f"a{delimiter}b\n1{delimiter}2\n".encode())
    assert read(path)[0] == [(2, {"a": "1", "b": "2"})]


_CELL = st.text('a;é" ,\n\r', max_size=4)


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    rows=st.lists(st.tuples(_CELL, _CELL), min_size=1, max_size=6), mode=st.sampled_from([0, 1]), cut=st.integers(0, 9)
)
def test_fast_and_record_wise_reading_agree(
    tmp_path: Path, rows: list[tuple[str, str]], mode: Literal[0, 1], cut: int
) -> None:
    buffer = io.StringIO(newline="")
    csv.writer(buffer, quoting=mode, lineterminator="\n").writerows(rows)
    text = "a,b\n" + buffer.getvalue()
    path = write(tmp_path / "a.csv", text[: len(text) - cut].encode())
    found = read(path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(delimited, "scan", lambda *args, **names: None)
        assert read(path) == found


def test_lines_with_quoted_fields_take_the_fast_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(delimited, "Records")
    path = write(tmp_path / "a.csv", b'"a","b"\r\n"1",""\r\n2,"x,y"\r\n3,"u",v\r\n"4","end"')
    rows, bad = read(path)
    assert rows == [(2, {"a": "1", "b": ""}), (3, {"a": "2", "b": "x,y"}), (5, {"a": "4", "b": "end"})]
    assert [(row.line, row.detail) for row in bad] == [(4, "3 fields, the header has 2")]


def test_an_unnamed_column_is_left_out(tmp_path: Path) -> None:
    assert read(write(tmp_path / "a.csv", b",a\n0,x\n"))[0] == [(2, {"a": "x"})]


def test_damaged_gzip(tmp_path: Path) -> None:
    whole = gzip.compress(b"a,b\n" + b"".join(b"%d,%d\n" % (i, i * 7919) for i in range(5000)))
    for content in (whole[:-2000], b"no gzip at all"):
        with pytest.raises(DataError, match="damaged or cut off"):
            read(write(tmp_path / "a.csv.gz", content))


def test_jsonl_types_and_bad_lines(tmp_path: Path) -> None:
    objects = [
        b'{"id": "007", "n": 1, "f": 1, "flag": true, "tags": ["a", "b"], "mixed": 1, "nested": {"x": 1}}',
        b"",
        b'{"id": "8", "n": 2, "f": 1.5, "flag": null, "tags": null, "mixed": "x", "nested": {}}',
        b"[1, 2]",
        b'{"id": ',
        b'{"id": "caf\xe9"}',
        b'{"id": "\\ud800"}',
        b'{"id": 123456789012345678901234567890}',
    ]
    path = write(tmp_path / "a.jsonl", b"\r\n".join(objects))
    (chunk,) = read_chunks(find_sources(path, table="items")[0], DataSettings())
    kinds = {name: str(column.type) for name, column in chunk.columns.items()}
    assert kinds == {
        "id": "string", "n": "int64", "f": "double", "flag": "bool", "tags": "list<item: string>", "mixed": "string",
    }  # fmt: skip
    assert chunk.columns["id"].to_pylist() == ["007", "8", "123456789012345678901234567890"]
    assert chunk.columns["mixed"].to_pylist() == ["1", "x", None]
    assert chunk.lines.tolist() == [1, 3, 8]
    assert "nested values" in chunk.refused["nested"]
    assert "line 1" in chunk.refused["nested"]
    reasons = [(row.line, str(row.reason)) for row in chunk.bad]
    assert reasons == [(4, "bad_json"), (5, "bad_json"), (6, "bad_encoding"), (7, "bad_encoding")]


def test_a_json_array_is_refused_with_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="JSON array") as caught:
        read(write(tmp_path / "a.jsonl", b'[{"a": 1}]'))
    assert "one object a line" in str(caught.value)


def test_deeply_nested_json_is_a_bad_row(tmp_path: Path) -> None:
    rows, bad = read(write(tmp_path / "a.jsonl", b'{"a": ' + b"[" * 100_000 + b'}\n{"a": "x"}\n'))
    assert [line for line, _ in rows] == [2]
    assert [str(row.reason) for row in bad] == ["bad_json"]


def test_parquet_types(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    table = pa.table(
        {
            "big": pa.array(["x", None], pa.large_string()),
            "category": pa.array(["p", "q"]).dictionary_encode(),
            "whole": pa.array([1.0, float("nan")]),
            "small": pa.array([1, 2], pa.uint8()),
            "local": pa.array([0, 1], pa.timestamp("ms", "Europe/Berlin")),
            "vector": pa.array([[0.5], [0.25]], pa.list_(pa.float32(), 1)),
            "words": pa.array([["a"], None], pa.list_(pa.large_string())),
            "record": pa.array([{"x": 1}, None]),
        }
    )
    pq.write_table(table, path)
    empty, chunk = read_chunks(find_sources(path, table="items")[0], DataSettings())
    assert len(empty.lines) == 0
    assert {name: str(column.type) for name, column in chunk.columns.items()} == {
        "big": "string", "category": "string", "whole": "double", "small": "int64",
        "local": "timestamp[us, tz=UTC]", "words": "list<item: string>",
    }  # fmt: skip
    assert chunk.columns["whole"].to_pylist() == [1.0, None]
    assert sorted(chunk.refused) == ["record", "vector"]
    assert json.loads(chunk.raw(1))["category"] == "q"


def test_a_broken_parquet_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="Parquet file cannot be read"):
        read(write(tmp_path / "a.parquet", b"user_id,item_id\n1,2\n"))


def test_sources_are_files_folders_and_globs(tmp_path: Path) -> None:
    for name in ("b.csv", "a.csv", "_SUCCESS", ".hidden.csv", "notes.txt"):
        write(tmp_path / name, b"a\n1\n")
    assert [file.path.name for file in find_sources(tmp_path, table="items")] == ["a.csv", "b.csv"]
    assert [file.path.name for file in find_sources(str(tmp_path / "*.csv"), table="items")] == ["a.csv", "b.csv"]
    both = [str(tmp_path / "b.csv"), str(tmp_path / "a.csv")]
    assert [file.path.name for file in find_sources(both, table="items")] == ["b.csv", "a.csv"]


def test_sources_that_are_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for path in (tmp_path / "no.csv", tmp_path / "no*.csv"):
        with pytest.raises(MissingInputError, match="file not found") as caught:
            find_sources(path, table="items")
        assert caught.value.exit_code == 4
        assert str(path) in str(caught.value.where)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(MissingInputError, match=r"items: file not found: sub/no\.csv") as caught:
        find_sources("sub/no.csv", table="items")
    assert caught.value.where == str(tmp_path / "sub" / "no.csv")
    assert "relative paths start from the current directory" in str(caught.value.next_step)
    assert "--items" not in str(caught.value.next_step)
    with pytest.raises(DataError, match="cannot tell the format"):
        find_sources(write(tmp_path / "a.xlsx", b"x"), table="items")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no table"):
        find_sources(tmp_path / "empty", table="items")


_FIELDS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(rows=st.lists(st.tuples(_FIELDS, _FIELDS), min_size=1, max_size=20), gap=st.integers(0, 2))
@example(rows=[("007", "1e5"), (" x ", "\x00"), ("\ufeff", "a\x85b"), ('"', "\r")], gap=1)
def test_csv_round_trip(tmp_path: Path, rows: list[tuple[str, str]], gap: int) -> None:
    buffer = io.StringIO(newline="")
    lines = []
    buffer.write("a,b\r\n")
    for row in rows:
        buffer.write("\r\n" * gap)
        lines.append(len(io.StringIO(buffer.getvalue(), newline="").readlines()) + 1)
        csv.writer(buffer).writerow(row)
    found, bad = read(write(tmp_path / "a.csv", buffer.getvalue().encode()))
    assert not bad
    assert found == [(line, {"a": a, "b": b}) for line, (a, b) in zip(lines, rows, strict=True)]


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    content=st.binary(max_size=200) | st.text(alphabet='a,"\n\r\xe9;1', max_size=60).map(lambda t: t.encode("cp1252"))
)
@example(content=b'"\n"\n"\n"')
def test_no_line_of_a_broken_csv_vanishes(tmp_path: Path, content: bytes) -> None:
    rows, bad = read(write(tmp_path / "a.csv", b"a,b\n" + content))
    lines = [line for line, _ in rows] + [row.line for row in bad]
    assert len(set(lines)) == len(lines)
    text = content.decode("utf-8", "surrogateescape")
    found = "".join(str(value) for _, row in rows for value in row.values()) + "".join(row.raw for row in bad)
    for letter in set(text) - set('",\n\r'):
        assert text.count(letter) == found.count(letter)
