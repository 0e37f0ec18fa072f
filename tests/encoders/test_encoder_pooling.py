from __future__ import annotations

import importlib.util
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tiny_encoder import build_tiny_bert, write_json

from recpipe.encoders.pooling import pool, pooled_width
from recpipe.encoders.resolve import resolve
from recpipe.encoders.settings import POOLINGS, EncoderSettings, Role
from recpipe.encoders.text import TextEncoder

SINGLE = [pooling for pooling in POOLINGS if pooling != "pooler"]
POOLINGS_TRIED = [*SINGLE, "cls+mean", "max+mean_sqrt_len_tokens+last_token", "weightedmean+mean"]
LENGTHS = [7, 1, 4, 9]
TEXTS = ["a space robot story", "love", "the night of the war and the city", "x", "word " * 100]
needs_sentence_transformers = pytest.mark.skipif(
    importlib.util.find_spec("sentence_transformers") is None, reason="sentence-transformers is not installed"
)


def by_hand(tokens: NDArray[np.float32], pooling: str, skipped: int = 0) -> NDArray[np.float32]:
    """One text's token vectors (n, dim), one pooling after the other."""
    counted = tokens[skipped:]
    positions = np.arange(1, len(tokens) + 1)[skipped:, None]
    found = {
        "mean": lambda: counted.sum(axis=0) / len(counted),
        "cls": lambda: counted[0],
        "last_token": lambda: counted[-1],
        "max": lambda: counted.max(axis=0),
        "mean_sqrt_len_tokens": lambda: counted.sum(axis=0) / np.sqrt(len(counted)),
        "weightedmean": lambda: (counted * positions).sum(axis=0) / positions.sum(),
    }
    return np.concatenate([found[name]() for name in pooling.split("+")])


def hidden() -> torch.Tensor:
    return torch.randn(len(LENGTHS), 9, 5, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("pooling", POOLINGS_TRIED)
def test_pooling_equals_the_formula_whatever_stands_in_the_padding(pooling: str) -> None:
    tokens = hidden()
    clean = tokens.clone()
    for row, length in enumerate(LENGTHS):
        tokens[row, length:] = 1e6
    pooled = pool(tokens, torch.tensor(LENGTHS), pooling)
    expected = [by_hand(clean[row, :length].numpy(), pooling) for row, length in enumerate(LENGTHS)]
    assert pooled.shape == (4, pooled_width(pooling, 5))
    np.testing.assert_allclose(pooled.numpy(), np.stack(expected), atol=1e-6)


@pytest.mark.parametrize("skipped", [1, 3])
@pytest.mark.parametrize("pooling", POOLINGS_TRIED)
def test_prompt_tokens_are_left_out(pooling: str, skipped: int) -> None:
    tokens, lengths = hidden(), [7, 4, 5, 9]
    pooled = pool(tokens, torch.tensor(lengths), pooling, skipped=skipped)
    expected = [by_hand(tokens[row, :length].numpy(), pooling, skipped) for row, length in enumerate(lengths)]
    np.testing.assert_allclose(pooled.numpy(), np.stack(expected), atol=1e-6)


@needs_sentence_transformers
@pytest.mark.parametrize("left", [False, True])
@pytest.mark.parametrize("skipped", [0, 2])
@pytest.mark.parametrize("pooling", POOLINGS_TRIED)
def test_pooling_equals_the_pooling_of_sentence_transformers(pooling: str, skipped: int, left: bool) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from sentence_transformers.models import Pooling

    tokens, lengths = hidden(), [7, 3, 4, 9]
    modes = tuple("lasttoken" if name == "last_token" else name for name in pooling.split("+"))
    padded, mask = tokens.clone(), torch.zeros(4, 9, dtype=torch.int64)
    for row, length in enumerate(lengths):
        first = 9 - length if left else 0
        padded[row, first : first + length] = tokens[row, :length]
        mask[row, first : first + length] = 1
    features = {"token_embeddings": padded, "attention_mask": mask, "prompt_length": skipped}
    expected = Pooling(5, pooling_mode=modes, include_prompt=not skipped)(features)["sentence_embedding"]
    pooled = pool(tokens, torch.tensor(lengths), pooling, skipped=skipped)
    np.testing.assert_allclose(pooled.numpy(), expected.numpy(), atol=1e-6)


def test_pooler_needs_the_models_own() -> None:
    own = torch.ones(4, 5)
    assert torch.equal(pool(hidden(), torch.tensor(LENGTHS), "pooler", pooler_output=own), own)
    with pytest.raises(ValueError, match="pooler_output"):
        pool(hidden(), torch.tensor(LENGTHS), "pooler")


def test_half_precision_tokens_are_summed_in_single() -> None:
    tokens = torch.full((1, 4096, 1), 1.001).half()
    assert pool(tokens, torch.tensor([4096]), "mean").item() == pytest.approx(float(tokens[0, 0, 0]), abs=1e-6)


def folder_of(path: Path, pooling: str, *, include_prompt: bool, padding_side: str) -> Path:
    build_tiny_bert(path, prompts={"query": "love story: ", "document": "war: "}, padding_side=padding_side)
    modes = ["lasttoken" if name == "last_token" else name for name in pooling.split("+")]
    config = {"embedding_dimension": 32, "pooling_mode": modes, "include_prompt": include_prompt}
    write_json(path / "1_Pooling" / "config.json", config)
    return path


@needs_sentence_transformers
@pytest.mark.parametrize("padding_side", ["left", "right"])
@pytest.mark.parametrize("include_prompt", [True, False])
@pytest.mark.parametrize("pooling", ["cls+mean", "weightedmean", "max", "mean_sqrt_len_tokens", "last_token"])
def test_folders_encode_as_in_sentence_transformers(
    tmp_path: Path, pooling: str, include_prompt: bool, padding_side: str
) -> None:
    folder = folder_of(tmp_path, pooling, include_prompt=include_prompt, padding_side=padding_side)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from sentence_transformers import SentenceTransformer

        peer = SentenceTransformer(str(folder), device="cpu", local_files_only=True)
        # a batch of one: padding on the left moves the absolute positions of a BERT
        expected = {
            "query": peer.encode_query(TEXTS, batch_size=1), "document": peer.encode_document(TEXTS, batch_size=1)
        }  # fmt: skip
        expected = {role: rows / np.linalg.norm(rows, axis=1, keepdims=True) for role, rows in expected.items()}
    roles: tuple[Role, ...] = ("query", "document")
    for role in roles:
        encoder = TextEncoder.load(resolve(str(folder)), EncoderSettings(batch_tokens=64), role=role, device="cpu")
        assert encoder.dim == pooled_width(pooling, 32)
        np.testing.assert_allclose(encoder.encode(TEXTS).vectors, expected[role], atol=1e-5)
    assert np.abs(expected["query"] - expected["document"]).max() > 0.01
