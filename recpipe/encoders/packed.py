"""BERT-like transformers without padding, on a CPU in float32.

All tokens of a batch stand in one matrix (total_tokens, hidden): linear layers, layer norms and
activations see no padding. Only attention looks at texts one by one; texts of equal length share a
call. The idea is that of "Effective Transformer" (https://arxiv.org/abs/2210.03052).

oneDNN's linear layers take weights rearranged once, and apply GELU and the residual sum while the
result is still in the cache: they are what torch.compile calls too.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from recpipe.encoders.arithmetic import inference
from recpipe.encoders.backends import States
from recpipe.encoders.batching import Tokens

# Families whose code in transformers is BERT's, and whether positions begin behind the padding's id.
_OFFSET_POSITIONS = {"bert": False, "roberta": True, "xlm-roberta": True, "camembert": True}
# oneDNN arranges weights for about so many rows.
_TYPICAL_ROWS = 1024
# Numbers a vector instruction takes, and how many may be left over before a mask for whole vectors is cheaper.
_VECTOR, _CHEAP_REST = 16, 4


@dataclass(frozen=True, slots=True)
class _Layer:
    """One layer; linear layers are functions of their input and, where they add it, of a residual."""

    query_key_value: _Linear
    attention_out: _Linear
    attention_norm: nn.Module
    inner: _Linear
    out: _Linear
    norm: nn.Module


@dataclass(frozen=True, slots=True)
class _KeyRows:
    """Which rows texts of one length take their keys from: their own and, masked, some of their neighbours'.

    Softmax is slow in what exceeds a multiple of the vector width: 191 keys take half as long again as 192.
    """

    before: int
    length: int
    mask: Tensor | None
    """(width,) added to the scores; None where the rows are the text's own."""

    @classmethod
    def of(cls, length: int, *, before: int, after: int) -> _KeyRows:
        """Choose for texts of `length`, with so many rows of others before the first and behind the last of them."""
        missing = -length % _VECTOR
        if missing > _VECTOR - _CHEAP_REST or missing > max(before, after):
            missing = 0
        if missing == 0:
            return cls(0, length, None)
        begin = 0 if missing <= after else missing
        mask = torch.full((length + missing,), -torch.inf)
        mask[begin : begin + length] = 0
        return cls(begin, length, mask)

    def windows(self, rows: Tensor, start: int, count: int) -> Tensor:
        """Return (count, heads, width, dim of a head) of (total, heads, dim of a head); the windows overlap."""
        width = self.length if self.mask is None else len(self.mask)
        row, head, place = rows.stride()
        size = (count, rows.shape[1], width, rows.shape[2])
        first = rows.storage_offset() + (start - self.before) * row
        return rows.as_strided(size, (self.length * row, head, row, place), first)


class _Linear:
    """A linear layer with an activation behind it."""

    def __init__(self, weight: Tensor, bias: Tensor, activation: nn.Module | None = None) -> None:
        self._bias = bias
        self._onednn = _has_onednn()
        self._weight: Tensor = weight
        if self._onednn:
            self._weight = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), _TYPICAL_ROWS)
        self._fuses_gelu = self._onednn and _is_exact_gelu(activation)
        self._activation = None if self._fuses_gelu else activation

    def __call__(self, rows: Tensor) -> Tensor:
        result: Tensor
        if self._fuses_gelu:
            result = torch.ops.mkldnn._linear_pointwise(rows, self._weight, self._bias, "gelu", [], "none")
        elif self._onednn:
            result = torch.ops.mkldnn._linear_pointwise(rows, self._weight, self._bias, "none", [], "")
        else:
            result = nn.functional.linear(rows, self._weight, self._bias)
        return result if self._activation is None else self._activation(result)

    def plus(self, rows: Tensor, residual: Tensor) -> Tensor:
        """Return the linear layer's result plus `residual`."""
        if not self._onednn:
            return nn.functional.linear(rows, self._weight, self._bias).add_(residual)
        result: Tensor = torch.ops.mkldnn._linear_pointwise.binary(rows, residual, self._weight, self._bias, "add")
        return result


def can_pack(model: Any) -> bool:
    """Say whether a model of transformers is one whose layers this module knows."""
    config = model.config
    return (
        getattr(config, "model_type", "") in _OFFSET_POSITIONS
        and getattr(config, "position_embedding_type", "absolute") in (None, "absolute")
        and not getattr(config, "is_decoder", False)
        and not getattr(config, "add_cross_attention", False)
        and not model.training
    )


