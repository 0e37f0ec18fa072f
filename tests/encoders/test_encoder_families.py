"""Families that differ from BERT where it matters: relative positions, causal attention, offset positions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_encoder import build_tiny_bert

from recpipe.encoders.loading import load_tokenizer
from recpipe.encoders.resolve import resolve
from recpipe.encoders.settings import EncoderSettings
from recpipe.encoders.text import TextEncoder

TEXTS = ["a space robot story", "love", "the night of the war and the city of love", "word " * 100]


def make_model(family: str) -> Any:
    from transformers import Qwen3Config, Qwen3Model, RobertaConfig, RobertaModel, T5Config, T5EncoderModel

    sizes = {"vocab_size": 200, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        if family == "t5":
            return T5EncoderModel(T5Config(vocab_size=200, d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4))
        if family == "qwen3":
            return Qwen3Model(Qwen3Config(**sizes, num_attention_heads=4, num_key_value_heads=2, head_dim=8))
        return RobertaModel(RobertaConfig(**sizes, num_attention_heads=4, max_position_embeddings=42, pad_token_id=1))


@pytest.mark.parametrize("padding_side", ["left", "right"])
@pytest.mark.parametrize("family", ["t5", "qwen3", "roberta"])
def test_padding_does_not_reach_the_vector(tmp_path: Path, family: str, padding_side: str) -> None:
    build_tiny_bert(tmp_path, with_sentence_transformers_files=False, padding_side=padding_side)
    (tmp_path / "model.safetensors").unlink()
    model = make_model(family).eval()
    model.save_pretrained(tmp_path)
    folder = resolve(str(tmp_path))
    settings = EncoderSettings(pooling="last_token", max_length=40)
    vectors = TextEncoder.load(folder, settings, role="document", device="cpu").encode(TEXTS).vectors
    for text, vector in zip(TEXTS, vectors, strict=True):
        inputs = load_tokenizer(folder)(text, truncation=True, max_length=40, return_tensors="pt")
        with torch.no_grad():
            hidden = model(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"]).last_hidden_state
        np.testing.assert_allclose(vector, (hidden[0, -1] / hidden[0, -1].norm()).numpy(), atol=1e-5)
