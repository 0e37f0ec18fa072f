from __future__ import annotations

import logging
import multiprocessing
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recpipe import logs
from recpipe.store.cache import MOST_SMALL_SEGMENTS, EmbeddingCache, content_keys, shrink
from recpipe.store.cache_folder import KeyFolder
from recpipe.store.cache_merge import merge_segments
from recpipe.store.cache_segments import Rows, write_segment

DIM = 3


def vector(text: str) -> np.ndarray:
    seed = int.from_bytes(text.encode()[:4].ljust(4, b"\0"), "big")
    return np.random.default_rng(seed).standard_normal(DIM).astype(np.float32)


def remember(cache: EmbeddingCache, texts: list[str]) -> None:
    matrix = np.array([vector(text) for text in texts], np.float32).reshape(-1, DIM)
    cache.add(content_keys(texts), matrix, np.array([len(text) > 4 for text in texts], bool))


def assert_knows(cache: EmbeddingCache, texts: list[str], known: set[str]) -> None:
    found = cache.lookup(content_keys(texts))
    assert found.found.tolist() == [text in known for text in texts]
    for row, text in enumerate(texts):
        if text in known:
            assert np.array_equal(found.vectors[row], vector(text))
            assert found.truncated[row] == (len(text) > 4)
        else:
            assert not found.vectors[row].any()
            assert not found.truncated[row]


@pytest.fixture
def warnings_logged() -> Iterator[list[str]]:
    found: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: found.append(record.getMessage())  # type: ignore[method-assign]
    logs.get().addHandler(handler)
    yield found
    logs.get().removeHandler(handler)


def segments(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*.parquet"))


def damage_vectors(path: Path) -> None:
    """Turn one bit of the second vector; the footer and the keys stay readable."""
    content = bytearray(path.read_bytes())
    stored = pq.read_table(path).column("vector").combine_chunks().values.to_numpy()[DIM : 2 * DIM].tobytes()
    assert content.count(stored) == 1
    content[content.find(stored) + 2] ^= 0x40
    path.write_bytes(content)


def write_earlier_segment(path: Path, texts: list[str]) -> None:
    """Write a segment as recpipe did when rows had no checksum of their own."""
    path.parent.mkdir(exist_ok=True)
    table = pa.table(
        {
            "key": pa.array([key.tobytes() for key in content_keys(texts)], pa.binary(16)),
            "vector": pa.array([vector(text) for text in texts], pa.list_(pa.float32(), DIM)),
            "truncated": pa.array([len(text) > 4 for text in texts]),
        }
    )
    pq.write_table(table, path, compression="NONE", use_dictionary=False, write_page_checksum=True)


def test_an_empty_cache_knows_nothing(tmp_path: Path) -> None:
    cache = EmbeddingCache(tmp_path / "none", "key")
    assert cache.dim is None
    assert_knows(cache, ["a", "b"], set())
    assert_knows(cache, [], set())
    assert not (tmp_path / "none").exists()


def test_what_was_added_is_found_at_once_and_by_the_next_run(tmp_path: Path) -> None:
    cache = EmbeddingCache(tmp_path, "key")
    remember(cache, ["a", "truncated", ""])
    remember(cache, ["d"])
    for reader in (cache, EmbeddingCache(tmp_path, "key")):
        assert reader.dim == DIM
        assert_knows(reader, ["d", "b", "truncated", "a", "a", "", "größe"], {"a", "truncated", "", "d"})


def test_two_encoder_keys_never_meet(tmp_path: Path) -> None:
    remember(EmbeddingCache(tmp_path, "one"), ["a"])
    assert_knows(EmbeddingCache(tmp_path, "two"), ["a"], set())
    assert_knows(EmbeddingCache(tmp_path, "one"), ["a"], {"a"})


def test_the_same_again_writes_nothing_new(tmp_path: Path) -> None:
    remember(EmbeddingCache(tmp_path, "key"), ["a", "b"])
    before = [(path, path.stat().st_mtime_ns) for path in segments(tmp_path)]
    remember(EmbeddingCache(tmp_path, "key"), ["a", "b"])
    assert [(path, path.stat().st_mtime_ns) for path in segments(tmp_path)] == before


def test_keys_are_of_the_content_only() -> None:
    keys = content_keys(["a", "b", "a", ""])
    assert keys.shape == (4, 2)
    assert np.array_equal(keys[0], keys[2])
    assert len({tuple(key) for key in keys.tolist()}) == 3
    assert content_keys([]).shape == (0, 2)


TEXTS = st.lists(st.sampled_from(["", "a", "b", "c", "long one", "longer", "ü"]), max_size=5)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(["add", "lookup", "reopen"]), st.sampled_from(["k", "l"]), TEXTS), max_size=8)
)
def test_it_is_a_dictionary(steps: list[tuple[str, str, list[str]]]) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        caches = {key: EmbeddingCache(folder, key) for key in "kl"}
        expected: dict[str, set[str]] = {"k": set(), "l": set()}
        for action, key, texts in steps:
            if action == "add":
                remember(caches[key], list(dict.fromkeys(texts)))
                expected[key] |= set(texts)
            elif action == "reopen":
                caches[key] = EmbeddingCache(folder, key)
            assert_knows(caches[key], texts, expected[key])


