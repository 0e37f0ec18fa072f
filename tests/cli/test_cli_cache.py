"""`recpipe cache`: what is shown, what is removed, and what is left alone."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import World
from runs import finish, start

from recpipe.stages.pipeline.cached_files import file_digests
from recpipe.store.cache import EmbeddingCache, content_keys
from recpipe.store.cache_folder import KeyFolder

KEYS = ("0a" * 10, "0b" * 10)
ABOUT = {"model": "some/model", "role": "document", "pooling": "mean", "precision": "float32"}
DAY = 86_400


def remember(texts: list[str], key: str = KEYS[0], about: dict[str, str] | None = None) -> Path:
    folder = Path("work/cache") / key
    before = set(folder.glob("*.parquet"))
    vectors = np.array([[len(text), 1.0] for text in texts], np.float32)
    EmbeddingCache(folder.parent, key, about=about).add(content_keys(texts), vectors, np.zeros(len(texts), bool))
    (new,) = set(folder.glob("*.parquet")) - before
    return new


def known(texts: list[str], key: str = KEYS[0]) -> list[bool]:
    found = EmbeddingCache(Path("work/cache"), key).lookup(content_keys(texts)).found
    return [bool(entry) for entry in found]


@pytest.fixture
def segments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Two segments of the first key, used ten days and one minute ago, and one of the second, five days."""
    monkeypatch.chdir(tmp_path)
    found = [remember(["a", "b"], about=ABOUT), remember(["c"]), remember(["d"], KEYS[1])]
    for path, days in zip(found, (10, 0, 5), strict=True):
        used_at = time.time() - days * DAY - 60
        os.utime(path, (used_at, used_at))
    return found


def test_size_says_what_a_key_is(segments: list[Path], run_cli) -> None:
    lines = run_cli("cache", "size").stdout.splitlines()
    assert lines[1].split()[:3] == [KEYS[0], "2", "3"]
    assert lines[1].endswith("some/model (pooling mean, precision float32, role document)")
    assert lines[2].split()[:3] == [KEYS[1], "1", "1"] and lines[2].endswith("unknown")
    assert lines[3].split()[:3] == ["total", "3", "4"] and len(lines) == 4
    first, second = json.loads(run_cli("cache", "size", "--json").stdout)
    assert first["n_bytes"] == sum(path.stat().st_size for path in segments[:2])
    assert first["about"] == {name: [value] for name, value in ABOUT.items()}
    model = Path("work/cache/.calibrated") / KEYS[0] / "model.bin"
    model.parent.mkdir(parents=True)
    model.write_bytes(b"0" * 1_230_000)
    assert "1.23 MB more are calibrated int8 models" in run_cli("cache", "size").stdout.splitlines()[4]
    used_at = time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime(segments[2].stat().st_mtime))
    assert second["used_at"] == used_at and second["unreadable"] == 0


def test_size_of_what_cannot_be_read(segments: list[Path], run_cli) -> None:
    segments[2].write_bytes(b"PAR1 half")
    lines = run_cli("cache", "size").stdout.splitlines()
    assert lines[-1] == f"{KEYS[1]}: 1 segments cannot be read; recpipe cache merge drops them"
    run_cli("cache", "merge")
    assert not segments[2].exists()


def test_an_empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run_cli) -> None:
    monkeypatch.chdir(tmp_path)
    for words in (("size",), ("merge",)):
        assert run_cli("cache", *words).stdout == "nothing is cached: work/cache\n"
    assert json.loads(run_cli("cache", "size", "--json").stdout) == []
    assert run_cli("cache", "prune").stdout == "nothing to remove\nkept 0.00 MB\n"
    assert list(tmp_path.iterdir()) == []


