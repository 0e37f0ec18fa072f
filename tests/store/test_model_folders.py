from __future__ import annotations

from pathlib import Path

import pytest

from recpipe.errors import DataError, MissingInputError
from recpipe.store.manifest import Manifest, read_manifest
from recpipe.store.model_folders import current_model, publish_model, remove_unnamed


def manifest(fingerprint: str) -> Manifest:
    return Manifest("model", 1, "train", 1, "production", {}, fingerprint, {}, None, 42, "0")


def saving(text: str):  # type: ignore[no-untyped-def]
    def save(folder: Path) -> None:
        (folder / "deep").mkdir()
        (folder / "deep" / "weights").write_text(text)

    return save


def weights(root: Path) -> str:
    return (current_model(root)[0] / "deep" / "weights").read_text()


def test_versions_live_side_by_side_and_the_last_is_current(tmp_path: Path) -> None:
    root = tmp_path / "models" / "content"
    for fingerprint in ("aa", "bb"):
        assert publish_model(root, manifest(fingerprint), saving(fingerprint)) == root / fingerprint
    folder, found = current_model(root)
    assert folder == root / "bb"
    assert found.fingerprint == "bb"
    assert found == read_manifest(root)
    assert weights(root) == "bb"
    assert (root / "aa" / "deep" / "weights").read_text() == "aa"
    assert sorted(path.name for path in root.iterdir()) == ["aa", "bb", "current.json"]


def test_the_same_fingerprint_again_replaces_the_folder(tmp_path: Path) -> None:
    publish_model(tmp_path, manifest("aa"), saving("old"))
    (tmp_path / "aa" / "stale").touch()
    publish_model(tmp_path, manifest("aa"), saving("new"))
    assert weights(tmp_path) == "new"
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["aa", "current.json", "deep", "weights"]


def test_a_failure_while_saving_keeps_the_old_model(tmp_path: Path) -> None:
    publish_model(tmp_path, manifest("aa"), saving("old"))

    def fail(folder: Path) -> None:
        (folder / "half").touch()
        raise KeyboardInterrupt

    for fingerprint in ("aa", "bb"):
        with pytest.raises(KeyboardInterrupt):
            publish_model(tmp_path, manifest(fingerprint), fail)
    assert weights(tmp_path) == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["aa", "current.json"]


def test_what_a_killed_writer_left_is_cleared(tmp_path: Path) -> None:
    (tmp_path / ".tmp-99-aa").mkdir()
    (tmp_path / ".tmp-99-aa" / "half").touch()
    (tmp_path / ".tmp-99-current.json").touch()
    publish_model(tmp_path, manifest("aa"), saving("new"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["aa", "current.json"]


def test_no_model_yet(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match="model missing") as caught:
        current_model(tmp_path / "models" / "content")
    assert caught.value.next_step == "run: recpipe train"


def test_a_folder_that_is_gone_is_no_model(tmp_path: Path) -> None:
    folder = publish_model(tmp_path, manifest("aa"), saving("x"))
    folder.rename(tmp_path / "elsewhere")
    assert read_manifest(tmp_path) is None
    with pytest.raises(MissingInputError, match="model missing") as caught:
        current_model(tmp_path)
    assert caught.value.next_step == "run: recpipe train"


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"folder": "aa"}', '{"folder": "aa", "manifest": {}}'])
def test_a_damaged_current_json(tmp_path: Path, content: str) -> None:
    (tmp_path / "aa").mkdir()
    (tmp_path / "current.json").write_text(content)
    with pytest.raises(DataError, match="not a readable artifact"):
        current_model(tmp_path)


class TestRemoving:
    def test_the_current_model_and_those_named_stay(self, tmp_path: Path) -> None:
        for fingerprint in ("aa", "bb", "cc", "dd"):
            publish_model(tmp_path, manifest(fingerprint), saving(fingerprint))
        (tmp_path / "model_choice.parquet").touch()
        removed = remove_unnamed(tmp_path, {"bb", "elsewhere"})
        assert sorted(path.name for path in removed) == ["aa", "cc"]
        assert sorted(path.name for path in tmp_path.iterdir()) == ["bb", "current.json", "dd", "model_choice.parquet"]
        assert weights(tmp_path) == "dd"

    @pytest.mark.parametrize("content", [None, "{"])
    def test_where_nobody_knows_the_current_one_all_stay(self, tmp_path: Path, content: str | None) -> None:
        publish_model(tmp_path, manifest("aa"), saving("aa"))
        (tmp_path / "current.json").unlink()
        if content is not None:
            (tmp_path / "current.json").write_text(content)
        assert remove_unnamed(tmp_path, set()) == []
        assert (tmp_path / "aa").is_dir()
