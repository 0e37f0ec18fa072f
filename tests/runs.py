"""Runs of recpipe seen from outside: subprocesses, and what is on disk before and after."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from click.testing import CliRunner
from conftest import World

from recpipe.cli.app import main
from recpipe.schemas import ARTIFACTS, Type
from recpipe.store.arrow import vector_matrix
from recpipe.store.manifest import Manifest, read_manifest

COMMAND = (sys.executable, "-m", "recpipe")
CHAIN = ("embed-items", "embed-users", "cluster", "train", "score")
EVALUATION_CHAIN = ("split", "embed-users", "cluster", "train", "evaluate")
VIEW_ARTIFACTS = ("user_embeddings", "user_profiles", "profile_features", "segments", "segment_space")


def start(*words: object, cwd: Path) -> subprocess.Popen[str]:
    """Start the command line in a process of its own."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    return subprocess.Popen(
        [*COMMAND, *map(str, words)],
        cwd=cwd,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def finish(process: subprocess.Popen[str], timeout: float = 120) -> tuple[int, str, str]:
    """Wait for a process; return its exit code, stdout and stderr."""
    try:
        stdout, stderr = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise
    return process.returncode, stdout, stderr


def wait_for(condition: Callable[[], Any], process: subprocess.Popen[str], seconds: float = 60) -> None:
    """Wait until the condition holds; fail when the process ends or the time is over before it does."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, f"ended too early\n{process.communicate()}"
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.005)


def manifest_of(path: Path) -> Manifest:
    """Read a manifest that must be there."""
    manifest = read_manifest(path)
    assert manifest is not None, f"{path} has no manifest"
    return manifest


def snapshot(folder: Path) -> dict[str, tuple[int, int]]:
    """Return size and modification time of everything below a folder."""
    return {str(path.relative_to(folder)): (path.stat().st_size, path.stat().st_mtime_ns) for path in folder.rglob("*")}


def digests(folder: Path, pattern: str) -> dict[str, str]:
    """Return the SHA-256 of the files below a folder that match."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.glob(pattern))
    }


def leftovers(folder: Path) -> list[str]:
    """Return the temporary files of writers below a folder; the cache is left out, other runs may write there."""
    return [str(path) for path in folder.rglob("*") if ".tmp" in path.name and "cache" not in path.parts]


def assert_same_artifact(path: Path, other: Path, *, without: Sequence[str] = ()) -> None:
    """Same rows, order, ids; vectors and scores within 1e-5; the columns in `without` may differ."""
    left, right = (pq.read_table(file).drop_columns(list(without)) for file in (path, other))
    assert left.schema.equals(right.schema), path.name
    assert left.num_rows == right.num_rows, path.name
    for name in left.column_names:
        if pa.types.is_fixed_size_list(left.schema.field(name).type):
            (a, a_present), (b, b_present) = vector_matrix(left.column(name)), vector_matrix(right.column(name))
            np.testing.assert_array_equal(a_present, b_present, err_msg=f"{path.name}.{name}")
            np.testing.assert_allclose(a, b, rtol=0, atol=1e-5, err_msg=f"{path.name}.{name}")
        elif pa.types.is_floating(left.schema.field(name).type):
            a, b = left.column(name).to_numpy(), right.column(name).to_numpy()
            np.testing.assert_allclose(a, b, rtol=0, atol=1e-5, err_msg=f"{path.name}.{name}")
        else:
            assert left.column(name).to_pylist() == right.column(name).to_pylist(), f"{path.name}.{name}"


def vectors_of(path: Path, column: str = "embedding") -> dict[str, np.ndarray | None]:
    """Return the vectors of a table by the id in its first column; None where there is none."""
    table = pq.read_table(path)
    artifact = ARTIFACTS[manifest_of(path).artifact]
    assert artifact.column(column).type is Type.VECTOR
    matrix, present = vector_matrix(table.column(column))
    ids = table.column(0).to_pylist()
    return {name: row if there else None for name, row, there in zip(ids, matrix, present, strict=True)}


def copy_world(world: World, folder: Path, **sections: Any) -> World:
    """Copy a world, so that its tables may be changed; sections are laid over its configuration."""
    shutil.copytree(world.folder, folder)
    copy = World(folder, *(folder / path.name for path in (world.users, world.items, world.interactions, world.config)))
    settings = yaml.safe_load(world.config.read_text(encoding="utf-8"))
    settings["data"] |= {name: str(getattr(copy, name)) for name in ("users", "items", "interactions")}
    for name, section in sections.items():
        settings[name] = {**settings.get(name, {}), **section} if isinstance(section, dict) else section
    copy.config.write_text(yaml.safe_dump(settings, sort_keys=False), encoding="utf-8")
    return copy


def write_csv(path: Path, header: str, *rows: str) -> Path:
    """Write a small CSV file, a string a line."""
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return path


def write_items(path: Path, count: int) -> Path:
    """Write items whose texts all differ."""
    words = ("space", "love", "war", "robot", "comedy", "night", "city", "story")
    lines = (
        f"i{number:06d},{' '.join(words[(number >> shift) % 8] for shift in (0, 3, 6))} {number}"
        for number in range(count)
    )
    return write_csv(path, "item_id,text", *lines)


@cache
def _finished(world: World) -> Path:
    folder = world.folder.with_name(f"{world.folder.name}-finished")
    folder.mkdir()
    process = CliRunner().invoke(main, ["run", "-c", str(world.config), "--workdir", str(folder / "work")])
    assert process.exit_code == 0, process.stderr
    return folder


def copy_of_finished(world: World, folder: Path) -> Path:
    """Return a work directory in which `recpipe run` has just finished: `work` in `folder`, one's own."""
    shutil.copytree(_finished(world) / "work", folder / "work")
    return folder / "work"
