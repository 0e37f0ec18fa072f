"""docs/Makefile.example, as somebody would use it."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from conftest import World
from runs import COMMAND, assert_same_artifact, copy_of_finished, copy_world, digests

EXAMPLE = Path(__file__).parents[2] / "docs" / "Makefile.example"


def _make(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    environment["OMP_NUM_THREADS"] = "1"
    variables = (f"RECPIPE={shlex.join(COMMAND)}", "CONFIG=night.yaml", "WORK=out")
    result = subprocess.run(
        ["make", *words, *variables],
        cwd=folder,
        env=environment,
        text=True,
        capture_output=True,
        timeout=240,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result


def _commands(result: subprocess.CompletedProcess[str]) -> list[str]:
    """Names of the recpipe commands make has echoed."""
    return re.findall(r"-m recpipe ([a-z-]+)", result.stdout)


@pytest.mark.skipif(shutil.which("make") is None, reason="no make")
def test_the_example_runs_twice_and_after_a_touch(world: World, tmp_path: Path):
    folder = tmp_path / "night"
    own = copy_world(world, folder)
    own.config.rename(folder / "night.yaml")
    shutil.copy(EXAMPLE, folder / "Makefile")

    first = _make(folder, "-j2")
    assert sorted(_commands(first)) == sorted(
        ["embed-items", "embed-users", "cluster", "train", "score", "train", "score"]
    )
    expected = copy_of_finished(world, tmp_path)
    for name in ("item_embeddings", "user_embeddings", "user_profiles", "segments", "recommendations"):
        assert_same_artifact(folder / "out" / f"{name}.parquet", expected / f"{name}.parquet")
    assert set(pq.read_table(folder / "out" / "popular.parquet").column("source").to_pylist()) == {"popularity"}

    second = _make(folder, "-j2")
    assert "Nothing to be done for 'all'" in second.stdout
    assert _commands(second) == [] and second.stderr == ""

    before = digests(folder / "out", "*.parquet")
    os.utime(folder / "items.csv")
    touched = _make(folder, "-j2")
    assert sorted(set(_commands(touched))) == ["cluster", "embed-items", "embed-users", "score", "train"]
    for command in set(_commands(touched)):
        assert f"{command}: up to date" in touched.stderr
    assert "done" not in touched.stderr
    assert digests(folder / "out", "*.parquet") == before
    assert "Nothing to be done for 'all'" in _make(folder, "-j2").stdout

    text = (folder / "items.csv").read_text(encoding="utf-8")
    (folder / "items.csv").write_text(text + "i60,New,a new story,War\n", encoding="utf-8")
    changed = _make(folder, "out/item_embeddings.parquet")
    assert "items: 1 encoded, 60 from the cache" in changed.stderr
    assert pq.read_metadata(folder / "out" / "item_embeddings.parquet").num_rows == 61
