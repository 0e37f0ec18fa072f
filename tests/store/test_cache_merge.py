from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from test_cache import DIM, assert_knows, damage_vectors, remember, segments, write_earlier_segment

from recpipe.store import cache_merge
from recpipe.store.cache import EmbeddingCache, content_keys
from recpipe.store.cache_folder import KeyFolder
from recpipe.store.cache_merge import Merged, merge_segments

TEXTS = ["a", "b", "long one", "d", "longer", "f"]


def folder_of(path: Path) -> KeyFolder:
    return KeyFolder(path / "key")


def fill(path: Path, texts: list[str]) -> list[Path]:
    """A segment a text, used one after the other; return them in that order."""
    found: list[Path] = []
    for age, text in enumerate(texts):
        remember(EmbeddingCache(path, "key"), [text])
        (new,) = set(segments(path)) - set(found)
        os.utime(new, (1_000 + age, 1_000 + age))
        found.append(new)
    return found


def assert_knows_all(path: Path, texts: list[str] = TEXTS) -> None:
    assert_knows(EmbeddingCache(path, "key"), [*texts, "unknown"], set(texts))


@pytest.mark.parametrize("thorough", [False, True])
def test_many_become_one_and_nothing_is_lost(tmp_path: Path, thorough: bool) -> None:
    fill(tmp_path, TEXTS)
    assert merge_segments(folder_of(tmp_path), thorough=thorough) == Merged(before=6, after=1)
    (path,) = segments(tmp_path)
    assert path.stat().st_mtime == 1_005
    assert_knows_all(tmp_path)
    # again: nothing to do, and nothing is written
    before = path.stat()
    assert merge_segments(folder_of(tmp_path), thorough=thorough) == Merged(before=1, after=1)
    assert path.stat().st_ino == before.st_ino


def test_an_empty_folder(tmp_path: Path) -> None:
    assert merge_segments(folder_of(tmp_path), thorough=True) == Merged(before=0, after=0)


def test_those_used_at_about_the_same_time_go_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path, TEXTS)
    monkeypatch.setattr(cache_merge, "TARGET_BYTES", 3 * 4 * DIM)
    monkeypatch.setattr(cache_merge, "is_small", lambda file: True)
    assert merge_segments(folder_of(tmp_path)) == Merged(before=6, after=2)
    by_use = sorted(segments(tmp_path), key=lambda path: path.stat().st_mtime)
    assert [path.stat().st_mtime for path in by_use] == [1_002, 1_005]
    by_use[0].unlink()
    assert_knows(EmbeddingCache(tmp_path, "key"), TEXTS, set(TEXTS[3:]))


def test_duplicates_and_damaged_rows_are_dropped(tmp_path: Path) -> None:
    remember(EmbeddingCache(tmp_path, "key"), ["a", "b"])
    damage_vectors(segments(tmp_path)[0])  # of b
    remember(EmbeddingCache(tmp_path, "key"), ["a", "b", "long one"])
    write_earlier_segment(tmp_path / "key" / "0.parquet", ["d", "a"])
    (tmp_path / "key" / "1.parquet").write_bytes(b"PAR1 half")
    for age, path in enumerate(segments(tmp_path)):
        os.utime(path, (1_000 + age, 1_000 + age))
    done = merge_segments(folder_of(tmp_path))
    assert (done.before, done.after, done.duplicates + done.damaged, done.unreadable) == (4, 1, 3, 1)
    assert_knows_all(tmp_path, ["a", "b", "long one", "d"])


def test_a_damaged_row_never_displaces_its_sound_copy(tmp_path: Path) -> None:
    for order in ((1, 2), (2, 1)):
        cache = tmp_path / str(order)
        remember(EmbeddingCache(cache, "key"), ["a", "b"])
        (first,) = segments(cache)
        damage_vectors(first)
        remember(EmbeddingCache(cache, "key"), ["b"])
        (second,) = set(segments(cache)) - {first}
        for path, age in zip((first, second), order, strict=True):
            os.utime(path, (age, age))
        merge_segments(folder_of(cache), thorough=True)
        assert len(segments(cache)) == 1
        assert_knows_all(cache, ["a", "b"])


def test_a_foreign_file_stays(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    fill(tmp_path, TEXTS)
    pq.write_table(pa.table({"x": [1]}), tmp_path / "key" / "x.parquet")
    merge_segments(folder_of(tmp_path), thorough=True)
    assert (tmp_path / "key" / "x.parquet").exists() and len(segments(tmp_path)) == 2
    assert_knows_all(tmp_path)


def test_large_ones_stay_unless_they_are_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    large, other, *small = fill(tmp_path, TEXTS)
    monkeypatch.setattr(cache_merge, "is_small", lambda file: file.path not in (large, other))
    damage = bytearray(other.read_bytes())
    at = damage.find(EmbeddingCache(tmp_path, "key").lookup(content_keys(["b"])).vectors.tobytes())
    damage[at] ^= 1
    other.write_bytes(damage)
    os.utime(other, (1_001, 1_001))
    kept = (large.stat().st_ino, other.stat().st_ino)
    assert merge_segments(folder_of(tmp_path)) == Merged(before=6, after=3)
    assert (large.stat().st_ino, other.stat().st_ino) == kept and not any(path.exists() for path in small)
    remember(EmbeddingCache(tmp_path, "key"), ["b", "x"])
    done = merge_segments(folder_of(tmp_path), thorough=True)
    assert done.damaged + done.duplicates == 1
    assert large.stat().st_ino == kept[0] and not other.exists()
    assert_knows_all(tmp_path, [*TEXTS, "x"])


class _KilledError(BaseException):
    """The process is gone: from the n-th step that changes the disk on, none is done."""


def test_killed_in_the_middle_it_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path / "whole", TEXTS)
    monkeypatch.setattr(cache_merge, "TARGET_BYTES", 2 * 4 * DIM)
    monkeypatch.setattr(cache_merge, "is_small", lambda file: True)
    left = 0

    def dying(step: Callable[..., None]) -> Callable[..., None]:
        def call(*args: object, **named: object) -> None:
            nonlocal left
            left -= 1
            if left < 0:
                raise _KilledError
            step(*args, **named)

        return call

    for steps in itertools.count():
        killed = False
        cache = tmp_path / str(steps)
        shutil.copytree(tmp_path / "whole", cache)
        with monkeypatch.context() as patched:
            for owner, name in ((Path, "unlink"), (Path, "replace"), (os, "fsync"), (os, "utime")):
                patched.setattr(owner, name, dying(getattr(owner, name)))
            left = steps
            try:
                merge_segments(folder_of(cache))
            except _KilledError:
                killed = True
        assert_knows_all(cache)
        if not killed:
            break
        folder_of(cache).sweep(alone=True)
        merge_segments(folder_of(cache), thorough=True)
        assert len(segments(cache)) <= 3
        assert_knows_all(cache)
    assert steps > 12


def test_vectors_are_the_same_bits(tmp_path: Path) -> None:
    fill(tmp_path, TEXTS)
    before = EmbeddingCache(tmp_path, "key").lookup(content_keys(TEXTS)).vectors
    merge_segments(folder_of(tmp_path))
    assert np.array_equal(EmbeddingCache(tmp_path, "key").lookup(content_keys(TEXTS)).vectors, before)
