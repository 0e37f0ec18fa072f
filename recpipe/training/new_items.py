"""How items nobody took come into the lists: weights of the parts among themselves, a gain and an offset.

What new items are worth shows on held-out interactions with items that training has not seen.
Where there are too few of those, items somebody took stand for them, a fifth at a time: they
are scored as if nobody had taken them.

The weights are those that rank new items best among themselves. Gain and offset then place
them in the list of all items: so that most of them are found within its first 20, while known
items lose no more within its first 10 than they may.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import product
from typing import TYPE_CHECKING

import numpy as np

from recpipe.models.hybrid.alike import Regression
from recpipe.models.hybrid.fusion import CAUTIOUS_GAIN, CAUTIOUS_OFFSET, NEW_NAMES, SMALLEST_SPREAD, FusionWeights
from recpipe.models.hybrid.level import levels_of
from recpipe.models.hybrid.model import HybridModel
from recpipe.models.hybrid.part import ALIKE, OWN
from recpipe.seeding import generator
from recpipe.training.candidates import Candidates, Wanted, joined, some
from recpipe.training.fusion_search import MIN_GAIN, best_alone, climb

if TYPE_CHECKING:
    from recpipe.models.tables import Bool, Float32, Int32, Int64

MIN_EVENTS = 200
"""Held-out interactions with items unseen in training below which others stand for them."""

MAX_ITEMS = 4096
"""Most items that are scored as new."""

MAX_USERS = 1000
MAX_SCORES = 20_000_000
"""Most users, and most scores of users and items, that new items are placed by."""

FOLDS = 5

CUT_OFF = 10
"""Items of a list within which known items may lose."""

LENGTH = 20
"""Items of a list within which new ones are to be found."""

GAINS = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
THRESHOLDS = tuple(np.arange(-2.0, 8.01, 0.25).tolist())
"""Scores, in standard deviations, from which on new items stand above a user's level."""


@dataclass(frozen=True, slots=True)
class _Fold:
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


def place_new_items(
    model: HybridModel,
    wanted: Wanted,
    by_class: Float32,
    *,
    regression: Regression,
    cost: float,
    seed: int,
    report: Callable[[str], None],
) -> FusionWeights:
    """Return the weights with those of new items.

    Args:
        by_class: float32 (n_parts, n_classes), of known items.
        regression: Of the model's items that others are likened to.
        cost: Part of the NDCG@10 of known items that may be given up.
    """
    n_parts = len(by_class)
    weights = FusionWeights(tuple(model.parts), by_class, np.zeros((n_parts, len(NEW_NAMES)), np.float32))
    users = [_scored(model, fold, weights, regression) for fold in _folds(model, wanted, seed)]
    among = joined([fold.among_themselves() for fold in users]) if users else None
    reaching = np.array([part.reaches_new for part in model.fused.values()], np.float32)
    if among is None or not among.wanted.any() or not reaching.any():
        report("new items: nothing to choose by, they follow a user's first known ones")
        weights.new[:, ALIKE if reaching.any() else OWN] = reaching if reaching.any() else 1.0
        return _cautious(weights)
    among = among.of(np.asarray(among.wanted.any(axis=1)))
    spreads = _spreads(among)
    even = replace(among, scores=among.scores / spreads)
    found = climb(even.ndcg, best_alone(even.ndcg, len(spreads)), min_gain=MIN_GAIN)
    found /= np.linalg.norm(found) * spreads  # of about the spread of a part's scores of known items
    weights = replace(weights, new=found.reshape(weights.new.shape))
    return _placed(model, users, weights, cost=cost, report=report)


def _spreads(among: Candidates) -> Float32:
    """Return the standard deviations of the scores by each way: float32 (n_ways,), 1 where all are equal."""
    spreads = among.scores[among.scores[:, :, 0] > -np.inf].std(axis=0)
    return np.asarray(np.where(spreads > SMALLEST_SPREAD, spreads, 1.0), np.float32)


