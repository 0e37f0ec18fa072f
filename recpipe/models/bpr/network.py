"""The trainable side of `bpr`; formulas are in that file."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch.nn import Parameter
from torch.nn.functional import embedding

from recpipe.models.examples import Examples
from recpipe.models.iterative import Batch
from recpipe.models.network_parts import slots_of
from recpipe.seeding import derive_seed

INITIAL_SPREAD = 0.1
"""Standard deviation of new vectors."""


class BprNetwork:
    """Parameters and loss.

    Args:
        examples: What is learned from; users and items without an example get no parameters.
        hidden_dim: Length of the vectors.
        id_penalty: Weight of the squared length of what an interaction touches.
    """

    def __init__(self, examples: Examples, *, hidden_dim: int, id_penalty: float, seed: int, device: str) -> None:
        self._id_penalty = id_penalty
        seen_users = np.flatnonzero(examples.user_counts)
        seen_items = np.flatnonzero(examples.item_counts)
        self._user_slots = slots_of(seen_users, examples.n_users).to(device)
        self._item_slots = slots_of(seen_items, examples.n_items).to(device)
        generator = torch.Generator().manual_seed(derive_seed(seed, "bpr", "weights"))

        def drawn(n: int) -> Parameter:
            return Parameter((torch.randn(n, hidden_dim, generator=generator) * INITIAL_SPREAD).to(device))

        self.parameters: Mapping[str, Parameter] = {
            "user_vectors": drawn(len(seen_users)),
            "item_vectors": drawn(len(seen_items)),
            "item_biases": Parameter(torch.zeros(len(seen_items), device=device)),
        }

    def loss(self, batch: Batch) -> torch.Tensor:
        """Return the loss of a batch, the penalty included."""
        users = embedding(self._user_slots[batch.user_rows], self.parameters["user_vectors"])  # (n, hidden_dim)
        taken, taken_biases = self._items(batch.item_rows)
        others, other_biases = self._items(batch.candidates)
        taken_scores = (users * taken).sum(1) + taken_biases  # (n,)
        other_scores = users @ others.T + other_biases  # (n, n_candidates)
        squares = (users.square().sum(1) + taken.square().sum(1) + taken_biases.square()).mean()
        squares = squares + (others.square().sum(1) + other_biases.square()).mean()
        return batch.ranking_loss(taken_scores, other_scores) + self._id_penalty * squares

    def _items(self, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Vectors (n, hidden_dim) and biases (n,) of items that training saw; no others are drawn."""
        slots = self._item_slots[rows]
        return embedding(slots, self.parameters["item_vectors"]), self.parameters["item_biases"][slots]
