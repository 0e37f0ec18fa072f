from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import World

from recpipe import logs
from recpipe.encoders.resolve import resolve
from recpipe.encoders.settings import EncoderSettings
from recpipe.errors import ConfigError, DataError
from recpipe.schemas import ITEM_EMBEDDINGS, ITEMS
from recpipe.stages.pipeline import encoding
from recpipe.stages.pipeline.encoding import CachedEncoder
from recpipe.store.artifacts import ArtifactReader, ArtifactWriter
from recpipe.store.cache_upkeep import sizes
from recpipe.store.manifest import Manifest


@dataclass
class Encoded:
    vectors: np.ndarray
    long_rows: np.ndarray


class Spelling:
    """Encodes a text as its length and its first letter; keeps what it was asked."""

    dim = 2

    def __init__(self) -> None:
        self.asked: list[tuple[list[str], list[str]]] = []

    def encode(self, texts: list[str], *, ids: list[str]) -> Encoded:
        self.asked.append((list(texts), list(ids)))
        return Encoded(np.array([spelled(text) for text in texts], np.float32), np.array([len(t) > 5 for t in texts]))


def spelled(text: str) -> tuple[float, float]:
    return float(len(text)), float(ord(text[0]))


def cached_encoder(tiny_encoder: Path, cache: Path, *, key: str = "key", **settings: object) -> CachedEncoder:
    found = EncoderSettings(model_name=str(tiny_encoder), **settings)  # type: ignore[arg-type]
    encoder = CachedEncoder(resolve(found.model_name), found, "document", "cpu", cache, key)
    encoder._encoder = Spelling()  # type: ignore[assignment]
    return encoder


def asked(encoder: CachedEncoder) -> list[tuple[list[str], list[str]]]:
    return encoder._encoder.asked  # type: ignore[union-attr,attr-defined,no-any-return]


def test_texts_are_encoded_once(tiny_encoder: Path, tmp_path: Path) -> None:
    texts = ["one", None, "two", "  ", "one", "a longer one"]
    ids = list("abcdef")
    encoder = cached_encoder(tiny_encoder, tmp_path)
    matrix, present = encoder.vectors(texts, ids)
    assert present.tolist() == [True, False, True, False, True, True]
    for text, row, there in zip(texts, matrix, present, strict=True):
        assert tuple(row) == (spelled(str(text)) if there else (0, 0))
    assert asked(encoder) == [(["one", "two", "one", "a longer one"], ["a", "c", "e", "f"])]
    assert encoder.take_counts() == {"empty": 2, "cached": 0, "encoded": 4, "truncated": 1}

    later = cached_encoder(tiny_encoder, tmp_path)
    again, present_again = later.vectors(["new", *texts], ["x", *ids])
    assert np.array_equal(again[1:], matrix)
    assert np.array_equal(present_again[1:], present)
    assert asked(later) == [(["new"], ["x"])]
    # a text known from the cache is reported as truncated every night
    assert later.take_counts() == {"empty": 2, "cached": 4, "encoded": 1, "truncated": 1}
    assert later.take_counts() == {}


def test_the_cache_says_whose_vectors_they_are(tiny_encoder: Path, tmp_path: Path) -> None:
    cached_encoder(tiny_encoder, tmp_path).vectors(["one", "two"], ["a", "b"])
    (size,) = sizes(tmp_path)
    settings = {"pooling": ["auto"], "max_length": ["auto"], "on_truncate": ["warn"], "precision": ["float32"]}
    assert size.about == {"model": [str(tiny_encoder)], "role": ["document"], **settings}


def test_nothing_new_needs_no_model(tiny_encoder: Path, tmp_path: Path) -> None:
    cached_encoder(tiny_encoder, tmp_path).vectors(["one"], ["a"])
    encoder = dataclasses.replace(cached_encoder(tiny_encoder, tmp_path), device="no such device", _encoder=None)
    assert tuple(encoder.vectors(["one"], ["a"])[0][0]) == spelled("one")
    assert encoder._encoder is None


def test_another_key_is_encoded_again(tiny_encoder: Path, tmp_path: Path) -> None:
    cached_encoder(tiny_encoder, tmp_path).vectors(["one"], ["a"])
    other = cached_encoder(tiny_encoder, tmp_path, key="other")
    other.vectors(["one"], ["a"])
    assert len(asked(other)) == 1


def test_cached_truncated_texts_are_asked_again_where_that_is_an_error(tiny_encoder: Path, tmp_path: Path) -> None:
    cached_encoder(tiny_encoder, tmp_path).vectors(["one", "a longer one"], ["a", "b"])
    strict = cached_encoder(tiny_encoder, tmp_path, on_truncate="error")
    strict.vectors(["one", "a longer one"], ["a", "b"])
    assert asked(strict) == [(["a longer one"], ["b"])]


