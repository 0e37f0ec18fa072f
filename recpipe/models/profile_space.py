"""Profiles as network input: p = [x standardised, c one-hot, centre of c, missing flag].

Standardised features are divided by the square root of their number, so that x is about as
long as an embedding; else it would learn faster than all the rest together.

In training, x is held per user and the rest once per segment: a million users with
384-dimensional centres would otherwise take 1.6 GB.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from recpipe.errors import DataError
from recpipe.models.tables import Profiles, TrainingData

if TYPE_CHECKING:
    from recpipe.models.tables import Float32, Int32

FARTHEST = 10.0
"""Standardised features are cut here: one user's extreme must not decide their vector."""


@dataclass(frozen=True, slots=True)
class ProfileSpace:
    """How profiles become rows of numbers.

    Attributes:
        feature_mean: float32 (n_features,), over users.
        feature_scale: float32 (n_features,), standard deviation; 1 for a constant feature.
        centre_mean: float32 (dim,), over users; subtracted from centres.
        n_segments: segments known, numbered from 0; another segment has no coordinate of its own.
    """

    feature_mean: Float32
    feature_scale: Float32
    centre_mean: Float32
    n_segments: int

    @property
    def n_features(self) -> int:
        """Coordinates of x."""
        return len(self.feature_mean)

    @property
    def width(self) -> int:
        """Coordinates of p."""
        return self.n_features + self.n_segments + len(self.centre_mean) + 1

    def features(self, profiles: Profiles) -> Float32:
        """Return x standardised, float32 (n_users, n_features). DataError when it has another width."""
        self._check(profiles.features.shape[1], self.n_features, "behaviour features")
        return self.standardised(profiles.features.copy())

    def standardised(self, features: Float32) -> Float32:
        """Standardise raw features in place, and return them."""
        features -= self.feature_mean
        features /= self.feature_scale
        np.clip(features, -FARTHEST, FARTHEST, out=features)
        features /= np.float32(max(self.n_features, 1) ** 0.5)
        return features

    def segment_part(self, segments: Int32, centres: Float32) -> Float32:
        """Return [c one-hot, centre, missing flag], float32 (n, n_segments + dim + 1)."""
        self._check(centres.shape[1], len(self.centre_mean), "segment centres")
        part = np.zeros((len(segments), self.n_segments + centres.shape[1] + 1), dtype=np.float32)
        known = np.flatnonzero((segments >= 0) & (segments < self.n_segments))
        part[known, segments[known]] = 1.0
        part[:, self.n_segments : -1] = centres - self.centre_mean
        part[:, -1] = segments < 0
        return part

    def encode(self, profiles: Profiles) -> Float32:
        """Return p, float32 (n_users, width)."""
        return np.concatenate([self.features(profiles), self.segment_part(profiles.segments, profiles.centres)], axis=1)

    @staticmethod
    def _check(found: int, expected: int, what: str) -> None:
        if found != expected:
            raise DataError(
                f"{what} have {found} coordinates, the model was trained on {expected}",
                where="user_profiles",
                next_step="run: recpipe train",
            )


@dataclass(frozen=True, slots=True)
class UserTable:
    """The profiles of all training users.

    Attributes:
        space: how they are encoded.
        features: float32 (n_users, n_features), x standardised.
        segment_rows: int32 (n_users,), rows of `segment_parts`.
        segment_parts: float32 (n_segments + 1, ...), the rest of p; the last row of users without segment.
    """

    space: ProfileSpace
    features: Float32
    segment_rows: Int32
    segment_parts: Float32


def gather_profiles(data: TrainingData) -> UserTable:
    """Read the profiles of all users, in one pass."""
    features: list[Float32] = []
    segments: list[Int32] = []
    centres: dict[int, Float32] = {}
    centre_sum: np.ndarray | float = 0.0
    for profiles, _ in data.blocks():
        features.append(profiles.features)
        segments.append(profiles.segments)
        numbers, first = np.unique(profiles.segments, return_index=True)
        for number, row in zip(numbers.tolist(), first.tolist(), strict=True):
            centres.setdefault(number, profiles.centres[row].copy())
        centre_sum = centre_sum + profiles.centres.sum(axis=0, dtype=np.float64)
    raw = np.concatenate(features) if features else np.zeros((0, 0), np.float32)
    numbers = np.concatenate(segments) if segments else np.zeros(0, np.int32)
    mean, scale = _statistics(raw)
    n_segments = int(numbers.max(initial=-1)) + 1
    dim = len(next(iter(centres.values()))) if centres else 0
    centre_mean = (np.broadcast_to(centre_sum, dim) / max(len(numbers), 1)).astype(np.float32)
    space = ProfileSpace(mean, scale, centre_mean, n_segments)
    order = np.append(np.arange(n_segments), -1).astype(np.int32)
    by_segment = np.stack([centres.get(int(number), centre_mean) for number in order])
    parts = space.segment_part(order, by_segment)
    return UserTable(space, space.standardised(raw), np.where(numbers < 0, n_segments, numbers).astype(np.int32), parts)


def _statistics(raw: Float32) -> tuple[Float32, Float32]:
    """Mean and standard deviation of each column, 1 for a constant one."""
    if len(raw) == 0:
        return np.zeros(raw.shape[1], np.float32), np.ones(raw.shape[1], np.float32)
    mean = raw.mean(axis=0, dtype=np.float64)
    scale = raw.std(axis=0, dtype=np.float64)
    # rounding leaves a constant column with a tiny spread, which would blow its noise up
    constant = scale <= 1e-6 * np.maximum(np.abs(mean), 1.0)
    return mean.astype(np.float32), np.where(constant, 1.0, scale).astype(np.float32)
