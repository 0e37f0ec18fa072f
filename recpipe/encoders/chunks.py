"""Texts longer than the encoder reads, in pieces: a text's vector is the mean of its pieces'.

A piece is what the tokeniser would have made of it: special tokens around it, the prompt before it.
Pieces are cut between tokens and do not overlap.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

import numpy as np
import numpy.typing as npt

from recpipe.encoders.batching import Tokens
from recpipe.encoders.tokenizing import bare_ids
from recpipe.errors import ConfigError

# A text every tokeniser has a token for.
_PROBE = "a"


@dataclass(frozen=True, slots=True)
class Pieces:
    """Texts as pieces that fit the encoder.

    Attributes:
        tokens: The m pieces.
        starts: (n,) int64, first piece of each text; a text's pieces stand together, in the order of the texts.
        weights: (m,) float64, share of each piece in its text's vector: its tokens without prompt and special ones.
    """

    tokens: Tokens
    starts: npt.NDArray[np.int64]
    weights: npt.NDArray[np.float64]

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """(n,) int64, tokens read of each text, those of prompt and special tokens in every piece."""
        return np.add.reduceat(self.tokens.lengths, self.starts)


@dataclass(frozen=True, slots=True)
class _Frame:
    """Special tokens a tokeniser puts around a text, and the types of all tokens."""

    before: list[int]
    after: list[int]
    types: tuple[list[int], int, list[int]]

    def around(self, ids: list[int]) -> list[int]:
        return self.before + ids + self.after

    def types_around(self, n_ids: int) -> list[int]:
        before, inside, after = self.types
        return before + [inside] * n_ids + after


def in_pieces(tokenizer: Any, texts: Sequence[str], tokens: Tokens, *, prompt: str, max_length: int) -> Pieces:
    """Cut the texts that were truncated into pieces of `max_length` tokens; the others stay as they are.

    Args:
        tokenizer: A transformers tokeniser.
        texts: n texts, prompt included.
        tokens: What `tokenize` made of them.
        prompt: What every text begins with, and so every piece.

    Raises:
        ConfigError: Prompt and special tokens leave no room for text.
    """
    long_rows = np.flatnonzero(tokens.truncated).tolist()
    contents = dict(zip(long_rows, bare_ids(tokenizer, [texts[row] for row in long_rows]), strict=True))
    frame = _frame(tokenizer)
    prompt_ids = bare_ids(tokenizer, [prompt])[0] if prompt else []
    ids: list[npt.NDArray[np.int32]] = [np.empty(0, np.int32)]
    type_ids: list[npt.NDArray[np.int32]] = [np.empty(0, np.int32)]
    starts: list[int] = []
    weights: list[int] = []
    for row, (start, stop) in enumerate(zip(tokens.offsets[:-1].tolist(), tokens.offsets[1:].tolist(), strict=True)):
        starts.append(len(weights))
        if row not in contents:
            ids.append(tokens.ids[start:stop])
            weights.append(1)
            if tokens.type_ids is not None:
                type_ids.append(tokens.type_ids[start:stop])
            continue
        head = _common_beginning(prompt_ids, contents[row])
        for piece in _cut(contents[row][len(head) :], max_length - len(frame.around(head))):
            ids.append(np.asarray(frame.around(head + piece), np.int32))
            type_ids.append(np.asarray(frame.types_around(len(head) + len(piece)), np.int32))
            weights.append(len(piece))
    pieces = Tokens(
        ids=np.concatenate(ids),
        type_ids=None if tokens.type_ids is None else np.concatenate(type_ids),
        offsets=np.cumsum([0, *(len(piece) for piece in ids[1:])], dtype=np.int64),
        truncated=np.zeros(len(weights), np.bool_),
    )
    return Pieces(pieces, np.asarray(starts, np.int64), np.asarray(weights, np.float64))


def mean_of_pieces(
    vectors: npt.NDArray[np.float32], norms: npt.NDArray[np.float32], pieces: Pieces, *, normalise: bool
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Return the vectors of the texts: the weighted means of their pieces' vectors.

    Args:
        vectors: (m, dim), of the pieces.
        norms: (m,), the smallest norms met when they were made.
        normalise: Means are brought to length 1. Texts of one piece keep their vector to the bit.

    Returns:
        (n, dim) float32 vectors; (n,) the smallest norms met, that of the mean included.
    """
    weighted = vectors * pieces.weights[:, None]
    totals = np.add.reduceat(pieces.weights, pieces.starts)
    means = np.add.reduceat(weighted, pieces.starts, axis=0) / totals[:, None]  # (n, dim) float64
    lengths = np.linalg.norm(means, axis=1)
    smallest = np.minimum(np.minimum.reduceat(norms, pieces.starts), lengths).astype(np.float32)
    if normalise:
        means /= np.maximum(lengths, np.finfo(np.float32).tiny)[:, None]
    alone = np.diff(pieces.starts, append=len(pieces.weights)) == 1
    means[alone] = vectors[pieces.starts[alone]]
    return means.astype(np.float32), smallest


def _frame(tokenizer: Any) -> _Frame:
    encoding = tokenizer(_PROBE, truncation=False, verbose=False)
    ids, bare = list(encoding["input_ids"]), bare_ids(tokenizer, [_PROBE])[0]
    types = list(encoding.get("token_type_ids") or [0] * len(ids))
    places = range(len(ids) - len(bare) + 1)
    start = next(place for place in places if ids[place : place + len(bare)] == bare)
    stop = start + len(bare)
    return _Frame(ids[:start], ids[stop:], (types[:start], types[start] if bare else 0, types[stop:]))


def _common_beginning(prompt_ids: list[int], ids: list[int]) -> list[int]:
    """Return the prompt's tokens as they stand in the text: its last one may have grown together with the text."""
    return [
        prompt_id for prompt_id, _ in takewhile(lambda pair: pair[0] == pair[1], zip(prompt_ids, ids, strict=False))
    ]


def _cut(ids: list[int], budget: int) -> list[list[int]]:
    if budget < 1:
        raise ConfigError(
            "prompt and special tokens leave no room for text",
            where="encoder.max_length",
            next_step="set a larger encoder.max_length or a shorter prompt",
        )
    return [ids[start : start + budget] for start in range(0, len(ids), budget)]
