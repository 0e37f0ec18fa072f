"""What the lists promise, whatever the workers and batches."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from conftest import World
from runs import (
    assert_same_artifact,
    copy_of_finished,
    copy_world,
    finish,
    manifest_of,
    start,
    vectors_of,
    write_items,
)

RESULTS = ("item_embeddings", "user_embeddings", "user_profiles", "segments", "recommendations")


@pytest.fixture
def finished(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return copy_of_finished(world, tmp_path)


def test_lists_are_ranked_unique_and_new(finished: Path):
    rows = pq.read_table(finished / "recommendations.parquet").to_pylist()
    seen = {
        (row["user_id"], row["item_id"])
        for row in pq.read_table(finished / "tables" / "interactions.parquet").to_pylist()
    }
    pairs = [(row["user_id"], row["item_id"]) for row in rows]
    assert len(set(pairs)) == len(pairs) == 200
    assert not set(pairs) & seen and len(seen) > 500
    titles = dict(
        zip(
            *pq.read_table(finished / "tables" / "items.parquet", columns=["item_id", "title"]).to_pydict().values(),
            strict=True,
        )
    )
    by_user: dict[str, list[dict[str, object]]] = {}
    for row in rows:
        assert row["title"] == titles[row["item_id"]]
        by_user.setdefault(row["user_id"], []).append(row)
    assert list(by_user) == pq.read_table(finished / "tables" / "users.parquet").column("user_id").to_pylist()
    for mine in by_user.values():
        assert [row["rank"] for row in mine] == [1, 2, 3, 4, 5]
        scores = [row["score"] for row in mine]
        assert scores == sorted(scores, reverse=True)
    sources = Counter(row["source"] for row in rows)
    details = manifest_of(finished / "recommendations.parquet").details
    assert {f"source_{name}": count for name, count in sources.items()} == {
        name: count for name, count in details.items() if name.startswith("source_")
    }


def test_seen_items_come_back_where_that_is_wanted(finished: Path, world: World, run_cli):
    run_cli("score", "-c", world.config, "--set", "score.exclude_seen=false", "--set", "score.top_n=60")
    assert pq.read_metadata(finished / "recommendations.parquet").num_rows == 40 * 60


def test_content_ranks_by_the_cosine_of_centred_vectors(finished: Path):
    """An independent computation of every score."""
    import numpy as np

    users, items = (vectors_of(finished / f"{name}_embeddings.parquet") for name in ("user", "item"))
    user_mean = np.mean([vector for vector in users.values() if vector is not None], axis=0)
    item_mean = np.mean(list(items.values()), axis=0)
    for row in pq.read_table(finished / "recommendations.parquet").to_pylist():
        if row["source"] == "content":
            u, v = users[row["user_id"]] - user_mean, items[row["item_id"]] - item_mean
            expected = float(u @ v / np.linalg.norm(u) / np.linalg.norm(v))
            assert row["score"] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("setting", ["encoder.batch_tokens=40", "encoder.batch_tokens=100000", "score.block_users=3"])
def test_batches_and_blocks_change_nothing(setting: str, finished: Path, world: World, run_cli):
    run_cli("run", "-c", world.config, "--workdir", "other", "--set", setting)
    for name in RESULTS:
        assert_same_artifact(finished / f"{name}.parquet", Path("other") / f"{name}.parquet")
    fingerprint = manifest_of(finished / "recommendations.parquet").fingerprint
    assert manifest_of(Path("other/recommendations.parquet")).fingerprint == fingerprint


def test_the_order_of_interactions_changes_nothing(finished: Path, world: World, run_cli, tmp_path: Path):
    shuffled = copy_world(world, tmp_path / "world")
    header, *rows = shuffled.interactions.read_text(encoding="utf-8").splitlines()
    shuffled.interactions.write_text("\n".join([header, *reversed(rows)]) + "\n", encoding="utf-8")
    run_cli("run", "-c", shuffled.config, "--workdir", "other")
    for name in RESULTS:
        assert_same_artifact(finished / f"{name}.parquet", Path("other") / f"{name}.parquet")


@pytest.mark.slow
def test_workers_change_nothing(world: World, tmp_path: Path):
    """Three shards by one worker and by two processes."""
    items = write_items(tmp_path / "items.csv", 5000)
    for workers in (1, 2):
        code, _, log = finish(
            start(
                "embed-items", "-c", world.config, "--items", items, "--workdir", f"work{workers}",
                "--set", f"executor.workers={workers}", cwd=tmp_path,
            ),
            timeout=300,
        )  # fmt: skip
        assert code == 0, log
    assert_same_artifact(tmp_path / "work1" / "item_embeddings.parquet", tmp_path / "work2" / "item_embeddings.parquet")
