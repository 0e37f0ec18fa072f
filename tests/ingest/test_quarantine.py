"""The file of bad rows: whole or not there, and found by the sweep after a kill."""

from __future__ import annotations

import re
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from recpipe.ingest import quarantine as module
from recpipe.ingest.quarantine import BadRow, Quarantine, Reason
from recpipe.store import publish


def bad(line: int) -> BadRow:
    return BadRow("x.csv", line, Reason.BAD_RATING, "no number", "a,b,c")


def test_the_old_file_stays_until_the_new_one_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_BUFFERED_ROWS", 2)
    path = tmp_path / "deep" / "items.parquet"
    with Quarantine("items", path) as rows:
        rows.add(bad(1))
    with Quarantine("items", path) as rows:
        for line in range(5):
            rows.add(bad(line))
        (temporary,) = (file for file in path.parent.iterdir() if file != path)
        assert re.fullmatch(r"\.tmp-\d+-[0-9a-f]{8}-items\.parquet", temporary.name)
        assert pq.read_metadata(path).num_rows == 1
    assert [file.name for file in path.parent.iterdir()] == ["items.parquet"]
    assert pq.read_table(path).column("line").to_pylist() == [0, 1, 2, 3, 4]


def test_what_a_killed_run_leaves_is_swept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_BUFFERED_ROWS", 1)
    path = tmp_path / "items.parquet"
    killed = Quarantine("items", path)
    killed.add(bad(1))
    assert len(list(tmp_path.iterdir())) == 1
    publish.sweep(tmp_path, "users.parquet")
    assert len(list(tmp_path.iterdir())) == 1
    publish.sweep(tmp_path, path.name)
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_leaves_nothing_half_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*paths: Path) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(module, "finish", full)
    with pytest.raises(OSError, match="no space"), Quarantine("items", tmp_path / "items.parquet") as rows:
        rows.add(bad(1))
    assert list(tmp_path.iterdir()) == []
