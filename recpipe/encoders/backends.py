"""What computes token vectors: the seam between texts and the libraries that do the arithmetic."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from recpipe.encoders.arithmetic import inference
from recpipe.encoders.batching import Tokens, padded
from recpipe.encoders.settings import TextPrecision
from recpipe.seeding import generator

# Token vectors of two ways to compute the same, brought to length 1, differ by 1e-7; a wrong mask by 1e-2.
TOLERANCE = 1e-5
_PROBE_LENGTHS = (1, 2, 3, 7, 7, 30, 31, 60)


@dataclass(frozen=True, slots=True)
class States:
    """The last layer of a batch.

    Attributes:
        hidden: (b, width, dim) token vectors, tokens first, padding of any value behind them.
        lengths: (b,) int64, tokens of each text.
        pooler_output: (b, dim) where the model has a pooler.
    """

    hidden: Tensor
    lengths: Tensor
    pooler_output: Tensor | None = None


class Backend(Protocol):
    """Computes batches. Several threads may call `states` at a time.

    Attributes:
        hidden_dim: Width of a token vector.
        device: Where the states are.
        threads: Batches worth computing at a time.
    """

    hidden_dim: int
    device: torch.device
    threads: int

    def states(self, tokens: Tokens, rows: npt.NDArray[np.int64]) -> States:
        """Compute the texts at `rows`; called inside `session`."""

    def session(self) -> AbstractContextManager[None]:
        """Surround the computation of a thread."""


class TorchBackend:
    """Any transformer in PyTorch, batches padded to their longest text.

    Args:
        pad: Token id of padding.
        threads: Batches computed at a time.
    """

    def __init__(self, model: Any, *, pad: int, device: str, precision: TextPrecision, threads: int) -> None:
        self.device = torch.device(device)
        self.hidden_dim = int(getattr(model.config, "hidden_size", 0) or model.config.d_model)
        self.threads = threads
        self._model = model.to(self.device)
        self._pad = pad
        self._precision = precision

    def session(self) -> AbstractContextManager[None]:
        """Compute without gradients, in the precision asked for."""
        return inference(self.device, self._precision)

    def states(self, tokens: Tokens, rows: npt.NDArray[np.int64]) -> States:
        """Compute the texts at `rows`."""
        inputs = {name: self._moved(values) for name, values in model_inputs(tokens, rows, pad=self._pad).items()}
        lengths = self._moved(tokens.lengths[rows])
        output = self._model(**inputs)
        return States(output.last_hidden_state, lengths, getattr(output, "pooler_output", None))

    def _moved(self, values: npt.NDArray[np.int64]) -> Tensor:
        tensor = torch.from_numpy(values)
        if self.device.type == "cuda":  # pinned memory lets the copy run beside the computation
            return tensor.pin_memory().to(self.device, non_blocking=True)
        return tensor


def model_inputs(tokens: Tokens, rows: npt.NDArray[np.int64], *, pad: int) -> dict[str, npt.NDArray[np.int64]]:
    """Return what a transformer is called with for some texts, (b, width) int64 by name, padded on the right."""
    ids = padded(tokens.ids, tokens, rows=rows, fill=pad)
    inputs = {
        "input_ids": ids,
        "attention_mask": (np.arange(ids.shape[1]) < tokens.lengths[rows][:, None]).astype(np.int64),
    }
    if tokens.type_ids is not None:
        inputs["token_type_ids"] = padded(tokens.type_ids, tokens, rows=rows, fill=0)
    return inputs


def probe(*, vocabulary: int, max_length: int, pad: int, with_types: bool) -> Tokens:
    """Return made-up texts of many lengths, to compare two ways of computing the same.

    Args:
        vocabulary: Number of token ids; the padding's does not occur.
        max_length: No text is longer.
    """
    lengths = [min(length, max_length) for length in _PROBE_LENGTHS]
    ids = generator(0, "encoder probe").integers(0, vocabulary - 1, sum(lengths)).astype(np.int32)
    ids[ids >= pad] += 1
    types = np.zeros_like(ids) if with_types else None
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return Tokens(ids, types, offsets, np.zeros(len(lengths), np.bool_))


def deviation(one: Backend, other: Backend, tokens: Tokens) -> float:
    """Return the largest difference of two backends' token vectors, each brought to length 1; NaN is infinite."""
    rows = np.arange(len(tokens.lengths))
    with one.session(), other.session():
        first, second = one.states(tokens, rows), other.states(tokens, rows)
        width = int(tokens.lengths.max())
        inside = torch.arange(width) < first.lengths.cpu().unsqueeze(1)
        directions = [
            nn.functional.normalize(states.hidden.float().cpu()[:, :width][inside], dim=1) for states in (first, second)
        ]
        worst = float((directions[0] - directions[1]).abs().max())
        if first.pooler_output is not None and second.pooler_output is not None:
            worst = max(worst, float((first.pooler_output.cpu() - second.pooler_output.cpu()).abs().max()))
    return worst if np.isfinite(worst) else float("inf")
