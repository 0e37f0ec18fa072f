"""Families of models that were trained with prompts, and what to set where a folder brings none.

Prompts as in the families' model cards. A family is known by the name of the model or folder, or by the
kind of transformer where only such a family uses it.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from recpipe.encoders.folder import EncoderFolder
from recpipe.encoders.settings import EncoderSettings
from recpipe.encoders.spec import choose_prompt

_RETRIEVE = "Given a web search query, retrieve relevant passages that answer the query"
_INSTRUCT = f"Instruct: {_RETRIEVE}\nQuery: "
_SEARCH = "Represent this sentence for searching relevant passages: "


@dataclass(frozen=True, slots=True)
class _Family:
    """Prompts of one family; "" is a side without.

    Attributes:
        name: Pattern of the model's name in lower case, matched at its beginning.
    """

    name: str
    query: str
    document: str = ""


# The first that fits counts. Models of these makers that need no prompts do not fit any: bge-m3, gte-base, jina v2.
_FAMILIES = (
    _Family(r"multilingual-e5-.*instruct|e5-mistral|sfr-embedding|linq-embed", _INSTRUCT),
    _Family(r"(multilingual-)?e5-(small|base|large)", "query: ", "passage: "),
    _Family(r"bge-(small|base|large)-en", _SEARCH),
    _Family(r"bge-(small|base|large)-zh", "为这个句子生成表示以用于检索相关文章："),
    _Family(r"bge-(en-icl|multilingual-gemma2)", f"<instruct>{_RETRIEVE}\n<query>"),
    _Family(r"qwen3-embedding", f"Instruct: {_RETRIEVE}\nQuery:"),
    _Family(r"gte-qwen", _INSTRUCT),
    _Family(r"(nomic-embed-text|modernbert-embed)", "search_query: ", "search_document: "),
    _Family(
        r"instructor-(base|large|xl)",
        "Represent the question for retrieving supporting documents: ",
        "Represent the document for retrieval: ",
    ),
    _Family(
        r"jina-embeddings-v3",
        "Represent the query for retrieving evidence documents: ",
        "Represent the document for retrieval: ",
    ),
    _Family(r"snowflake-arctic-embed-[ml]-v2", "query: "),
    _Family(r"snowflake-arctic-embed|mxbai-embed-(large|2d)|uae-large", _SEARCH),
    _Family(r"embeddinggemma", "task: search result | query: ", "title: none | text: "),
)
# Decoders that pool the last token are made from language models; all published ones read instructions.
_INSTRUCTED_TYPES = frozenset({"mistral", "qwen2", "qwen3"})
_FAMILY_OF_TYPE = {"nomic_bert": "nomic-embed-text"}


def prompt_hint(folder: EncoderFolder, settings: EncoderSettings) -> str | None:
    """Return a warning where a model needs prompts and has none, with what to set; None otherwise.

    A prompt that is stated, be it "", is the user's decision and gives no warning.
    """
    if settings.query_prompt is not None or settings.document_prompt is not None:
        return None
    if choose_prompt(folder, settings, "query") or choose_prompt(folder, settings, "document"):
        return None
    family = _family(folder)
    if family is not None:
        return (
            f"'{folder.name}' looks like a model trained with prompts, but its folder has none and none are set: "
            f'users and items will match worse; set {_advice(family)}, or both to ""'
        )
    others = {name: prompt for name, prompt in folder.prompts.items() if prompt}
    if others:
        listed = ", ".join(f"{name} {_quoted(prompt)}" for name, prompt in others.items())
        return (
            f"the folder of '{folder.name}' has prompts, but none named query or document: "
            f'set encoder.query_prompt and encoder.document_prompt, to one of {listed}, or to ""'
        )
    return None


def _family(folder: EncoderFolder) -> _Family | None:
    names = [_model_name(folder), _FAMILY_OF_TYPE.get(folder.model_type, "")]
    if folder.pooling == "last_token" and folder.model_type in _INSTRUCTED_TYPES:
        names.append("qwen3-embedding" if folder.model_type == "qwen3" else "e5-mistral")
    return next((family for name in names for family in _FAMILIES if re.match(family.name, name)), None)


def _model_name(folder: EncoderFolder) -> str:
    """Return the last part of the name; in a hub cache, models--OWNER--NAME/snapshots/..., that of the model."""
    parts = folder.name.lower().replace("\\", "/").rstrip("/").split("/")
    cached = [part.rpartition("--")[2] for part in parts if part.startswith("models--")]
    return cached[-1] if cached else parts[-1]


def _advice(family: _Family) -> str:
    """Return the settings as they stand in a configuration file."""
    return f"encoder: {{query_prompt: {_quoted(family.query)}, document_prompt: {_quoted(family.document)}}}"


def _quoted(prompt: str) -> str:
    return json.dumps(prompt, ensure_ascii=False)
