from __future__ import annotations

import os
from pathlib import Path

import pytest

from recpipe.encoders.media_files import BadFileError, locate


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "media"
    (folder / "inner").mkdir(parents=True)
    (folder / "a.jpg").write_bytes(b"x" * 100)
    (folder / "empty.jpg").touch()
    (folder / "inner" / "b.jpg").write_bytes(b"y")
    (tmp_path / "secret.jpg").write_bytes(b"z")
    (tmp_path / "media2").mkdir()
    (tmp_path / "media2" / "c.jpg").write_bytes(b"z")
    (folder / "out.jpg").symlink_to(tmp_path / "secret.jpg")
    (folder / "within.jpg").symlink_to(folder / "a.jpg")
    (folder / "out").symlink_to(tmp_path)
    (folder / "circle.jpg").symlink_to(folder / "circle.jpg")
    os.mkfifo(folder / "pipe.jpg")
    return folder


def code_of(path: str, root: Path, max_megabytes: float = 1.0) -> str | Path:
    try:
        return locate(path, root.resolve(), max_megabytes=max_megabytes)
    except BadFileError as error:
        assert error.message
        return error.code.value


@pytest.mark.parametrize("name", ["a.jpg", "inner/b.jpg", "inner/../a.jpg", "./a.jpg", "within.jpg"])
def test_what_lies_under_the_root_is_found(root: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    expected = (root / name).resolve()
    assert code_of(str(root / name), root) == expected
    monkeypatch.chdir(root.parent)
    assert code_of(f"media/{name}", root) == expected


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("none.jpg", "missing"),
        ("a.jpg/b.jpg", "missing"),
        ("../secret.jpg", "outside"),
        ("../media2/c.jpg", "outside"),  # begins with the root's name
        ("../none.jpg", "outside"),  # does not tell whether it exists
        ("out.jpg", "outside"),
        ("out/secret.jpg", "outside"),
        ("inner", "unreadable"),
        ("pipe.jpg", "unreadable"),
        ("circle.jpg", "unreadable"),
        ("zero\0byte.jpg", "unreadable"),
        ("x" * 300, "unreadable"),
        ("empty.jpg", "empty"),
    ],
)
def test_what_is_wrong_has_a_code(root: Path, name: str, code: str) -> None:
    assert code_of(f"{root}/{name}", root) == code


@pytest.mark.parametrize(
    "path",
    ["http://host/a.jpg", "https://host/a.jpg", "s3://bucket/a.jpg", "file:///etc/passwd", "data:image/png;base64,A"],
)
def test_urls_are_refused(root: Path, path: str) -> None:
    assert code_of(path, root) == "outside"


def test_large_files_are_refused(root: Path) -> None:
    assert code_of(f"{root}/a.jpg", root, max_megabytes=100e-6) == root / "a.jpg"
    assert code_of(f"{root}/a.jpg", root, max_megabytes=99e-6) == "too_large"


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_folder_without_permission_is_unreadable(root: Path) -> None:
    (root / "inner").chmod(0)
    try:
        assert code_of(f"{root}/inner/b.jpg", root) == "unreadable"
    finally:
        (root / "inner").chmod(0o700)
