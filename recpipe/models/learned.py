"""What the learned models share in use: parameters as arrays, the catalogue at hand, ids they know."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from recpipe.models.content import SEGMENT_PRIOR
from recpipe.models.ids import rows_of
from recpipe.models.popularity import POPULARITY
from recpipe.models.profile_space import ProfileSpace
from recpipe.models.tables import Profiles, TrainingData

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pyarrow as pa
    import torch

    from recpipe.models.base import JsonValue, ModelState, Words
    from recpipe.models.examples import Examples
    from recpipe.models.tables import Bool, Float32, Int64


@dataclass(frozen=True, slots=True)
class Learned:
    """What a learned model keeps beside its parameters.

    Attributes:
        target: rating or implicit.
        space: how profiles are encoded.
        item_mean: float32 (dim,), subtracted from item embeddings.
        user_ids: `pa.StringArray`, the users that have parameters of their own.
        item_ids: `pa.StringArray`, the items that have.
        offset: mean rating; 0 for implicit feedback.
        lowest: smallest rating seen.
        highest: largest rating seen.
    """

    target: str
    space: ProfileSpace
    item_mean: Float32
    user_ids: pa.StringArray
    item_ids: pa.StringArray
    offset: float
    lowest: float
    highest: float

    def weights(self) -> dict[str, np.ndarray]:
        """Arrays for `ModelState.weights`."""
        return {
            "feature_mean": self.space.feature_mean,
            "feature_scale": self.space.feature_scale,
            "centre_mean": self.space.centre_mean,
            "item_mean": self.item_mean,
        }

    def values(self) -> dict[str, JsonValue]:
        """Plain values for `ModelState.values`."""
        return {
            "target": self.target,
            "n_segments": self.space.n_segments,
            "offset": self.offset,
            "lowest": self.lowest,
            "highest": self.highest,
        }

    @classmethod
    def from_state(cls, state: ModelState) -> Learned:
        """Read back what `weights` and `values` gave. KeyError when something is missing."""
        if state.user_ids is None or state.item_ids is None:
            raise KeyError("ids")
        weights, values = state.weights, state.values
        mean, scale, centre, item = (
            weights[name].astype(np.float32) for name in ("feature_mean", "feature_scale", "centre_mean", "item_mean")
        )
        space = ProfileSpace(mean, scale, centre, int(values["n_segments"] or 0))
        return cls(
            target=str(values["target"]),
            space=space,
            item_mean=item,
            user_ids=state.user_ids,
            item_ids=state.item_ids,
            offset=float(values["offset"] or 0.0),
            lowest=float(values["lowest"] or 0.0),
            highest=float(values["highest"] or 0.0),
        )

    def known_users(self, profiles: Profiles) -> Int64:
        """Rows of the users' own parameters: int64 (n_users,), -1 for one unseen."""
        return rows_of(profiles.user_ids, self.user_ids)


def arrays_of(parameters: Mapping[str, torch.nn.Parameter]) -> dict[str, np.ndarray]:
    """Return parameters as arrays; on CPU they share memory with the parameters."""
    return {name: parameter.detach().cpu().numpy() for name, parameter in parameters.items()}


def parameters_of(state: ModelState, names: Sequence[str]) -> dict[str, np.ndarray]:
    """Return the parameters of these names. KeyError when one is missing: now, not in the middle of scoring."""
    return {name: state.weights[name].astype(np.float32, copy=False) for name in names}


def rows_or_zero(table: np.ndarray, rows: Int64) -> Float32:
    """Return rows of a table, zeros for row -1."""
    found = np.zeros((len(rows), *table.shape[1:]), dtype=np.float32)
    known = rows >= 0
    found[known] = table[rows[known]]
    return found


def sources_of(known: Bool, profiles: Profiles, name: str) -> Words:
    """Return the path of each user: the model for whom it knows, their segment, or popularity."""
    return np.where(known, name, np.where(profiles.segments >= 0, SEGMENT_PRIOR, POPULARITY))


def learned_from(data: TrainingData, examples: Examples, space: ProfileSpace, item_mean: Float32) -> Learned:
    """Collect what a model keeps about its training data, in one pass over the users."""
    import pyarrow as pa

    counts = examples.user_counts
    start = 0
    blocks = []
    for profiles, _ in data.blocks():
        seen = np.flatnonzero(counts[start : start + len(profiles)])
        blocks.append(profiles.user_ids.cast(pa.string()).take(pa.array(seen)))
        start += len(profiles)
    rated = examples.target == "rating"
    return Learned(
        target=examples.target,
        space=space,
        item_mean=item_mean,
        user_ids=pa.concat_arrays(blocks),
        item_ids=data.items.ids.cast(pa.string()).take(pa.array(np.flatnonzero(examples.item_counts))),
        offset=float(examples.ratings.mean(dtype=np.float64)) if rated else 0.0,
        lowest=float(examples.ratings.min()) if rated else 0.0,
        highest=float(examples.ratings.max()) if rated else 0.0,
    )
