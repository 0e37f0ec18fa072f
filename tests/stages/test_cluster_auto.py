"""`cluster.n_clusters: auto` in the command line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import Result

from recpipe.store.manifest import read_manifest

WORDS = ("--set", "cluster.n_clusters=auto", "--set", "cluster.max_clusters=6", "--set", "cluster.n_init=2")


def write_people(folder: Path, n_blobs: int, *, n_users: int = 120) -> tuple[Path, Path]:
    """Write a users table, and embeddings in so many blobs."""
    rng = np.random.default_rng(3)
    ids = [f"u{number:03d}" for number in range(n_users)]
    points = np.eye(8)[np.arange(n_users) % n_blobs] + rng.normal(size=(n_users, 8)) * 0.03
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(points.astype(np.float32).ravel()), 8)
    users, embeddings = folder / "people.csv", folder / "embeddings.parquet"
    users.write_text("user_id,text\n" + "".join(f"{name},words of {name}\n" for name in ids), encoding="utf-8")
    names = ("profile_embedding", "history_embedding", "embedding")
    pq.write_table(pa.table({"user_id": ids, **dict.fromkeys(names, vectors)}), embeddings)
    return users, embeddings


@pytest.mark.parametrize("n_blobs", [3, 5])
def test_the_number_chosen_is_used_stated_and_kept(
    n_blobs: int, run_cli: Callable[..., Result], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    users, embeddings = write_people(tmp_path, n_blobs)
    sources = ("--users", users, "--user-embeddings", embeddings)
    result = run_cli("cluster", *sources, *WORDS)
    assert f"auto: {n_blobs} segments" in result.stderr
    manifest = read_manifest(Path("work/segments.parquet"))
    assert manifest is not None
    assert manifest.details["n_clusters"] == n_blobs
    curve = manifest.details["silhouette"]
    assert list(curve) == ["2", "3", "4", "5", "6"]
    assert max(curve, key=curve.__getitem__) == str(n_blobs)
    assert manifest.details["silhouette_users"] == 120
    segments = pq.read_table("work/segments.parquet").column("segment").to_pylist()
    assert [segment for segment in segments if segment >= 0] == list(range(n_blobs))
    profiles = pq.read_table("work/user_profiles.parquet")
    # assigning again to the segments that are there needs no number
    run_cli("cluster", *sources, *WORDS, "--set", "cluster.fit=false")
    again = pq.read_table("work/user_profiles.parquet")
    assert again.column("segment").equals(profiles.column("segment"))


def test_a_stated_number_has_no_curve(
    run_cli: Callable[..., Result], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    users, embeddings = write_people(tmp_path, 4)
    run_cli("cluster", "--users", users, "--user-embeddings", embeddings, "--set", "cluster.n_clusters=3")
    manifest = read_manifest(Path("work/segments.parquet"))
    assert manifest is not None
    assert manifest.details == {"n_clusters": 3}


def test_two_users(run_cli: Callable[..., Result], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    users, embeddings = write_people(tmp_path, 2, n_users=2)
    result = run_cli("cluster", "--users", users, "--user-embeddings", embeddings, *WORDS)
    assert "only 2 different ones" in result.stderr
    assert sorted(pq.read_table("work/user_profiles.parquet").column("segment").to_pylist()) == [0, 1]
