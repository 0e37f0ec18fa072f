"""recpipe import movielens: every layout, as folder and zip, and what is bad in them."""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

# what u.item flags: "unknown", then the 18 genres in the order of u.genre
_FLAGS_OF_LEON = "0|1|0|0|0|0|1|0|1|0|0|0|0|0|0|0|1|0|0"
_NO_FLAGS = "1|" + "|".join("0" * 18)
_WITH_USERS = {"items.parquet", "interactions.parquet", "users.parquet"}
_WITH_TAGS = {"items.parquet", "interactions.parquet", "tags.parquet"}

LAYOUTS: dict[str, dict[str, bytes]] = {
    "ml-100k": {
        "u.data": b"196\t1\t3\t881250949\n186\t2\t4\t891717742\n196\t2\t5\t881250949\n",
        "u.item": (
            f"1|Léon, The (1994)|01-Jan-1995||http://leon|{_FLAGS_OF_LEON}\n"
            f"2|Dinosaurs (1995) (V)|01-Jan-1996||http://dinosaurs|{_NO_FLAGS}\n"
            f"267|unknown||||{_NO_FLAGS}\n"
        ).encode("latin-1"),
        "u.user": b"186|39|F|executive|00000\n196|49|M|writer|V1G4L\n",
        "u.genre": b"unknown|0\n",
        "u1.base": b"1\t1\t1\t1\n",
    },
    "ml-1m": {
        "ratings.dat": b"1::2::5::978300760\n1::1::3::978302109\n2::1::4::978298413\n",
        "movies.dat": (
            "1::Léon, The (1994)::Crime|Romance\n2::Star Wars:: Special Edition (1977)::Action|Sci-Fi\n"
        ).encode("latin-1"),
        "users.dat": b"1::F::1::10::48067\n2::M::56::16::02460-0001\n",
        "README": b"no table",
    },
    "ml-10m": {
        "ratings.dat": b"1::2::4.5::838985046\n1::1::3::838983525\n",
        "movies.dat": "1::Léon, The (1994)::Crime\n2::Heat (1995)::(no genres listed)\n".encode(),
        "tags.dat": b'15::1::"a::b: c", really::1215184630\n15::2::007::1215184631\n',
    },
    "ml-25m": {
        "ratings.csv": b"userId,movieId,rating,timestamp\n1,2,4.5,1147880044\n1,1,3.0,1147868817\n",
        "movies.csv": 'movieId,title,genres\n1,"Léon, The (1994)",Crime\n2,Heat (1995),(no genres listed)\n'.encode(),
        "tags.csv": b'userId,movieId,tag,timestamp\n3,1,"so, classic",1439472355\n',
        "genome-scores.csv": b"movieId,tagId,relevance\n1,1,0.02875\n",
        "links.csv": b"movieId,imdbId,tmdbId\n1,0114709,862\n",
    },
}


def _folder(files: dict[str, bytes], folder: Path) -> Path:
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def _zip(files: dict[str, bytes], path: Path, *, inner: str = "ml/") -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(f"{inner}{name}", content)
    return path


