"""simulate and import write into folders of the user's: nothing of somebody else's is replaced."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from runs import digests, write_csv

from recpipe.cli.overwriting import RECORD, overwriting
from recpipe.errors import ConfigError

SIZE = ("--set", "n_users=50", "--set", "n_items=60", "--set", "n_interactions=250")


@pytest.fixture(autouse=True)
def _inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def movielens(folder: Path) -> Path:
    folder.mkdir()
    write_csv(folder / "movies.csv", "movieId,title,genres", "1,Heat (1995),Action")
    write_csv(folder / "ratings.csv", "userId,movieId,rating,timestamp", "1,1,4,1000000000")
    write_csv(folder / "tags.csv", "userId,movieId,tag,timestamp", "1,1,heist,1000000000")
    return folder


def test_simulate_refuses_tables_of_the_user_and_changes_nothing(run_cli):
    Path("shop").mkdir()
    Path("shop/users.csv").write_text("user_id,text\nanna,bread\n", encoding="utf-8")
    Path("shop/notes.txt").write_text("mine", encoding="utf-8")
    before = digests(Path("shop"), "*")
    result = run_cli("simulate", "--to", "shop", *SIZE, expect=2)
    assert "would overwrite users.csv" in result.stderr and "--force" in result.stderr and "shop" in result.stderr
    assert digests(Path("shop"), "*") == before
    run_cli("simulate", "--to", "shop", *SIZE, "--force")
    assert "anna" not in Path("shop/users.csv").read_text(encoding="utf-8")
    assert Path("shop/notes.txt").read_text(encoding="utf-8") == "mine"
    run_cli("simulate", "--to", "shop", *SIZE)  # now they are our own


def test_simulate_replaces_its_own_files_until_somebody_changes_them(run_cli):
    run_cli("simulate", "--to", "world", *SIZE)
    first = digests(Path("world"), "[!.]*")
    run_cli("simulate", "--to", "world", *SIZE, "--set", "seed=7")
    second = digests(Path("world"), "[!.]*")
    assert all(second[name] != first[name] for name in first)
    with Path("world/items.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"item_id": "mine", "title": "Mine"}\n')
    result = run_cli("simulate", "--to", "world", *SIZE, expect=2)
    assert "would overwrite items.jsonl, which" in result.stderr
    assert "Mine" in Path("world/items.jsonl").read_text(encoding="utf-8")


def test_a_world_without_a_record_is_told_by_its_truth(run_cli):
    run_cli("simulate", "--to", "world", *SIZE)
    Path("world", RECORD).unlink()  # as in a clone, or written by an earlier version
    run_cli("simulate", "--to", "world", *SIZE)
    Path("world", RECORD).unlink()
    Path("world/truth_items.parquet").write_bytes(b"something else")
    result = run_cli("simulate", "--to", "world", *SIZE, expect=2)
    assert "users.csv" in result.stderr and "truth_items.parquet" in result.stderr


def test_import_replaces_its_own_files_only(run_cli):
    movielens(Path("ml"))
    Path("tables").mkdir()
    Path("tables/items.parquet").write_bytes(b"PAR1 of mine")
    result = run_cli("import", "movielens", "ml", "--to", "tables", expect=2)
    assert "would overwrite items.parquet" in result.stderr
    assert Path("tables/items.parquet").read_bytes() == b"PAR1 of mine"
    assert not Path("tables/tags.parquet").exists()
    run_cli("import", "movielens", "ml", "--to", "tables", "--force")
    run_cli("import", "movielens", "ml", "--to", "tables")
    shutil.copy("tables/tags.parquet", "tables/items.parquet")
    run_cli("import", "movielens", "ml", "--to", "tables", expect=2)


def test_a_file_that_an_import_would_delete_is_refused_too(run_cli):
    movielens(Path("ml"))
    Path("tables").mkdir()
    Path("tables/bad_items.parquet").write_bytes(b"mine")
    result = run_cli("import", "movielens", "ml", "--to", "tables", expect=2)
    assert "bad_items.parquet" in result.stderr and Path("tables/bad_items.parquet").exists()


def test_a_forced_import_that_fails_does_not_make_foreign_files_its_own(run_cli):
    Path("tables").mkdir()
    Path("tables/items.parquet").write_bytes(b"mine")
    run_cli("import", "movielens", "nowhere", "--to", "tables", "--force", expect=4)
    movielens(Path("ml"))
    run_cli("import", "movielens", "ml", "--to", "tables", expect=2)


def test_what_an_interrupted_command_replaced_is_its_own():
    folder = Path("world")
    folder.mkdir()
    with pytest.raises(KeyboardInterrupt), overwriting(folder, ["a", "b"], force=False):
        (folder / "a").write_text("new", encoding="utf-8")
        raise KeyboardInterrupt
    with overwriting(folder, ["a", "b"], force=False):
        (folder / "a").write_text("newer", encoding="utf-8")
    (folder / "b").write_text("of somebody else", encoding="utf-8")
    with pytest.raises(ConfigError, match="would overwrite b,"), overwriting(folder, ["a", "b"], force=False):
        pytest.fail("must not come this far")


@pytest.mark.parametrize("content", ["", "[1]", "{", '{"a": 3}'])
def test_a_damaged_record_makes_nothing_ours(content: str):
    Path("world").mkdir()
    Path("world/a").write_text("x", encoding="utf-8")
    Path("world", RECORD).write_text(content, encoding="utf-8")
    with pytest.raises(ConfigError), overwriting(Path("world"), ["a"], force=False):
        pytest.fail("must not come this far")