def _folds(model: HybridModel, wanted: Wanted, seed: int) -> Iterator[_Fold]:
    """Yield the items that are scored as new: those unseen in training, or a fifth of the others at a time."""
    random = generator(seed, "new items")
    n_users = max(min(MAX_USERS, MAX_SCORES // len(wanted.histories.items)), 1)
    if len(wanted) > n_users:
        wanted = some(wanted, np.sort(random.choice(len(wanted), n_users, replace=False)))
    new = model.is_new(wanted.histories.items)
    natural = int(new[wanted.own].sum()) >= MIN_EVENTS
    rows = np.flatnonzero(new if natural else ~new)
    rows = random.permutation(rows)[:MAX_ITEMS]
    for part in np.array_split(rows, 1 if natural else FOLDS):
        if len(part):
            yield _Fold(np.sort(part), wanted)


@dataclass(frozen=True, slots=True)
class _Scored:
    """New items of a fold, scored for its users.

    Attributes:
        scores: float32 (n_users, n_new, n_ways): by each way of each part, times the sum of the user's weights.
        taken: bool (n_users, n_new): the user took it before, so that it is not ranked.
        classes: int64 (n_users,).
    """

    fold: _Fold
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


def _scored(model: HybridModel, fold: _Fold, weights: FusionWeights, regression: Regression) -> _Scored:
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
    return _Scored(fold, np.stack(ways, axis=2).astype(np.float32), _taken(fold), classes)


def _taken(fold: _Fold) -> Bool:
    """Which of the new items users took before: bool (n_users, n_new)."""
    taken = np.zeros((len(fold.wanted), len(fold.rows)), bool)
    histories = fold.wanted.taken
    columns = fold.column(histories.item_rows[histories.events()])
    taken[histories.user_rows()[columns >= 0], columns[columns >= 0]] = True
    return taken


def _cautious(weights: FusionWeights) -> FusionWeights:
    """Place new items where nothing tells how."""
    return replace(weights, new=weights.new * np.float32(CAUTIOUS_GAIN), offset=CAUTIOUS_OFFSET)


@dataclass(frozen=True, slots=True)
class _Lists:
    """What the place of new items is chosen by, for one fold.

    Attributes:
        known: float32 (n_users, LENGTH): scores of the first known items.
        new: float32 (n_users, n_new): of the new ones, without gain and offset; -inf: not ranked.
        level: float32 (n_users,): of the known items.
        scale: float32 (n_users,): of the offset.
        known_wanted: users, scores and places among the known items of known items to find.
        new_wanted: users, columns and places among the new items of new items to find.
    """

    known: Float32
    new: Float32
    level: Float32
    scale: Float32
    known_wanted: tuple[Int64, Float32, Int64]
    new_wanted: tuple[Int64, Int64, Int64]

    def found(self, gain: float, threshold: float) -> tuple[float, int]:
        """Return the summed discounted gain of known items to find, and how many new ones are found."""
        base, slope = self.level - np.float32(gain * threshold) * self.scale, np.float32(gain)
        users, scores, places = self.known_wanted
        above = base[users, None] + slope * self.new[users] > scores[:, None]
        known_ranks = places + np.count_nonzero(above, axis=1)
        users, columns, places = self.new_wanted
        own = base[users] + slope * self.new[users, columns]
        new_ranks = places + np.count_nonzero(self.known[users] >= own[:, None], axis=1)
        return _discounted(known_ranks), int(np.count_nonzero(new_ranks < LENGTH))

    @property
    def undisturbed(self) -> float:
        """Summed discounted gain of known items to find where no new ones are shown."""
        return _discounted(self.known_wanted[2])


def _discounted(places: Int64) -> float:
    """Sum discounted gains of places, 0 the first."""
    return float((1.0 / np.log2(places[places < CUT_OFF] + 2.0)).sum())


def _placed(
    model: HybridModel, users: list[_Scored], weights: FusionWeights, *, cost: float, report: Callable[[str], None]
) -> FusionWeights:
    """Choose gain and offset: as much as is found of new items within the cost for known ones."""
    wanted = users[0].fold.wanted
    known = _known_scores(model, wanted, weights)
    lists = [_lists(scored, weights, known, model.leading(wanted.histories.items)) for scored in users]
    undisturbed = sum(one.undisturbed for one in lists)
    n_new = sum(len(one.new_wanted[0]) for one in lists)
    best, kept = (-1, -1.0), None
    for gain, threshold in product(GAINS, THRESHOLDS):
        pairs = [one.found(gain, threshold) for one in lists]
        of_known, of_new = sum(pair[0] for pair in pairs), sum(pair[1] for pair in pairs)
        if of_known >= (1.0 - cost) * undisturbed and (of_new, of_known) > best:
            best, kept = (of_new, of_known), (gain, threshold)
    if kept is None or not undisturbed:  # no known items to find, and nothing to measure a cost by
        return _cautious(weights)
    gain, threshold = kept
    report(
        f"new items: gain {gain:g} from {threshold:g} standard deviations on; {best[0]:,} of {n_new:,} interactions "
        f"with new items within the first {LENGTH}, {1.0 - best[1] / undisturbed:.1%} lost on known ones"
    )
    return replace(weights, new=weights.new * np.float32(gain), offset=-gain * threshold)


def _known_scores(model: HybridModel, wanted: Wanted, weights: FusionWeights) -> Float32:
    """Return the fused scores of known items, -inf for what is not ranked: float32 (n_users, n_items)."""
    items = wanted.histories.items
    classes = model.classes(wanted.histories)
    scores = np.zeros((len(wanted), len(items)), np.float32)
    for number, part in enumerate(model.fused.values()):
        if weights.known[number]:
            users = part.users(wanted.profiles, wanted.histories)[0] * weights.by_class[number, classes][:, None]
            scores += users @ part.items(items).T
    scores[:, model.is_new(items)] = -np.inf
    scores[wanted.taken.user_rows(), wanted.taken.item_rows[wanted.taken.events()]] = -np.inf
    return scores


def _lists(scored: _Scored, weights: FusionWeights, known: Float32, leaders: Int64) -> _Lists:
    """Put the new items of a fold beside the known ones, whose scores are (n_users, n_items)."""
    fold = scored.fold
    new = np.where(scored.taken, np.float32(-np.inf), scored.scores @ weights.new.reshape(-1))
    known = known.copy()
    known[:, fold.rows] = -np.inf
    users, own = fold.wanted.users(), fold.wanted.own
    columns = fold.column(own)
    scores = known[users, own]
    there = scores > -np.inf
    depth = min(LENGTH, known.shape[1])
    new_users, new_columns = users[columns >= 0], columns[columns >= 0]
    return _Lists(
        known=-np.partition(-known, depth - 1, axis=1)[:, :depth],
        new=new,
        level=levels_of(known[:, leaders]),
        scale=weights.totals[scored.classes],
        known_wanted=(users[there], scores[there], _places(known, users[there], scores[there])),
        new_wanted=(new_users, new_columns, _places(new, new_users, new[new_users, new_columns])),
    )


def _places(scores: Float32, users: Int64, own: Float32) -> Int64:
    """Return how many items of each user score higher: int64 (n,), for scores (n_users, n_items) and own (n,)."""
    pairs = zip(users, own, strict=True)
    return np.array([np.count_nonzero(scores[user] > score) for user, score in pairs], dtype=np.int64)