def _moment(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _rows(name: str, folder: str = "out") -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(f"{folder}/{name}.parquet").to_pylist()
    return rows


def _shown(folder: str = "out") -> set[str]:
    return {path.name for path in Path(folder).iterdir() if not path.name.startswith(".")}


def _events(*expected: tuple[str, str, float, int]) -> list[dict[str, Any]]:
    """The rows as (user, item), because users come in the order of a hash."""
    return [
        {"user_id": user, "item_id": item, "rating": rating, "timestamp": _moment(seconds)}
        for user, item, rating, seconds in sorted(expected)
    ]


def _interactions() -> list[dict[str, Any]]:
    return sorted(_rows("interactions"), key=lambda row: (row["user_id"], row["item_id"]))


@pytest.fixture(autouse=True)
def _inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def _as_folder(files: dict[str, bytes]) -> Path:
    return _folder(files, Path("downloaded"))


def _as_inner_folder(files: dict[str, bytes]) -> Path:
    return _folder(files, Path("downloaded/any name")).parent


def _as_zip(files: dict[str, bytes]) -> Path:
    return _zip(files, Path("any name"))  # neither .zip nor ml- in the name


def _as_flat_zip(files: dict[str, bytes]) -> Path:
    return _zip(files, Path("flat.zip"), inner="")


KINDS = pytest.mark.parametrize("kind", [_as_folder, _as_inner_folder, _as_zip, _as_flat_zip])
Kind = Callable[[dict[str, bytes]], Path]


@KINDS
def test_ml_100k(kind: Kind, run_cli):
    result = run_cli("import", "movielens", kind(LAYOUTS["ml-100k"]), "--to", "out")
    assert result.stdout == "" and "layout ml-100k: 3 items, 2 users with attributes, 3 interactions" in result.stderr
    assert _shown() == _WITH_USERS
    assert _rows("items") == [
        {
            "item_id": "1", "title": "The Léon", "text": "Action, Crime, Drama, Thriller", "year": 1994,
            "genres": ["Action", "Crime", "Drama", "Thriller"],
        },
        {"item_id": "2", "title": "Dinosaurs (1995) (V)", "text": None, "year": 1996, "genres": []},
        {"item_id": "267", "title": "unknown", "text": None, "year": None, "genres": []},
    ]  # fmt: skip
    assert _rows("users") == [
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
    assert _shown() == _WITH_USERS
    assert _rows("items") == [
        {"item_id": "1", "title": "The Léon", "text": "Crime, Romance", "year": 1994, "genres": ["Crime", "Romance"]},
        {
            "item_id": "2", "title": "Star Wars:: Special Edition", "text": "Action, Sci-Fi", "year": 1977,
            "genres": ["Action", "Sci-Fi"],
        },
    ]  # fmt: skip
    assert _rows("users") == [
        {"user_id": "1", "age": "Under 18", "gender": "F", "occupation": "K-12 student", "zip": "48067"},
        {"user_id": "2", "age": "56+", "gender": "M", "occupation": "self-employed", "zip": "02460-0001"},
    ]
    assert _interactions() == _events(
        ("1", "2", 5.0, 978300760), ("1", "1", 3.0, 978302109), ("2", "1", 4.0, 978298413)
    )
    mine = [row["item_id"] for row in _rows("interactions") if row["user_id"] == "1"]
    assert mine == ["2", "1"]  # by time within a user


@KINDS
def test_ml_10m(kind: Kind, run_cli):
    result = run_cli("import", "movielens", kind(LAYOUTS["ml-10m"]), "--to", "out")
    assert "layout ml-10m: 2 items, 0 users with attributes, 2 interactions, 2 tags" in result.stderr
    assert _shown() == _WITH_TAGS
    assert [(row["title"], row["year"], row["genres"]) for row in _rows("items")] == [
        ("The Léon", 1994, ["Crime"]), ("Heat", 1995, []),
    ]  # fmt: skip
    assert _interactions() == _events(("1", "2", 4.5, 838985046), ("1", "1", 3.0, 838983525))
    assert _rows("tags") == [
        {"user_id": "15", "item_id": "1", "tag": '"a::b: c", really', "timestamp": _moment(1215184630)},
        {"user_id": "15", "item_id": "2", "tag": "007", "timestamp": _moment(1215184631)},
    ]


@KINDS
def test_ml_20m_to_32m_and_latest(kind: Kind, run_cli):
    result = run_cli("import", "movielens", kind(LAYOUTS["ml-25m"]), "--to", "out")
    assert "layout ml-latest: 2 items, 0 users with attributes, 2 interactions, 1 tags" in result.stderr
    assert _shown() == _WITH_TAGS
    assert [(row["title"], row["year"], row["genres"]) for row in _rows("items")] == [
        ("The Léon", 1994, ["Crime"]), ("Heat", 1995, []),
    ]  # fmt: skip
    assert _interactions() == _events(("1", "2", 4.5, 1147880044), ("1", "1", 3.0, 1147868817))
    assert _rows("tags") == [{"user_id": "3", "item_id": "1", "tag": "so, classic", "timestamp": _moment(1439472355)}]


def test_folder_and_zip_give_the_same_bytes(run_cli):
    for name, files in LAYOUTS.items():
        run_cli("import", "movielens", _folder(files, Path(name)), "--to", "a")
        run_cli("import", "movielens", _zip(files, Path(f"{name}.zip")), "--to", "b")
        assert _shown("a") == _shown("b")
        for file in _shown("a"):
            assert Path("a", file).read_bytes() == Path("b", file).read_bytes(), f"{name}: {file}"


def test_tables_that_another_layout_left_are_removed(run_cli):
    run_cli("import", "movielens", _folder(LAYOUTS["ml-1m"], Path("first")), "--to", "out")
    run_cli("import", "movielens", _folder(LAYOUTS["ml-10m"], Path("second")), "--to", "out")
    assert _shown() == _WITH_TAGS
    run_cli("import", "movielens", "first", "--to", "out")
    assert _shown() == _WITH_USERS


def test_blocks_end_with_lines(run_cli, monkeypatch: pytest.MonkeyPatch):
    files = {**LAYOUTS["ml-1m"]}
    files["ratings.dat"] = b"".join(b"%d::1::4::97830%04d\r\n" % (user, user) for user in range(1, 200))
    _zip(files, Path("ml.zip"))
    run_cli("import", "movielens", "ml.zip", "--to", "whole")
    monkeypatch.setattr("recpipe.ingest.movielens.staging.BLOCK_BYTES", 7)
    run_cli("import", "movielens", "ml.zip", "--to", "pieces")
    assert len(_rows("interactions", "pieces")) == 199
    for name in ("items", "users", "interactions"):
        assert _rows(name, "pieces") == _rows(name, "whole")


# what is bad ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [_as_folder, _as_zip])
def test_bad_rows_are_told_and_kept_by_file_and_line_as_people_see_them(kind: Kind, run_cli):
    files = {**LAYOUTS["ml-1m"]}
    files["ratings.dat"] += b"3::1::great::978298413\n3::1::4\n"
    source = kind(files)
    result = run_cli("import", "movielens", source, "--to", "out", expect=3)
    inside = source / "ml" / "ratings.dat" if source.is_file() else source / "ratings.dat"
    assert "2 of 5 rows are bad (--max-bad-rows is 0): " in result.stderr
    assert f"{inside}, line 4: bad_rating: 'great' is no number" in result.stderr
    assert f"{inside}, line 5: wrong_column_count" in result.stderr
    assert "out/bad_interactions.parquet; mend them, or leave them out with --max-bad-rows 2" in result.stderr
    assert "data." not in result.stderr and ".import-" not in result.stderr
    assert _shown() == {"items.parquet", "users.parquet", "bad_interactions.parquet"}
    bad = {(row["file"], row["line"], row["reason"], row["raw"]) for row in _rows("bad_interactions")}
    assert bad == {
        (str(inside), 4, "bad_rating", "3::1::great::978298413"), (str(inside), 5, "wrong_column_count", "3::1::4"),
    }  # fmt: skip
    result = run_cli("import", "movielens", source, "--to", "out", "--max-bad-rows", 2)
    assert "interactions: 2 bad rows left out" in result.stderr
    assert len(_rows("interactions")) == 3 and len(_rows("bad_interactions")) == 2


def test_a_film_twice_is_told_with_both_lines(run_cli):
    files = {**LAYOUTS["ml-1m"]}
    files["movies.dat"] += b"1::Leon again (1994)::Crime\n"
    _zip(files, Path("ml.zip"))
    result = run_cli("import", "movielens", "ml.zip", "--to", "out", expect=3)
    place = "ml.zip/ml/movies.dat"
    assert f"{place}, line 3: duplicate_id: '1' is already in {place}, line 1" in result.stderr
    assert _shown() == {"bad_items.parquet"}


def test_nothing_of_a_data_set_is_there(run_cli):
    Path("empty").mkdir()
    _zip({"notes.txt": b"x"}, Path("other.zip"))
    for source in ("empty", "other.zip"):
        result = run_cli("import", "movielens", source, "--to", "out", expect=4)
        assert "no files of MovieLens are there" in result.stderr and "ml-100k (u.data, u.item" in result.stderr
    result = run_cli("import", "movielens", "nowhere", "--to", "out", expect=4)
    assert "folder or zip not found" in result.stderr
    assert not Path("out").exists()


@pytest.mark.parametrize(
    ("layout", "missing", "words"),
    [
        ("ml-100k", "u.user", "u.user is not there; this looks like ml-100k"),
        ("ml-1m", "movies.dat", "movies.dat is not there; this looks like ml-1m"),
        ("ml-10m", "tags.dat", "users.dat is not there; this looks like ml-1m; or tags.dat is not there; this looks"),
        ("ml-25m", "ratings.csv", "ratings.csv is not there; this looks like ml-latest"),
    ],
)
@pytest.mark.parametrize("kind", [_as_folder, _as_flat_zip])
def test_a_missing_file(kind: Kind, layout: str, missing: str, words: str, run_cli):
    source = kind({name: content for name, content in LAYOUTS[layout].items() if name != missing})
    result = run_cli("import", "movielens", source, "--to", "out", expect=4)
    assert words in result.stderr and str(source) in result.stderr
    assert not Path("out").exists()


def test_other_columns_in_a_zip(run_cli):
    _zip({**LAYOUTS["ml-25m"], "ratings.csv": b"user,item,rating\n1,2,3\n"}, Path("ml.zip"))
    result = run_cli("import", "movielens", "ml.zip", "--to", "out", expect=3)
    assert "the header is 'user,item,rating', not 'userId,movieId,rating,timestamp'" in result.stderr
    assert "ml.zip/ml/ratings.csv, line 1" in result.stderr
    assert not Path("out").exists()


def test_a_file_that_is_no_whole_zip(run_cli):
    Path("ratings.csv").write_text("userId\n", encoding="utf-8")
    assert "the file is no zip" in run_cli("import", "movielens", "ratings.csv", "--to", "out", expect=3).stderr
    whole = _zip(LAYOUTS["ml-1m"], Path("ml.zip")).read_bytes()
    Path("ml.zip").write_bytes(whole[: len(whole) // 2])
    result = run_cli("import", "movielens", "ml.zip", "--to", "out", expect=3)
    assert "the zip is cut off" in result.stderr and "download the zip again" in result.stderr


def test_a_zip_damaged_inside(run_cli):
    path = Path("ml.zip")
    with zipfile.ZipFile(path, "w") as archive:  # stored, so that the bytes can be found and changed
        for name, content in LAYOUTS["ml-1m"].items():
            archive.writestr(name, content)
    path.write_bytes(path.read_bytes().replace(b"1::F::1::10", b"1::F::1::11", 1))
    result = run_cli("import", "movielens", path, "--to", "out", expect=3)
    assert "the zip is damaged: Bad CRC-32" in result.stderr and "ml.zip/users.dat" in result.stderr
    assert _shown() == {"items.parquet"}


def test_two_data_sets_in_one_folder(run_cli):
    for name in ("ml-1m", "ml-10m"):
        _folder(LAYOUTS[name], Path("both") / name)
    result = run_cli("import", "movielens", "both", "--to", "out", expect=3)
    assert "2 folders hold ratings: both/ml-10m, both/ml-1m" in result.stderr and "name one of them" in result.stderr
    run_cli("import", "movielens", "both/ml-1m", "--to", "out")


def test_only_known_files_one_folder_down_are_read_and_nothing_is_written_elsewhere(run_cli, tmp_path: Path):
    with zipfile.ZipFile("ml.zip", "w") as archive:
        for name, content in LAYOUTS["ml-1m"].items():
            archive.writestr(f"ml-1m/{name}", content)
            archive.writestr(f"__MACOSX/{name}", b"notes")
        archive.writestr("../../ratings.dat", b"escaped")
        archive.writestr("ml-1m/../../users.dat", b"escaped")
        archive.writestr("/movies.dat", b"escaped")
    Path("inside/deep").mkdir(parents=True)
    run_cli("import", "movielens", "ml.zip", "--to", "inside/deep/out")
    assert len(_rows("interactions", "inside/deep/out")) == 3
    assert {path.name for path in tmp_path.rglob("*") if path.is_file() and path.name[0] != "."} == {
        "ml.zip", *_WITH_USERS,
    }  # fmt: skip


def test_a_bomb_is_refused_before_it_is_unpacked(run_cli):
    zeros = bytes(1 << 20)
    with zipfile.ZipFile("ml.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("movies.dat", "users.dat"):
            archive.writestr(name, LAYOUTS["ml-1m"][name])
        with archive.open("ratings.dat", "w") as file:
            for _ in range(80):
                file.write(zeros)
    result = run_cli("import", "movielens", "ml.zip", "--to", "out", expect=3)
    assert "ratings.dat" in result.stderr and "would unpack to 83,886,080 bytes" in result.stderr
    assert not any(path.name.startswith(".import") for path in Path("out").iterdir())


def test_a_failed_import_leaves_no_scratch_files(run_cli):
    files = {**LAYOUTS["ml-1m"], "ratings.dat": b"1::1::x::978300760\n"}
    result = run_cli("import", "movielens", _zip(files, Path("ml.zip")), "--to", "out", expect=3)
    assert "no good row is left" in result.stderr
    assert {path.name for path in Path("out").iterdir() if ".import" in path.name or ".tmp" in path.name} == set()
    shutil.rmtree("out")
