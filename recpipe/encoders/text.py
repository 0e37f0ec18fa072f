"""Texts to vectors with a pretrained transformer.

The vectors are those of sentence-transformers (within 1e-5): same tokens, same pooling, same
prompts. What differs is the order of the work: equal texts once, texts of like length together.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from recpipe.encoders.arithmetic import SMALLEST_NORM
from recpipe.encoders.backends import Backend
from recpipe.encoders.batching import Tokens, in_threads, one_ahead, parts_of, token_batches, unique_texts
from recpipe.encoders.chunks import Pieces, in_pieces, mean_of_pieces
from recpipe.encoders.fields import is_blank
from recpipe.encoders.folder import EncoderFolder
from recpipe.encoders.loading import load_backend, load_dense, load_tokenizer
from recpipe.encoders.pooling import pool, pooled_width
from recpipe.encoders.precision import require_precision
from recpipe.encoders.resolve import verify_weights
from recpipe.encoders.settings import EncoderSettings, Role
from recpipe.encoders.spec import choose_max_length, choose_pooling, choose_prompt
from recpipe.encoders.tokenizing import count_tokens, prompt_length, tokenize
from recpipe.errors import DataError, UnavailableError

_Part = tuple[npt.NDArray[np.int64], tuple[Tokens, Pieces | None]]
"""Rows of some texts, their tokens, and the pieces of long ones."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """Vectors of n texts.

    Attributes:
        vectors: (n, dim) float32.
        token_counts: (n,) int64, tokens read of each text, prompt and special tokens included.
        long_rows: (n,) bool, the text is longer than max_length: only its beginning was read, or it was read
            in pieces where on_truncate is chunk_mean.
    """

    vectors: npt.NDArray[np.float32]
    token_counts: npt.NDArray[np.int64]
    long_rows: npt.NDArray[np.bool_]


class TextEncoder:
    """A loaded model folder. Make one with `load`.

    Attributes:
        dim: Width of the vectors.
        max_length: Tokens read of a text, prompt and special tokens included.
        prompt: Text put before every text.
    """

    def __init__(
        self,
        folder: EncoderFolder,
        settings: EncoderSettings,
        *,
        role: Role,
        tokenizer: Any,
        backend: Backend,
        dense: Sequence[nn.Module],
    ) -> None:
        self.max_length = choose_max_length(folder, settings)
        self.prompt = choose_prompt(folder, settings, role)
        self._pooling = choose_pooling(folder, settings)
        self._folder = folder
        self._settings = settings
        self._device = backend.device
        self._tokenizer = tokenizer
        self._backend = backend
        self._dense = [layer.to(self._device) for layer in dense]
        widths = [head.out_features for head in folder.heads if head.kind == "dense"]
        self.dim = widths[-1] if widths else pooled_width(self._pooling, backend.hidden_dim)
        self._not_pooled = (
            0 if folder.prompt_is_pooled else prompt_length(tokenizer, self.prompt, max_length=self.max_length)
        )

    @classmethod
    def load(
        cls,
        folder: EncoderFolder,
        settings: EncoderSettings,
        *,
        role: Role,
        device: str,
        calibrated: Path | None = None,
    ) -> TextEncoder:
        """Load tokeniser and weights; a folder's own code is never run.

        Args:
            role: "query" for users' texts, "document" for items'.
            device: "cpu", "cuda" or "cuda:1"; OpenVINO is on the CPU whatever it is.
            calibrated: Folder of the model `quantising.calibrate` made, where precision is int8.

        Raises:
            ConfigError: Pooling or length must be stated.
            UnavailableError: The model cannot be loaded, its weights are not the expected ones, or the
                device lacks the precision.
        """
        choose_pooling(folder, settings)
        choose_max_length(folder, settings)
        require_precision(settings.precision, device)
        verify_weights(folder)
        tokenizer = load_tokenizer(folder)
        return cls(
            folder,
            settings,
            role=role,
            tokenizer=tokenizer,
            backend=load_backend(folder, settings, tokenizer=tokenizer, device=device, calibrated=calibrated),
            dense=[load_dense(folder, head) for head in folder.heads if head.kind == "dense"],
        )

    @property
    def content_budget(self) -> int:
        """Tokens left for a text beside the prompt and special tokens, at least 1."""
        special = int(self._tokenizer.num_special_tokens_to_add())
        prompt = int(self.count_tokens([self.prompt])[0]) if self.prompt else 0
        return max(1, self.max_length - special - prompt)

    def count_tokens(self, texts: Sequence[str]) -> npt.NDArray[np.int64]:
        """Return (n,) int64: tokens of each text alone, without prompt, special tokens or truncation."""
        return count_tokens(self._tokenizer, self._cased(texts))

    def tokens(self, texts: Sequence[str]) -> Tokens:
        """Return the tokens of texts, with prompt and special tokens, cut at `max_length`."""
        prompted = [self.prompt + text for text in self._cased(texts)]
        return tokenize(self._tokenizer, prompted, max_length=self.max_length)

    def encode(self, texts: Sequence[str], *, ids: Sequence[str] | None = None) -> Encoded:
        """Encode texts; a vector depends on its text alone (within 1e-5), not on the others.

        Args:
            texts: Non-blank texts, without prompt.
            ids: Names of the rows for error messages; their positions by default.

        Raises:
            ValueError: A text is blank: such rows have no vector and do not come here.
            DataError: A vector is NaN, infinite or zero; or a text is too long and on_truncate is "error".
            UnavailableError: The device ran out of memory.
        """
        blank = next((row for row, text in enumerate(texts) if is_blank(text)), None)
        if blank is not None:
            raise ValueError(f"text {_name(ids, blank)} is blank")
        distinct, inverse, first = unique_texts(texts)
        n = len(distinct)
        lengths, truncated = np.zeros(n, np.int64), np.zeros(n, np.bool_)
        norms, vectors = np.zeros(n, np.float32), np.zeros((n, self.dim), np.float32)
        parts = self._tokenized([self.prompt + text for text in self._cased(distinct)])
        if self._settings.on_truncate == "error":
            parts = self._none_truncated(list(parts), ids, first=first, inverse=inverse)
        for rows, (tokens, pieces) in parts:
            lengths[rows], truncated[rows] = (pieces or tokens).lengths, tokens.truncated
            norms[rows], vectors[rows] = self._forward_pieces(pieces) if pieces else self._forward_all(tokens)
        bad = ~np.isfinite(vectors).all(axis=1) | ~(norms > SMALLEST_NORM)
        if bad.any():
            row = int(first[bad][0])
            raise DataError(
                f"the encoder gives no vector for {_name(ids, row)}: NaN, infinite or zero "
                f"({int(bad[inverse].sum())} such texts)",
                where=f"text: {texts[row][:80]!r}",
                next_step="look at the text"
                if self._settings.precision == "float32"
                else "--set encoder.precision=float32",
            )
        return Encoded(vectors[inverse], lengths[inverse], truncated[inverse])

    def _cased(self, texts: Sequence[str]) -> Sequence[str]:
        return [text.lower() for text in texts] if self._folder.lower_case else texts

    def _tokenized(self, prompted: Sequence[str]) -> Iterator[_Part]:
        """Yield rows and tokens of each part; the next part is tokenised while the caller computes."""
        parts = parts_of(prompted)
        texts = ([prompted[row] for row in rows.tolist()] for rows in parts)
        return zip(parts, one_ahead(self._tokens_of, texts), strict=True)

    def _tokens_of(self, prompted: list[str]) -> tuple[Tokens, Pieces | None]:
        """Return the tokens of some texts and, where long ones are read in pieces and there are any, the pieces."""
        tokens = tokenize(self._tokenizer, prompted, max_length=self.max_length)
        if self._settings.on_truncate != "chunk_mean" or not tokens.truncated.any():
            return tokens, None
        return tokens, in_pieces(self._tokenizer, prompted, tokens, prompt=self.prompt, max_length=self.max_length)

    def _none_truncated(
        self,
        parts: list[_Part],
        ids: Sequence[str] | None,
        *,
        first: npt.NDArray[np.int64],
        inverse: npt.NDArray[np.int64],
    ) -> Iterator[_Part]:
        """Return the parts; DataError where a text is too long."""
        truncated = np.zeros(len(first), np.bool_)
        for rows, (tokens, _) in parts:
            truncated[rows] = tokens.truncated
        if truncated.any():
            raise DataError(
                f"{truncated[inverse].sum()} texts are longer than {self.max_length} tokens, "
                f"the first is {_name(ids, int(first[truncated][0]))}",
                where="encoder.on_truncate is 'error'",
                next_step="shorten them, or --set encoder.on_truncate=warn to encode their beginning",
            )
        return iter(parts)

    def _forward_pieces(self, pieces: Pieces) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Return (n,) norms and (n, dim) vectors of texts in pieces."""
        norms, vectors = self._forward_all(pieces.tokens)
        normalise = self._settings.normalise == "always" or self._folder.normalise
        vectors, norms = mean_of_pieces(vectors, norms, pieces, normalise=normalise)
        return norms, vectors

    def _forward_all(self, tokens: Tokens) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Return (n,) norms before the final normalisation and (n, dim) vectors."""
        n = len(tokens.lengths)
        vectors = torch.empty((n, self.dim), dtype=torch.float32, device=self._device)
        norms = torch.empty(n, dtype=torch.float32, device=self._device)

        def compute(rows: npt.NDArray[np.int64]) -> None:
            with self._backend.session():
                raw = self._forward(tokens, rows)  # (b, dim)
                index = torch.from_numpy(rows).to(self._device)
                norms[index], vectors[index] = self._finish(raw)

        try:
            in_threads(compute, token_batches(tokens.lengths, self._settings.batch_tokens), self._backend.threads)
        except torch.cuda.OutOfMemoryError as error:
            raise UnavailableError(
                f"device {self._device} ran out of memory",
                where=f"encoder '{self._folder.name}'",
                next_step=f"--set encoder.batch_tokens={max(1, self._settings.batch_tokens // 2)}",
            ) from error
        return norms.cpu().numpy(), vectors.cpu().numpy()

    def _forward(self, tokens: Tokens, rows: npt.NDArray[np.int64]) -> Tensor:
        """Return (b, hidden) pooled vectors of one batch."""
        states = self._backend.states(tokens, rows)
        if self._pooling == "pooler" and states.pooler_output is None:
            raise UnavailableError(
                f"'{self._folder.name}' has no pooler",
                where="encoder.pooling",
                next_step="--set encoder.pooling=mean or cls",
            )
        return pool(
            states.hidden,
            states.lengths,
            self._pooling,
            pooler_output=states.pooler_output,
            skipped=self._not_pooled,
        )

    def _finish(self, pooled: Tensor) -> tuple[Tensor, Tensor]:
        """Apply the modules after pooling; return smallest norms (b,) met on the way and vectors (b, dim)."""
        vectors, dense = pooled, iter(self._dense)
        smallest = torch.linalg.vector_norm(vectors, dim=1)
        for head in self._folder.heads:
            vectors = next(dense)(vectors).float() if head.kind == "dense" else nn.functional.normalize(vectors, dim=1)
            smallest = torch.minimum(smallest, torch.linalg.vector_norm(vectors, dim=1))
        if self._settings.normalise == "always":
            vectors = nn.functional.normalize(vectors, dim=1)
        return smallest, vectors


def _name(ids: Sequence[str] | None, row: int) -> str:
    return f"row {row}" if ids is None else f"'{ids[row]}'"
