"""Which prompt stands before which text: items are compared with items, and users with users, under one prompt."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import World
from tiny_encoder import build_tiny_bert

from recpipe.encoders.resolve import resolve
from recpipe.encoders.settings import EncoderSettings, Role
from recpipe.encoders.text import TextEncoder
from recpipe.store.arrow import vector_matrix

PROMPTS = {"query": "love story: ", "document": "space war: "}
TITLES = ["robot", "night", "city", "robot"]
TAGS = ["comedy", "robot", None, "comedy"]
BIOS = ["city", "night", "robot"]


def encoded(folder: Path, texts: list[str], role: Role) -> np.ndarray:
    return TextEncoder.load(resolve(str(folder)), EncoderSettings(), role=role, device="cpu").encode(texts).vectors


def column(path: Path, name: str) -> np.ndarray:
    return vector_matrix(pq.read_table(path).column(name))[0]


@pytest.fixture
def embedded(world: World, run_cli: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with items.parquet and users.parquet encoded by a model with two prompts, and the model."""
    monkeypatch.chdir(tmp_path)
    build_tiny_bert(tmp_path / "model", prompts=PROMPTS)
    pq.write_table(pa.table({"item_id": list("abcd"), "title": TITLES, "tags": TAGS}), "items_table.parquet")
    pq.write_table(pa.table({"user_id": list("xyz"), "text": BIOS}), "users_table.parquet")
    pq.write_table(pa.table({"user_id": ["x", "y"], "item_id": ["a", "b"]}), "interactions_table.parquet")
    tables = ["--items", "items_table.parquet"]
    model = ["-c", str(world.config), "--set", f"encoder.model_name={tmp_path / 'model'}"]
    blocks = ["--set", "encoder.item_blocks={tags: [tags]}"]
    run_cli("embed-items", *model, *blocks, *tables, "--output", "items.parquet")
    tables += ["--users", "users_table.parquet", "--interactions", "interactions_table.parquet"]
    run_cli("embed-users", *model, *tables, "--item-embeddings", "items.parquet", "--output", "users.parquet")
    return tmp_path


def test_every_text_of_items_has_the_document_prompt(embedded: Path) -> None:
    expected = encoded(embedded / "model", TITLES, "document")
    np.testing.assert_allclose(column(embedded / "items.parquet", "embedding"), expected, atol=1e-6)
    tags = column(embedded / "items.parquet", "embedding_tags")[[0, 1, 3]]
    expected = encoded(embedded / "model", ["comedy", "robot", "comedy"], "document")
    np.testing.assert_allclose(tags, expected, atol=1e-6)
    # the same word as title and as tag is one vector: items are compared with items under one prompt
    np.testing.assert_array_equal(tags[1], column(embedded / "items.parquet", "embedding")[0])


def test_every_text_of_users_has_the_query_prompt(embedded: Path) -> None:
    profiles = column(embedded / "users.parquet", "profile_embedding")
    np.testing.assert_allclose(profiles, encoded(embedded / "model", BIOS, "query"), atol=1e-6)
    assert np.abs(profiles - encoded(embedded / "model", BIOS, "document")).max() > 0.01


def test_histories_are_made_of_the_items_vectors(embedded: Path) -> None:
    history = column(embedded / "users.parquet", "history_embedding")
    np.testing.assert_allclose(history[:2], column(embedded / "items.parquet", "embedding")[:2], atol=1e-6)
