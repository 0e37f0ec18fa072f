from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from tiny_encoder import build_tiny_bert, write_json

from recpipe.encoders.folder import EncoderFolder, read_folder
from recpipe.encoders.prompts import prompt_hint
from recpipe.encoders.settings import EncoderSettings
from recpipe.encoders.spec import choose_prompt

RETRIEVE = "Instruct: Given a web search query, retrieve relevant passages that answer the query\nQuery:"
SEARCH = "Represent this sentence for searching relevant passages: "
FAMILIES = [
    ("intfloat/e5-small-v2", "query: ", "passage: "),
    ("intfloat/multilingual-e5-large", "query: ", "passage: "),
    ("intfloat/multilingual-e5-large-instruct", RETRIEVE + " ", ""),
    ("intfloat/e5-mistral-7b-instruct", RETRIEVE + " ", ""),
    ("/models/BGE-base-en-v1.5/", SEARCH, ""),
    ("BAAI/bge-small-zh-v1.5", "为这个句子生成表示以用于检索相关文章：", ""),
    ("Qwen/Qwen3-Embedding-0.6B", RETRIEVE, ""),
    ("Alibaba-NLP/gte-Qwen2-1.5B-instruct", RETRIEVE + " ", ""),
    ("nomic-ai/nomic-embed-text-v1.5", "search_query: ", "search_document: "),
    ("/cache/hub/models--nomic-ai--nomic-embed-text-v2-moe/snapshots/1a2b", "search_query: ", "search_document: "),
    (
        "hkunlp/instructor-large",
        "Represent the question for retrieving supporting documents: ",
        "Represent the document for retrieval: ",
    ),
    (
        "jinaai/jina-embeddings-v3",
        "Represent the query for retrieving evidence documents: ",
        "Represent the document for retrieval: ",
    ),
    ("Snowflake/snowflake-arctic-embed-m-v1.5", SEARCH, ""),
    ("Snowflake/snowflake-arctic-embed-l-v2.0", "query: ", ""),
    ("mixedbread-ai/mxbai-embed-large-v1", SEARCH, ""),
    ("google/embeddinggemma-300m", "task: search result | query: ", "title: none | text: "),
]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_bert(tmp_path_factory.mktemp("prompts") / "tiny")


def of_type(folder: Path, model_type: str, pooling: str) -> EncoderFolder:
    """The folder as one of another kind of transformer."""
    config: dict[str, Any] = json.loads((folder / "config.json").read_text())
    write_json(folder / "config.json", config | {"model_type": model_type})
    write_json(folder / "1_Pooling" / "config.json", {"pooling_mode": pooling})
    return read_folder("mine", folder)


def advised(hint: str | None) -> EncoderSettings:
    """The settings a hint says to write into the configuration file."""
    assert hint is not None
    section = yaml.safe_load(hint[hint.index("encoder: {") : hint.index("}") + 1])
    return EncoderSettings.model_validate(section["encoder"])


@pytest.mark.parametrize(("name", "query", "document"), FAMILIES)
def test_the_advice_can_be_pasted_and_is_the_familys_prompt(tiny: Path, name: str, query: str, document: str) -> None:
    folder = read_folder(name, tiny)
    settings = advised(prompt_hint(folder, EncoderSettings()))
    assert choose_prompt(folder, settings, "query") == query
    assert choose_prompt(folder, settings, "document") == document
    assert prompt_hint(folder, settings) is None


@pytest.mark.parametrize(
    "name", ["BAAI/bge-m3", "thenlper/gte-base", "jinaai/jina-embeddings-v2-small-en", "all-MiniLM-L6-v2", "e5/minilm"]
)
def test_models_without_prompts_are_left_in_peace(tiny: Path, name: str) -> None:
    assert prompt_hint(read_folder(name, tiny), EncoderSettings()) is None


def test_a_stated_prompt_is_a_decision(tiny: Path) -> None:
    folder = read_folder("intfloat/e5-small-v2", tiny)
    assert prompt_hint(folder, EncoderSettings(query_prompt="query: ")) is None
    assert prompt_hint(folder, EncoderSettings(query_prompt="", document_prompt="")) is None


@pytest.mark.parametrize(
    ("model_type", "pooling", "query"),
    [
        ("mistral", "lasttoken", RETRIEVE + " "),
        ("qwen3", "lasttoken", RETRIEVE),
        ("nomic_bert", "mean", "search_query: "),
        ("mistral", "mean", None),
        ("xlm-roberta", "mean", None),
    ],
)
def test_a_renamed_folder_is_known_by_its_transformer(
    tmp_path: Path, model_type: str, pooling: str, query: str | None
) -> None:
    hint = prompt_hint(of_type(build_tiny_bert(tmp_path), model_type, pooling), EncoderSettings())
    assert hint is None if query is None else advised(hint).query_prompt == query


def test_prompts_of_the_folder_are_enough(tmp_path: Path) -> None:
    build_tiny_bert(tmp_path, prompts={"query": "query: ", "passage": "passage: "})
    assert prompt_hint(read_folder("intfloat/e5-small-v2", tmp_path), EncoderSettings()) is None


def test_prompts_under_other_names_are_listed(tmp_path: Path) -> None:
    build_tiny_bert(tmp_path, prompts={"web_search_query": "Instruct: search\nQuery: ", "plain": ""})
    hint = prompt_hint(read_folder("mine", tmp_path), EncoderSettings())
    assert hint is not None
    assert r'web_search_query "Instruct: search\nQuery: "' in hint
    assert "plain" not in hint
