"""An item's vectors from several encoders as one: each half whitened, brought to length 1, weighed, side by side.

    z_b = unit((v_b - mean_b) U_b diag(λ_b)^-¼)
    f   = [√g_1 z_1, ..., √g_B z_B],   g_b = w_b h_b / Σ_c w_c h_c,   h_b: the item has block b

A block is the joined text, a text field, the picture or the sound. Encoders differ in scale and
in how much all their vectors have in common, so that vectors put side by side as they are would
be those of the loudest encoder. U_b and λ_b are the leading principal components and their
variances, shrunk towards the mean variance as far as the number of items asks for
(Ledoit & Wolf 2004), or rare directions would be noise blown up. Whitened in full (-½), what
little sets items apart in the last components would count as much as what most sets them apart
in the first; on simulated pictures, half is better. f has length 1 whichever
blocks an item has; the flags h say which.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from recpipe.errors import DataError
from recpipe.models.tables import Block, Items

if TYPE_CHECKING:
    from recpipe.models.base import JsonValue
    from recpipe.models.tables import Bool, Float32, Int64

JOINED_TEXT = "joined text"
"""Name of the item's embedding among the blocks; no block's own name has a space."""

MAX_COORDINATES = 64
"""Most coordinates of a block."""

WHITENING = 0.25
"""Power of a variance that its component is divided by: ½ makes all variances equal, 0 changes nothing."""

MAX_FITTED = 50_000
"""Most items that means and components are computed from, evenly spaced in the catalogue."""

SMALLEST_VARIANCE = 1e-9
"""Of a component, relative to the mean square length of the vectors: less is rounding."""

WEIGHTS = "block_weights"
NAMES = "block_names"


@dataclass(frozen=True, slots=True)
class BlockMap:
    """How one block becomes z.

    Attributes:
        mean: float32 (dim,).
        whitening: float32 (dim, n_coordinates).
    """

    mean: Float32
    whitening: Float32


@dataclass(frozen=True, slots=True)
class BlockVectors:
    """The blocks of some items, apart.

    Attributes:
        vectors: float32 (n_items, width): z of all blocks side by side, zeros where an item has none.
        present: bool (n_items, n_blocks): h.
    """

    vectors: Float32
    present: Bool


@dataclass(frozen=True, slots=True)
class ItemBlocks:
    """How the blocks of items become one vector.

    Attributes:
        maps: by name of the block, in the order of their coordinates.
        block_weights: float32 (n_blocks,): w, sum 1.
    """

    maps: Mapping[str, BlockMap]
    block_weights: Float32

    @classmethod
    def of(cls, items: Items, taken: Bool | None = None) -> ItemBlocks | None:
        """Learn from a catalogue; None where it has nothing beside the embedding.

        Args:
            taken: bool (n_items,): the items somebody took in training, which alone are learned
                from; None, or none of those that have the block: all.
        """
        maps = {}
        for name, block in _blocks_of(items).items() if items.blocks else ():
            rows = np.flatnonzero(block.present)
            chosen = rows if taken is None else rows[taken[rows]]
            found = _block_map(block.vectors, chosen if len(chosen) > 1 else rows)
            if found is not None:
                maps[name] = found
        if not maps or list(maps) == [JOINED_TEXT]:
            return None
        return cls(maps, np.full(len(maps), 1.0 / len(maps), dtype=np.float32))

    @property
    def sizes(self) -> Int64:
        """Coordinates of each block: int64 (n_blocks,)."""
        return np.array([found.whitening.shape[1] for found in self.maps.values()], dtype=np.int64)

    @property
    def width(self) -> int:
        """Coordinates of all blocks together."""
        return int(self.sizes.sum())

    @property
    def owners(self) -> Int64:
        """The block of each coordinate: int64 (width,)."""
        return np.repeat(np.arange(len(self.maps), dtype=np.int64), self.sizes)

    def vectors(self, items: Items) -> BlockVectors:
        """Return z of all blocks; a block that the catalogue lacks altogether is missing from every item.

        Raises:
            DataError: A block has another width than the one learned from.
        """
        blocks = _blocks_of(items)
        vectors = np.zeros((len(items), self.width), dtype=np.float32)
        present = np.zeros((len(items), len(self.maps)), dtype=np.bool_)
        starts = np.cumsum(self.sizes) - self.sizes
        for place, (name, found) in enumerate(self.maps.items()):
            block = blocks.get(name)
            if block is None or not block.present.any():
                continue
            if block.vectors.shape[1] != len(found.mean):
                raise DataError(
                    f"the {name} vectors of items have {block.vectors.shape[1]} dimensions, "
                    f"the model was trained on {len(found.mean)}",
                    where="item_embeddings",
                    next_step="run: recpipe train",
                )
            rows = np.flatnonzero(block.present)
            whitened = (block.vectors[rows] - found.mean) @ found.whitening
            lengths = np.linalg.norm(whitened, axis=1)
            # what lies at the mean says nothing
            pointing = lengths > 1e-4
            rows, whitened = rows[pointing], whitened[pointing] / lengths[pointing, None]
            vectors[rows, starts[place] : starts[place] + whitened.shape[1]] = whitened
            present[rows, place] = True
        return BlockVectors(vectors, present)

    def fused(self, blocks: BlockVectors) -> Float32:
        """Return f, float32 (n_items, width): length 1, or zeros where an item has no block."""
        shares = self.block_weights * blocks.present  # (n_items, n_blocks)
        shares /= np.maximum(shares.sum(axis=1, keepdims=True), 1e-9)
        fused: Float32 = blocks.vectors * np.sqrt(shares)[:, self.owners]
        return fused

    def flagged(self, blocks: BlockVectors) -> Float32:
        """Return [f, h], float32 (n_items, width + n_blocks): what a network is given."""
        return np.concatenate([self.fused(blocks), blocks.present.astype(np.float32)], axis=1)

    def weights(self) -> dict[str, np.ndarray]:
        """Arrays for `ModelState.weights`."""
        arrays: dict[str, np.ndarray] = {WEIGHTS: self.block_weights}
        for place, found in enumerate(self.maps.values()):
            arrays |= {f"block_{place}_mean": found.mean, f"block_{place}_whitening": found.whitening}
        return arrays

    def values(self) -> dict[str, JsonValue]:
        """Plain values for `ModelState.values`."""
        return {NAMES: "\n".join(self.maps)}

    @classmethod
    def from_state(cls, weights: Mapping[str, np.ndarray], values: Mapping[str, JsonValue]) -> ItemBlocks | None:
        """Read back what `weights` and `values` gave; None where there were no blocks. KeyError when damaged."""
        if NAMES not in values:
            return None
        maps = {
            name: BlockMap(
                weights[f"block_{place}_mean"].astype(np.float32),
                weights[f"block_{place}_whitening"].astype(np.float32),
            )
            for place, name in enumerate(str(values[NAMES]).split("\n"))
        }
        return cls(maps, weights[WEIGHTS].astype(np.float32))


def shrinkage(centred: np.ndarray) -> float:
    """Return how far to move a covariance towards the mean variance, 0 to 1 (Ledoit & Wolf 2004).

    Args:
        centred: float64 (n, dim), rows less their mean.
    """
    n, dim = centred.shape
    covariance = centred.T @ centred / n
    squares = float(np.square(covariance).sum())
    spread = squares - float(np.trace(covariance)) ** 2 / dim  # |S - mean variance · I|²
    if spread <= 0.0:
        return 1.0
    error = (float(np.square(np.square(centred).sum(axis=1)).mean()) - squares) / n
    return float(np.clip(error / spread, 0.0, 1.0))


def _blocks_of(items: Items) -> dict[str, Block]:
    """Return the joined text, where models were given it, and the other blocks."""
    joined = {JOINED_TEXT: Block(items.embeddings, items.embedded)} if items.embeddings.shape[1] else {}
    return joined | dict(items.blocks)


def _block_map(vectors: Float32, rows: Int64) -> BlockMap | None:
    """Learn a block from some rows; None where they do not differ."""
    if len(rows) > MAX_FITTED:
        rows = rows[np.linspace(0, len(rows) - 1, MAX_FITTED).astype(np.int64)]
    if len(rows) < 2:
        return None
    known = vectors[rows].astype(np.float64)
    mean = known.mean(axis=0)
    square_length = float(np.square(known).sum(axis=1).mean())
    known -= mean
    variances, components = np.linalg.eigh(known.T @ known / len(rows))  # ascending
    kept = np.flatnonzero(variances > SMALLEST_VARIANCE * square_length)[::-1][:MAX_COORDINATES]
    if len(kept) == 0:
        return None
    part = shrinkage(known)
    shrunk = (1.0 - part) * variances[kept] + part * variances.mean()
    # relative to the vectors' own size, so that their scale changes nothing
    whitening = components[:, kept] / (shrunk / square_length) ** WHITENING / square_length**0.5
    return BlockMap(mean.astype(np.float32), whitening.astype(np.float32))
