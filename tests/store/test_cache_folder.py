from __future__ import annotations

import logging
from pathlib import Path

import pytest

from recpipe.errors import LockedError
from recpipe.store.cache_folder import KeyFolder, key_folders


def test_only_files_that_somebody_has_finished_are_segments(tmp_path: Path) -> None:
    folder = KeyFolder(tmp_path / "key")
    assert folder.files() == []
    folder.path.mkdir()
    (folder.path / "b.parquet").write_bytes(b"12")
    (folder.path / "a.parquet").write_bytes(b"1")
    (folder.path / ".tmp-7-0123abcd-c.parquet").write_bytes(b"1")
    (folder.path / "folder.parquet").mkdir()
    folder.describe({"model": "tiny"})
    assert [(file.path.name, file.n_bytes) for file in folder.files()] == [("a.parquet", 1), ("b.parquet", 2)]


def test_locks(tmp_path: Path) -> None:
    one, two = KeyFolder(tmp_path / "one"), KeyFolder(tmp_path / "two")
    with one.shared(), one.shared(), two.alone(), pytest.raises(LockedError, match="encoder key one"), one.alone():
        raise AssertionError
    with one.alone():
        pass
    assert key_folders(tmp_path) == []  # a lock is no key


def test_what_is_known_of_the_encoder(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = KeyFolder(tmp_path / "key")
    assert folder.about() == {}
    folder.describe({"model": "tiny", "role": "query"})
    folder.describe({"role": "document"})
    folder.describe({"role": "query"})
    assert folder.about() == {"model": ["tiny"], "role": ["document", "query"]}
    with caplog.at_level(logging.WARNING, logger="recpipe"):
        for content in ("{", "[]", '{"model": 3}', ""):
            (folder.path / "encoder.json").write_text(content, encoding="utf-8")
            assert folder.about() == {}
        folder.describe({"model": "tiny"})
    assert folder.about() == {"model": ["tiny"]}


def test_an_empty_folder_goes_and_one_with_something_else_stays(tmp_path: Path) -> None:
    folder = KeyFolder(tmp_path / "key")
    folder.describe({"model": "tiny"})
    (folder.path / "notes.txt").write_text("mine", encoding="utf-8")
    folder.remove_if_empty()
    assert folder.path.exists()
    (folder.path / "notes.txt").unlink()
    folder.remove_if_empty()
    assert not folder.path.exists() and key_folders(tmp_path) == []
