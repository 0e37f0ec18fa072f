"""Int8 through the stages: calibrated once, used every night, refused below the gate, never mixed."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tiny_encoder import build_tiny_bert

from recpipe.encoders import calibrated
from recpipe.store.manifest import read_manifest

pytest.importorskip("nncf")

WORDS = ["love", "war", "robot", "night", "story", "city", "space", "comedy"]


def write_items(count: int) -> None:
    random = np.random.default_rng(0)
    titles = [f"{' '.join(random.choice(WORDS, random.integers(1, 12)))} {number}" for number in range(count)]
    pq.write_table(pa.table({"item_id": [str(number) for number in range(count)], "title": titles}), "items.parquet")


@pytest.fixture
def night(run_cli: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Runs a stage with int8 over the tables of an empty folder."""
    monkeypatch.chdir(tmp_path)
    build_tiny_bert(tmp_path / "model", prompts={"query": "love story: ", "document": ""})
    write_items(60)
    pq.write_table(pa.table({"user_id": ["x", "y"], "text": ["robot", "war"]}), "users.parquet")
    pq.write_table(pa.table({"user_id": ["x", "y"], "item_id": ["1", "2"]}), "interactions.parquet")
    settings = {"model_name": tmp_path / "model", "backend": "openvino", "precision": "int8", "min_overlap": 0.1}

    def run(command: str, *options: str, exit_code: int = 0) -> Any:
        named = [part for name, value in settings.items() for part in ("--set", f"encoder.{name}={value}")]
        tables = ["--items", "items.parquet"]
        if command == "embed-users":
            tables += ["--users", "users.parquet", "--interactions", "interactions.parquet"]
        return run_cli(command, *tables, *named, *options, expect=exit_code)

    return run


def manifest(name: str) -> Any:
    found = read_manifest(Path("work") / f"{name}.parquet")
    assert found is not None
    return found


def test_a_model_is_calibrated_once_and_used_by_items_and_users(night: Callable[..., Any]) -> None:
    night("embed-items")
    first = manifest("item_embeddings").details
    assert first["calibration"]["calibration_texts"] == 22
    assert first["calibration"]["held_out_texts"] == 38
    assert first["encoder"]["calibration"] == first["calibration"]["digest"]
    night("embed-users")
    assert manifest("user_embeddings").details["encoder"]["calibration"] == first["calibration"]["digest"]
    write_items(61)
    night("embed-items")
    second = manifest("item_embeddings").details
    assert second["calibration"] == first["calibration"]
    assert (second["cached"], second["encoded"]) == (60, 1)
    assert first["calibration"]["digest"] in manifest("item_embeddings").identity
    assert "up to date" in night("embed-items").stderr


def test_another_calibration_does_not_meet_the_first_ones_vectors(night: Callable[..., Any]) -> None:
    night("embed-items")
    kept = manifest("item_embeddings").details["calibration"]["digest"]
    shutil.move("work/cache/.calibrated", "calibrated")
    assert "recpipe embed-items --force" in night("embed-users", exit_code=4).stderr
    write_items(200)
    night("embed-items", "--output", "others.parquet")
    assert read_manifest(Path("others.parquet")).details["calibration"]["digest"] != kept  # type: ignore[union-attr]
    assert "another calibration of int8" in night("embed-users", exit_code=3).stderr


def test_the_gate_refuses_what_changes_too_much(night: Callable[..., Any]) -> None:
    told = night("embed-items", "--set", "encoder.min_overlap=1", exit_code=7).stderr
    assert "nearest neighbours" in told
    assert "cosine deviation at most" in told
    assert not Path("work/item_embeddings.parquet").exists()
    night("embed-items")


def test_too_few_items_cannot_be_judged(night: Callable[..., Any]) -> None:
    write_items(30)
    assert "30 different texts are too few" in night("embed-items", exit_code=7).stderr


def test_a_model_of_which_nothing_is_known_is_made_anew(night: Callable[..., Any]) -> None:
    """Its digest stands for the vectors of the model that lies there, never of another one."""
    night("embed-items")
    (place,) = Path("work/cache/.calibrated").iterdir()
    assert place.stat().st_mode & 0o777 == place.parent.stat().st_mode & 0o777, "whoever shares the cache reads it"
    (place / "calibration.json").unlink()
    write_items(200)
    night("embed-items")
    found = calibrated.read(place)
    assert found is not None
    assert manifest("item_embeddings").details["calibration"]["digest"] == found.digest
    assert [path.name for path in place.parent.iterdir()] == [place.name]
