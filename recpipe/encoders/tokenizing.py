"""Texts to token ids, each text once, truncation counted on the way."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt

from recpipe.encoders.batching import Tokens

# A fast tokeniser keeps offsets and strings of every token until its call ends; 100 bytes a token.
_TEXTS_A_CALL = 4096


def tokenize(tokenizer: Any, texts: Sequence[str], *, max_length: int) -> Tokens:
    """Tokenise texts with special tokens, cut at `max_length`.

    Args:
        tokenizer: A transformers tokeniser.
        max_length: Tokens, special ones included.
    """
    ids: list[npt.NDArray[np.int32]] = [np.empty(0, np.int32)]
    type_ids: list[npt.NDArray[np.int32]] = [np.empty(0, np.int32)]
    lengths: list[int] = []
    truncated: list[bool] = []
    has_types = "token_type_ids" in tokenizer.model_input_names
    for start in range(0, len(texts), _TEXTS_A_CALL):
        part = list(texts[start : start + _TEXTS_A_CALL])
        encoding = tokenizer(part, truncation=True, max_length=max_length, padding=False, verbose=False)
        truncated += _truncated(tokenizer, encoding, part, max_length)
        lengths += [len(row) for row in encoding["input_ids"]]
        ids.append(_flat(encoding["input_ids"]))
        if has_types:
            type_ids.append(_flat(encoding["token_type_ids"]))
    return Tokens(
        ids=np.concatenate(ids),
        type_ids=np.concatenate(type_ids) if has_types else None,
        offsets=np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]).astype(np.int64),
        truncated=np.asarray(truncated, dtype=np.bool_),
    )


def count_tokens(tokenizer: Any, texts: Sequence[str]) -> npt.NDArray[np.int64]:
    """Return (n,) int64: tokens of each text, without special tokens and without truncation."""
    counts: list[int] = []
    for start in range(0, len(texts), _TEXTS_A_CALL):
        counts += [len(row) for row in bare_ids(tokenizer, texts[start : start + _TEXTS_A_CALL])]
    return np.asarray(counts, dtype=np.int64)


def bare_ids(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    """Return the token ids of each text, without special tokens and without truncation."""
    if not texts:
        return []
    encoding = tokenizer(list(texts), add_special_tokens=False, truncation=False, padding=False, verbose=False)
    return [list(row) for row in encoding["input_ids"]]


def prompt_length(tokenizer: Any, prompt: str, *, max_length: int) -> int:
    """Return how many tokens at the beginning of a prompted text are special ones or the prompt's.

    Counted as sentence-transformers does: the tokens of the prompt alone, a special token at its end left out.
    """
    if not prompt:
        return 0
    ids = tokenizer(prompt, truncation=True, max_length=max_length, verbose=False)["input_ids"]
    return len(ids) - int(ids[-1] in tokenizer.all_special_ids)


def _truncated(tokenizer: Any, encoding: Any, texts: list[str], max_length: int) -> list[bool]:
    if tokenizer.is_fast:
        return [bool(row.overflowing) for row in encoding.encodings]
    # A slow tokeniser does not say what it cut off: look again at those that fill the window.
    full = [row for row, ids in enumerate(encoding["input_ids"]) if len(ids) >= max_length]
    result = [False] * len(texts)
    if full:
        lengths = count_tokens(tokenizer, [texts[row] for row in full]) + tokenizer.num_special_tokens_to_add()
        for row, length in zip(full, lengths, strict=True):
            result[row] = bool(length > max_length)
    return result


def _flat(rows: Sequence[Sequence[int]]) -> npt.NDArray[np.int32]:
    return np.fromiter(chain.from_iterable(rows), dtype=np.int32)
