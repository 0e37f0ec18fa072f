"""The split command: its three tables, what it says, what it refuses."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from click.testing import Result

from recpipe.store.manifest import Manifest, read_manifest

EVALUATION = Path("work/evaluation")
PARTS = ("train", "validation", "test")


def part_path(part: str) -> Path:
    return EVALUATION / f"{part}_interactions.parquet"


def rows_of(path: Path) -> list[tuple[object, ...]]:
    return [tuple(row.values()) for row in pq.read_table(path).to_pylist()]


def manifest_of(part: str) -> Manifest:
    found = read_manifest(part_path(part))
    assert found is not None
    return found


def without(column: str, source: Path, target: Path) -> Path:
    """Copy a CSV file without a column."""
    with source.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    with target.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, [name for name in rows[0] if name != column], extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    return target


@pytest.mark.parametrize("by", ["auto", "time", "leave_one_out", "random", "cold_items"])
def test_the_parts_are_the_interactions(
    by: str, world, run_cli: Callable[..., Result], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("recpipe.stages.split.BATCH_ROWS", 100)
    result = run_cli("split", "-c", world.config, "--set", f"split.by={by}")
    together = [row for part in PARTS for row in rows_of(part_path(part))]
    whole = rows_of(Path("work/tables/interactions.parquet"))
    assert Counter(together) == Counter(whole)
    order = {row: number for number, row in enumerate(whole)}
    for part in PARTS:
        numbers = [order[row] for row in rows_of(part_path(part))]
        assert numbers and numbers == sorted(numbers)
    details = manifest_of("test").details
    assert all(manifest_of(part).details == details for part in PARTS)
    assert details["by"] == ("time" if by == "auto" else by)
    assert details["asked_for"] == by
    assert [details[f"{part}_rows"] for part in PARTS] == [manifest_of(part).rows for part in PARTS]
    assert str(details["protocol"]) in result.stderr
    assert ("what others did later" in result.stderr) == (by == "leave_one_out")
    assert "up to date" in run_cli("split", "-c", world.config, "--set", f"split.by={by}").stderr


def test_without_times(world, run_cli: Callable[..., Result], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    bare = without("timestamp", world.interactions, tmp_path / "bare.csv")
    words = ("split", "-c", world.config, "--interactions", bare)
    result = run_cli(*words, "--set", "split.by=time", expect=3)
    assert "needs timestamps" in result.stderr
    assert not part_path("train").exists()
    result = run_cli(*words)
    assert manifest_of("train").details["by"] == "random"
    assert "held out at random" in result.stderr
    assert len(manifest_of("train").details["warnings"]) == 1


def test_supplied_files_give_the_same_split_back(
    world, run_cli: Callable[..., Result], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    run_cli("split", "-c", world.config, "--set", "split.by=leave_one_out")
    first = {part: pq.read_table(part_path(part)) for part in PARTS}
    for part in ("validation", "test"):
        pq.write_table(first[part].select(["item_id", "user_id"]), f"{part}.parquet")
    files = ["--set", "split.by=files"]
    files += [word for part in ("validation", "test") for word in ("--set", f"split.files.{part}={part}.parquet")]
    run_cli("split", "-c", world.config, *files)
    for part in PARTS:
        assert pq.read_table(part_path(part)).equals(first[part])
    assert manifest_of("test").details["by"] == "files"
    assert "up to date" in run_cli("split", "-c", world.config, *files).stderr
    # another content of a file makes the split stale
    pq.write_table(first["test"].select(["item_id", "user_id"]).slice(1), "test.parquet")
    run_cli("split", "-c", world.config, *files)
    assert manifest_of("test").rows == first["test"].num_rows - 1
    # and a row in two files ends it, leaving what was there
    pq.write_table(first["test"].select(["item_id", "user_id"]), "validation.parquet")
    assert "two parts" in run_cli("split", "-c", world.config, *files, expect=3).stderr
    assert manifest_of("test").rows == first["test"].num_rows - 1


def test_files_must_be_named_and_there(
    world, run_cli: Callable[..., Result], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run_cli("split", "-c", world.config, "--set", "split.by=files", expect=2)
    assert "files.validation" in result.stderr
    named = ["--set", "split.files={validation: v.csv, test: t.csv}"]
    result = run_cli("split", "-c", world.config, "--set", "split.by=files", *named, expect=4)
    assert "v.csv" in result.stderr


def test_the_seed_decides_random_splits(
    world, run_cli: Callable[..., Result], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ("split", "-c", world.config, "--set", "split.by=random")
    found = []
    for seed in (1, 2, 1):
        run_cli(*words, "--set", f"seed={seed}")
        assert manifest_of("test").details["split_seed"] == seed
        found.append(rows_of(part_path("test")))
    assert found[0] == found[2] != found[1]
