"""Items scored as if nobody had taken them, for users with something to find among all.

Where held-out interactions have enough items that training has not seen, those are scored; else
items somebody took stand for them: a fifth at a time, or fewer where the catalogue has fewer new
ones, as the places that new items take from known ones depend on how many there are.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from recpipe.models.hybrid.alike import Regression
from recpipe.models.hybrid.fusion import NEW_NAMES, FusionWeights
from recpipe.models.hybrid.model import HybridModel
from recpipe.seeding import generator
from recpipe.training.candidates import Candidates, Wanted, some

if TYPE_CHECKING:
    from recpipe.models.tables import Bool, Float32, Int32, Int64

MIN_EVENTS = 200
"""Held-out interactions with items unseen in training below which others stand for them to choose weights by."""

MIN_PLACED = 10
"""The same to choose places by, which takes two numbers and must know how often new items are taken."""

MAX_ITEMS = 4096
"""Most items that are scored as new."""

MAX_USERS = 1000
MAX_SCORES = 20_000_000
"""Most users, and most scores of users and items, that new items are placed by."""

FOLDS = 5
MAX_FOLDS = 40
"""Least and most times that a part of the known items stands for new ones."""


@dataclass(frozen=True, slots=True)
class Fold:
    """Items scored as new, and the users with something to find among all items.

    Attributes:
        rows: int64 (n_new,): rows of the catalogue, ascending.
        wanted: the users.
    """

    rows: Int64
    wanted: Wanted

    def column(self, item_rows: Int32) -> Int64:
        """Return the place of items among the new ones, int64, -1 for others."""
        places = np.searchsorted(self.rows, item_rows)
        places[places == len(self.rows)] = 0
        return np.where(self.rows[places] == item_rows, places, -1)


def folds(model: HybridModel, wanted: Wanted, seed: int, *, least: int) -> Iterator[Fold]:
    """Yield the items that are scored as new: those unseen in training, or others, about as many at a time.

    Args:
        least: Held-out interactions with items unseen in training below which others stand for them.
    """
    random = generator(seed, "new items")
    n_users = max(min(MAX_USERS, MAX_SCORES // len(wanted.histories.items)), 1)
    if len(wanted) > n_users:
        wanted = some(wanted, np.sort(random.choice(len(wanted), n_users, replace=False)))
    new = model.is_new(wanted.histories.items)
    natural = int(new[wanted.own].sum()) >= least
    rows = np.flatnonzero(new if natural else ~new)
    rows = random.permutation(rows)[:MAX_ITEMS]
    n_folds = 1 if natural else min(max(round(len(rows) / (int(new.sum()) or len(rows))), FOLDS), MAX_FOLDS)
    for part in np.array_split(rows, n_folds):
        if len(part):
            yield Fold(np.sort(part), wanted)


@dataclass(frozen=True, slots=True)
class Scored:
    """New items of a fold, scored for its users.

    Attributes:
        scores: float32 (n_users, n_new, n_ways): by each way of each part, times the sum of the user's weights.
        taken: bool (n_users, n_new): the user took it before, so that it is not ranked.
        classes: int64 (n_users,).
    """

    fold: Fold
    scores: Float32
    taken: Bool
    classes: Int64

    def among_themselves(self) -> Candidates:
        """Return the new items as candidates among themselves."""
        wanted = np.zeros(self.scores.shape[:2], bool)
        columns = self.fold.column(self.fold.wanted.own)
        wanted[self.fold.wanted.users()[columns >= 0], columns[columns >= 0]] = True
        scores = self.scores.copy()
        scores[self.taken] = -np.inf
        return Candidates(scores, wanted & ~self.taken, self.classes)


def scored(model: HybridModel, fold: Fold, weights: FusionWeights, regression: Regression) -> Scored:
    wanted = fold.wanted
    items = wanted.histories.items.rows(fold.rows)
    classes = model.classes(wanted.histories)
    totals = weights.totals[classes]
    ways: list[Float32] = []
    for part in model.fused.values():
        if not part.reaches_new:
            ways += [np.zeros((len(wanted), len(items)), np.float32)] * len(NEW_NAMES)
            continue
        users = part.users(wanted.profiles, wanted.histories)[0] * totals[:, None]
        own, alike = part.as_if_new(items, model.alike, regression)
        ways += [np.asarray(users @ vectors.T, np.float32) for vectors in (own, alike)]
    return Scored(fold, np.stack(ways, axis=2).astype(np.float32), _taken(fold), classes)


def _taken(fold: Fold) -> Bool:
    """Which of the new items users took before: bool (n_users, n_new)."""
    taken = np.zeros((len(fold.wanted), len(fold.rows)), bool)
    histories = fold.wanted.taken
    columns = fold.column(histories.item_rows[histories.events()])
    taken[histories.user_rows()[columns >= 0], columns[columns >= 0]] = True
    return taken
