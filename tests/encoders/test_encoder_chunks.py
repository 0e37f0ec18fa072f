from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_encoder import build_tiny_bert

from recpipe.encoders.batching import Tokens
from recpipe.encoders.chunks import Pieces, in_pieces, mean_of_pieces
from recpipe.encoders.loading import load_tokenizer
from recpipe.encoders.resolve import resolve
from recpipe.encoders.settings import EncoderSettings
from recpipe.encoders.text import TextEncoder
from recpipe.encoders.tokenizing import prompt_length, tokenize
from recpipe.errors import ConfigError, DataError

CLS, SEP = 2, 3
WORDS = ["love", "war", "robot", "night", "story"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_bert(tmp_path_factory.mktemp("chunks") / "tiny")


@pytest.fixture(scope="module")
def tokenizer(folder: Path) -> Any:
    loaded = load_tokenizer(resolve(str(folder)))
    loaded.model_input_names = ["input_ids", "token_type_ids", "attention_mask"]
    return loaded


def cut(tokenizer: Any, texts: list[str], *, prompt: str = "", max_length: int = 8) -> tuple[Pieces, list[list[int]]]:
    prompted = [prompt + text for text in texts]
    tokens = tokenize(tokenizer, prompted, max_length=max_length)
    pieces = in_pieces(tokenizer, prompted, tokens, prompt=prompt, max_length=max_length)
    found = pieces.tokens
    return pieces, [found.ids[a:b].tolist() for a, b in itertools.pairwise(found.offsets)]


def test_pieces_are_what_the_tokeniser_makes_of_their_words(tokenizer: Any) -> None:
    words = (WORDS * 3)[:14]
    pieces, ids = cut(tokenizer, ["love", " ".join(words), "war " * 6])
    assert pieces.starts.tolist() == [0, 1, 4]
    assert ids[1:4] == [tokenizer(" ".join(words[a : a + 6]))["input_ids"] for a in (0, 6, 12)]
    assert ids[0] == tokenizer("love")["input_ids"]
    assert ids[4] == tokenizer("war " * 6)["input_ids"]  # fits to the token: one piece
    assert pieces.weights[1:4].tolist() == [6, 6, 2]
    assert pieces.lengths.tolist() == [3, 8 + 8 + 4, 8]
    assert pieces.tokens.type_ids is not None
    assert pieces.tokens.type_ids.shape == pieces.tokens.ids.shape
    assert not pieces.tokens.type_ids.any()


def test_every_piece_begins_with_the_prompt(tokenizer: Any) -> None:
    _, ids = cut(tokenizer, ["robot " * 7], prompt="love war: ")
    assert ids == [tokenizer("love war: " + "robot " * count)["input_ids"] for count in (3, 3, 1)]


def test_a_prompt_that_fills_the_window_is_a_configuration_error(tokenizer: Any) -> None:
    with pytest.raises(ConfigError, match="no room for text"):
        cut(tokenizer, ["robot " * 9], prompt="love war love war love war ")


@given(
    texts=st.lists(st.lists(st.sampled_from(WORDS), min_size=1, max_size=40).map(" ".join), min_size=1, max_size=6),
    max_length=st.integers(4, 20),
)
def test_no_token_is_lost_or_read_twice(tokenizer: Any, texts: list[str], max_length: int) -> None:
    pieces, ids = cut(tokenizer, texts, max_length=max_length)
    assert max(map(len, ids)) <= max_length
    ends = [*pieces.starts[1:].tolist(), len(ids)]
    for text, start, end in zip(texts, pieces.starts.tolist(), ends, strict=True):
        read = [token for piece in ids[start:end] for token in piece[1:-1]]
        assert read == tokenizer(text, add_special_tokens=False)["input_ids"]
        assert all(piece[0] == CLS and piece[-1] == SEP for piece in ids[start:end])


def test_the_mean_is_weighted_and_brought_to_length_one() -> None:
    tokens = Tokens(np.arange(3, dtype=np.int32), None, np.arange(4), np.zeros(3, bool))
    pieces = Pieces(tokens, np.array([0, 1]), np.array([1.0, 6.0, 2.0]))
    vectors = np.array([[3.0, 4.0], [1.0, 0.0], [0.0, 1.0]], np.float32)
    norms = np.array([5.0, 1.0, 0.5], np.float32)
    raw, smallest = mean_of_pieces(vectors, norms, pieces, normalise=False)
    np.testing.assert_allclose(raw, [[3, 4], [0.75, 0.25]])
    np.testing.assert_allclose(smallest, [5, 0.5])
    unit, _ = mean_of_pieces(vectors, norms, pieces, normalise=True)
    np.testing.assert_allclose(unit[1], np.array([3, 1]) / np.sqrt(10), atol=1e-7)
    assert np.array_equal(unit[0], vectors[0])  # a text of one piece keeps its vector


def test_pieces_that_cancel_out_have_no_direction() -> None:
    tokens = Tokens(np.arange(2, dtype=np.int32), None, np.arange(3), np.zeros(2, bool))
    pieces = Pieces(tokens, np.array([0]), np.array([3.0, 3.0]))
    vectors = np.array([[1.0, 0.0], [-1.0, 0.0]], np.float32)
    _, smallest = mean_of_pieces(vectors, np.ones(2, np.float32), pieces, normalise=True)
    assert smallest.tolist() == [0.0]


def encoder(folder: Path, **settings: object) -> TextEncoder:
    chosen = EncoderSettings.model_validate({"max_length": 8, **settings})
    return TextEncoder.load(resolve(str(folder)), chosen, role="document", device="cpu")


@pytest.mark.parametrize("normalise", ["always", "auto"])
@pytest.mark.parametrize("pooling", ["mean", "cls", "last_token"])
def test_a_long_text_is_the_weighted_mean_of_its_pieces(tmp_path: Path, pooling: str, normalise: str) -> None:
    folder = build_tiny_bert(tmp_path, normalise=False)
    words = (WORDS * 4)[:15]
    settings = {"pooling": pooling, "normalise": normalise, "document_prompt": "city: "}
    whole = encoder(folder, on_truncate="chunk_mean", **settings).encode(["love", " ".join(words), "war"])
    plain = encoder(folder, **settings)
    parts = [" ".join(words[a : a + 4]) for a in range(0, 15, 4)]
    expected = np.average(plain.encode(parts).vectors, axis=0, weights=[4, 4, 4, 3])
    if normalise == "always":
        expected /= np.linalg.norm(expected)
    np.testing.assert_allclose(whole.vectors[1], expected, atol=1e-5)
    np.testing.assert_allclose(whole.vectors[[0, 2]], plain.encode(["love", "war"]).vectors, atol=1e-5)
    assert whole.long_rows.tolist() == [False, True, False]
    assert whole.token_counts.tolist() == [5, 4 * 4 + 15, 5]


def test_what_stands_at_the_end_counts_only_in_pieces(folder: Path) -> None:
    texts = ["love " * 9 + "war", "love " * 9 + "robot"]
    first = encoder(folder).encode(texts).vectors
    pieces = encoder(folder, on_truncate="chunk_mean").encode(texts).vectors
    np.testing.assert_allclose(first[0], first[1], atol=1e-6)
    assert np.abs(pieces[0] - pieces[1]).max() > 0.01
    np.testing.assert_allclose(np.linalg.norm(pieces, axis=1), 1, atol=1e-6)


def test_a_piece_without_direction_names_the_row(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = encoder(folder, on_truncate="chunk_mean")
    original = loaded._forward_all

    def spoilt(tokens):  # type: ignore[no-untyped-def]
        norms, vectors = original(tokens)
        vectors[-1] = np.nan
        return norms, vectors

    monkeypatch.setattr(loaded, "_forward_all", spoilt)
    with pytest.raises(DataError, match="no vector for 'b'"):
        loaded.encode(["love", "war " * 20], ids=["a", "b"])


def test_prompt_length_counts_as_sentence_transformers(tokenizer: Any) -> None:
    assert prompt_length(tokenizer, "", max_length=32) == 0
    assert prompt_length(tokenizer, "love story: ", max_length=32) == 1 + 3


def test_pieces_of_many_texts_do_not_mix(folder: Path) -> None:
    texts = [f"{WORDS[row % 5]} {row} " + "robot " * (row % 30) for row in range(300)]
    loaded = encoder(folder, on_truncate="chunk_mean")
    together = loaded.encode([*texts, *texts[::7]])
    alone = np.concatenate([loaded.encode([text]).vectors for text in texts[::23]])
    np.testing.assert_allclose(together.vectors[:300:23], alone, atol=1e-5)
    assert np.array_equal(together.vectors[300:], together.vectors[:300:7])
    assert np.array_equal(together.long_rows[:300], encoder(folder).encode(texts).long_rows)


class Merging:
    """A tokeniser of two-letter tokens, an end token 99 behind them: a prompt's last letter merges with the text."""

    model_input_names = ("input_ids",)
    is_fast = False

    def __call__(
        self, texts: str | list[str], *, add_special_tokens: bool = True, **_options: object
    ) -> dict[str, Any]:
        end = [99] if add_special_tokens else []
        rows = [
            [ord(text[i]) * 256 + ord(text[i + 1 : i + 2] or "\0") for i in range(0, len(text), 2)] + end
            for text in ([texts] if isinstance(texts, str) else texts)
        ]
        return {"input_ids": rows[0] if isinstance(texts, str) else rows}


def test_a_prompt_that_grows_together_with_the_text_is_repeated_without_its_last_token() -> None:
    text = "abc" + "defghijk"
    whole = Merging()([text], add_special_tokens=False)["input_ids"][0]
    tokens = Tokens(np.zeros(4, np.int32), None, np.array([0, 4]), np.array([True]))
    pieces = in_pieces(Merging(), [text], tokens, prompt="abc", max_length=4).tokens
    found = [pieces.ids[a:b].tolist() for a, b in itertools.pairwise(pieces.offsets)]
    assert found == [[whole[0], *whole[1:3], 99], [whole[0], *whole[3:5], 99], [whole[0], whole[5], 99]]
