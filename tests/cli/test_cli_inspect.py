"""inspect of what is no artifact: it says what it is, and advises nothing that loses data."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import World
from runs import copy_of_finished, copy_world

from recpipe.cli.inspect import BAD_ROWS_COLUMNS
from recpipe.ingest.quarantine import BadRow, Quarantine, Reason


@pytest.fixture(autouse=True)
def finished(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return copy_of_finished(world, tmp_path)


def test_a_source_table_is_not_to_be_deleted(world: World, run_cli):
    result = run_cli("inspect", world.items, expect=3)
    assert "not a Parquet file" in result.stderr and str(world.items) in result.stderr
    assert "delete" not in result.stderr and "recpipe run" in result.stderr


def test_a_damaged_file_is_not_to_be_deleted_either(finished: Path, run_cli):
    path = finished / "segments.parquet"
    path.write_bytes(path.read_bytes()[:500])
    result = run_cli("inspect", path, expect=3)
    assert "not a readable artifact" in result.stderr and "delete" not in result.stderr
    assert "run its stage again" in result.stderr


def test_a_folder_is_not_called_parquet(finished: Path, run_cli):
    result = run_cli("inspect", "work", expect=3)
    assert "a folder, and no model" in result.stderr and "Parquet, not written" not in result.stdout
    assert "work/recommendations.parquet" in result.stderr
    assert "work/models/content" in run_cli("inspect", "work/models", expect=3).stderr
    version = next(path for path in (finished / "models" / "content").iterdir() if path.is_dir())
    result = run_cli("inspect", version, expect=3)
    assert f"recpipe inspect {version.parent}" in result.stderr
    Path("empty").mkdir()
    assert "status --outputs" in run_cli("inspect", "empty", expect=3).stderr


def test_a_missing_file_leads_to_a_list_of_outputs(finished: Path, world: World, run_cli):
    result = run_cli("inspect", "work/nothing.parquet", expect=4)
    assert "recpipe status --outputs" in result.stderr
    listed = [line.strip() for line in run_cli("status", "--outputs", "-c", world.config).stdout.splitlines()]
    for path in ("recommendations.parquet", "segments.parquet", "segment_space.parquet", "models/content"):
        assert str(finished.relative_to(Path.cwd()) / path) in listed
    (finished / "segments.parquet").unlink()
    assert "work/segments.parquet  (not there yet)" in run_cli("status", "--outputs", "-c", world.config).stdout
    assert "segments.parquet" not in run_cli("status", "-c", world.config).stdout


def test_quarantined_rows_are_shown_with_file_line_and_reason(world: World, run_cli, tmp_path: Path):
    spoilt = copy_world(world, tmp_path / "world")
    with spoilt.items.open("a", encoding="utf-8") as file:
        file.write("i00,Again,twice,War\n,Nameless,text,War\ni01,Again,twice,War\n")
    run_cli("run", "-c", spoilt.config)
    text = run_cli("inspect", "work/quarantine/items.parquet", "--rows", "2").stdout
    assert "bad rows of items: 2 duplicate_id, 1 missing_id" in text
    assert "first 2 of 3 rows" in text and "not written by recpipe" not in text
    assert f"{spoilt.items}, line 62: duplicate_id" in text and "Again" in text
    assert f"{spoilt.items}, line 63: missing_id" in text and "line 64" not in text
    counts = json.loads(run_cli("inspect", "work/quarantine/items.parquet", "--json").stdout)
    assert counts == {"bad_rows_of": "items", "rows": 3, "by_reason": {"duplicate_id": 2, "missing_id": 1}}


def test_the_columns_of_bad_rows_are_those_that_are_written(tmp_path: Path):
    import pyarrow.parquet as pq

    with Quarantine("items", tmp_path / "bad.parquet") as quarantine:
        quarantine.add(BadRow("items.csv", 2, Reason.MISSING_ID, "no id", ",x"))
    assert pq.read_schema(tmp_path / "bad.parquet").names == BAD_ROWS_COLUMNS


def test_rows_cannot_be_negative(run_cli):
    assert "--rows" in run_cli("inspect", "work/segments.parquet", "--rows", "-1", expect=2).stderr