@pytest.mark.parametrize("texts", [[], [None, ""]])
def test_nothing_to_encode(tiny_encoder: Path, tmp_path: Path, texts: list[str | None]) -> None:
    matrix, present = cached_encoder(tiny_encoder, tmp_path).vectors(texts, ["a"] * len(texts))
    assert matrix.shape == (len(texts), 2)
    assert not present.any()


def test_identity_is_of_the_weights_and_the_role_of_the_text(tiny_encoder: Path, tmp_path: Path) -> None:
    from recpipe.store.fingerprint import FileDigests

    digests = FileDigests(tmp_path / "digests.json")

    def identity(**settings: object) -> str:
        return encoding.identity(EncoderSettings(model_name=str(tiny_encoder), **settings), "query", digests, tmp_path)  # type: ignore[arg-type]

    assert identity() == identity(batch_tokens=7)
    assert identity() != identity(max_length=9)
    assert identity() != identity(query_prompt="query: ")
    assert identity() == identity(document_prompt="passage: ")


def reader_of(tmp_path: Path, table: pa.Table) -> ArtifactReader:
    pq.write_table(table, tmp_path / "items.parquet")
    return ArtifactReader(tmp_path / "items.parquet", ITEMS)


def test_text_columns_are_those_the_table_has(tmp_path: Path) -> None:
    reader = reader_of(tmp_path, pa.table({"item_id": ["a"], "plot": ["x"], "title": ["y"]}))
    assert encoding.text_columns(reader, ("title", "text", "plot"), "encoder.item_text") == ["title", "plot"]
    with pytest.raises(ConfigError, match="items has none of the columns to encode: text") as caught:
        encoding.text_columns(reader, ("text",), "encoder.item_text")
    assert "plot" in str(caught.value.where)
    assert "encoder.item_text" in str(caught.value.next_step)


def test_values_become_text() -> None:
    table = pa.table({"a": [["x", None, "y"], [], None], "b": [1, None, 3], "c": ["t", "", None]})
    assert encoding.text_values(table, ["c", "a", "b"]) == [
        ["t", "", None],
        ["x, y", "", None],
        ["1", None, "3"],
    ]


@pytest.mark.parametrize(("identity", "fits"), [("tiny@1", True), ("tiny@2", False), (None, True)])
def test_vectors_of_two_encoders_are_not_mixed(tmp_path: Path, identity: str | None, fits: bool) -> None:
    path = tmp_path / "x.parquet"
    manifest = Manifest("item_embeddings", 1, "embed_items", 1, "production", {}, "ab", {}, identity, 42, "0")
    table = pa.table({"item_id": ["a"], "embedding": pa.array([[1.0, 0.0]], pa.list_(pa.float32(), 2))})
    with ArtifactWriter(path, ITEM_EMBEDDINGS, manifest) as writer:
        writer.write(table)
        writer.commit()
    reader = ArtifactReader(path, ITEM_EMBEDDINGS)
    if fits:
        encoding.require_same_encoder(reader, "tiny@1")
        return
    with pytest.raises(DataError, match="come from the encoder tiny@2, not tiny@1"):
        encoding.require_same_encoder(reader, "tiny@1")


