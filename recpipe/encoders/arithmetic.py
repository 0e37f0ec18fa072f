"""The arithmetic of pretrained encoders in PyTorch, the same for texts, pictures and sounds."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from recpipe.encoders.settings import TextPrecision

SMALLEST_NORM = 1e-12
"""Below this a vector has no direction."""

_DTYPES: dict[str, torch.dtype] = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


@contextmanager
def inference(device: torch.device, precision: TextPrecision) -> Iterator[None]:
    """Compute without gradients, in the precision asked for; int8 is no arithmetic of PyTorch (KeyError)."""
    dtype = _DTYPES[precision]
    with torch.inference_mode(), torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32):
        yield
