"""Blocks of items in training, some of them hidden, as they may be missing later (Neverova et al. 2016, "ModDrop").

Each step hides a share of the blocks: in half of the steps here and there, in the others from
everything at once, so that a model learns to rank by any of them alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn.functional import embedding

if TYPE_CHECKING:
    from recpipe.models.item_blocks import BlockVectors, ItemBlocks


class BlockDropout:
    """Fused blocks and flags of catalogue rows, as `ItemBlocks.flagged`, less what is hidden.

    Args:
        items: Blocks of the catalogue.
        share: Of blocks hidden; a single block never is, as there are no others to do without it.
    """

    def __init__(self, blocks: ItemBlocks, items: BlockVectors, *, share: float, device: str) -> None:
        self._vectors = torch.from_numpy(items.vectors).to(device)  # (n_items, width)
        self._present = torch.from_numpy(items.present.astype(np.float32)).to(device)  # (n_items, n_blocks)
        self._weights = torch.from_numpy(blocks.block_weights).to(device)
        self._owners = torch.from_numpy(blocks.owners).to(device)
        self._share = share if len(blocks.maps) > 1 else 0.0

    @property
    def width(self) -> int:
        """Coordinates of what is given, flags included."""
        return len(self._owners) + len(self._weights)

    def drawn(self, generator: torch.Generator) -> torch.Tensor | None:
        """Return which blocks this step hides from everything, float32 (n_blocks,), 0 hidden; None: here and there."""
        if float(torch.rand(1, generator=generator, device=generator.device)) < 0.5:
            return None
        return self._kept(1, generator)[0]

    def of_items(self, rows: torch.Tensor, kept: torch.Tensor | None, generator: torch.Generator) -> torch.Tensor:
        """Return what is given of catalogue rows (n,): float32 (n, width); `kept` is what `drawn` gave."""
        present = embedding(rows, self._present)
        return self._fused(embedding(rows, self._vectors), self._hidden(present, kept, generator))

    def _hidden(self, present: torch.Tensor, kept: torch.Tensor | None, generator: torch.Generator) -> torch.Tensor:
        return present * (self._kept(len(present), generator) if kept is None else kept)

    def _kept(self, n: int, generator: torch.Generator) -> torch.Tensor:
        drawn = torch.rand(n, len(self._weights), generator=generator, device=generator.device)
        return (drawn >= self._share).to(torch.float32)

    def _fused(self, vectors: torch.Tensor, present: torch.Tensor) -> torch.Tensor:
        shares = self._weights * present
        shares = shares / shares.sum(1, keepdim=True).clamp(min=1e-9)
        return torch.cat([vectors * shares.sqrt()[:, self._owners], present], dim=1)
