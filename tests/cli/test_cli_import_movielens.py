"""recpipe import movielens: every layout, as folder and zip."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from movielens_releases import (
    LAYOUTS,
    WITH_TAGS,
    WITH_USERS,
    Kind,
    as_flat_zip,
    as_folder,
    as_inner_folder,
    as_zip,
    moment,
    rows,
    shown,
    write_folder,
    write_zip,
)


def _events(*expected: tuple[str, str, float, int]) -> list[dict[str, Any]]:
    """The rows as (user, item), because users come in the order of a hash."""
    return [
        {"user_id": user, "item_id": item, "rating": rating, "timestamp": moment(seconds)}
        for user, item, rating, seconds in sorted(expected)
    ]


def _interactions() -> list[dict[str, Any]]:
    return sorted(rows("interactions"), key=lambda row: (row["user_id"], row["item_id"]))


@pytest.fixture(autouse=True)
def _inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


KINDS = pytest.mark.parametrize("kind", [as_folder, as_inner_folder, as_zip, as_flat_zip])


@KINDS
def test_ml_100k(kind: Kind, run_cli):
    result = run_cli("import", "movielens", kind(LAYOUTS["ml-100k"]), "--to", "out")
    assert result.stdout == "" and "layout ml-100k: 3 items, 2 users with attributes, 3 interactions" in result.stderr
    assert shown() == WITH_USERS
    assert rows("items") == [
        {
            "item_id": "1", "title": "The Léon", "text": "Action, Crime, Drama, Thriller", "year": 1994,
            "genres": ["Action", "Crime", "Drama", "Thriller"],
        },
        {"item_id": "2", "title": "Dinosaurs (1995) (V)", "text": None, "year": 1996, "genres": []},
        {"item_id": "267", "title": "unknown", "text": None, "year": None, "genres": []},
    ]  # fmt: skip
    assert rows("users") == [
        {"user_id": "186", "age": 39, "gender": "F", "occupation": "executive", "zip": "00000"},
        {"user_id": "196", "age": 49, "gender": "M", "occupation": "writer", "zip": "V1G4L"},
    ]
    assert pq.read_schema("out/users.parquet").field("age").type == pa.int64()
    assert _interactions() == _events(
        ("196", "1", 3.0, 881250949), ("186", "2", 4.0, 891717742), ("196", "2", 5.0, 881250949)
    )


@KINDS
def test_ml_1m(kind: Kind, run_cli):
    result = run_cli("import", "movielens", kind(LAYOUTS["ml-1m"]), "--to", "out")
    assert "layout ml-1m" in result.stderr
    assert shown() == WITH_USERS
    assert rows("items") == [
        {"item_id": "1", "title": "The Léon", "text": "Crime, Romance", "year": 1994, "genres": ["Crime", "Romance"]},
        {
            "item_id": "2", "title": "Star Wars:: Special Edition", "text": "Action, Sci-Fi", "year": 1977,
            "genres": ["Action", "Sci-Fi"],
        },
    ]  # fmt: skip
    assert rows("users") == [
        {"user_id": "1", "age": "Under 18", "gender": "F", "occupation": "K-12 student", "zip": "48067"},
        {"user_id": "2", "age": "56+", "gender": "M", "occupation": "self-employed", "zip": "02460-0001"},
    ]
    assert _interactions() == _events(
        ("1", "2", 5.0, 978300760), ("1", "1", 3.0, 978302109), ("2", "1", 4.0, 978298413)
    )
    mine = [row["item_id"] for row in rows("interactions") if row["user_id"] == "1"]
    assert mine == ["2", "1"]  # by time within a user


@KINDS
def test_ml_10m(kind: Kind, run_cli):
    result = run_cli("import", "movielens", kind(LAYOUTS["ml-10m"]), "--to", "out")
    assert "layout ml-10m: 2 items, 0 users with attributes, 2 interactions, 2 tags" in result.stderr
    assert shown() == WITH_TAGS
    assert [(row["title"], row["year"], row["genres"]) for row in rows("items")] == [
        ("The Léon", 1994, ["Crime"]), ("Heat", 1995, []),
    ]  # fmt: skip
    assert _interactions() == _events(("1", "2", 4.5, 838985046), ("1", "1", 3.0, 838983525))
    assert rows("tags") == [
        {"user_id": "15", "item_id": "1", "tag": '"a::b: c", really', "timestamp": moment(1215184630)},
        {"user_id": "15", "item_id": "2", "tag": "007", "timestamp": moment(1215184631)},
    ]


@KINDS
def test_ml_20m_to_32m_and_latest(kind: Kind, run_cli):
    result = run_cli("import", "movielens", kind(LAYOUTS["ml-25m"]), "--to", "out")
    assert "layout ml-latest: 2 items, 0 users with attributes, 2 interactions, 1 tags" in result.stderr
    assert shown() == WITH_TAGS
    assert [(row["title"], row["year"], row["genres"]) for row in rows("items")] == [
        ("The Léon", 1994, ["Crime"]), ("Heat", 1995, []),
    ]  # fmt: skip
    assert _interactions() == _events(("1", "2", 4.5, 1147880044), ("1", "1", 3.0, 1147868817))
    assert rows("tags") == [{"user_id": "3", "item_id": "1", "tag": "so, classic", "timestamp": moment(1439472355)}]


def test_folder_and_zip_give_the_same_bytes(run_cli):
    for name, files in LAYOUTS.items():
        run_cli("import", "movielens", write_folder(files, Path(name)), "--to", "a")
        run_cli("import", "movielens", write_zip(files, Path(f"{name}.zip")), "--to", "b")
        assert shown("a") == shown("b")
        for file in shown("a"):
            assert Path("a", file).read_bytes() == Path("b", file).read_bytes(), f"{name}: {file}"


def test_tables_that_another_layout_left_are_removed(run_cli):
    run_cli("import", "movielens", write_folder(LAYOUTS["ml-1m"], Path("first")), "--to", "out")
    run_cli("import", "movielens", write_folder(LAYOUTS["ml-10m"], Path("second")), "--to", "out")
    assert shown() == WITH_TAGS
    run_cli("import", "movielens", "first", "--to", "out")
    assert shown() == WITH_USERS


def test_blocks_end_with_lines(run_cli, monkeypatch: pytest.MonkeyPatch):
    files = {**LAYOUTS["ml-1m"]}
    files["ratings.dat"] = b"".join(b"%d::1::4::97830%04d\r\n" % (user, user) for user in range(1, 200))
    write_zip(files, Path("ml.zip"))
    run_cli("import", "movielens", "ml.zip", "--to", "whole")
    monkeypatch.setattr("recpipe.ingest.movielens.staging.BLOCK_BYTES", 7)
    run_cli("import", "movielens", "ml.zip", "--to", "pieces")
    assert len(rows("interactions", "pieces")) == 199
    for name in ("items", "users", "interactions"):
        assert rows(name, "pieces") == rows(name, "whole")


_PEAK = """
import resource, sys
import subprocess
import sys
import zipfile
from pathlib import Path
from recpipe.ingest.movielens.convert import import_movielens
import_movielens(Path(sys.argv[1]), Path(sys.argv[2]))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_ratings():
    peaks = []  # below 2 million rows, buffers are not full yet
    for n_rows in (2_000_000, 5_000_000):
        path = Path(f"{n_rows}.zip")
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            for name in ("movies.csv", "tags.csv"):
                archive.writestr(name, LAYOUTS["ml-25m"][name])
            with archive.open("ratings.csv", "w") as file:
                file.write(b"userId,movieId,rating,timestamp\n")
                for start in range(0, n_rows, 1000):
                    rows_of_user = (f"{start},{item},3.5,{10**9 + 7 * item}\n" for item in range(1000))
                    file.write("".join(rows_of_user).encode())
        command = [sys.executable, "-c", _PEAK, str(path), f"out-{n_rows}"]
        peaks.append(int(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
        assert pq.read_metadata(f"out-{n_rows}/interactions.parquet").num_rows == n_rows
    assert peaks[1] < 1.15 * peaks[0], peaks
