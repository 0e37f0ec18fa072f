"""The trainable side of `two_tower`; formulas are in that file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import Parameter

from recpipe.models.examples import Examples
from recpipe.models.iterative import Batch
from recpipe.models.network_parts import (
    distinct,
    dropped,
    history_weights,
    id_penalty,
    kept,
    profile_products,
    slots_of,
    weight_decay,
)
from recpipe.models.profile_space import UserTable
from recpipe.models.settings import IterativeSettings
from recpipe.seeding import derive_seed

if TYPE_CHECKING:
    from scipy import sparse

    from recpipe.models.block_dropout import BlockDropout
    from recpipe.models.tables import Float32

INITIAL_SPREAD = 0.1
"""Standard deviation of new ID vectors, and of vectors of items whose content has length 1."""


class TwoTowerNetwork:
    """Parameters and loss.

    Args:
        blocks: What of the content, y, is hidden at times; None where items have no blocks.
        item_content: float32 (n_items, width), the rest of y: the embedding unless there are blocks, and attributes.
        users: Profiles of all users.
        user_attributes: float32 (n_users, n_attributes).
        examples: What is learned from; items without an example get no parameters of their own.
        decays: Of the averages of a history.
    """

    def __init__(
        self,
        *,
        blocks: BlockDropout | None,
        item_content: Float32,
        users: UserTable,
        user_attributes: sparse.csr_matrix,
        examples: Examples,
        settings: IterativeSettings,
        decays: tuple[float, ...],
        seed: int,
        device: str,
    ) -> None:
        self._settings = settings
        self._blocks = blocks
        self._content = torch.from_numpy(item_content).to(device)
        self._features = torch.from_numpy(users.features).to(device)  # (n_users, n_features)
        self._segment_rows = torch.from_numpy(users.segment_rows).to(device, torch.int64)
        self._segment_parts = torch.from_numpy(users.segment_parts).to(device)
        self._user_attributes = user_attributes
        seen_items = np.flatnonzero(examples.item_counts)
        self._slots = slots_of(seen_items, examples.n_items).to(device)
        self._weights = history_weights(settings.history, decays).to(device)  # (n_decays, history)
        generator = torch.Generator().manual_seed(derive_seed(seed, "two_tower", "weights"))

        def drawn(*shape: int, spread: float = INITIAL_SPREAD) -> Parameter:
            return Parameter((torch.randn(*shape, generator=generator) * spread).to(device))

        def zeros(*shape: int) -> Parameter:
            return Parameter(torch.zeros(*shape, device=device))

        k, n_parts = settings.hidden_dim, len(decays) + 1
        width = (n_parts + 1) * k
        content_width = item_content.shape[1] + (0 if blocks is None else blocks.width)
        self.parameters: Mapping[str, Parameter] = {
            "item_ids": drawn(len(seen_items), k),
            "item_id_biases": zeros(len(seen_items)),
            "content_map": drawn(content_width, k),
            "content_bias_map": zeros(content_width),
            "profile_map": zeros(users.space.width, k),
            "attribute_map": zeros(user_attributes.shape[1], k),
            "history_maps": Parameter((torch.eye(k).repeat(n_parts, 1, 1) / n_parts).to(device)),
            "hidden_map": drawn(width, k, spread=(2.0 / width) ** 0.5),
            "hidden_bias": zeros(k),
            "output_map": zeros(k, k),
        }

    def loss(self, batch: Batch) -> torch.Tensor:
        """Return the loss of a batch, penalties included."""
        n, n_candidates = len(batch.item_rows), len(batch.candidates)
        columns = torch.arange(1, batch.histories.shape[1] + 1, device=self._content.device)
        width = int(((batch.histories >= 0) * columns).max())  # no further than the longest history
        histories = batch.histories[:, :width]
        rows, places = distinct(
            torch.cat([batch.item_rows, batch.candidates, histories.clamp(min=0).flatten()]), len(self._slots)
        )
        keep = kept(len(rows), self._settings, batch.generator)
        vectors, biases, id_vectors = self._items(rows, self._content_of(rows, batch.generator), keep)
        thinned = dropped(vectors, self._settings, batch.generator)
        users = self._users(batch.user_rows, thinned, places[n + n_candidates :].view(n, width), histories >= 0)
        # the history is made of thinned vectors; what is ranked is whole
        own, others = places[:n], places[n : n + n_candidates]
        taken = (users * vectors.index_select(0, own)).sum(1) + biases[own]
        scores = users @ vectors.index_select(0, others).T + biases[others]
        squares = id_vectors.index_select(0, own).square().sum(1).mean()
        return (
            batch.ranking_loss(taken, scores)
            + id_penalty(self._settings, rating=False) * squares
            + weight_decay(self._settings, rating=False) * self._map_squares()
        )

    def _content_of(self, rows: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Return y (n, content_width) of catalogue rows (n,), less the blocks that this step hides."""
        content = self._content[rows]
        if self._blocks is None:
            return content
        return torch.cat([self._blocks.of_items(rows, self._blocks.drawn(generator), generator), content], dim=1)

    def _items(
        self, rows: torch.Tensor, content: torch.Tensor, keep: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return vectors (n, k), biases (n,) and what of the vectors is the ids' for catalogue rows (n,).

        `content` is their y; `keep` (n,) is 0 where the id is hidden.
        """
        slots = self._slots[rows]
        known = (slots >= 0).to(keep.dtype) * keep
        slots = slots.clamp(min=0)
        id_vectors = self.parameters["item_ids"].index_select(0, slots) * known[:, None]
        biases = self.parameters["item_id_biases"][slots] * known + content @ self.parameters["content_bias_map"]
        return id_vectors + content @ self.parameters["content_map"], biases, id_vectors

    def _users(
        self, user_rows: torch.Tensor, vectors: torch.Tensor, places: torch.Tensor, there: torch.Tensor
    ) -> torch.Tensor:
        """Return user vectors (n, k); `places` (n, length) are rows of `vectors`, valid where `there`."""
        parts = self._history_parts(vectors, places, there)
        profiles = self._profiles(user_rows)
        hidden = torch.cat([parts.flatten(1), profiles], dim=1) @ self.parameters["hidden_map"]
        return (
            torch.einsum("npk,pkm->nm", parts, self.parameters["history_maps"])
            + profiles
            + torch.relu(hidden + self.parameters["hidden_bias"]) @ self.parameters["output_map"]
        )

    def _history_parts(self, vectors: torch.Tensor, places: torch.Tensor, there: torch.Tensor) -> torch.Tensor:
        """Return the averages of the histories and the sums / √n: (n, n_decays + 1, k)."""
        weights = self._weights[:, : places.shape[1]] * there[:, None, :]  # (n, n_decays, length)
        weights = weights / weights.sum(2, keepdim=True).clamp(min=1e-9)
        roots = there.sum(1).clamp(min=1).sqrt()[:, None, None]
        weights = torch.cat([weights, there[:, None, :] / roots], dim=1)
        # gathered once for all parts: embedding_bag gathers for each, and sorts to add up gradients
        gathered = vectors.index_select(0, places.flatten()).view(*places.shape, -1)  # (n, length, k)
        return torch.bmm(weights, gathered)

    def _profiles(self, user_rows: torch.Tensor) -> torch.Tensor:
        """Return profiles and attributes times their maps: (n, k)."""
        products = profile_products(
            self._features, self._segment_rows, self._segment_parts, user_rows, self.parameters["profile_map"]
        )
        # attributes stay sparse: a million users with hundreds of values would not fit
        attributes = torch.from_numpy(self._user_attributes[user_rows.cpu().numpy()].toarray())
        return products + attributes.to(products.device) @ self.parameters["attribute_map"]

    def _map_squares(self) -> torch.Tensor:
        names = ("content_map", "content_bias_map", "profile_map", "attribute_map")
        return torch.stack([self.parameters[name].square().sum() for name in names]).sum()