class PackedBackend:
    """A BERT-like transformer, without padding.

    Args:
        model: One that `can_pack`; its linear layers are copied, the rest is used as it is.
        threads: Batches computed at a time.
    """

    def __init__(self, model: Any, *, pad: int, threads: int) -> None:
        config = model.config
        self.device = torch.device("cpu")
        self.hidden_dim = int(config.hidden_size)
        self.threads = threads
        self._embeddings = model.embeddings
        self._pooler = getattr(model, "pooler", None)
        self._n_heads = int(config.num_attention_heads)
        self._first_position = pad + 1 if _OFFSET_POSITIONS[config.model_type] else 0
        self._skips_pad = _OFFSET_POSITIONS[config.model_type]
        self._pad = pad
        self._layers = [_layer(layer) for layer in model.encoder.layer]

    def session(self) -> AbstractContextManager[None]:
        """Compute without gradients."""
        return inference(self.device, "float32")

    def states(self, tokens: Tokens, rows: npt.NDArray[np.int64]) -> States:
        """Compute the texts at `rows`."""
        lengths = tokens.lengths[rows]
        starts = np.concatenate([[0], np.cumsum(lengths)])
        places = np.arange(starts[-1]) - np.repeat(starts[:-1], lengths)  # place of each token in its text
        source = np.repeat(tokens.offsets[rows], lengths) + places
        ids = tokens.ids[source].astype(np.int64)
        hidden = self._embeddings(
            input_ids=torch.from_numpy(ids).unsqueeze(0),
            token_type_ids=None
            if tokens.type_ids is None
            else torch.from_numpy(tokens.type_ids[source].astype(np.int64)).unsqueeze(0),
            position_ids=torch.from_numpy(self._positions(ids, places, starts)).unsqueeze(0),
        ).squeeze(0)  # (total, dim)
        groups = _equal_lengths(lengths)
        for layer in self._layers:
            mixed = self._attention(layer.query_key_value(hidden), groups)
            hidden = layer.attention_norm(layer.attention_out.plus(mixed, hidden))
            hidden = layer.norm(layer.out.plus(layer.inner(hidden), hidden))
        return self._padded(hidden, lengths, places)

    def _positions(
        self, ids: npt.NDArray[np.int64], places: npt.NDArray[np.int64], starts: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.int64]:
        """Return (total,) positions as the model counts them."""
        if not self._skips_pad:
            return places
        # RoBERTa does not count tokens that look like padding, wherever they stand.
        real = ids != self._pad
        counted = np.concatenate([[0], np.cumsum(real)])
        before = np.repeat(counted[starts[:-1]], np.diff(starts))
        return np.where(real, counted[1:] - before - 1 + self._first_position, self._pad)

    def _attention(self, query_key_value: Tensor, groups: list[tuple[int, int]]) -> Tensor:
        """Return (total, dim) from (total, 3 · dim): every text attends to itself alone."""
        total, dim = len(query_key_value), self.hidden_dim
        by_head = query_key_value.view(total, 3, self._n_heads, dim // self._n_heads)
        result = torch.empty(total, dim)
        start = 0
        for count, length in groups:
            stop = start + count * length
            own = by_head[start:stop, 0].view(count, length, self._n_heads, -1)
            query = own.transpose(1, 2)  # (count, heads, length, dim of a head)
            keys = _KeyRows.of(length, before=start, after=total - stop)
            key, value = (keys.windows(by_head[:, third], start, count) for third in (1, 2))
            mask = None if keys.mask is None else keys.mask.expand(count, self._n_heads, length, -1)
            mixed = nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
            result[start:stop] = mixed.transpose(1, 2).reshape(count * length, dim)
            start = stop
        return result

    def _padded(self, hidden: Tensor, lengths: npt.NDArray[np.int64], places: npt.NDArray[np.int64]) -> States:
        width = max(1, int(lengths.max()))
        result = torch.zeros(len(lengths) * width, self.hidden_dim)
        text = np.repeat(np.arange(len(lengths)), lengths)
        result[torch.from_numpy(text * width + places)] = hidden
        states = result.view(len(lengths), width, self.hidden_dim)
        return States(states, torch.from_numpy(lengths), None if self._pooler is None else self._pooler(states[:, :1]))


def _layer(layer: Any) -> _Layer:
    attention, output = layer.attention.self, layer.attention.output
    thirds = (attention.query, attention.key, attention.value)
    return _Layer(
        _Linear(torch.cat([third.weight for third in thirds]), torch.cat([third.bias for third in thirds])),
        _Linear(output.dense.weight, output.dense.bias),
        output.LayerNorm,
        _Linear(layer.intermediate.dense.weight, layer.intermediate.dense.bias, layer.intermediate.intermediate_act_fn),
        _Linear(layer.output.dense.weight, layer.output.dense.bias),
        layer.output.LayerNorm,
    )


def _equal_lengths(lengths: npt.NDArray[np.int64]) -> list[tuple[int, int]]:
    """Return (count, length) of each run of equal lengths; texts without tokens take no part."""
    return [(len(list(run)), length) for length, run in groupby(lengths.tolist()) if length]


def _is_exact_gelu(activation: nn.Module | None) -> bool:
    kind = type(activation).__name__
    return kind == "GELUActivation" or (isinstance(activation, nn.GELU) and activation.approximate == "none")


def _has_onednn() -> bool:
    namespace = torch.ops.mkldnn
    operators = ("_linear_pointwise", "_reorder_linear_weight")
    return bool(torch._C._has_mkldnn) and all(hasattr(namespace, name) for name in operators)
