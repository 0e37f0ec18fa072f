"""Scores of several models made comparable and added up, as one dot product.

    s_ui = Σ_m w_mc (u_m · (v_mi - v̄_m)) / σ_mu          items somebody took
    s_ui = L_u + W_c (Σ_m (u_m · v'_mi) / σ_mu + o)      items nobody took

u_m and v_mi are the vectors of part m, σ_mu the standard deviation of the user's scores by that
part over the items somebody took (a z-score: parts differ in scale, and with the user), c the
class of the user's history length, W_c the sum of its weights. Items nobody took have vectors
v'_mi = κ_m own + κ'_m alike, both centred: the one the model itself makes of their content, and
the one of items that read alike (`alike`). Their scores say nothing about how they compare with
known items; they are placed around the level L_u of the user's list (`level`), with an offset o.

σ needs no scores. With C the covariance of a part's item vectors, σ² = uᵀ C u; where C is too
large it is kept as its first eigenvectors and the diagonal of what they leave:

    σ² ≈ |u F|² + Σ_k u_k² d_k
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from recpipe.models.base import JsonValue
    from recpipe.models.tables import Float32, Int64

CLASS_STARTS = (0, 1, 3, 6, 16)
"""Least events in a history of each class."""

CLASS_NAMES = (
    *(f"{low}-{high - 1}" if high - low > 1 else f"{low}" for low, high in pairwise(CLASS_STARTS)),
    f"{CLASS_STARTS[-1]}+",
)

NEW_NAMES = ("new", "new_alike")
"""Names of κ and κ' among the chosen hyper-parameters."""

OFFSET_KEY = "weight.new_offset"

CAUTIOUS_GAIN, CAUTIOUS_OFFSET = 0.01, -0.04
"""Gain and offset of new items where nothing tells more: next after the level, all but the most striking ones."""

FACTOR_WIDTH = 128
EXACT_WIDTH = 512
"""Widest vectors whose covariance is kept whole."""

SMALLEST_SPREAD = 1e-6


def class_of(n_events: Int64) -> Int64:
    """Return the class of histories of so many events: int64, a place in `CLASS_NAMES`."""
    return np.searchsorted(np.array(CLASS_STARTS), n_events, side="right") - 1


@dataclass(frozen=True, slots=True)
class Spread:
    """How a part's scores of any user lie over the items somebody took.

    Attributes:
        centre: float32 (k,): mean of the vectors of items somebody took.
        factor: float32 (k, width): F.
        diagonal: float32 (k,): d.
    """

    centre: Float32
    factor: Float32
    diagonal: Float32

    @classmethod
    def of(cls, vectors: Float32, *, seed: int) -> Spread:
        """Measure the vectors of the items somebody took, (n_items, k)."""
        centre = vectors.mean(axis=0, dtype=np.float64).astype(np.float32)
        shifted = (vectors - centre) / np.float32(max(len(vectors), 1) ** 0.5)
        width = vectors.shape[1]
        if width <= EXACT_WIDTH:
            values, directions = np.linalg.eigh(shifted.T @ shifted)
            factor = (directions * np.sqrt(np.maximum(values, 0.0))).astype(np.float32)
            return cls(centre, factor, np.zeros(width, np.float32))
        from sklearn.utils.extmath import randomized_svd

        _, singular, right = randomized_svd(shifted, FACTOR_WIDTH, n_iter=1, random_state=seed)
        factor = np.ascontiguousarray((right.T * singular).astype(np.float32))
        left = np.einsum("nk,nk->k", shifted, shifted) - np.einsum("kf,kf->k", factor, factor)
        return cls(centre, factor, np.maximum(left, 0.0).astype(np.float32))

    def inverse(self, users: Float32) -> Float32:
        """Return 1 / σ of users (n_users, k): float32 (n_users,), 0 where all items score the same."""
        variance = np.square(users @ self.factor).sum(axis=1) + np.square(users) @ self.diagonal
        spread = np.sqrt(variance)
        inverse: Float32 = np.where(
            spread > SMALLEST_SPREAD, 1.0 / np.maximum(spread, SMALLEST_SPREAD), np.float32(0.0)
        ).astype(np.float32)
        return inverse

    def arrays(self) -> dict[str, np.ndarray]:
        """The fields by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> Spread:
        """Read back what `arrays` gave. KeyError when something is missing."""
        return cls(*(arrays[field.name] for field in fields(cls)))


@dataclass(frozen=True, slots=True)
class FusionWeights:
    """What each part counts.

    Attributes:
        parts: names of the parts.
        by_class: float32 (n_parts, n_classes): w.
        new: float32 (n_parts, 2): κ and κ', for items nobody took.
        offset: o, in standard deviations: where new items of middling score stand from the user's level.
    """

    parts: tuple[str, ...]
    by_class: Float32
    new: Float32
    offset: float = 0.0

    @classmethod
    def alone(cls, parts: Sequence[str], part: str) -> FusionWeights:
        """One part and nothing else."""
        own = np.array([[name == part] for name in parts], np.float32)
        new = own * np.array([[CAUTIOUS_GAIN, 0.0]], np.float32)
        return cls(tuple(parts), np.repeat(own, len(CLASS_NAMES), axis=1), new, CAUTIOUS_OFFSET)

    @property
    def totals(self) -> Float32:
        """Sum of the weights of each class: float32 (n_classes,)."""
        return np.asarray(self.by_class.sum(axis=0), np.float32)

    @property
    def known(self) -> Float32:
        """Which parts count for items somebody took: 1 or 0, float32 (n_parts,)."""
        return np.asarray(self.by_class.any(axis=1), np.float32)

    @property
    def used(self) -> tuple[str, ...]:
        """The parts that count for anything."""
        counts = (self.known > 0) | self.new.any(axis=1)
        return tuple(part for part, counted in zip(self.parts, counts, strict=True) if counted)

    def choice(self) -> dict[str, JsonValue]:
        """Flat values for `FitReport.choice`."""
        values: dict[str, JsonValue] = {
            f"weight.{part}.{name}": _plain(weight)
            for part, row in zip(self.parts, self.by_class, strict=True)
            for name, weight in zip(CLASS_NAMES, row, strict=True)
        }
        values |= {
            f"weight.{part}.{name}": _plain(weight)
            for part, row in zip(self.parts, self.new, strict=True)
            for name, weight in zip(NEW_NAMES, row, strict=True)
        }
        return values | {OFFSET_KEY: _plain(np.float32(self.offset))}

    @classmethod
    def from_choice(cls, parts: Sequence[str], choice: Mapping[str, JsonValue]) -> FusionWeights | None:
        """Read what `choice` gave; None where nothing was chosen."""
        if OFFSET_KEY not in choice:
            return None

        def value(key: str) -> float:
            return float(choice.get(key) or 0.0)

        by_class = [[value(f"weight.{part}.{name}") for name in CLASS_NAMES] for part in parts]
        new = [[value(f"weight.{part}.{name}") for name in NEW_NAMES] for part in parts]
        return cls(tuple(parts), np.array(by_class, np.float32), np.array(new, np.float32), value(OFFSET_KEY))


def _plain(weight: np.float32) -> float:
    """Return the shortest number that is read back as this one: what is saved scores as what was chosen."""
    return float(str(np.float32(weight)))