def test_the_cache_of_the_configuration_is_looked_at(segments: list[Path], run_cli) -> None:
    Path("work/cache").rename("elsewhere")
    assert "nothing" in run_cli("cache", "size").stdout
    assert KEYS[0] in run_cli("cache", "size", "--set", "cache.dir=elsewhere").stdout
    run_cli("cache", "prune", "--set", "cache.dir=elsewhere", "--max-gb", "0")
    assert not any(Path("elsewhere").glob("*/*.parquet"))


@pytest.mark.parametrize(
    ("words", "left"),
    [
        ((), [0, 1, 2]),
        (("--set", "cache.max_gb=0"), []),
        (("--max-gb", "0"), []),
        (("--older-than", "7"), [1, 2]),
        (("--older-than", "3"), [1]),
        (("--older-than", "3", "--key", "0b"), [0, 1]),
        (("--key", "0a"), [2]),
        (("--key", "0a", "--key", KEYS[1]), []),
        (("--key", "0b", "--max-gb", "1"), [0, 1, 2]),
    ],
    ids=str,
)
def test_prune(segments: list[Path], words: tuple[str, ...], left: list[int], run_cli) -> None:
    planned = run_cli("cache", "prune", *words, "--dry-run").stdout
    assert all(path.exists() for path in segments)
    done = run_cli("cache", "prune", *words).stdout
    assert [number for number, path in enumerate(segments) if path.exists()] == left
    assert planned.replace("would remove", "removed") == done


def test_prune_removes_int8_models_by_age_alone(segments: list[Path], run_cli) -> None:
    folders = [Path("work/cache/.calibrated") / name for name in ("old", "used")]
    for folder in folders:
        folder.mkdir(parents=True)
        for name in ("model.xml", "model.bin", "calibration.json"):
            (folder / name).write_bytes(b"0" * 500_000)
            os.utime(folder / name, (time.time() - 40 * DAY,) * 2)
    os.utime(folders[1] / "calibration.json")
    for words in (("--older-than", "50"), ("--older-than", "30", "--key", KEYS[0]), ("--max-gb", "0")):
        run_cli("cache", "prune", *words)
        assert all(folder.is_dir() for folder in folders)
    planned = run_cli("cache", "prune", "--older-than", "30", "--dry-run").stdout
    assert "would remove 1 calibrated int8 models, 1.50 MB" in planned and folders[0].is_dir()
    assert "removed 1 calibrated int8 models, 1.50 MB" in run_cli("cache", "prune", "--older-than", "30").stdout
    assert [folder.is_dir() for folder in folders] == [False, True]


def test_prune_forgets_files_that_are_gone(segments: list[Path], run_cli) -> None:
    for name in ("here.png", "gone.png"):
        Path(name).write_text(name)
    digests = file_digests(Path("work/cache"))
    known = {name: digests.digest(Path(name)) for name in ("here.png", "gone.png")}
    digests.save()
    Path("gone.png").unlink()
    run_cli("cache", "prune", "--dry-run")
    assert len(json.loads(Path("work/cache/.media_digests.json").read_text())) == 2
    run_cli("cache", "prune")
    ((path, entry),) = json.loads(Path("work/cache/.media_digests.json").read_text()).items()
    assert path.endswith("here.png") and entry[2] == known["here.png"]


def test_prune_removes_the_least_recently_used_first(segments: list[Path], run_cli) -> None:
    for kept in ([1, 2], [1], []):
        size = sum(path.stat().st_size for path in segments if path.exists())
        run_cli("cache", "prune", "--max-gb", str((size - 1) / 1e9))
        assert [number for number, path in enumerate(segments) if path.exists()] == kept


def test_prune_sweeps_what_killed_writers_left(segments: list[Path], run_cli) -> None:
    half = segments[0].with_name(".tmp-7-0123abcd-ab.parquet")
    half.write_bytes(b"PAR1 half")
    run_cli("cache", "prune", "--dry-run")
    assert half.exists()
    run_cli("cache", "prune")
    assert not half.exists() and all(path.exists() for path in segments)


