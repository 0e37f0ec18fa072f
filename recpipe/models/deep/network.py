"""The trainable side of `deep`, and its scores for all pairs; formulas are in model.py."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import Parameter
from torch.nn.functional import embedding

from recpipe.models.network_parts import id_penalty, profile_products, slots_of, weight_decay
from recpipe.models.network_parts import kept as kept_ids
from recpipe.seeding import derive_seed

if TYPE_CHECKING:
    from recpipe.models.deep.block_inputs import BlockInputs
    from recpipe.models.examples import Examples
    from recpipe.models.iterative import Batch
    from recpipe.models.profile_space import UserTable
    from recpipe.models.settings import IterativeSettings
    from recpipe.models.tables import Float32

MAPS = ("profile_map", "item_map", "history_map")
"""Parameters that `train.weight_decay` keeps short."""

BLOCK_SPREAD = 0.1
"""Standard deviation of new weights of blocks. Larger ones of blocks that tell nothing are noise to unlearn."""

TILE_FLOATS = 262_144
"""Hidden values computed at a time in `all_pairs`: 1 MB, which stays in the cache of a core."""

TILE_ITEMS = 1024


class DeepNetwork:
    """Parameters and loss; the other arguments are those of `FactorizationNetwork`.

    Args:
        embeddings: float32 (n_items, dim), v where items have no blocks.
        blocks: What is given of items, and for implicit feedback of users, instead; None without blocks.
    """

    def __init__(
        self,
        *,
        embeddings: Float32,
        blocks: BlockInputs | None,
        users: UserTable,
        examples: Examples,
        settings: IterativeSettings,
        offset: float,
        seed: int,
        device: str,
    ) -> None:
        self._settings = settings
        self._rating = examples.target == "rating"
        self._offset = offset
        self._embeddings = torch.from_numpy(embeddings).to(device)  # (n_items, dim)
        self._blocks = blocks
        self._features = torch.from_numpy(users.features).to(device)  # (n_users, n_features)
        self._segment_rows = torch.from_numpy(users.segment_rows).to(device, torch.int64)
        self._segment_parts = torch.from_numpy(users.segment_parts).to(device)
        seen_users, seen_items = np.flatnonzero(examples.user_counts), np.flatnonzero(examples.item_counts)
        self._user_slots = slots_of(seen_users, examples.n_users).to(device)
        self._item_slots = slots_of(seen_items, examples.n_items).to(device)
        generator = torch.Generator().manual_seed(derive_seed(seed, "deep", "weights"))

        def drawn(*shape: int, spread: float) -> Parameter:
            return Parameter((torch.randn(*shape, generator=generator) * spread).to(device))

        h, width = settings.hidden_dim, users.space.width
        dim, spread = (embeddings.shape[1], 0.5) if blocks is None else (blocks.width, BLOCK_SPREAD)
        self.parameters: Mapping[str, Parameter] = {
            "profile_map": drawn(width, h, spread=0.5),
            "item_map": drawn(dim, h, spread=spread),
            "hidden_bias": Parameter(torch.zeros(h, device=device)),
            "output": drawn(h, spread=1.0 / h),
            "item_id_biases": Parameter(torch.zeros(len(seen_items), device=device)),
        }
        if self._rating:
            self.parameters |= {"user_id_biases": Parameter(torch.zeros(len(seen_users), device=device))}
        elif blocks is not None:
            self.parameters |= {"history_map": drawn(dim, h, spread=spread)}

    def loss(self, batch: Batch) -> torch.Tensor:
        """Return the loss of a batch, penalties included."""
        parameters = self.parameters
        users = profile_products(
            self._features, self._segment_rows, self._segment_parts, batch.user_rows, parameters["profile_map"]
        )  # (n, hidden_dim)
        users = users + parameters["hidden_bias"]
        kept = None if self._blocks is None else self._blocks.drawn(batch.generator)
        if self._blocks is not None and not self._rating:
            users = users + self._blocks.of_users(batch.histories, kept, batch.generator) @ parameters["history_map"]
        items, biases = self._items(batch.item_rows, kept, batch.generator)
        scores = torch.relu(users + items) @ parameters["output"] + biases  # (n,)
        maps = sum(parameters[name].square().sum() for name in MAPS if name in parameters)
        decay = weight_decay(self._settings, rating=self._rating) * maps
        if self._rating:
            user_biases = parameters["user_id_biases"][self._user_slots[batch.user_rows]]
            user_biases = user_biases * kept_ids(len(user_biases), self._settings, batch.generator)
            penalty = id_penalty(self._settings, rating=True)
            squares = user_biases.square().mean() + biases.square().mean()
            return batch.loss(self._offset + scores + user_biases, batch.ratings) + penalty * squares + decay
        others, other_biases = self._items(batch.candidates, kept, batch.generator)
        candidates = torch.relu(users[:, None] + others[None]) @ parameters["output"] + other_biases
        return batch.ranking_loss(scores, candidates) + decay

    def _items(
        self, rows: torch.Tensor, kept: torch.Tensor | None, generator: torch.Generator
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return W_v v (n, hidden_dim) and b_j (n,) of catalogue rows; `kept` as in `BlockInputs`."""
        slots = self._item_slots[rows]
        biases = self.parameters["item_id_biases"][slots.clamp(min=0)]
        known = (slots >= 0).to(biases.dtype) * kept_ids(len(rows), self._settings, generator)
        if self._blocks is None:
            vectors = embedding(rows, self._embeddings)
        else:
            vectors = self._blocks.of_items(rows, kept, generator)
        return vectors @ self.parameters["item_map"], biases * known


def all_pairs(users: Float32, items: Float32, output: Float32) -> Float32:
    """Return Σ_h w_h relu(a_ih + b_jh) for all users and items, less a constant of each user.

    relu(a + b) = max(b, -a) + a: the last term is the same for all items of a user, so that
    it drops out of a ranking. What remains is, with |w| folded into a and b, one maximum and
    one product with the signs of w, in tiles that stay in the cache.

    Args:
        users: float32 (n_users, hidden_dim), a.
        items: float32 (n_items, hidden_dim), b.
        output: float32 (hidden_dim,), w.

    Returns:
        float32 (n_users, n_items).
    """
    assert users.shape[1] == items.shape[1] == len(output)
    n_users, n_items, hidden_dim = len(users), len(items), len(output)
    strength = np.abs(output)
    lower = torch.from_numpy(-users * strength)  # (n_users, hidden_dim)
    values = torch.from_numpy(np.ascontiguousarray((items * strength).T))  # (hidden_dim, n_items)
    signs = torch.from_numpy(np.sign(output).astype(np.float32))
    scores = torch.empty((n_users, n_items))
    step = max(1, TILE_FLOATS // (hidden_dim * TILE_ITEMS))
    for first in range(0, n_items, TILE_ITEMS):
        tile = values[:, first : first + TILE_ITEMS].contiguous()
        buffer = torch.empty((step, hidden_dim, tile.shape[1]))
        for start in range(0, n_users, step):
            block = lower[start : start + step, :, None]
            larger = torch.maximum(tile[None], block, out=buffer[: len(block)])
            scores[start : start + step, first : first + TILE_ITEMS] = torch.matmul(signs, larger)
    found: Float32 = scores.numpy()
    return found
