from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from test_cache import assert_knows, remember, segments

from recpipe.store.cache import EmbeddingCache
from recpipe.store.cache_upkeep import KeySize, Pruned, Removed, prune, sizes

DAY = 86_400.0


@pytest.fixture
def filled(tmp_path: Path) -> dict[str, Path]:
    """Four segments under two encoders, the first used four days ago, the last today."""
    found: dict[str, Path] = {}
    for days, (text, key) in zip((4, 3, 2, 0), [("a", "one"), ("b", "two"), ("c", "one"), ("d", "two")], strict=True):
        before = set(segments(tmp_path))
        remember(EmbeddingCache(tmp_path, key, about={"model": "tiny"} if key == "one" else None), [text])
        (found[text],) = set(segments(tmp_path)) - before
        used_at = time.time() - days * DAY - 60
        os.utime(found[text], (used_at, used_at))
    return found


def n_bytes(*paths: Path) -> int:
    return sum(path.stat().st_size for path in paths)


def test_sizes(tmp_path: Path, filled: dict[str, Path]) -> None:
    (tmp_path / "two" / "x.parquet").write_bytes(b"PAR1 half")
    one, two = sizes(tmp_path)
    assert one == KeySize(
        "one", {"model": ["tiny"]}, segments=2, vectors=2, n_bytes=n_bytes(filled["a"], filled["c"]), unreadable=0,
        used_at=filled["c"].stat().st_mtime,
    )  # fmt: skip
    assert (two.key, two.about, two.segments, two.vectors, two.unreadable) == ("two", {}, 3, 2, 1)
    assert sizes(tmp_path / "none") == []


def test_unused_for_too_long(tmp_path: Path, filled: dict[str, Path]) -> None:
    kept = n_bytes(filled["c"], filled["d"])
    removed = {"one": Removed(1, n_bytes(filled["a"])), "two": Removed(1, n_bytes(filled["b"]))}
    planned = prune(tmp_path, unused_seconds=3 * DAY, dry_run=True)
    assert planned == Pruned(removed, [], kept)
    assert len(segments(tmp_path)) == 4
    assert prune(tmp_path, unused_seconds=3 * DAY) == planned
    assert segments(tmp_path) == sorted([filled["c"], filled["d"]])


def test_both_limits(tmp_path: Path, filled: dict[str, Path]) -> None:
    size = n_bytes(filled["d"])
    done = prune(tmp_path, unused_seconds=3.5 * DAY, max_bytes=size)
    assert segments(tmp_path) == [filled["d"]]
    assert done.kept_bytes == size
    assert prune(tmp_path, unused_seconds=3.5 * DAY, max_bytes=size) == Pruned({}, [], size)


def test_one_key_whole(tmp_path: Path, filled: dict[str, Path]) -> None:
    prune(tmp_path, keys=["one"])
    assert segments(tmp_path) == sorted([filled["b"], filled["d"]])
    assert not (tmp_path / "one").exists()
    remember(EmbeddingCache(tmp_path, "one"), ["a"])
    assert_knows(EmbeddingCache(tmp_path, "one"), ["a", "c"], {"a"})


def test_the_size_of_one_key(tmp_path: Path, filled: dict[str, Path]) -> None:
    prune(tmp_path, keys=["two"], max_bytes=n_bytes(filled["d"]))
    assert segments(tmp_path) == sorted([filled["a"], filled["c"], filled["d"]])


def test_a_key_in_use_is_left_alone_with_its_temporary_files(tmp_path: Path, filled: dict[str, Path]) -> None:
    half = [tmp_path / key / ".tmp-7-0123abcd-ab.parquet" for key in ("one", "two")]
    for path in half:
        path.write_bytes(b"PAR1 half")
    user = EmbeddingCache(tmp_path, "one")
    done = prune(tmp_path, max_bytes=0)
    assert done.in_use == ["one"] and list(done.removed) == ["two"]
    assert done.kept_bytes == n_bytes(filled["a"], filled["c"])
    assert segments(tmp_path) == sorted([filled["a"], filled["c"], half[0]])
    assert not (tmp_path / "two").exists()
    assert_knows(user, ["a", "c"], {"a", "c"})
    del user
    assert prune(tmp_path, max_bytes=0).in_use == []
    assert segments(tmp_path) == []


def test_what_is_added_while_in_use_is_kept_too(tmp_path: Path) -> None:
    user = EmbeddingCache(tmp_path, "new")
    remember(user, ["a"])
    assert prune(tmp_path, max_bytes=0).in_use == ["new"]
    remember(user, ["b"])
    assert_knows(user, ["a", "b"], {"a", "b"})


def test_a_dry_run_leaves_temporary_files(tmp_path: Path, filled: dict[str, Path]) -> None:
    half = tmp_path / "two" / ".tmp-7-0123abcd-ab.parquet"
    half.write_bytes(b"PAR1 half")
    prune(tmp_path, max_bytes=0, dry_run=True)
    assert half.exists() and len(segments(tmp_path)) == 5
