"""Weights of the parts of a hybrid, chosen by NDCG itself on held-out interactions.

By coordinates, from the best part outward and from all alike: a step is taken when it gains more
than part of the standard error of the gain over users, so that few users move the weights
little. The result is never below the best part on the users it was chosen on.

Weights for all histories come first; each class of history lengths then starts from those, or
from one part alone where that is clearly better there. Fitting weights by likelihood instead
puts them where the scores are well calibrated, not where the lists are good.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from recpipe.models.hybrid.fusion import CLASS_NAMES
from recpipe.training.candidates import Candidates

if TYPE_CHECKING:
    from recpipe.models.tables import Float32

GRID = (0.0, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0, 1.5, 2.0)
ROUNDS = 3

MIN_GAIN = 0.5
"""Standard errors that a step must gain where all users count."""

MIN_CLASS_GAIN = 1.0
"""The same for weights that only one class of histories has."""

MIN_USERS = 50
"""Users of a class below which it has the weights of all."""

Values = Callable[["Float32"], "Float32"]
"""Weights (n_parts,) → the NDCG of each user."""


def search_weights(candidates: Candidates, parts: Sequence[str], *, report: Callable[[str], None]) -> Float32:
    """Return weights of parts and classes: float32 (n_parts, n_classes)."""
    n_parts = len(parts)
    if not candidates.wanted.any():
        report(f"no held-out interaction with an item of the training interactions: {parts[0]} alone for those")
        return np.repeat(np.eye(n_parts, 1, dtype=np.float32), len(CLASS_NAMES), axis=1)
    candidates = candidates.of(np.asarray(candidates.wanted.any(axis=1)))
    histories = candidates.of(candidates.classes > 0)
    everybody = histories if len(histories) else candidates
    alone = best_alone(everybody.ndcg, n_parts)
    # from all parts alike as well: where no part is good alone, single steps from one do not lead to a good mix
    overall, mixed = (
        climb(everybody.ndcg, start, min_gain=MIN_GAIN) for start in (alone, np.ones(n_parts, np.float32))
    )
    if clearly_better(everybody.ndcg(mixed), everybody.ndcg(overall), MIN_GAIN):
        overall = mixed
    report(_described("all", parts, overall, everybody.ndcg, alone))
    columns = []
    for number, name in enumerate(CLASS_NAMES):
        own = candidates.of(candidates.classes == number)
        if len(own) < MIN_USERS:
            columns.append(overall)
            continue
        start = _start(own.ndcg, overall, n_parts)
        columns.append(climb(own.ndcg, start, min_gain=MIN_CLASS_GAIN))
        report(_described(name, parts, columns[-1], own.ndcg, best_alone(own.ndcg, n_parts)))
    return np.stack(columns, axis=1)


def climb(values: Values, start: Float32, *, min_gain: float) -> Float32:
    """Change one weight after the other, by values of the grid, as long as that gains enough."""
    weights, current = start.copy(), values(start)
    for _ in range(ROUNDS):
        changed = False
        for part in range(len(weights)):
            for weight in GRID:
                tried = weights.copy()
                tried[part] = weight
                if weight == weights[part] or not tried.any():
                    continue
                found = values(tried)
                if clearly_better(found, current, min_gain):
                    weights, current, changed = tried, found, True
        if not changed:
            break
    return weights


def clearly_better(found: Float32, current: Float32, min_gain: float) -> bool:
    """Return whether the mean gain is more than so many of its standard errors; a single user's never is."""
    gains = found - current
    if len(gains) < 2:
        return False
    error = gains.std(ddof=1) / len(gains) ** 0.5
    return bool(gains.mean() > max(min_gain * error, 1e-9))


def best_alone(values: Values, n_parts: int) -> Float32:
    """Return the weights of the best part alone; of equal ones the first."""
    alone = np.eye(n_parts, dtype=np.float32)
    best: Float32 = alone[int(np.argmax([values(weights).mean() for weights in alone]))]
    return best


def _start(values: Values, overall: Float32, n_parts: int) -> Float32:
    """Return what everybody has, or the best part alone where that is better."""
    alone = best_alone(values, n_parts)
    return alone if values(alone).mean() > values(overall).mean() else overall


def _described(name: str, parts: Sequence[str], weights: Float32, values: Values, alone: Float32) -> str:
    """Return a line for the log."""
    counted = ", ".join(f"{part} {weight:g}" for part, weight in zip(parts, weights, strict=True) if weight)
    found, best = values(weights), values(alone)
    return (
        f"histories {name}: NDCG@100 {found.mean():.4f} of {len(found):,} users with {counted}; "
        f"best part {parts[int(np.argmax(alone))]} {best.mean():.4f}"
    )
