"""What is known of an item apart from who took it, as one vector of length 1.

    c_j = unit([unit(v_j - mean), a · categories, b · numbers])

v_j is the embedding; where items have vectors apart (pictures, sounds, fields of their text), the
fused vector of `ItemBlocks` takes its place. Categories and numbers are blocks of the `AttributeSpace`. The product
of two vectors is the content kernel: near 1 for items that read alike and share attributes.
Centred, since what all texts have in common would make all items alike.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from recpipe.models.attribute_space import AttributeSpace
from recpipe.models.item_blocks import ItemBlocks
from recpipe.models.item_space import centred, embedding_mean
from recpipe.models.tables import Items

if TYPE_CHECKING:
    from recpipe.models.base import JsonValue
    from recpipe.models.tables import Bool, Float32

CATEGORY_WEIGHT = 0.5
NUMBER_WEIGHT = 0.3
"""The usual lengths of a category's and a number's block."""


@dataclass(frozen=True, slots=True)
class ItemContent:
    """How items become content vectors.

    Attributes:
        mean: float32 (dim,), of the embeddings.
        attributes: coordinates of the attribute columns.
        blocks: how the blocks of items are fused; None: there is nothing beside the embedding.
        category_weight: length of a category's block beside the embedding's of 1.
        number_weight: of a number's.
    """

    mean: Float32
    attributes: AttributeSpace
    blocks: ItemBlocks | None = None
    category_weight: float = CATEGORY_WEIGHT
    number_weight: float = NUMBER_WEIGHT

    @classmethod
    def of(
        cls,
        items: Items,
        taken: Bool | None = None,
        *,
        category_weight: float = CATEGORY_WEIGHT,
        number_weight: float = NUMBER_WEIGHT,
    ) -> ItemContent:
        """Learn the mean, the attribute values and the blocks of a catalogue.

        Args:
            taken: bool (n_items,): the items somebody took, which the blocks are learned from; None: all.
        """
        return cls(
            embedding_mean(items),
            AttributeSpace.of(items.attributes),
            ItemBlocks.of(items, taken),
            category_weight,
            number_weight,
        )

    @property
    def width(self) -> int:
        """Number of coordinates; 0: nothing is known of any item."""
        return (len(self.mean) if self.blocks is None else self.blocks.width) + self.attributes.width

    def encode(self, items: Items) -> Float32:
        """Return content vectors, float32 (n_items, width): length 1, or zeros where nothing is known.

        Raises:
            DataError: The embeddings have another width than those learned from.
        """
        if self.blocks is None:
            embeddings = _unit(centred(items, self.mean))
        else:
            # without the flags: lacking the same makes nothing alike
            embeddings = self.blocks.fused(self.blocks.vectors(items))
        coordinates = self.attributes.encode(items.attributes, len(items)).toarray()
        numbers = {name for name, _ in self.attributes.knots}
        for name, place in self.attributes.blocks:
            coordinates[:, place] *= self.number_weight if name in numbers else self.category_weight
        return _unit(np.concatenate([embeddings, coordinates], axis=1))

    def weights(self) -> dict[str, np.ndarray]:
        """Arrays for `ModelState.weights`."""
        blocks = {} if self.blocks is None else self.blocks.weights()
        return {"content_mean": self.mean, **blocks}

    def values(self) -> dict[str, JsonValue]:
        """Plain values for `ModelState.values`."""
        blocks = {} if self.blocks is None else self.blocks.values()
        return {
            "content_attributes": self.attributes.to_json(),
            "category_weight": self.category_weight,
            "number_weight": self.number_weight,
            **blocks,
        }

    @classmethod
    def from_state(cls, weights: Mapping[str, np.ndarray], values: Mapping[str, JsonValue]) -> ItemContent:
        """Read back what `weights` and `values` gave. KeyError when something is missing."""
        mean = weights["content_mean"].astype(np.float32)
        return cls(
            mean,
            AttributeSpace.from_json(str(values["content_attributes"])),
            ItemBlocks.from_state(weights, values),
            float(str(values["category_weight"])),
            float(str(values["number_weight"])),
        )


def _unit(rows: Float32) -> Float32:
    """Bring rows to length 1; what is nothing but rounding stays zero."""
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    unit: Float32 = np.where(norms > 1e-4, rows / np.maximum(norms, 1e-4), np.float32(0.0)).astype(np.float32)
    return unit
