"""A fitted model as a part of a hybrid: its vectors made comparable with those of the others."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from recpipe.models.base import FactoredModel, UserVectors
from recpipe.models.hybrid.alike import AlikeItems, Regression
from recpipe.models.hybrid.fusion import EXACT_WIDTH, Spread
from recpipe.models.tables import Histories, Items, Profiles

if TYPE_CHECKING:
    from collections.abc import Mapping

    from recpipe.models.tables import Float32

OWN, ALIKE = 0, 1
"""The two ways to the vectors of new items: the model's own, and from items that read alike."""


@dataclass(frozen=True, slots=True)
class Part:
    """A fitted model and how its scores lie.

    Attributes:
        model: the model.
        spread: of its scores of items somebody took.
        own_centre: float32 (k,): mean of the vectors the model gives to items it never saw.
        coefficients: float32 (n, k): α of the regression on the items others are likened to.
        alike_centre: float32 (k,): mean of the vectors by that regression.
    """

    model: FactoredModel
    spread: Spread
    own_centre: Float32
    coefficients: Float32
    alike_centre: Float32

    @classmethod
    def of(cls, model: FactoredModel, taken: Items, alike: AlikeItems, regression: Regression, *, seed: int) -> Part:
        """Measure a model on the items somebody took."""
        vectors = model.item_vectors(taken)
        spread = Spread.of(vectors, seed=seed)
        width = vectors.shape[1]
        if width > EXACT_WIDTH:  # see reaches_new
            return cls(model, spread, np.zeros(width, np.float32), *_no_alike(width))
        places = alike.places(taken)
        anchors = np.empty((len(alike.ids), width), np.float32)
        anchors[places[places >= 0]] = vectors[places >= 0] - spread.centre
        own_centre = model.new_item_vectors(taken).mean(axis=0, dtype=np.float64).astype(np.float32)
        coefficients = regression.coefficients(anchors)
        left_out = regression.left_out(anchors, coefficients, np.arange(len(anchors)))
        alike_centre = left_out.mean(axis=0, dtype=np.float64).astype(np.float32)
        return cls(model, spread, own_centre, coefficients, alike_centre)

    @property
    def width(self) -> int:
        """Coordinates of its vectors."""
        return len(self.own_centre)

    @property
    def reaches_new(self) -> bool:
        """Whether it may count for new items.

        Known and new items have blocks of coordinates of their own, as their weights differ; of
        vectors as wide as the catalogue one block is enough.
        """
        return self.width <= EXACT_WIDTH

    def kept(self, weights: Float32) -> Part:
        """Return what is needed where the two ways to new items have these weights, float32 (2,)."""
        return self if weights[ALIKE] else replace(self, coefficients=_no_alike(self.width)[0])

    def users(self, profiles: Profiles, histories: Histories) -> tuple[Float32, UserVectors]:
        """Return user vectors over the spread of their scores, float32 (n_users, k), and as the model made them."""
        made = self.model.user_vectors(profiles.without_segments(), histories)
        return made.vectors * self.spread.inverse(made.vectors)[:, None], made

    def items(self, items: Items) -> Float32:
        """Return centred vectors (n_items, k) of items somebody took."""
        return self.model.item_vectors(items) - self.spread.centre

    def new_items(self, items: Items, kernel: Float32, weights: Float32) -> Float32:
        """Return centred vectors (n_items, k) of items nobody took.

        Args:
            kernel: float32 (n_items, n): how alike they are to the items others are likened to.
            weights: float32 (2,), of the two ways.
        """
        vectors = np.zeros((len(items), self.width), np.float32)
        if weights[OWN]:
            vectors += weights[OWN] * (self.model.item_vectors(items) - self.own_centre)
        if weights[ALIKE]:
            vectors += weights[ALIKE] * (kernel @ self.coefficients - self.alike_centre)
        return vectors

    def as_if_new(self, items: Items, alike: AlikeItems, regression: Regression) -> tuple[Float32, Float32]:
        """Return the centred vectors that items would have had nobody taken them, by each of the two ways."""
        own = self.model.new_item_vectors(items) - self.own_centre
        likened = alike.kernel(items) @ self.coefficients
        places = alike.places(items)
        inside = places >= 0
        if inside.any():
            # the kernel likens these to themselves
            rows = places[inside]
            vectors = self.model.item_vectors(items.rows(np.flatnonzero(inside))) - self.spread.centre
            likened[inside] = regression.left_out(vectors, self.coefficients[rows], rows)
        return own, likened - self.alike_centre

    def arrays(self, name: str) -> dict[str, np.ndarray]:
        """Arrays for `ModelState.weights`."""
        own = {"own_centre": self.own_centre, "coefficients": self.coefficients, "alike_centre": self.alike_centre}
        return {f"{name}.{key}": array for key, array in {**self.spread.arrays(), **own}.items()}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray], name: str, model: FactoredModel) -> Part:
        """Read back what `arrays` gave. KeyError when something is missing."""
        own = {key.removeprefix(f"{name}."): array for key, array in arrays.items() if key.startswith(f"{name}.")}
        spread = Spread.from_arrays(own)
        return cls(model, spread, own["own_centre"], own["coefficients"], own["alike_centre"])


def _no_alike(width: int) -> tuple[Float32, Float32]:
    """Coefficients and centre of a part that likens nothing."""
    return np.empty((0, width), np.float32), np.zeros(width, np.float32)
