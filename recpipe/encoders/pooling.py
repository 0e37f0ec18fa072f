"""From token vectors to one vector a text. Batches are padded on the right."""

from __future__ import annotations

import torch
from torch import Tensor

from recpipe.encoders.settings import Pooling


def pool(hidden: Tensor, lengths: Tensor, pooling: Pooling, *, pooler_output: Tensor | None = None) -> Tensor:
    """Pool the last layer's token vectors.

    Args:
        hidden: (n, width, dim) token vectors, tokens first, padding behind them.
        lengths: (n,) int64, number of tokens of each text.
        pooling: mean of the tokens; cls: the first; last_token: the last that is no padding; pooler: the model's own.
        pooler_output: (n, dim), needed for pooler.

    Returns:
        (n, dim) float32. A text without tokens gives a zero vector for mean.
    """
    n, width, dim = hidden.shape
    assert lengths.shape == (n,), (lengths.shape, n)
    if pooling == "pooler":
        if pooler_output is None:
            raise ValueError("pooling 'pooler' needs the model's pooler_output")
        return pooler_output.float()
    if pooling == "cls":
        return hidden[:, 0].float()
    if pooling == "last_token":
        last = (lengths - 1).clamp(min=0).view(n, 1, 1).expand(n, 1, dim)
        return hidden.gather(1, last).squeeze(1).float()
    mask = torch.arange(width, device=hidden.device).unsqueeze(0) < lengths.unsqueeze(1)  # (n, width)
    # A half-precision sum over 512 tokens loses two digits.
    total = hidden.float().masked_fill(~mask.unsqueeze(2), 0.0).sum(dim=1)  # (n, dim)
    return total / lengths.clamp(min=1).unsqueeze(1)
