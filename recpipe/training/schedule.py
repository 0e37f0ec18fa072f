"""How the step size changes over a training."""

from __future__ import annotations

import math

WARM_SHARE = 0.3
"""Part of the steps in which a one-cycle schedule rises."""

START_FACTOR = 1 / 25
END_FACTOR = 1 / 250_000
"""Of the largest step size: the first and the last of a cycle."""


def one_cycle(step: int, n_steps: int) -> float:
    """Return the share of the largest step size at a step: up and down again along cosines (Smith & Topin 2019).

    Args:
        step: 0 is the first.
        n_steps: Of the whole cycle; later steps have the last one's.

    Returns:
        Above 0 and at most 1.
    """
    top = max(WARM_SHARE * n_steps - 1, 0.0)
    if step < top:
        return _between(START_FACTOR, 1.0, step / top)
    return _between(1.0, END_FACTOR, min((step - top) / max(n_steps - 1 - top, 1.0), 1.0))


def _between(start: float, end: float, share: float) -> float:
    """Return the point of half a cosine from `start` to `end`."""
    return end + (start - end) * (1.0 + math.cos(math.pi * share)) / 2.0
