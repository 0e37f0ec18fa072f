"""Random: what any model must beat. A score is a hash of seed, user and item; nothing is learned.

The same user and item have the same score in every block, on every machine and in every
catalogue, so that reruns and shards agree.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING, Literal

from recpipe.models.base import (
    FitContext,
    FitReport,
    Histories,
    Items,
    ModelSpec,
    ModelState,
    PairwiseModel,
    Profiles,
    ScoreBlock,
    TrainingData,
)
from recpipe.models.settings import ModelSettings

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa


class RandomSettings(ModelSettings):
    """`train` for the model random."""

    model: Literal["random"] = "random"
    """Name of the model."""


class RandomModel(PairwiseModel):
    """Scores uniform in [0, 1); see the module."""

    def __init__(self, settings: RandomSettings) -> None:
        self.settings = settings
        self._seed: int | None = None
        self._catalogue: tuple[Items, npt.NDArray[np.uint64]] | None = None

    def fit(self, data: TrainingData, context: FitContext) -> FitReport:
        self._seed = context.seed
        self._catalogue = None
        return FitReport(target=MODEL.target_for(self.settings, data), counts={"users": data.n_users})

    def score_block(self, profiles: Profiles, histories: Histories, items: Items) -> ScoreBlock:
        import numpy as np

        if self._seed is None:
            raise RuntimeError("fit or load the model first")
        if self._catalogue is None or self._catalogue[0] is not items:
            self._catalogue = (items, _hashes(items.ids, self._seed, "item"))
        users = _hashes(profiles.user_ids, self._seed, "user")
        scores = np.empty((len(users), len(items)), dtype=np.float32)
        for row, user in enumerate(users):
            scores[row] = _uniform(self._catalogue[1] ^ user)
        return ScoreBlock(scores, np.full(len(users), MODEL.name))

    def state(self) -> ModelState:
        import numpy as np

        if self._seed is None:
            raise RuntimeError("fit or load the model first")
        return ModelState(weights={"seed": np.array([self._seed], dtype=np.int64)})

    def restore(self, state: ModelState) -> None:
        self._seed = int(state.weights["seed"][0])
        self._catalogue = None


def _hashes(ids: pa.StringArray, seed: int, side: str) -> npt.NDArray[np.uint64]:
    """Return 64 random bits for each id: uint64 (n_ids,)."""
    import numpy as np

    key = f"{seed}/{side}".encode()
    digests = b"".join(blake2b(word.encode(), digest_size=8, key=key).digest() for word in ids.to_pylist())
    return np.frombuffer(digests, dtype="<u8").astype(np.uint64)


def _uniform(bits: npt.NDArray[np.uint64]) -> npt.NDArray[np.float32]:
    """Return float32 in [0, 1) from bits that are unequal but related (finaliser of MurmurHash3, Appleby)."""
    import numpy as np

    with np.errstate(over="ignore"):
        bits = (bits ^ (bits >> np.uint64(33))) * np.uint64(0xFF51AFD7ED558CCD)
        bits = (bits ^ (bits >> np.uint64(33))) * np.uint64(0xC4CEB9FE1A85EC53)
        bits = bits ^ (bits >> np.uint64(33))
    return (bits >> np.uint64(40)).astype(np.float32) / np.float32(2**24)


MODEL = ModelSpec(
    name="random",
    summary="A list drawn at random for each user: what any model must beat.",
    settings=RandomSettings,
    factory=RandomModel,
    targets=("implicit",),
)
