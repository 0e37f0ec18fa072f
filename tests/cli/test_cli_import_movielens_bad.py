"""recpipe import movielens: what is bad in folders, zips and rows."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest
from movielens_releases import (
    LAYOUTS,
    WITH_USERS,
    Kind,
    as_flat_zip,
    as_folder,
    as_inner_folder,
    as_zip,
    rows,
    shown,
    write_folder,
    write_zip,
)


@pytest.fixture(autouse=True)
def _inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("kind", [as_folder, as_zip])
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
    assert shown() == {"items.parquet", "users.parquet", "bad_interactions.parquet"}
    bad = {(row["file"], row["line"], row["reason"], row["raw"]) for row in rows("bad_interactions")}
    assert bad == {
        (str(inside), 4, "bad_rating", "3::1::great::978298413"), (str(inside), 5, "wrong_column_count", "3::1::4"),
    }  # fmt: skip
    result = run_cli("import", "movielens", source, "--to", "out", "--max-bad-rows", 2)
    assert "interactions: 2 bad rows left out" in result.stderr
    assert len(rows("interactions")) == 3 and len(rows("bad_interactions")) == 2


def test_a_film_twice_is_told_with_both_lines(run_cli):
    files = {**LAYOUTS["ml-1m"]}
    files["movies.dat"] += b"1::Leon again (1994)::Crime\n"
    write_zip(files, Path("ml.zip"))
    result = run_cli("import", "movielens", "ml.zip", "--to", "out", expect=3)
    place = "ml.zip/ml/movies.dat"
    assert f"{place}, line 3: duplicate_id: '1' is already in {place}, line 1" in result.stderr
    assert shown() == {"bad_items.parquet"}


def test_nothing_of_a_data_set_is_there(run_cli):
    Path("empty").mkdir()
    write_zip({"notes.txt": b"x"}, Path("other.zip"))
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
@pytest.mark.parametrize("kind", [as_folder, as_inner_folder, as_zip, as_flat_zip])
def test_a_missing_file(kind: Kind, layout: str, missing: str, words: str, run_cli):
    source = kind({name: content for name, content in LAYOUTS[layout].items() if name != missing})
    result = run_cli("import", "movielens", source, "--to", "out", expect=4)
    assert words in result.stderr and str(source) in result.stderr
    assert not Path("out").exists()


def test_other_columns_in_a_zip(run_cli):
    write_zip({**LAYOUTS["ml-25m"], "ratings.csv": b"user,item,rating\n1,2,3\n"}, Path("ml.zip"))
    result = run_cli("import", "movielens", "ml.zip", "--to", "out", expect=3)
    assert "the header is 'user,item,rating', not 'userId,movieId,rating,timestamp'" in result.stderr
    assert "ml.zip/ml/ratings.csv, line 1" in result.stderr
    assert not Path("out").exists()


def test_a_file_that_is_no_whole_zip(run_cli):
    Path("ratings.csv").write_text("userId\n", encoding="utf-8")
    assert "the file is no zip" in run_cli("import", "movielens", "ratings.csv", "--to", "out", expect=3).stderr
    whole = write_zip(LAYOUTS["ml-1m"], Path("ml.zip")).read_bytes()
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
    assert shown() == {"items.parquet"}


def test_two_data_sets_in_one_folder(run_cli):
    for name in ("ml-1m", "ml-10m"):
        write_folder(LAYOUTS[name], Path("both") / name)
    result = run_cli("import", "movielens", "both", "--to", "out", expect=3)
    assert (
        "2 folders hold files of MovieLens: both/ml-10m, both/ml-1m" in result.stderr
        and "name one of them" in result.stderr
    )
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
    assert len(rows("interactions", "inside/deep/out")) == 3
    assert {path.name for path in tmp_path.rglob("*") if path.is_file() and path.name[0] != "."} == {
        "ml.zip", *WITH_USERS,
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
    result = run_cli("import", "movielens", write_zip(files, Path("ml.zip")), "--to", "out", expect=3)
    assert "no good row is left" in result.stderr
    assert {path.name for path in Path("out").iterdir() if ".import" in path.name or ".tmp" in path.name} == set()
    assert "out/bad_interactions.parquet; mend them\n" in result.stderr + "\n"
