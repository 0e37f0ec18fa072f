"""A random hold-out: some of each user's interactions, drawn by seed."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from recpipe.ingest.ids import hash_ids
from recpipe.ingest.splits.base import Part, Parts, Splitter
from recpipe.ingest.splits.keys import Hashes, nth, seeded, uniform
from recpipe.ingest.splits.whole_users import UserBlock

Ints = npt.NDArray[np.int64]


class RandomShare(Splitter):
    """Holds out a share of each user's interactions, whatever their order.

    Of n interactions, share · n are held out, rounded up or down at random so that the shares
    are met over all users also where users have few. One at least stays in training.
    """

    by = "random"

    def __init__(self, *, test_share: float, validation_share: float, seed: int, warnings: tuple[str, ...] = ()):
        self.warnings = warnings
        self._test_share = test_share
        self._validation_share = validation_share
        self._seed = seed

    def parts(self, block: UserBlock) -> Parts:
        user_hashes = hash_ids(block.user_ids())
        lengths = block.lengths
        n_test, n_held_out = self._counts(user_hashes, lengths)
        row_keys = nth(np.repeat(seeded(user_hashes, self._seed, "split", "rows"), lengths), block.place_in_user)
        # sorted by user and key, a row's place in its user is its rank
        ranks = np.empty(len(row_keys), np.int64)
        ranks[np.lexsort((row_keys, block.user_of_row))] = block.place_in_user
        parts = np.full(len(row_keys), Part.TRAIN, np.int8)
        parts[ranks < np.repeat(n_held_out, lengths)] = Part.VALIDATION
        parts[ranks < np.repeat(n_test, lengths)] = Part.TEST
        return parts

    def _counts(self, user_hashes: Hashes, lengths: Ints) -> tuple[Ints, Ints]:
        """Return how many of each user's rows are test, and test or validation: int64 (n_users,) each."""
        # one draw for both roundings: E floor(x + u) = x for each, and rarely more than n - 1 together
        chance = uniform(seeded(user_hashes, self._seed, "split", "counts"))
        n_test = np.floor(lengths * self._test_share + chance).astype(np.int64)
        n_held_out = np.floor(lengths * (self._test_share + self._validation_share) + chance).astype(np.int64)
        return np.minimum(n_test, lengths - 1), np.minimum(n_held_out, lengths - 1)

    def protocol(self) -> str:
        return (
            f"random hold-out: {self._test_share:.4g} of each user's interactions are test, "
            f"{self._validation_share:.4g} validation (seed {self._seed})"
        )

    def details(self) -> dict[str, object]:
        return {
            "test_share": self._test_share,
            "validation_share": self._validation_share,
            "split_seed": self._seed,
        }
