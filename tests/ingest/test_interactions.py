"""Interactions: values, references, order, bounded memory."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recpipe.errors import DataError
from recpipe.ingest import interactions as module
from recpipe.ingest import sources
from recpipe.ingest.interactions import canonical_interactions, users_of
from recpipe.ingest.settings import ColumnMaps, DataSettings, KeptColumns
from recpipe.ingest.sources import find_sources
from recpipe.ingest.tables import CanonicalTable


def load(
    path: Path,
    options: DataSettings | None = None,
    *,
    users: list[str] | None = None,
    items: list[str] | None = None,
) -> CanonicalTable:
    folder = path if path.is_dir() else path.parent
    return canonical_interactions(
        find_sources(path, table="interactions"),
        options or DataSettings(),
        user_ids=None if users is None else pa.array(users, pa.string()),
        item_ids=None if items is None else pa.array(items, pa.string()),
        scratch=folder / ".scratch",
        quarantine=folder / "quarantine.parquet",
    )


def rows_of(result: CanonicalTable) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = pa.concat_tables(result.batches()).to_pylist()
    return rows


def write(path: Path, text: str) -> Path:
    path.write_bytes(text.encode())
    return path


def test_schema_and_values(tmp_path: Path) -> None:
    path = write(tmp_path / "x.csv", "user_id,item_id,rating,timestamp,shop\na,1,4.5,0,3\na,2,,1700000000,4\n")
    result = load(path)
    assert str(result.schema) == (
        "user_id: string not null\nitem_id: string not null\nrating: float\n"
        "timestamp: timestamp[us, tz=UTC] not null\nshop: int64"
    )
    assert [(row["rating"], row["shop"]) for row in rows_of(result)] == [(4.5, 3), (None, 4)]


def test_users_stand_in_the_order_of_the_users_table_oldest_first(tmp_path: Path) -> None:
    path = write(
        tmp_path / "x.csv", "user_id,item_id,timestamp\na,late,300\nb,x,50\na,early,100\na,tie 1,200\na,tie 2,200\n"
    )
    result = load(path, users=["b", "silent", "a"])
    assert [(row["user_id"], row["item_id"]) for row in rows_of(result)] == [
        ("b", "x"), ("a", "early"), ("a", "tie 1"), ("a", "tie 2"), ("a", "late"),
    ]  # fmt: skip


def test_position_orders_where_no_time_is_known(tmp_path: Path) -> None:
    path = write(tmp_path / "x.csv", "user_id,item_id,position\na,3,10\na,1,-1\na,2,9\n")
    assert [row["item_id"] for row in rows_of(load(path))] == ["1", "2", "3"]


@pytest.mark.parametrize("known", [True, False])
def test_order_does_not_depend_on_format_chunks_or_buckets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, known: bool
) -> None:
    rows = [(f"u{i * 7 % 23}", str(i), i * 31 % 10) for i in range(400)]
    users = [f"u{i}" for i in range(23)][::-1] if known else None
    csv = write(tmp_path / "x.csv", "user_id,item_id,timestamp\n" + "".join(f"{u},{i},{t}\n" for u, i, t in rows))
    one = load(csv, users=users)
    expected = rows_of(one)
    monkeypatch.setattr(module, "_BUCKET_BYTES", 300)
    monkeypatch.setattr(sources, "BLOCK_BYTES", 512)
    many = load(csv, users=users)
    assert len(one.spills) == 1
    assert len(many.spills) > 5
    assert rows_of(many) == expected
    order = list(dict.fromkeys(str(row["user_id"]) for row in expected))
    assert pa.concat_tables(users_of(many.batches())).column("user_id").to_pylist() == order
    pq.write_table(
        pa.table({"user_id": [r[0] for r in rows], "item_id": [r[1] for r in rows], "timestamp": [r[2] for r in rows]}),
        tmp_path / "x.parquet",
    )
    assert rows_of(load(tmp_path / "x.parquet", users=users)) == expected
    assert len(order) == 23
    if users:
        assert order == users


def test_attributes_of_different_types_meet_in_one_bucket(tmp_path: Path) -> None:
    write(tmp_path / "a.csv", "user_id,item_id,extra\na,1,5\n")
    write(tmp_path / "b.jsonl", '{"user_id": "a", "item_id": 2, "extra": "x"}\n{"user_id": "a", "item_id": 3}\n')
    assert [row["extra"] for row in rows_of(load(tmp_path))] == ["5", "x", None]


BAD = [
    ("a,1,four,100", "bad_rating", "'four' is no number"),
    ("a,1,'4,5',100".replace("'", '"'), "bad_rating", "'4,5' is no number"),
    ("a,1,inf,100", "bad_rating", " number"),
    ("a,1,nan,100", "bad_rating", " number"),
    ("a,1,1e39,100", "bad_rating", " number"),
    ("a,1,0.4,100", "bad_rating", "between 0.5 and 5.0"),
    ("a,1,5.1,100", "bad_rating", "between 0.5 and 5.0"),
    ("a,1,4,", "bad_timestamp", "no time"),
    ("a,1,4,yesterday", "bad_timestamp", "'yesterday' is no time"),
    ("a,1,4,-1", "bad_timestamp", "before 1970"),
    ("a,1,4,1e30", "bad_timestamp", "after 2099"),
    ("a,1,4,99999999999", "bad_timestamp", "after 2099"),
    ("a,1,4,20240131", "bad_timestamp", "may be a date"),
    ("a,1,4,1969-12-31", "bad_timestamp", "before 1970"),
    ("a,1,4,2024-02-30", "bad_timestamp", "is no time"),
    ("a,1,4,nan", "bad_timestamp", "is no time"),
    (",1,4,100", "missing_id", "no id"),
    ("a,,4,100", "missing_id", "no id"),
    ("ghost,1,4,100", "unknown_user", "'ghost' is not in users"),
    ("a,01,4,100", "unknown_item", "'01' is not in items"),
    ("a,1,4", "wrong_column_count", "3 fields, the header has 4"),
    ("a,1,4,100,", "wrong_column_count", "5 fields"),
]


@pytest.mark.parametrize("quoted", [False, True])
def test_every_kind_of_bad_row_is_found_with_its_line(tmp_path: Path, quoted: bool) -> None:
    first = '"a",1,4,100' if quoted else "a,1,4,100"
    content = "user_id,item_id,rating,timestamp\n" + first + "\n" + "".join(f"{row}\n" for row, _, _ in BAD)
    path = write(tmp_path / "x.csv", content)
    result = load(path, DataSettings(rating_min=0.5, rating_max=5, max_bad_share=1), users=["a"], items=["1"])
    assert (result.n_rows, result.n_bad) == (1, len(BAD))
    rows = sorted(pq.read_table(tmp_path / "quarantine.parquet").to_pylist(), key=lambda row: row["line"])
    for line, (row, (raw, reason, detail)) in enumerate(zip(rows, BAD, strict=True), start=3):
        assert (row["line"], row["reason"], row["raw"]) == (line, reason, raw)
        assert detail in row["detail"]


@pytest.mark.parametrize("position", ["", "1.5", "first", "inf"])
def test_bad_positions(tmp_path: Path, position: str) -> None:
    path = write(tmp_path / "x.csv", f"user_id,item_id,position\na,1,0\na,2,{position}\na,3,2.0\n")
    result = load(path)
    assert [row["position"] for row in rows_of(result)] == [0, 2]
    assert result.counts == {"bad_position": 1}


def test_too_many_bad_rows_fail_with_counts_and_examples(tmp_path: Path) -> None:
    path = write(tmp_path / "x.csv", "user_id,item_id,rating\na,1,5\na,2,x\nb,1,5\n")
    with pytest.raises(DataError) as caught:
        load(path, DataSettings(max_bad_rows=1), users=["a"])
    message = str(caught.value)
    assert "2 of 3 rows are bad (data.max_bad_rows is 1): 1 bad_rating, 1 unknown_user" in message
    assert f"{path}, line 3: bad_rating: 'x' is no number" in message
    assert caught.value.exit_code == 3


def test_a_time_in_some_files_only_is_an_error(tmp_path: Path) -> None:
    write(tmp_path / "a.csv", "user_id,item_id,timestamp\na,1,5\n")
    write(tmp_path / "b.csv", "user_id,item_id\na,2\n")
    with pytest.raises(DataError, match=r"column timestamp is in .*a.csv but not in .*b.csv"):
        load(tmp_path)
    (tmp_path / "b.csv").unlink()
    write(tmp_path / "c.csv", "user_id,item_id,timestamp,rating\na,2,6,1\n")
    assert [row["rating"] for row in rows_of(load(tmp_path))] == [None, 1.0]


def test_foreign_column_names(tmp_path: Path) -> None:
    path = write(tmp_path / "x.tsv", "userId\tmovieId\twhen\tjunk\n7\t3\t2024-01-01\tz\n")
    options = DataSettings(
        columns=ColumnMaps(interactions={"user_id": "userId", "item_id": "movieId", "timestamp": "when"}),
        keep=KeptColumns(interactions=[]),
    )
    assert load(path, options).schema.names == ["user_id", "item_id", "timestamp"]
    with pytest.raises(DataError, match="no column user_id, item_id; found: userId, movieId, when, junk") as caught:
        load(path)
    assert "did you mean 'userId'?" in str(caught.value)
    assert "{interactions: {user_id: userId, item_id: SOURCE_COLUMN}}" in str(caught.value)


_ROW = st.tuples(
    st.sampled_from(["a", "b", "c", "", "ghost"]),
    st.sampled_from(["1", "2", "zz", ""]),
    st.sampled_from(["1", "5", "x", ""]),
    st.sampled_from(["0", "10", "20", "", "soon"]),
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(rows=st.lists(_ROW, max_size=25))
@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_rows_are_conserved_and_sorted(tmp_path: Path, suffix: str, rows: list[tuple[str, str, str, str]]) -> None:
    names = ("user_id", "item_id", "rating", "timestamp")
    if suffix == ".csv":
        text = "\n".join(map(",".join, [names, *rows])) + "\n"
    else:
        text = "".join(json.dumps(dict(zip(names, row, strict=True))) + "\n" for row in rows)
    good = [r for r in rows if r[0] in {"a", "b", "c"} and r[1] in {"1", "2"} and r[2] != "x" and r[3].isdigit()]
    path = write(tmp_path / f"x{suffix}", text)
    options = DataSettings(max_bad_share=1)
    if not good:
        with pytest.raises(DataError):
            load(path, options, users=["c", "a", "b"], items=["1", "2"])
        return
    result = load(path, options, users=["c", "a", "b"], items=["1", "2"])
    assert result.n_rows + result.n_bad == len(rows)
    expected = sorted(good, key=lambda row: ("cab".index(row[0]), int(row[3])))
    assert [(r["user_id"], r["item_id"]) for r in rows_of(result)] == [(r[0], r[1]) for r in expected]


_MEASURE = """
import re, sys
from pathlib import Path
import pyarrow as pa
from recpipe.ingest.interactions import canonical_interactions
from recpipe.ingest.settings import DataSettings
from recpipe.ingest.sources import find_sources
pa.set_cpu_count(1)
folder = Path(sys.argv[1])
result = canonical_interactions(find_sources(folder / "x.csv", table="interactions"), DataSettings(),
    user_ids=None, item_ids=None, scratch=folder / "s", quarantine=folder / "q.parquet")
n_rows = sum(table.num_rows for table in result.batches())
result.delete()
# not getrusage: its peak is inherited from the process that started this one
print(n_rows, int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) // 1024)
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_rows(tmp_path: Path) -> None:
    peaks = []
    for n_rows in (200_000, 2_000_000):
        with (tmp_path / "x.csv").open("w") as file:
            file.write("user_id,item_id,rating,timestamp\n")
            file.writelines(f"u{i * 7919 % 50_021},{i % 20_011},{i % 5},{1_600_000_000 + i}\n" for i in range(n_rows))
        done = subprocess.run(
            [sys.executable, "-c", _MEASURE, str(tmp_path)], check=True, capture_output=True, text=True
        )
        found, peak_mb = map(int, done.stdout.split())
        assert found == n_rows
        peaks.append(peak_mb)
    assert peaks[1] < 500
    assert peaks[1] < peaks[0] + 150
