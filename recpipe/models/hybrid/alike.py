"""Vectors of items nobody took, from those of items that read alike: kernel ridge regression from content.

    v_j = K_jA α,   α = (K_AA + Λ)⁻¹ V_A,   Λ = λ diag(1 + h / n_i),   K_ij = max(c_i · c_j, 0)²

A: the items most users took, V_A their vectors by any model, centred; c: content vectors
(`ItemContent`), n_i: users of an item, so that what few took is believed less. Whatever a model
learned about items thereby reaches those it never saw, also where it has no way of its own to them.

What an item of A would get were it not in A follows without another regression:

    v_j = V_j - α_j / ((K_AA + Λ)⁻¹)_jj
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from scipy.linalg import cho_factor, cho_solve

from recpipe.models.ids import rows_of
from recpipe.models.item_content import ItemContent

if TYPE_CHECKING:
    from recpipe.models.base import JsonValue
    from recpipe.models.tables import Float32, Int64, Items

MAX_ITEMS = 4096
"""Most items in A."""

RIDGE = 1.0
RIDGE_OF_FEW = 10.0
"""λ and h."""


def most_taken(n_users: Int64, count: int) -> Int64:
    """Return the rows, ascending, of the items most users took, of n_users, int64 (n_items,); none that nobody took."""
    chosen = np.argsort(-n_users, kind="stable")[:count]
    return np.sort(chosen[n_users[chosen] > 0])


@dataclass(frozen=True, slots=True)
class AlikeItems:
    """The items others are likened to.

    Attributes:
        content: how items become content vectors.
        ids: `pa.StringArray` (n,), of A.
        vectors: float32 (n, width): content vectors of A.
        n_users: int64 (n,): users who took them.
    """

    content: ItemContent
    ids: pa.StringArray
    vectors: Float32
    n_users: Int64

    @classmethod
    def of(cls, items: Items, n_users: Int64) -> AlikeItems:
        """Take the items most users took; n_users is int64 (n_items,)."""
        chosen = most_taken(n_users, MAX_ITEMS)
        content = ItemContent.of(items, n_users > 0)
        some = items.rows(chosen)
        return cls(content, some.ids, content.encode(some), n_users[chosen])

    def kernel(self, items: Items) -> Float32:
        """Return how alike any items are to those of A: float32 (n_items, n)."""
        kernel: Float32 = np.maximum(self.content.encode(items) @ self.vectors.T, 0.0)
        return np.square(kernel, out=kernel)

    def regression(self) -> Regression:
        """Return the regression on A."""
        kernel = np.square(np.maximum(self.vectors @ self.vectors.T, 0.0)).astype(np.float64)
        kernel[np.diag_indices_from(kernel)] += RIDGE * (1.0 + RIDGE_OF_FEW / self.n_users)
        factor = cho_factor(kernel, lower=True, overwrite_a=True, check_finite=False)
        inverse = cho_solve(factor, np.eye(len(kernel)), overwrite_b=True, check_finite=False)
        return Regression(inverse.astype(np.float32))

    def weights(self) -> dict[str, np.ndarray]:
        """Arrays for `ModelState.weights`."""
        return {**self.content.weights(), "alike_vectors": self.vectors, "alike_users": self.n_users}

    def values(self) -> dict[str, JsonValue]:
        """Plain values for `ModelState.values`."""
        return self.content.values()

    @classmethod
    def from_state(
        cls, weights: Mapping[str, np.ndarray], values: Mapping[str, JsonValue], ids: pa.StringArray
    ) -> AlikeItems:
        """Read back what `weights` and `values` gave, for the ids of A. KeyError when something is missing."""
        content = ItemContent.from_state(weights, values)
        return cls(content, ids, weights["alike_vectors"].astype(np.float32), weights["alike_users"].astype(np.int64))

    def places(self, items: Items) -> Int64:
        """Return the place of items in A: int64 (n_items,), -1 for others."""
        return rows_of(items.ids, self.ids)


@dataclass(frozen=True, slots=True)
class Regression:
    """(K_AA + Λ)⁻¹, float32 (n, n)."""

    inverse: Float32

    def coefficients(self, vectors: Float32) -> Float32:
        """Return α, float32 (n, k), for vectors (n, k) of A."""
        found: Float32 = self.inverse @ vectors
        return found

    def left_out(self, vectors: Float32, coefficients: Float32, places: Int64) -> Float32:
        """Return what items of A would get were they not in A: float32 (n_items, k).

        Args:
            vectors: float32 (n_items, k), their own.
            coefficients: float32 (n_items, k), their α.
            places: int64 (n_items,), of these in A.
        """
        found: Float32 = vectors - coefficients / np.diag(self.inverse)[places, None]
        return found
