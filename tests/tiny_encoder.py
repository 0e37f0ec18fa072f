"""A BERT of a few kilobytes with random weights, for tests that need an encoder but no understanding."""

from __future__ import annotations

import json
import string
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

WORDS = (
    "the",
    "a",
    "of",
    "and",
    "space",
    "love",
    "war",
    "story",
    "robot",
    "comedy",
    "night",
    "city",
    "recently",
    "liked",
)
MAX_POSITIONS = 64


def build_tiny_bert(
    folder: Path,
    dim: int = 32,
    with_sentence_transformers_files: bool = True,
    *,
    pooling: str = "mean",
    normalise: bool = True,
    prompts: dict[str, str] | None = None,
    max_length: int = 32,
    padding_side: str = "right",
    seed: int = 0,
) -> Path:
    """Write a tiny BERT with a WordPiece tokeniser; return its folder.

    Args:
        pooling: The name sentence-transformers gives it: mean, cls, lasttoken, ...
        max_length: Written to sentence_bert_config.json; the model itself has 64 positions.
    """
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = _write_tokenizer(folder, padding_side)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        config = BertConfig(
            vocab_size=vocabulary, hidden_size=dim, num_hidden_layers=2, num_attention_heads=4,
            intermediate_size=2 * dim, max_position_embeddings=MAX_POSITIONS, initializer_range=0.5,
        )  # fmt: skip
        BertModel(config).save_pretrained(folder)
    if with_sentence_transformers_files:
        _write_sentence_transformers_files(
            folder, dim, pooling=pooling, normalise=normalise, prompts=prompts, max_length=max_length
        )
    return folder


def _write_tokenizer(folder: Path, padding_side: str) -> int:
    characters = string.ascii_lowercase + string.digits + string.punctuation + "äöü你好世界"
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS, *characters, *(f"##{c}" for c in characters)]
    tokenizer = Tokenizer(models.WordPiece({piece: i for i, piece in enumerate(pieces)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]",
        mask_token="[MASK]", padding_side=padding_side, model_max_length=MAX_POSITIONS,
    ).save_pretrained(folder)  # fmt: skip
    return len(pieces)


def _write_sentence_transformers_files(
    folder: Path, dim: int, *, pooling: str, normalise: bool, prompts: dict[str, str] | None, max_length: int
) -> None:
    kinds = [("", "Transformer"), ("1_Pooling", "Pooling")] + ([("2_Normalize", "Normalize")] if normalise else [])
    modules = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, (path, kind) in enumerate(kinds)
    ]
    write_json(folder / "modules.json", modules)
    write_json(folder / "1_Pooling" / "config.json", {"embedding_dimension": dim, "pooling_mode": pooling})
    write_json(folder / "sentence_bert_config.json", {"max_seq_length": max_length, "do_lower_case": False})
    write_json(folder / "config_sentence_transformers.json", {"prompts": prompts or {}, "default_prompt_name": None})


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")
