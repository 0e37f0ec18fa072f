"""Texts to vectors with a pretrained transformer.

The vectors are those of sentence-transformers (within 1e-5): same tokens, same pooling, same
prompts. What differs is the order of the work: equal texts once, texts of like length together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from recpipe.encoders.batching import Tokens, padded, token_batches, unique_texts
from recpipe.encoders.fields import is_blank
from recpipe.encoders.folder import EncoderFolder
from recpipe.encoders.loading import load_dense, load_tokenizer, load_transformer
from recpipe.encoders.pooling import pool
from recpipe.encoders.precision import require_precision
from recpipe.encoders.resolve import verify_weights
from recpipe.encoders.settings import EncoderSettings, Role
from recpipe.encoders.spec import choose_max_length, choose_pooling, choose_prompt
from recpipe.encoders.tokenizing import count_tokens, tokenize
from recpipe.errors import DataError, UnavailableError

_DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
# Below this a vector has no direction.
_SMALLEST_NORM = 1e-12


@dataclass(frozen=True, slots=True)
class Encoded:
    """Vectors of n texts.

    Attributes:
        vectors: (n, dim) float32.
        token_counts: (n,) int64, tokens read of each text, prompt and special tokens included.
        truncated_rows: (n,) bool, the text was longer than max_length and only its beginning was read.
    """

    vectors: npt.NDArray[np.float32]
    token_counts: npt.NDArray[np.int64]
    truncated_rows: npt.NDArray[np.bool_]

    @property
    def truncated(self) -> int:
        """Number of truncated texts."""
        return int(self.truncated_rows.sum())


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
        device: str,
        tokenizer: Any,
        model: Any,
        dense: Sequence[nn.Module],
    ) -> None:
        self.max_length = choose_max_length(folder, settings)
        self.prompt = choose_prompt(folder, settings, role)
        self._pooling = choose_pooling(folder, settings)
        self._folder = folder
        self._settings = settings
        self._device = torch.device(device)
        self._tokenizer = tokenizer
        self._model = model.to(self._device)
        self._dense = [layer.to(self._device) for layer in dense]
        widths = [head.out_features for head in folder.heads if head.kind == "dense"]
        self.dim = widths[-1] if widths else int(getattr(model.config, "hidden_size", 0) or model.config.d_model)

    @classmethod
    def load(cls, folder: EncoderFolder, settings: EncoderSettings, *, role: Role, device: str) -> TextEncoder:
        """Load tokeniser and weights; a folder's own code is never run.

        Args:
            role: "query" for users' texts, "document" for items'.
            device: "cpu", "cuda" or "cuda:1".

        Raises:
            ConfigError: Pooling or length must be stated.
            UnavailableError: The model cannot be loaded, its weights are not the expected ones, or the
                device lacks the precision.
        """
        pooling = choose_pooling(folder, settings)
        choose_max_length(folder, settings)
        require_precision(settings.precision, device)
        verify_weights(folder)
        return cls(
            folder,
            settings,
            role=role,
            device=device,
            tokenizer=load_tokenizer(folder),
            model=load_transformer(folder, pooling),
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
        prompted = [self.prompt + text for text in self._cased(distinct)]
        tokens = tokenize(self._tokenizer, prompted, max_length=self.max_length)
        if self._settings.on_truncate == "error" and tokens.truncated.any():
            self._refuse_truncation(_name(ids, int(first[tokens.truncated][0])), int(tokens.truncated[inverse].sum()))
        raw, vectors = self._forward_all(tokens)
        bad = ~np.isfinite(vectors).all(axis=1) | ~(raw > _SMALLEST_NORM)
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
        return Encoded(vectors[inverse], tokens.lengths[inverse], tokens.truncated[inverse])

    def _cased(self, texts: Sequence[str]) -> Sequence[str]:
        return [text.lower() for text in texts] if self._folder.lower_case else texts

    def _refuse_truncation(self, name: str, count: int) -> None:
        raise DataError(
            f"{count} texts are longer than {self.max_length} tokens, the first is {name}",
            where="encoder.on_truncate is 'error'",
            next_step="shorten them, or --set encoder.on_truncate=warn to encode their beginning",
        )

    def _forward_all(self, tokens: Tokens) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Return (n,) norms before the final normalisation and (n, dim) vectors."""
        n = len(tokens.lengths)
        vectors = torch.empty((n, self.dim), dtype=torch.float32, device=self._device)
        norms = torch.empty(n, dtype=torch.float32, device=self._device)
        precision = _DTYPES[self._settings.precision]
        autocast = torch.autocast(self._device.type, dtype=precision, enabled=precision != torch.float32)
        try:
            with torch.inference_mode(), autocast:
                for rows in token_batches(tokens.lengths, self._settings.batch_tokens):
                    raw = self._forward(tokens, rows)  # (b, dim)
                    index = torch.from_numpy(rows).to(self._device)
                    norms[index], vectors[index] = self._finish(raw)
        except torch.cuda.OutOfMemoryError as error:
            raise UnavailableError(
                f"device {self._device} ran out of memory",
                where=f"encoder '{self._folder.name}'",
                next_step=f"--set encoder.batch_tokens={max(1, self._settings.batch_tokens // 2)}",
            ) from error
        return norms.cpu().numpy(), vectors.cpu().numpy()

    def _forward(self, tokens: Tokens, rows: npt.NDArray[np.int64]) -> Tensor:
        """Return (b, hidden) pooled vectors of one batch."""
        pad = self._tokenizer.pad_token_id
        inputs = {"input_ids": self._moved(padded(tokens.ids, tokens, rows=rows, fill=0 if pad is None else int(pad)))}
        lengths = self._moved(tokens.lengths[rows])
        width = inputs["input_ids"].shape[1]
        inputs["attention_mask"] = (torch.arange(width, device=self._device) < lengths.unsqueeze(1)).long()
        if tokens.type_ids is not None:
            inputs["token_type_ids"] = self._moved(padded(tokens.type_ids, tokens, rows=rows, fill=0))
        output = self._model(**inputs)
        pooler_output = getattr(output, "pooler_output", None)
        if self._pooling == "pooler" and pooler_output is None:
            raise UnavailableError(
                f"'{self._folder.name}' has no pooler",
                where="encoder.pooling",
                next_step="--set encoder.pooling=mean or cls",
            )
        return pool(output.last_hidden_state, lengths, self._pooling, pooler_output=pooler_output)

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

    def _moved(self, values: npt.NDArray[np.int64]) -> Tensor:
        tensor = torch.from_numpy(values)
        if self._device.type == "cuda":  # pinned memory lets the copy run beside the computation
            return tensor.pin_memory().to(self._device, non_blocking=True)
        return tensor


def _name(ids: Sequence[str] | None, row: int) -> str:
    return f"row {row}" if ids is None else f"'{ids[row]}'"
