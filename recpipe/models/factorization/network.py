"""The trainable side of `factorization`; formulas are in that file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import Parameter
from torch.nn.functional import embedding

from recpipe.models.examples import Examples
from recpipe.models.item_space import centred
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
from recpipe.models.tables import Items
from recpipe.seeding import derive_seed

if TYPE_CHECKING:
    from recpipe.models.tables import Float32

INITIAL_SPREAD = 0.1
"""Standard deviation of new ID vectors, and of content vectors of items one unit from the mean."""


@dataclass(frozen=True, slots=True)
class _Vectors:
    """Vectors and biases of the items of a batch."""

    vectors: torch.Tensor  # (n, hidden_dim)
    biases: torch.Tensor  # (n,)
    id_vectors: torch.Tensor  # (n, hidden_dim), zero where the id is hidden
    id_biases: torch.Tensor  # (n,)


class FactorizationNetwork:
    """Parameters and loss.

    Args:
        items: The catalogue.
        item_mean: float32 (dim,), subtracted from item embeddings.
        users: Profiles of all users.
        examples: What is learned from; ids without an example get no parameters of their own.
        offset: The constant of the formula.
        decays: Of the history averages; empty for ratings.
    """

    def __init__(
        self,
        *,
        items: Items,
        item_mean: Float32,
        users: UserTable,
        examples: Examples,
        settings: IterativeSettings,
        offset: float,
        decays: tuple[float, ...],
        seed: int,
        device: str,
    ) -> None:
        self._settings = settings
        self._rating = examples.target == "rating"
        self._offset = offset
        self._embeddings = torch.from_numpy(centred(items, item_mean)).to(device)  # (n_items, dim)
        self._features = torch.from_numpy(users.features).to(device)  # (n_users, n_features)
        self._segment_rows = torch.from_numpy(users.segment_rows).to(device, torch.int64)
        self._segment_parts = torch.from_numpy(users.segment_parts).to(device)
        seen_users = np.flatnonzero(examples.user_counts)
        seen_items = np.flatnonzero(examples.item_counts)
        self._user_slots = slots_of(seen_users, examples.n_users).to(device)
        self._item_slots = slots_of(seen_items, examples.n_items).to(device)
        generator = torch.Generator().manual_seed(derive_seed(seed, "factorization", "weights"))

        def drawn(*shape: int) -> Parameter:
            return Parameter((torch.randn(*shape, generator=generator) * INITIAL_SPREAD).to(device))

        def zeros(*shape: int) -> Parameter:
            return Parameter(torch.zeros(*shape, device=device))

        k, dim, width = settings.hidden_dim, len(item_mean), users.space.width
        self.parameters: Mapping[str, Parameter] = {
            "user_ids": drawn(len(seen_users), k),
            "item_ids": drawn(len(seen_items), k),
            "item_id_biases": zeros(len(seen_items)),
            "profile_map": zeros(width, k),
            "item_map": drawn(dim, k),
            "item_bias_map": zeros(dim),
        }
        if self._rating:
            self.parameters |= {"user_id_biases": zeros(len(seen_users)), "profile_bias_map": zeros(width)}
        else:
            steps = torch.eye(k).repeat(len(decays), 1, 1) / max(len(decays), 1)
            self.parameters |= {"history_maps": Parameter(steps.to(device))}  # (n_decays, k, k)
            self._weights = history_weights(settings.history, decays).to(device)

    def loss(self, batch: Batch) -> torch.Tensor:
        """Return the loss of a batch, penalties included."""
        return self._rating_loss(batch) if self._rating else self._ranking_loss(batch)

    def _rating_loss(self, batch: Batch) -> torch.Tensor:
        keep_users = kept(len(batch.user_rows), self._settings, batch.generator)
        keep_items = kept(len(batch.item_rows), self._settings, batch.generator)
        items = self._items(batch.item_rows, keep_items)
        slots = self._user_slots[batch.user_rows]
        user_ids = embedding(slots, self.parameters["user_ids"]) * keep_users[:, None]
        user_biases = self.parameters["user_id_biases"][slots] * keep_users
        profiles = self._profiles(batch.user_rows, self.parameters["profile_map"])
        users = user_ids + profiles
        content_biases = self._profiles(batch.user_rows, self.parameters["profile_bias_map"][:, None]).squeeze(1)
        predicted = self._offset + user_biases + content_biases + items.biases + (users * items.vectors).sum(1)
        squares = (
            user_ids.square().sum(1)
            # few users have many features: without this the profile becomes a second id
            + profiles.square().sum(1)
            + content_biases.square()
            + items.id_vectors.square().sum(1)
            + user_biases.square()
            + items.id_biases.square()
        )
        return (
            batch.loss(predicted, batch.ratings)
            + id_penalty(self._settings, rating=True) * squares.mean()
            + self._map_penalty()
        )

    def _ranking_loss(self, batch: Batch) -> torch.Tensor:
        n, n_candidates = len(batch.item_rows), len(batch.candidates)
        wanted = torch.cat([batch.item_rows, batch.candidates, batch.histories.clamp(min=0).flatten()])
        rows, places = distinct(wanted, len(self._item_slots))
        items = self._items(rows, kept(len(rows), self._settings, batch.generator))
        vectors = dropped(items.vectors, self._settings, batch.generator)
        users = self._history(vectors, places[n + n_candidates :].view(n, -1), batch.histories >= 0)
        users = users + self._profiles(batch.user_rows, self.parameters["profile_map"])
        user_ids = embedding(self._user_slots[batch.user_rows], self.parameters["user_ids"])
        user_ids = user_ids * kept(n, self._settings, batch.generator)[:, None]
        users = users + user_ids
        # the history is made of thinned vectors; what is ranked is whole
        taken = (users * embedding(places[:n], items.vectors)).sum(1) + items.biases[places[:n]]
        others = places[n : n + n_candidates]
        scores = users @ embedding(others, items.vectors).T + items.biases[others]
        squares = user_ids.square().sum(1).mean() + embedding(places[:n], items.id_vectors).square().sum(1).mean()
        return (
            batch.ranking_loss(taken, scores) + id_penalty(self._settings, rating=False) * squares + self._map_penalty()
        )

    def _items(self, rows: torch.Tensor, keep: torch.Tensor) -> _Vectors:
        """Vectors and biases of catalogue rows (n,); `keep` (n,) is 0 where the id is hidden."""
        slots = self._item_slots[rows]
        known = (slots >= 0).to(keep.dtype) * keep
        slots = slots.clamp(min=0)
        id_vectors = embedding(slots, self.parameters["item_ids"]) * known[:, None]
        id_biases = self.parameters["item_id_biases"][slots] * known
        content = self._embeddings[rows]  # (n, dim)
        return _Vectors(
            id_vectors + content @ self.parameters["item_map"],
            id_biases + content @ self.parameters["item_bias_map"],
            id_vectors,
            id_biases,
        )

    def _profiles(self, user_rows: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """Return p times weights (width, m): (n, m)."""
        return profile_products(self._features, self._segment_rows, self._segment_parts, user_rows, weights)

    def _history(self, vectors: torch.Tensor, places: torch.Tensor, there: torch.Tensor) -> torch.Tensor:
        """Return what histories (n, length) of rows of `vectors` say: (n, hidden_dim)."""
        total = torch.zeros(len(places), vectors.shape[1], dtype=vectors.dtype, device=vectors.device)
        if places.shape[1] == 0:
            return total
        for weights, step in zip(self._weights, self.parameters["history_maps"], strict=True):
            chosen = weights[: places.shape[1]] * there  # (n, length)
            chosen = chosen / chosen.sum(1, keepdim=True).clamp(min=1e-9)
            mean = torch.nn.functional.embedding_bag(places, vectors, mode="sum", per_sample_weights=chosen)
            total = total + mean @ step
        return total

    def _map_penalty(self) -> torch.Tensor:
        names = ("profile_map", "item_map", "item_bias_map", "profile_bias_map")
        squares = [self.parameters[name].square().sum() for name in names if name in self.parameters]
        return weight_decay(self._settings, rating=self._rating) * torch.stack(squares).sum()
