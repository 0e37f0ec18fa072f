"""From token vectors to one vector a text. Batches are padded on the right.

The formulas are those of sentence-transformers' Pooling module; its combinations ("cls+mean")
put the poolings' vectors behind one another.
"""

from __future__ import annotations

import torch
from torch import Tensor

from recpipe.encoders.settings import Pooling


def pooled_width(pooling: Pooling, hidden_dim: int) -> int:
    """Return the length of a pooled vector."""
    return hidden_dim * len(pooling.split("+"))


def pool(
    hidden: Tensor, lengths: Tensor, pooling: Pooling, *, pooler_output: Tensor | None = None, skipped: int = 0
) -> Tensor:
    """Pool the last layer's token vectors.

    Args:
        hidden: (n, width, dim) token vectors, tokens first, padding behind them.
        lengths: (n,) int64, number of tokens of each text.
        pooling: One of `settings.POOLINGS`, or several joined by "+".
        pooler_output: (n, dim), needed for pooler.
        skipped: First tokens of each text that are left out: a prompt's, where the folder says so. Their
            positions still count in weightedmean.

    Returns:
        (n, pooled_width(pooling, dim)) float32. A text without tokens that count gives zeros for the means.

    Raises:
        ValueError: pooler without `pooler_output`.
    """
    n, width, _ = hidden.shape
    assert lengths.shape == (n,), (lengths.shape, n)
    if pooling == "pooler":
        if pooler_output is None:
            raise ValueError("pooling 'pooler' needs the model's pooler_output")
        return pooler_output.float()
    if pooling == "cls" and not skipped:
        return hidden[:, 0].float()
    columns = torch.arange(width, device=hidden.device).unsqueeze(0)  # (1, width)
    counted = (columns < lengths.unsqueeze(1)) & (columns >= skipped)  # (n, width)
    parts = [_pool(hidden, lengths, name, counted=counted, skipped=skipped) for name in pooling.split("+")]
    return torch.cat(parts, dim=1)


def _pool(hidden: Tensor, lengths: Tensor, name: str, *, counted: Tensor, skipped: int) -> Tensor:
    """Return (n, dim) of one pooling."""
    if name == "cls":
        return _token(hidden, (lengths - 1).clamp(min=0, max=skipped))
    if name == "last_token":
        return _token(hidden, (lengths - 1).clamp(min=0))
    values = hidden.float()  # a half-precision sum over 512 tokens loses two digits
    if name == "max":
        return values.masked_fill(~counted.unsqueeze(2), -torch.inf).amax(dim=1)
    if name == "weightedmean":
        weights = counted * torch.arange(1, hidden.shape[1] + 1, device=hidden.device)  # (n, width)
    else:
        weights = counted.long()
    total = (values.masked_fill(~counted.unsqueeze(2), 0.0) * weights.unsqueeze(2)).sum(dim=1)  # (n, dim)
    divisor = weights.sum(dim=1).clamp(min=1).unsqueeze(1).float()
    return total / (divisor.sqrt() if name == "mean_sqrt_len_tokens" else divisor)


def _token(hidden: Tensor, places: Tensor) -> Tensor:
    """Return (n, dim): the token at a place of each text."""
    n, _, dim = hidden.shape
    return hidden.gather(1, places.view(n, 1, 1).expand(n, 1, dim)).squeeze(1).float()