def _write_many(folder: Path, first: int) -> None:
    cache = EmbeddingCache(folder, "key")
    for start in range(first, first + 30, 3):
        remember(cache, [str(number) for number in range(start, start + 6)])


def test_two_writers_at_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    # the ranges overlap, and in part they write the very same segments
    writers = [context.Process(target=_write_many, args=(tmp_path, first)) for first in (0, 15)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
        assert writer.exitcode == 0
    texts = [str(number) for number in range(60)]
    assert_knows(EmbeddingCache(tmp_path, "key"), texts, set(texts[:48]))


def test_a_segment_somebody_is_writing_is_not_looked_at(tmp_path: Path, warnings_logged: list[str]) -> None:
    remember(EmbeddingCache(tmp_path, "key"), ["a"])
    (tmp_path / "key" / ".tmp-7-0-ab.parquet").write_bytes(b"PAR1 half")
    assert_knows(EmbeddingCache(tmp_path, "key"), ["a", "b"], {"a"})
    assert warnings_logged == []


@pytest.mark.parametrize("content", [b"", b"PAR1 half", None])
def test_a_damaged_segment_is_left_out_and_written_again(
    tmp_path: Path, content: bytes | None, warnings_logged: list[str]
) -> None:
    remember(EmbeddingCache(tmp_path, "key"), ["a", "b"])
    (path,) = segments(tmp_path)
    path.write_bytes(path.read_bytes()[:-20] if content is None else content)
    remember(EmbeddingCache(tmp_path, "key"), ["c"])
    cache = EmbeddingCache(tmp_path, "key")
    assert_knows(cache, ["a", "c"], {"c"})
    assert len(warnings_logged) == 2
    assert str(path) in warnings_logged[0]
    remember(cache, ["a", "b"])
    assert_knows(cache, ["a", "b", "c"], {"a", "b", "c"})
    assert_knows(EmbeddingCache(tmp_path, "key"), ["a", "b", "c"], {"a", "b", "c"})
    assert len(warnings_logged) == 2


def test_a_flipped_bit_gives_no_vector(tmp_path: Path, warnings_logged: list[str]) -> None:
    remember(EmbeddingCache(tmp_path, "key"), ["a", "b"])
    (path,) = segments(tmp_path)
    damage_vectors(path)
    cache = EmbeddingCache(tmp_path, "key")
    assert_knows(cache, ["a", "b"], {"a"})  # the other row is what was written
    assert len(warnings_logged) == 1 and "encoded again" in warnings_logged[0] and str(path) in warnings_logged[0]
    remember(cache, ["b"])
    assert_knows(cache, ["a", "b"], {"a", "b"})
    # the next night finds the good copy behind the damaged one
    assert_knows(EmbeddingCache(tmp_path, "key"), ["a", "b"], {"a", "b"})
    # and merging drops the damaged one
    del cache
    with KeyFolder(tmp_path / "key").alone():
        done = merge_segments(KeyFolder(tmp_path / "key"))
    assert (done.before, done.after, done.duplicates + done.damaged) == (2, 1, 1)
    warnings_logged.clear()
    assert_knows(EmbeddingCache(tmp_path, "key"), ["a", "b"], {"a", "b"})
    assert warnings_logged == []


@settings(max_examples=60)
@given(st.data())
def test_no_damage_whatever_gives_a_wrong_vector(data: st.DataObject) -> None:
    """Any byte before the footer changed: a vector is what was written, or it is not found."""
    texts = ["a", "b", "truncated"]
    with tempfile.TemporaryDirectory() as name:
        remember(EmbeddingCache(Path(name), "key"), texts)
        (path,) = segments(Path(name))
        content = bytearray(path.read_bytes())
        footer = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
        content[data.draw(st.integers(0, footer - 1))] ^= data.draw(st.integers(1, 255))
        path.write_bytes(content)
        found = EmbeddingCache(Path(name), "key").lookup(content_keys(texts))
        for row, text in enumerate(texts):
            if found.found[row]:
                assert np.array_equal(found.vectors[row], vector(text))
                assert found.truncated[row] == (len(text) > 4)


def test_segments_of_earlier_versions_are_read(tmp_path: Path, warnings_logged: list[str]) -> None:
    write_earlier_segment(tmp_path / "key" / "0.parquet", ["a", "long one", "c"])
    remember(EmbeddingCache(tmp_path, "key"), ["d"])
    cache = EmbeddingCache(tmp_path, "key")
    assert_knows(cache, ["d", "long one", "x", "a", "c", "a"], {"a", "long one", "c", "d"})
    damage_vectors(tmp_path / "key" / "0.parquet")
    assert_knows(cache, ["d", "long one", "a"], {"d"})
    assert len(warnings_logged) == 1


def test_a_segment_of_other_width_is_left_out(tmp_path: Path, warnings_logged: list[str]) -> None:
    remember(EmbeddingCache(tmp_path, "key"), ["a"])
    wide = Rows(content_keys(["b"]), np.ones((1, DIM + 1), np.float32), np.zeros(1, bool))
    write_segment(tmp_path / "key" / "zz.parquet", wide)
    assert_knows(EmbeddingCache(tmp_path, "key"), ["a", "b"], {"a"})
    assert len(warnings_logged) == 1


def test_many_small_segments_become_few_when_the_cache_is_opened(tmp_path: Path) -> None:
    texts = [str(number) for number in range(MOST_SMALL_SEGMENTS + 1)]
    for text in texts[:-1]:
        remember(EmbeddingCache(tmp_path, "key"), [text])
    assert_knows(EmbeddingCache(tmp_path, "key"), texts, set(texts[:-1]))
    assert len(segments(tmp_path)) == MOST_SMALL_SEGMENTS
    user = EmbeddingCache(tmp_path, "key")
    remember(user, texts[-1:])
    assert_knows(EmbeddingCache(tmp_path, "key"), texts, set(texts))
    assert len(segments(tmp_path)) == MOST_SMALL_SEGMENTS + 1  # somebody uses them
    del user
    assert_knows(EmbeddingCache(tmp_path, "key"), texts, set(texts))
    assert len(segments(tmp_path)) == 1


def test_a_cache_that_cannot_be_merged_is_used_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, warnings_logged: list[str]
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    texts = [str(number) for number in range(MOST_SMALL_SEGMENTS + 1)]
    for text in texts:
        remember(EmbeddingCache(tmp_path, "key"), [text])
    monkeypatch.setattr("recpipe.store.cache_merge.write_segment", full)
    assert_knows(EmbeddingCache(tmp_path, "key"), texts, set(texts))
    assert len(warnings_logged) == 1 and "No space left" in warnings_logged[0]


def test_what_the_key_stands_for_is_written_beside_the_vectors(tmp_path: Path) -> None:
    EmbeddingCache(tmp_path, "key", about={"model": "tiny", "role": "document"}).lookup(content_keys(["a"]))
    assert not (tmp_path / "key").exists()
    remember(EmbeddingCache(tmp_path, "key", about={"model": "tiny", "role": "query"}), ["a"])
    remember(EmbeddingCache(tmp_path, "key", about={"model": "tiny", "role": "document"}), ["b"])
    remember(EmbeddingCache(tmp_path, "key"), ["c"])
    assert KeyFolder(tmp_path / "key").about() == {"model": ["tiny"], "role": ["document", "query"]}


def test_where_nothing_can_be_locked_the_cache_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read_only(*_: object, **__: object) -> None:
        raise OSError(30, "Read-only file system")

    remember(EmbeddingCache(tmp_path, "key"), ["a"])
    monkeypatch.setattr("recpipe.store.locks.hold", read_only)
    assert_knows(EmbeddingCache(tmp_path, "key"), ["a", "b"], {"a"})
    assert shrink(tmp_path, max_bytes=0) == 0  # nobody can say that it is free
    assert_knows(EmbeddingCache(tmp_path, "key"), ["a", "b"], {"a"})


def test_files_have_keys_too() -> None:
    assert np.array_equal(content_keys([b"\x00\xff", b"a"])[1], content_keys(["a"])[0])


def test_left_overs_of_killed_writers_go_after_a_day(tmp_path: Path) -> None:
    remember(EmbeddingCache(tmp_path, "key"), ["a"])
    old, young = (tmp_path / "key" / f".tmp-7-0123abcd-{name}.parquet" for name in ("old", "young"))
    for path in (old, young):
        path.write_bytes(b"PAR1 half")
    os.utime(old, (1_000, 1_000))
    assert_knows(EmbeddingCache(tmp_path, "key"), ["a"], {"a"})
    assert (old.exists(), young.exists()) == (False, True)


def test_a_segment_removed_meanwhile_is_a_miss(tmp_path: Path, warnings_logged: list[str]) -> None:
    remember(EmbeddingCache(tmp_path, "key"), ["a"])
    cache = EmbeddingCache(tmp_path, "key")
    segments(tmp_path)[0].unlink()
    assert_knows(cache, ["a"], set())
    assert warnings_logged == []


def test_another_parquet_file_in_the_folder_is_left_out(tmp_path: Path, warnings_logged: list[str]) -> None:
    remember(EmbeddingCache(tmp_path, "key"), ["a"])
    pq.write_table(pa.table({"x": [1]}), tmp_path / "key" / "0.parquet")
    assert_knows(EmbeddingCache(tmp_path, "key"), ["a"], {"a"})
    assert len(warnings_logged) == 1


class TestShrinking:
    def filled(self, folder: Path) -> dict[str, Path]:
        """Three segments of equal size under two encoders; `a` was used first, `c` last."""
        found: dict[str, Path] = {}
        for age, (text, key) in enumerate([("a", "one"), ("b", "two"), ("c", "one")]):
            before = set(segments(folder))
            remember(EmbeddingCache(folder, key), [text])
            (found[text],) = set(segments(folder)) - before
            os.utime(found[text], (1_000 + age, 1_000 + age))
        return found

    def test_the_least_recently_used_go_first(self, tmp_path: Path) -> None:
        found = self.filled(tmp_path)
        total = sum(path.stat().st_size for path in found.values())
        assert shrink(tmp_path, max_bytes=total) == 0
        assert shrink(tmp_path, max_bytes=total - 1) == 1
        assert segments(tmp_path) == sorted([found["b"], found["c"]])
        assert shrink(tmp_path, max_bytes=0) == 2
        assert segments(tmp_path) == []
        assert shrink(tmp_path / "none", max_bytes=0) == 0

    def test_a_lookup_is_a_use_and_a_miss_is_none(self, tmp_path: Path) -> None:
        found = self.filled(tmp_path)
        assert_knows(EmbeddingCache(tmp_path, "one"), ["a", "x"], {"a"})
        assert_knows(EmbeddingCache(tmp_path, "two"), ["x"], set())
        size = found["a"].stat().st_size
        assert shrink(tmp_path, max_bytes=size) == 2
        assert segments(tmp_path) == [found["a"]]
        assert_knows(EmbeddingCache(tmp_path, "one"), ["a", "c"], {"a"})

    def test_what_somebody_uses_stays(self, tmp_path: Path) -> None:
        found = self.filled(tmp_path)
        user = EmbeddingCache(tmp_path, "one")
        assert shrink(tmp_path, max_bytes=0) == 1
        assert segments(tmp_path) == sorted([found["a"], found["c"]])
        assert_knows(user, ["a", "c"], {"a", "c"})
        del user
        assert shrink(tmp_path, max_bytes=0) == 2
