"""What pictures and sounds add to taste: two factors that stand in no text.

An item has a look and a sound, a user likes one look and one sound; all four are angles, so
that no look is better than another. A user takes an item in proportion to

    appeal(u, i) = exp(Σ_s pull_s (cos(liked(u)_s - shown(i)_s) - 1)),

at most 1, which lets interactions be drawn by rejection. Without media there are no senses:
arrays of angles have width 0, and every appeal is 1.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from recpipe.ingest.simulate.settings import SimulateSettings
from recpipe.seeding import generator

SENSE_WEIGHT = 0.3
"""How much a look or a sound that is liked adds to a preference; one that is disliked takes as much."""


def pulls(settings: SimulateSettings) -> npt.NDArray[np.float64]:
    """Return how much each sense matters: of the look and of the sound. (n_senses,)"""
    return np.array([settings.picture_pull, settings.sound_pull] if settings.media else [], dtype=np.float64)


def draw_angles(n: int, settings: SimulateSettings, *names: str | int) -> npt.NDArray[np.float32]:
    """Draw what n items show, or n users like, from a seed of their own: the rest of the world stays as it is.

    Returns:
        Radians, 0 to 2π. (n, n_senses) float32
    """
    rng = generator(settings.seed, "simulate", "senses", *names)
    return rng.uniform(0, 2 * np.pi, (n, len(pulls(settings)))).astype(np.float32)


def appeal(
    liked: npt.NDArray[np.float32], shown: npt.NDArray[np.float32], settings: SimulateSettings
) -> npt.NDArray[np.float64]:
    """Return the factor that look and sound are on a choice; the arguments broadcast, (..., n_senses). (...)"""
    closeness = np.cos(liked.astype(np.float64) - shown) - 1
    return np.asarray(np.exp(closeness @ pulls(settings)))


def pleasure(liked: npt.NDArray[np.float32], shown: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """Return what look and sound add to a preference; the arguments broadcast, (..., n_senses). (...)"""
    return np.asarray(SENSE_WEIGHT * np.cos(liked.astype(np.float64) - shown).sum(axis=-1))
