from __future__ import annotations

import copy
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_encoder import build_tiny_bert
from transformers import BertConfig, BertModel, RobertaConfig, RobertaModel, T5Config, T5EncoderModel

from recpipe.encoders import packed
from recpipe.encoders.backends import TOLERANCE, Backend, TorchBackend, deviation, probe
from recpipe.encoders.batching import Tokens
from recpipe.encoders.packed import PackedBackend, can_pack
from recpipe.encoders.resolve import resolve
from recpipe.encoders.settings import EncoderSettings
from recpipe.encoders.text import TextEncoder

PAD = 1
SIZES: dict[str, Any] = {
    "vocab_size": 60, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "max_position_embeddings": 50, "initializer_range": 0.5, "pad_token_id": PAD,
}  # fmt: skip


def model_of(family: str, **changes: Any) -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        kind, config = {"bert": (BertModel, BertConfig), "roberta": (RobertaModel, RobertaConfig)}[family]
        return kind(config(**SIZES | changes)).eval()


def padded_of(model: Any) -> TorchBackend:
    return TorchBackend(model, pad=PAD, device="cpu", precision="float32", threads=1)


def tokens_of(texts: list[list[int]], *, with_types: bool = False) -> Tokens:
    ids = np.array([token for text in texts for token in text], np.int32)
    offsets = np.concatenate([[0], np.cumsum([len(text) for text in texts])]).astype(np.int64)
    return Tokens(ids, ids % 2 if with_types else None, offsets, np.zeros(len(texts), bool))


MODELS = {family: model_of(family) for family in ("bert", "roberta")}
BACKENDS: dict[str, tuple[Backend, Backend]] = {
    family: (padded_of(model), PackedBackend(model, pad=PAD, threads=1)) for family, model in MODELS.items()
}
EXACT = {family: padded_of(copy.deepcopy(model).double()) for family, model in MODELS.items()}


@pytest.mark.parametrize("family", ["bert", "roberta"])
@given(st.lists(st.lists(st.integers(0, 59), min_size=1, max_size=40), min_size=1, max_size=7))
def test_packed_states_are_the_padded_ones(family: str, texts: list[list[int]]) -> None:
    """Also where the padding's token stands in a text: RoBERTa counts positions around it.

    Judged beside float64, as attention this sharp makes some texts ill-conditioned however they are computed.
    """
    tokens = tokens_of(texts)
    plain, packed_form = (deviation(EXACT[family], backend, tokens) for backend in BACKENDS[family])
    assert packed_form < max(TOLERANCE, 10 * plain)


@pytest.mark.parametrize("lengths", [[16, 3], [31, 31], [3, 31], [31], [20, 20, 1], [1, 20, 20], [9, 2]])
def test_neighbours_whose_rows_fill_a_vector_are_not_seen(lengths: list[int]) -> None:
    backend = BACKENDS["bert"][1]
    rows = np.arange(len(lengths))
    words = [[5 + place % 50 for place in range(length)] for length in lengths]
    with backend.session():
        first = backend.states(tokens_of(words), rows).hidden.clone()
        for text in range(len(lengths)):
            others = [words[i] if i == text else [7] * lengths[i] for i in range(len(lengths))]
            hidden = backend.states(tokens_of(others), rows).hidden
            torch.testing.assert_close(hidden[text], first[text], rtol=0, atol=1e-6)
            alone = backend.states(tokens_of([words[text]]), np.arange(1)).hidden
            torch.testing.assert_close(alone[0], first[text, : lengths[text]], rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize(
    ("length", "before", "after", "found"),
    [(16, 9, 9, (0, 16)), (18, 20, 20, (0, 18)), (31, 20, 20, (0, 32)), (31, 1, 0, (1, 32)), (31, 0, 0, (0, 31))],
)
def test_keys_fill_whole_vectors_where_rows_are_there(
    length: int, before: int, after: int, found: tuple[int, int]
) -> None:
    keys = packed._KeyRows.of(length, before=before, after=after)
    assert (keys.before, length if keys.mask is None else len(keys.mask)) == found
    if keys.mask is not None:
        assert (keys.mask == 0).nonzero().flatten().tolist() == list(range(keys.before, keys.before + length))


def test_token_types_are_read() -> None:
    tokens = tokens_of([[5, 6, 7], [8, 9]], with_types=True)
    assert deviation(*BACKENDS["bert"], tokens) < TOLERANCE
    without = Tokens(tokens.ids, None, tokens.offsets, tokens.truncated)
    rows = np.arange(2)
    backend = BACKENDS["bert"][1]
    with backend.session():
        assert (backend.states(tokens, rows).hidden - backend.states(without, rows).hidden).abs().max() > 0.01


@pytest.mark.parametrize("activation", ["gelu", "gelu_new", "relu"])
@pytest.mark.parametrize("onednn", [True, False])
def test_every_activation_with_and_without_onednn(
    activation: str, onednn: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not onednn:
        monkeypatch.setattr(packed, "_has_onednn", lambda: False)
    model = model_of("bert", hidden_act=activation)
    tokens = probe(vocabulary=60, max_length=40, pad=PAD, with_types=True)
    assert deviation(padded_of(model), PackedBackend(model, pad=PAD, threads=1), tokens) < TOLERANCE


def test_what_is_no_bert_is_not_packed() -> None:
    assert can_pack(MODELS["bert"])
    assert not can_pack(model_of("bert", is_decoder=True))
    assert not can_pack(T5EncoderModel(T5Config(vocab_size=20, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2)))


def test_deviation_sees_a_wrong_mask() -> None:
    """What a legacy export did: padding read as text."""
    tokens = probe(vocabulary=60, max_length=40, pad=PAD, with_types=False)
    plain = padded_of(MODELS["bert"])

    class Unmasked(TorchBackend):
        def states(self, tokens: Tokens, rows: np.ndarray) -> Any:
            widest = int(tokens.lengths[rows].max())
            texts = [tokens.ids[a : a + n].tolist() for a, n in zip(tokens.offsets, tokens.lengths, strict=False)]
            whole = tokens_of([text + [PAD] * (widest - len(text)) for text in texts])
            return super().states(whole, rows)

    unmasked = Unmasked(MODELS["bert"], pad=PAD, device="cpu", precision="float32", threads=1)
    assert deviation(plain, unmasked, tokens) > 0.01


def load(folder: Path) -> TextEncoder:
    return TextEncoder.load(resolve(str(folder)), EncoderSettings(), role="document", device="cpu")


def test_a_packed_form_that_differs_or_fails_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    texts = ["love", "the night of the war", "a robot"]
    build_tiny_bert(tmp_path)
    usual = load(tmp_path)
    assert isinstance(usual._backend, PackedBackend)
    expected = usual.encode(texts).vectors
    monkeypatch.setattr(packed, "_equal_lengths", lambda lengths: [(1, int(lengths.sum()))])  # texts see each other
    with caplog.at_level(logging.WARNING, logger="recpipe"):
        plain = load(tmp_path)
    assert isinstance(plain._backend, TorchBackend)
    assert "computed with padding, its packed form differs" in caplog.text
    np.testing.assert_allclose(plain.encode(texts).vectors, expected, atol=1e-6)

    def broken(lengths: np.ndarray) -> Any:
        raise RuntimeError("no such operator")

    monkeypatch.setattr(packed, "_equal_lengths", broken)
    with caplog.at_level(logging.WARNING, logger="recpipe"):
        assert isinstance(load(tmp_path)._backend, TorchBackend)
    assert "packed form fails: no such operator" in caplog.text