def test_merge(segments: list[Path], run_cli) -> None:
    remember(["a", "e"])
    lines = run_cli("cache", "merge").stdout.splitlines()
    assert lines == [
        f"{KEYS[0]}: 3 → 1 segments; dropped 1 duplicate and 0 damaged rows, 0 unreadable segments",
        f"{KEYS[1]}: 1 → 1 segments; dropped 0 duplicate and 0 damaged rows, 0 unreadable segments",
    ]
    assert known(["a", "b", "c", "e", "x"]) == [True, True, True, True, False]
    assert len(list(segments[0].parent.glob("*.parquet"))) == 1
    again = run_cli("cache", "merge", "--key", "0a").stdout.splitlines()
    assert len(again) == 1 and "1 → 1" in again[0]


def test_a_key_in_use_is_left_alone(segments: list[Path], run_cli) -> None:
    with KeyFolder(segments[0].parent).shared():
        pruned = run_cli("cache", "prune", "--max-gb", "0", "--log-format", "json")
        warning = json.loads(pruned.stderr.splitlines()[0])
        assert warning["level"] == "warning" and warning["stage"] == "cache" and KEYS[0] in warning["message"]
        assert [path.exists() for path in segments] == [True, True, False]
        assert f"left alone, a running stage uses it: {KEYS[0]}" in run_cli("cache", "merge").stderr
        for words in (("prune", "--key", "0a"), ("merge", "--key", "0a")):
            assert KEYS[0] in run_cli("cache", *words, expect=6).stderr
    assert [path.exists() for path in segments] == [True, True, False]
    run_cli("cache", "prune", "--max-gb", "0")
    assert not any(path.exists() for path in segments)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("prune", "--key", "zz"), "no encoder key 'zz'"),
        (("merge", "--key", "0"), "2 encoder keys begin with '0'"),
        (("prune", "--set", "cache.max_gb=null"), "nothing says what to remove"),
        (("prune", "--max-gb", "-1"), "--max-gb"),
        (("size", "--set", "cache.dri=x"), "did you mean"),
        (("size", "-c", "none.yaml"), "not found"),
    ],
    ids=str,
)
def test_wrong_usage(segments: list[Path], words: tuple[str, ...], said: str, run_cli) -> None:
    assert said in run_cli("cache", *words, expect=2).stderr
    assert all(path.exists() for path in segments)


def test_debug_shows_the_traceback(segments: list[Path], run_cli) -> None:
    assert "Traceback" in run_cli("cache", "merge", "--key", "zz", "--debug", expect=2).stderr
    assert "Traceback" not in run_cli("cache", "merge", "--key", "zz", expect=2).stderr


def test_a_second_night_after_merging_is_served_from_the_cache(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run_cli
) -> None:
    monkeypatch.chdir(tmp_path)
    run_cli("embed-items", "-c", world.config)
    (before,) = json.loads(run_cli("cache", "size", "-c", world.config, "--json").stdout)
    assert before["vectors"] > 0
    run_cli("cache", "merge", "-c", world.config)
    (after,) = json.loads(run_cli("cache", "size", "-c", world.config, "--json").stdout)
    assert (after["vectors"], after["key"]) == (before["vectors"], before["key"])
    again = run_cli("embed-items", "-c", world.config, "--force")
    assert "items: 0 encoded" in again.stderr


@pytest.mark.slow
def test_beside_running_stages(world: World, tmp_path: Path) -> None:
    """Pruning and merging all the time, stages come and go: each ends well."""
    stages = [
        start("embed-items", "-c", world.config, "--workdir", f"work{n}", "--set", "cache.dir=cache", cwd=tmp_path)
        for n in range(2)
    ]
    turns = 0
    while any(stage.poll() is None for stage in stages):
        for words in (("merge",), ("prune", "--max-gb", "0")):
            code, _, log = finish(start("cache", *words, "--set", "cache.dir=cache", cwd=tmp_path))
            assert code == 0, log
        turns += 1
    for stage in stages:
        code, _, log = finish(stage)
        assert code == 0, log
    assert turns > 1
