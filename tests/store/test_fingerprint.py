from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest

from recpipe.store.fingerprint import FileDigests, fingerprint


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files whose content was read."""
    found: list[str] = []
    whole = hashlib.file_digest

    def counted(file, name):  # type: ignore[no-untyped-def]
        found.append(Path(file.name).name)
        return whole(file, name)

    monkeypatch.setattr(hashlib, "file_digest", counted)
    return found


def test_a_fingerprint_is_of_the_values_not_of_their_order() -> None:
    assert fingerprint({"a": 1, "b": {"c": [1, 2], "d": None}}) == fingerprint({"b": {"d": None, "c": [1, 2]}, "a": 1})
    different = [{}, {"a": 1}, {"a": "1"}, {"a": 1.5}, {"a": None}, {"a": [1]}, {"b": 1}, {"a": [1, 2]}, {"a": [2, 1]}]
    assert len({fingerprint(content) for content in different}) == len(different)
    assert fingerprint({"a": "größe"}) == "f9f7388a1161bb893d1528936ad53d70"


def test_a_file_is_read_once(tmp_path: Path, hashed: list[str]) -> None:
    path, memory = tmp_path / "a.csv", tmp_path / "deep" / "digests.json"
    path.write_text("one")
    first = FileDigests(memory)
    assert first.digest(path) == first.digest(path) == sha256("one")
    first.save()
    assert FileDigests(memory).digest(path) == sha256("one")
    assert hashed == ["a.csv"]


def test_size_or_time_make_it_read_again(tmp_path: Path, hashed: list[str]) -> None:
    path = tmp_path / "a.csv"
    path.write_text("one")
    digests = FileDigests(tmp_path / "digests.json")
    digests.digest(path)
    state = path.stat()
    path.write_text("longer")
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))  # the size alone differs
    assert digests.digest(path) == sha256("longer")
    path.write_text("LONGER")
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns + 1))  # the time alone differs
    assert digests.digest(path) == sha256("LONGER")
    assert len(hashed) == 3


def test_two_processes_keep_each_others_entries(tmp_path: Path) -> None:
    memory = tmp_path / "digests.json"
    for name in "ab":
        (tmp_path / name).write_text(name)
    one, other = FileDigests(memory), FileDigests(memory)
    one.digest(tmp_path / "a")
    other.digest(tmp_path / "b")
    one.save()
    other.save()
    assert sorted(Path(path).name for path in json.loads(memory.read_text())) == ["a", "b"]


def test_nothing_new_writes_nothing(tmp_path: Path) -> None:
    FileDigests(tmp_path / "digests.json").save()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"3", b"\xff\xfe", b'{"x": 3}', b'{"x": [1]}'])
def test_a_damaged_memory_is_forgotten(tmp_path: Path, content: bytes) -> None:
    memory, path = tmp_path / "digests.json", tmp_path / "x"
    memory.write_bytes(content.replace(b'"x"', json.dumps(str(path)).encode()))
    path.write_text("one")
    digests = FileDigests(memory)
    assert digests.digest(path) == sha256("one")
    digests.save()
    assert FileDigests(memory).digest(path) == sha256("one")


def test_a_combined_digest_is_of_names_contents_and_order(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        for name in "ab":
            (tmp_path / folder / name).write_text(name)
    (tmp_path / "one" / "c").write_text("a")
    digests = FileDigests(tmp_path / "digests.json")

    def combined(*names: str) -> str:
        return digests.combined([tmp_path / name for name in names])

    assert combined("one/a", "one/b") == combined("two/a", "two/b")
    assert len({combined(*names) for names in (("one/a", "one/b"), ("one/b", "one/a"), ("one/a",), ("one/c",))}) == 4