def test_embed_users_refuses_item_embeddings_of_another_encoder(world: World, run_cli, tmp_path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.chdir(tmp_path)
    run_cli("embed-items", "-c", world.config)
    result = run_cli("embed-users", "-c", world.config, "--set", "encoder.max_length=9", expect=3)
    assert "their vectors do not compare" in result.stderr


@pytest.mark.parametrize("truncated", [0, 2])
def test_truncated_texts_are_a_warning(truncated: int, capsys: pytest.CaptureFixture[str], monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(logs.get(), "handlers", [])
    logs.configure("json")
    encoding.report_counts({"encoded": 1, "cached": 5, "truncated": truncated}, "items")
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [line["level"] for line in lines] == ["info", "warning"][: 1 + bool(truncated)]
    assert lines[0]["message"] == "items: 1 encoded, 5 from the cache, 0 without text"
    assert lines[-1]["truncated"] == truncated


def test_a_text_in_two_columns_is_encoded_once_and_counted_in_both(tiny_encoder: Path, tmp_path: Path) -> None:
    encoder = cached_encoder(tiny_encoder, tmp_path)
    columns = {"embedding": ["one", "two, three", None], "embedding_title": ["one", None, " "]}
    vectors = encoder.vectors_of_columns(columns, list("abc"))
    for name, texts in columns.items():
        matrix, present = vectors[name]
        assert matrix.tolist() == [list(spelled(text)) if text and text.strip() else [0, 0] for text in texts]
        assert present.tolist() == [bool(text and text.strip()) for text in texts]
    assert asked(encoder) == [(["one", "two, three", "one"], ["a", "b", "a"])]
    assert encoder.take_counts() == {
        "empty": 1, "cached": 0, "encoded": 2, "truncated": 1, "embedding_title_empty": 2,
        "embedding_title_cached": 0, "embedding_title_encoded": 1, "embedding_title_truncated": 0,
    }  # fmt: skip
    assert encoder.vectors(["one"], ["a"])[0].tolist() == [list(spelled("one"))]  # a text is a text, in any column
    assert len(asked(encoder)) == 1


def test_long_texts_in_pieces_are_counted_apart(tiny_encoder: Path, tmp_path: Path) -> None:
    for encoded, cached in ((2, 0), (0, 2)):
        encoder = cached_encoder(tiny_encoder, tmp_path, on_truncate="chunk_mean")
        encoder.vectors(["one", "a longer one"], ["a", "b"])
        assert encoder.take_counts() == {"empty": 0, "cached": cached, "encoded": encoded, "chunked": 1}


def test_every_column_of_a_block_is_needed(tmp_path: Path) -> None:
    reader = reader_of(tmp_path, pa.table({"item_id": ["a"], "plot": ["x"], "title": ["y"]}))
    assert encoding.text_columns(reader, ("title", "plot"), "encoder.item_blocks.all", every=True) == ["title", "plot"]
    with pytest.raises(ConfigError, match=r"items has no column to encode: gender\n") as caught:
        encoding.text_columns(reader, ("title", "gender"), "encoder.item_blocks.tags", every=True)
    assert "encoder.item_blocks.tags" in str(caught.value.next_step)


def test_blocks_become_vector_columns(world: World, run_cli, tmp_path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.chdir(tmp_path)
    table = pa.table({
        "item_id": ["a", "b", "c"], "title": ["love", "war", "war"], "text": ["a robot story", None, None],
        "genres": ["comedy", " ", "war"],
    })  # fmt: skip
    pq.write_table(table, "items.parquet")
    blocks = ("--set", "encoder.item_blocks={title: [title], all: [genres, text]}")
    run_cli("embed-items", "-c", world.config, "--items", "items.parquet", "--output", "with.parquet", *blocks)
    run_cli("embed-items", "-c", world.config, "--items", "items.parquet", "--output", "without.parquet")
    found, plain = pq.read_table("with.parquet"), pq.read_table("without.parquet")
    assert found.column_names == ["item_id", "embedding", "embedding_title", "embedding_all"]
    assert plain.column_names == ["item_id", "embedding"]
    assert found.column("embedding").equals(plain.column("embedding"))
    assert found.column("embedding_all").is_valid().to_pylist() == [True, False, True]
    title = found.column("embedding_title").to_pylist()
    assert (
        title[1] == title[2] == found.column("embedding").to_pylist()[1] == found.column("embedding_all").to_pylist()[2]
    )
    assert title[0] != found.column("embedding").to_pylist()[0]
    details = ArtifactReader(Path("with.parquet"), ITEM_EMBEDDINGS).manifest.details  # type: ignore[union-attr]
    assert details["encoded"] == details["embedding_title_encoded"] == 3
    assert (details["embedding_all_encoded"], details["embedding_all_empty"]) == (2, 1)


def test_an_unknown_column_of_a_block_is_a_configuration_error(world: World, run_cli, tmp_path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.chdir(tmp_path)
    result = run_cli("embed-items", "-c", world.config, "--set", "encoder.item_blocks={tags: [gender]}", expect=2)
    assert "items has none of the columns to encode: gender" in result.stderr
    assert "encoder.item_blocks.tags" in result.stderr


def test_the_command_says_how_many_texts_were_read_in_pieces(world: World, run_cli, tmp_path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.chdir(tmp_path)
    pq.write_table(pa.table({"item_id": ["a", "b"], "title": ["love", "war robot " * 20]}), "items.parquet")
    words = ("embed-items", "-c", world.config, "--items", "items.parquet", "--output", "v.parquet")
    vectors = {}
    for choice in ("warn", "chunk_mean"):
        result = run_cli(*words, "--set", "encoder.max_length=16", "--set", f"encoder.on_truncate={choice}")
        vectors[choice] = pq.read_table("v.parquet").column("embedding").to_pylist()
        details = ArtifactReader(Path("v.parquet"), ITEM_EMBEDDINGS).manifest.details  # type: ignore[union-attr]
        counted = {name: details.get(name) for name in ("truncated", "chunked")}
        assert counted == ({"truncated": 1, "chunked": None} if choice == "warn" else {"truncated": None, "chunked": 1})
        assert ("only its beginning counts" in result.stderr) == (choice == "warn")
        assert ("1 long texts encoded in pieces" in result.stderr) == (choice == "chunk_mean")
    np.testing.assert_allclose(vectors["warn"][0], vectors["chunk_mean"][0], atol=1e-6)
    assert np.abs(np.subtract(vectors["warn"][1], vectors["chunk_mean"][1])).max() > 1e-3
