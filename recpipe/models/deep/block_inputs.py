"""What `deep` is given where items have blocks: of an item its blocks, of a user those of the history.

    item   [√g_1 z_1, ..., √g_B z_B, h_1, ..., h_B]                     (see `ItemBlocks`)
    user   the same of  z_b = Σ_l d^l h_lb z_lb / Σ_l d^l h_lb,  h_b: some item of the history has b

over the items l a user took last, 0 the newest. A mean of what somebody took says what it has
in common; its length, how much.

In training, blocks are hidden (`train.block_dropout`, see `BlockDropout`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn.functional import embedding, embedding_bag

from recpipe.models.block_dropout import BlockDropout
from recpipe.models.history_means import history_matrix
from recpipe.models.item_blocks import BlockVectors, ItemBlocks
from recpipe.models.network_parts import history_weights

if TYPE_CHECKING:
    from recpipe.models.settings import IterativeSettings
    from recpipe.models.tables import Float32, Histories

DECAY = 0.5 ** (1 / 20)
"""How much less an item of the history counts than the next newer one: half after twenty."""


def user_inputs(blocks: ItemBlocks, histories: Histories, items: BlockVectors, settings: IterativeSettings) -> Float32:
    """Return what is given of users: float32 (n_users, width + n_blocks); `items` are of the histories' catalogue."""
    matrix = history_matrix(
        histories,
        np.arange(len(items.vectors)),
        n_columns=len(items.vectors),
        decay=DECAY,
        length=settings.history,
        positive_from=settings.positive_from,
    )
    shares = np.asarray(matrix @ items.present.astype(np.float32))  # (n_users, n_blocks)
    present = shares > 0
    means = np.asarray(matrix @ items.vectors) / np.where(present, shares, 1.0)[:, blocks.owners]
    return blocks.flagged(BlockVectors(means.astype(np.float32), present))


class BlockInputs(BlockDropout):
    """The same in training.

    Args:
        items: Blocks of the catalogue.
        share: Of blocks hidden.
    """

    def __init__(
        self, blocks: ItemBlocks, items: BlockVectors, *, settings: IterativeSettings, share: float, device: str
    ) -> None:
        super().__init__(blocks, items, share=share, device=device)
        parts = np.split(items.vectors, np.cumsum(blocks.sizes)[:-1], axis=1)
        self._apart = [torch.from_numpy(np.ascontiguousarray(part)).to(device) for part in parts]
        self._decays = history_weights(max(settings.history, 1), (DECAY,))[0].to(device)

    def of_users(self, histories: torch.Tensor, kept: torch.Tensor | None, generator: torch.Generator) -> torch.Tensor:
        """Return what is given of users with histories (n, length), -1 where there is none; as `of_items`."""
        if not histories.shape[1]:  # embedding_bag does not take bags without room
            histories = histories.new_full((len(histories), 1), -1)
        there = histories >= 0
        rows = histories.clamp(min=0)
        weights = self._decays[: rows.shape[1]] * there  # (n, length)
        counted = weights[:, :, None] * embedding(rows, self._present)  # (n, length, n_blocks)
        totals = counted.sum(1)  # (n, n_blocks)
        # the vectors are no parameters: summed up without gathering them
        sums = [
            embedding_bag(rows, part, per_sample_weights=counted[:, :, place].contiguous(), mode="sum")
            for place, part in enumerate(self._apart)
        ]
        means = torch.cat(sums, dim=1) / totals.clamp(min=1e-9)[:, self._owners]
        return self._fused(means, self._hidden((totals > 0).to(totals.dtype), kept, generator))
