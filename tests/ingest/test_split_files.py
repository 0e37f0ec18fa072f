"""A supplied split, found again in the interactions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recpipe.errors import DataError, MissingInputError
from recpipe.ingest.settings import DataSettings, SplitSettings
from recpipe.ingest.splits.base import Splitter
from recpipe.ingest.splits.choose import choose_splitter, part_files
from recpipe.ingest.splits.whole_users import whole_users

USERS = ["a", "a", "a", "b", "b", "c"]
ITEMS = ["1", "2", "1", "1", "3", "2"]
TIMES = [10, 20, 30, 10, 20, 10]


def interactions(*, times: bool = True) -> pa.Table:
    columns = {"user_id": pa.array(USERS), "item_id": pa.array(ITEMS), "rating": pa.array([5.0] * 6, pa.float32())}
    if times:
        microseconds = pa.array([time * 1_000_000 for time in TIMES], pa.int64())
        columns["timestamp"] = microseconds.cast(pa.timestamp("us", "UTC"))
    return pa.table(columns)


def write(path: Path, rows: Sequence[int], *, header: str = "user_id,item_id,timestamp") -> str:
    """Write the interactions `rows` to a CSV file, with as many columns as the header."""
    n_columns = header.count(",") + 1
    lines = [",".join([USERS[row], ITEMS[row], str(TIMES[row])][:n_columns]) for row in rows]
    path.write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
    return str(path)


def make(rows: pa.Table, files: dict[str, str | list[str]], data: DataSettings | None = None) -> Splitter:
    def read(columns: Sequence[str]) -> Iterator[pa.Table]:
        yield rows.select(columns)

    return choose_splitter(
        SplitSettings.model_validate({"by": "files", "files": files}),
        read=read,
        columns=rows.column_names,
        n_rows=rows.num_rows,
        seed=0,
        data=data or DataSettings(),
    )


def parts_of(splitter: Splitter, rows: pa.Table) -> list[int]:
    found = [part for block in whole_users([rows]) for part in splitter.parts(block).tolist()]
    splitter.finish()
    return found


@given(st.lists(st.sampled_from([0, 1, 2]), min_size=6, max_size=6), st.booleans())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_rows_go_where_the_files_say(tmp_path: Path, parts: list[int], with_train: bool) -> None:
    names = ("train", "validation", "test")
    files = {
        name: write(tmp_path / f"{name}.csv", [row for row in range(6) if parts[row] == number])
        for number, name in enumerate(names)
        if with_train or name != "train"
    }
    splitter = make(interactions(), dict(files))
    assert parts_of(splitter, interactions()) == parts
    assert splitter.details() == {"compared_by": ["user_id", "item_id", "timestamp"]}
    assert splitter.warnings == ()


def test_ids_alone_do_where_no_pair_repeats(tmp_path: Path) -> None:
    rows = interactions().slice(1)
    test = write(tmp_path / "test.csv", [4], header="user_id,item_id")
    splitter = make(rows, {"validation": write(tmp_path / "v.csv", [1]), "test": test})
    assert parts_of(splitter, rows) == [1, 0, 0, 2, 0]
    assert splitter.details() == {"compared_by": ["user_id", "item_id"]}
    assert splitter.protocol() == "supplied files: validation v.csv; test test.csv; train the rest"


def test_source_names_and_canonical_names(tmp_path: Path) -> None:
    data = DataSettings.model_validate(
        {"columns": {"interactions": {"user_id": "userId", "item_id": "movieId", "timestamp": "at", "rating": "stars"}}}
    )
    pq.write_table(interactions().slice(3, 1).select(["user_id", "item_id", "timestamp"]), tmp_path / "v.parquet")
    test = write(tmp_path / "test.csv", [2], header="userId,movieId,at")
    splitter = make(interactions(), {"validation": str(tmp_path / "v.parquet"), "test": [test]}, data)
    assert parts_of(splitter, interactions()) == [0, 0, 2, 1, 0, 0]


def test_rows_in_no_file_are_left_out_and_counted(tmp_path: Path) -> None:
    files = {name: write(tmp_path / f"{name}.csv", [row]) for row, name in enumerate(("train", "validation", "test"))}
    splitter = make(interactions(), dict(files))
    assert parts_of(splitter, interactions()) == [0, 1, 2, -1, -1, -1]
    assert splitter.warnings == ("3 interactions are in none of split.files and are left out",)


def test_a_row_in_two_parts(tmp_path: Path) -> None:
    test = write(tmp_path / "test.csv", [5, 3])
    with pytest.raises(DataError, match="1 interactions are in two parts") as caught:
        make(interactions(), {"validation": write(tmp_path / "v.csv", [0, 1, 3]), "test": test})
    assert "user_id b, item_id 1" in caught.value.what
    assert (caught.value.where or "").endswith(f"{tmp_path / 'v.csv'}, line 4 and {tmp_path / 'test.csv'}, line 3")


def test_a_repeated_item_without_its_time_is_in_two_parts(tmp_path: Path) -> None:
    ids = "user_id,item_id"
    with pytest.raises(DataError, match="two parts") as caught:
        make(
            interactions(),
            {
                "train": write(tmp_path / "train.csv", [0, 5], header=ids),
                "validation": write(tmp_path / "v.csv", [1], header=ids),
                "test": write(tmp_path / "test.csv", [2], header=ids),
            },
        )
    assert "timestamp" in (caught.value.next_step or "")


@pytest.mark.parametrize("unknown", ["zed,1,10", "a,77,10", "a,1,11"])
def test_unknown_interactions(tmp_path: Path, unknown: str) -> None:
    path = tmp_path / "test.csv"
    path.write_text(f"user_id,item_id,timestamp\na,1,30\n{unknown}\n", encoding="utf-8")
    splitter = make(interactions(), {"validation": write(tmp_path / "v.csv", [1]), "test": str(path)})
    with pytest.raises(DataError, match=r"1 interactions of split\.files\.test are not in the interactions") as caught:
        parts_of(splitter, interactions())
    assert caught.value.where == f"{path}, line 3"
    assert f"user_id {unknown[0]}" in caught.value.what or "zed" in caught.value.what


def test_bad_rows_and_missing_files(tmp_path: Path) -> None:
    good = write(tmp_path / "v.csv", [1])
    path = tmp_path / "test.csv"
    path.write_text("user_id,item_id,timestamp\na,,10\n", encoding="utf-8")
    with pytest.raises(DataError, match="item_id: no id") as caught:
        make(interactions(), {"validation": good, "test": str(path)})
    assert caught.value.where == f"{path}, line 2"
    path.write_text("user_id,thing\na,1\n", encoding="utf-8")
    with pytest.raises(DataError, match="no column item_id"):
        make(interactions(), {"validation": good, "test": str(path)})
    with pytest.raises(MissingInputError, match=r"split\.files\.test: file not found"):
        make(interactions(), {"validation": good, "test": str(tmp_path / "none.csv")})


def test_files_are_listed_in_a_fixed_order(tmp_path: Path) -> None:
    files = {"test": write(tmp_path / "t.csv", [0]), "validation": write(tmp_path / "v.csv", [1])}
    found = part_files(SplitSettings.model_validate({"by": "files", "files": files}))
    assert [source.path.name for source in found] == ["v.csv", "t.csv"]
    assert part_files(SplitSettings()) == []
