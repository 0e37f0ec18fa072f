"""Side information of users and items: who took what, how much of it, and attributes.

    x_u = [log count, binary SVD of the user's items, attributes]
    y_j = [log count, binary SVD of the item's users, attributes]

Which items somebody chose to rate says what they like (Salakhutdinov, Mnih & Hinton 2007,
"Restricted Boltzmann machines for collaborative filtering", section 4). With A ≈ U S Vᵀ the
matrix of what users took, x has U = A V S⁻¹, so that a user unseen in training has it too. An
item unseen in training was taken by nobody: its log count is the lowest seen and its SVD part is 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from scipy import sparse
from scipy.sparse.linalg import svds

from recpipe.models.attribute_space import AttributeSpace
from recpipe.models.bayesian_factorization.sampler import SideInformation

if TYPE_CHECKING:
    import numpy.typing as npt

    from recpipe.models.tables import Float32, Int64

    Float64 = npt.NDArray[np.float64]

SPECTRUM_POWER = 1.0
"""Dimensions of the SVD weigh as their singular value to this power: 0 all alike, 1 as in the matrix."""


@dataclass(frozen=True, slots=True)
class Standard:
    """Log counts brought to mean 0 and deviation 1.

    Counts beyond those seen in training become the nearest seen: where all items have a
    hundred users, an item without any would be twenty deviations away, and the line fitted to
    the others says nothing out there.
    """

    mean: float
    scale: float
    lowest: float
    highest: float

    @classmethod
    def of(cls, counts: Int64) -> Standard:
        """Learn from counts of the rows seen in training."""
        logs = np.log1p(counts)
        return cls(float(logs.mean()), float(logs.std()) or 1.0, float(logs.min()), float(logs.max()))

    def apply(self, counts: Int64) -> Float64:
        """Return float64 (n_rows, 1)."""
        logs = np.clip(np.log1p(counts), self.lowest, self.highest)
        standard: Float64 = ((logs - self.mean) / self.scale)[:, None]
        return standard


@dataclass(frozen=True, slots=True)
class Features:
    """How users and items become side information.

    Attributes:
        user_counts: Of a user's distinct items.
        item_counts: Of an item's distinct users.
        projection: float32 (n_items, n_dimensions): from items taken to the user's SVD part.
        item_parts: float32 (n_items, n_dimensions): the items' SVD part.
        known_counts: int64 (n_items,): distinct users of the items of `projection`.
        user_space: The users' attributes.
        item_space: The items' attributes.
    """

    user_counts: Standard
    item_counts: Standard
    projection: Float32
    item_parts: Float32
    known_counts: Int64
    user_space: AttributeSpace
    item_space: AttributeSpace

    @classmethod
    def of(
        cls,
        taken: sparse.csr_matrix,
        *,
        user_attributes: pa.Table | None,
        item_attributes: pa.Table | None,
        n_dimensions: int,
        rng: np.random.Generator,
    ) -> Features:
        """Learn the features.

        Args:
            taken: float64 csr (n_users, n_items) of 1 where the user took the item.
            user_attributes: Table of all users, with or without interactions, or None.
            item_attributes: Table of the whole catalogue, or None.
            n_dimensions: Of the SVD; fewer where the matrix has fewer.
            rng: For the start vector of the SVD.
        """
        item_counts = np.asarray(taken.sum(axis=0)).ravel().astype(np.int64)
        user_counts = np.diff(taken.indptr).astype(np.int64)
        projection, parts = _binary_svd(taken, n_dimensions, rng)
        return cls(
            user_counts=Standard.of(user_counts),
            item_counts=Standard.of(item_counts),
            projection=projection,
            item_parts=parts,
            known_counts=item_counts,
            user_space=AttributeSpace.of(user_attributes),
            item_space=AttributeSpace.of(item_attributes),
        )

    def users(self, taken: sparse.csr_matrix, attributes: pa.Table | None) -> SideInformation:
        """Return x of users.

        Args:
            taken: float64 csr (n_users, n_items) of 1, items as in `projection`.
            attributes: Table of the same users, or None.
        """
        counts = self.user_counts.apply(np.diff(taken.indptr))
        dense = np.concatenate([counts, taken @ self.projection.astype(np.float64)], axis=1)
        return SideInformation(dense, self.user_space.encode(attributes, taken.shape[0]).astype(np.float64))

    def items(self, rows: Int64, attributes: pa.Table | None) -> SideInformation:
        """Return y of items.

        Args:
            rows: int64 (n_items,), rows of `item_parts`; -1: unseen in training.
            attributes: Table of the same items, or None.
        """
        known = rows >= 0
        counts = np.where(known, self.known_counts[rows], 0)
        parts = np.where(known[:, None], self.item_parts[rows], 0.0)
        dense = np.concatenate([self.item_counts.apply(counts), parts], axis=1).astype(np.float64)
        return SideInformation(dense, self.item_space.encode(attributes, len(rows)).astype(np.float64))

    def weights(self) -> dict[str, np.ndarray]:
        """Return arrays for `ModelState.weights`."""
        return {"projection": self.projection, "item_parts": self.item_parts, "known_counts": self.known_counts}

    def values(self) -> dict[str, float | str]:
        """Return plain values for `ModelState.values`."""
        counts = {"user": asdict(self.user_counts), "item": asdict(self.item_counts)}
        return {f"{side}_count_{name}": value for side, parts in counts.items() for name, value in parts.items()} | {
            "user_space": self.user_space.to_json(),
            "item_space": self.item_space.to_json(),
        }

    @classmethod
    def from_state(cls, weights: Mapping[str, np.ndarray], values: Mapping[str, object]) -> Features:
        """Read back what `weights` and `values` gave. KeyError when something is missing."""
        user_counts, item_counts = (
            Standard(*(float(str(values[f"{side}_count_{field.name}"])) for field in fields(Standard)))
            for side in ("user", "item")
        )
        return cls(
            user_counts=user_counts,
            item_counts=item_counts,
            projection=weights["projection"].astype(np.float32, copy=False),
            item_parts=weights["item_parts"].astype(np.float32, copy=False),
            known_counts=weights["known_counts"].astype(np.int64, copy=False),
            user_space=AttributeSpace.from_json(str(values["user_space"])),
            item_space=AttributeSpace.from_json(str(values["item_space"])),
        )


def _binary_svd(taken: sparse.csr_matrix, n_dimensions: int, rng: np.random.Generator) -> tuple[Float32, Float32]:
    """Return the users' projection and the items' parts, float32 (n_items, n_dimensions) each.

    Parts have variance (s / s_max)^(2 · SPECTRUM_POWER) over the rows.
    """
    n_users, n_items = taken.shape
    n_dimensions = min(n_dimensions, n_users - 1, n_items - 1)
    if n_dimensions < 1:
        return np.zeros((n_items, 0), np.float32), np.zeros((n_items, 0), np.float32)
    start = rng.standard_normal(min(n_users, n_items))
    _, strengths, transposed = svds(taken, k=n_dimensions, v0=start)
    held = strengths > 1e-6 * strengths.max()  # below: rounding, which S⁻¹ would blow up
    strengths, vectors = strengths[held], transposed[held].T
    weights = (strengths / strengths.max()) ** SPECTRUM_POWER
    projection = vectors * (np.sqrt(n_users) * weights / strengths)
    return projection.astype(np.float32), (vectors * (np.sqrt(n_items) * weights)).astype(np.float32)
