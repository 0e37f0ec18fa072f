"""How items nobody took come into the lists: weights of the parts among themselves, a gain and an offset.

What new items are worth shows on held-out interactions with them, or with items that stand for
them (`as_if_new`).

The weights are those that rank new items best among themselves. Gain and offset then place
them in the list of all items: so that the discounted gain of its first 20 is greatest, of new and
known items together, while known items lose no more of that of its first 10 than they may.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import product
from typing import TYPE_CHECKING

import numpy as np

from recpipe.models.hybrid.alike import Regression
from recpipe.models.hybrid.fusion import CAUTIOUS_GAIN, CAUTIOUS_OFFSET, NEW_NAMES, SMALLEST_SPREAD, FusionWeights
from recpipe.models.hybrid.level import levels_of
from recpipe.models.hybrid.model import HybridModel
from recpipe.models.hybrid.part import ALIKE, OWN
from recpipe.training.as_if_new import MIN_EVENTS, MIN_PLACED, Scored, folds, scored
from recpipe.training.candidates import Candidates, Wanted, joined
from recpipe.training.fusion_search import MIN_GAIN, best_alone, climb

if TYPE_CHECKING:
    from recpipe.models.tables import Float32, Int64

_Found = tuple["Int64", "Float32", "Int64"]
"""Users, scores and places of some items, (n,) each."""

CUT_OFF = 10
"""Items of a list within which known items may lose."""

LENGTH = 20
"""Items of a list within which new ones are to be found."""

GAINS = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
THRESHOLDS = tuple(np.arange(-2.0, 8.01, 0.25).tolist())
"""Scores, in standard deviations, from which on new items stand above a user's level."""


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

    def users_of(least: int) -> list[Scored]:
        return [scored(model, fold, weights, regression) for fold in folds(model, wanted, seed, least=least)]

    users = users_of(MIN_EVENTS)
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
    return _placed(model, users_of(MIN_PLACED), weights, cost=cost, report=report)


def _spreads(among: Candidates) -> Float32:
    """Return the standard deviations of the scores by each way: float32 (n_ways,), 1 where all are equal."""
    spreads = among.scores[among.scores[:, :, 0] > -np.inf].std(axis=0)
    return np.asarray(np.where(spreads > SMALLEST_SPREAD, spreads, 1.0), np.float32)


def _cautious(weights: FusionWeights) -> FusionWeights:
    """Place new items where nothing tells how."""
    return replace(weights, new=weights.new * np.float32(CAUTIOUS_GAIN), offset=CAUTIOUS_OFFSET)


@dataclass(frozen=True, slots=True)
class _Lists:
    """What the place of new items is chosen by, for one fold: of a list, all that can stand within the first LENGTH.

    Attributes:
        known: float32 (n_users, LENGTH): scores of the first known items.
        new: float32 (n_users, LENGTH): of the first new ones, without gain and offset; -inf: no more are ranked.
        level: float32 (n_users,): of the known items.
        scale: float32 (n_users,): of the offset.
        known_wanted: users, scores and places among the known items of known items to find.
        new_wanted: the same of new ones, among the new.
        n_new: new items to find, further down as well.
    """

    known: Float32
    new: Float32
    level: Float32
    scale: Float32
    known_wanted: _Found
    new_wanted: _Found
    n_new: int

    def found(self, gain: float, threshold: float) -> np.ndarray:
        """Return what is found, (3,): discounted, of known items within CUT_OFF and of all within LENGTH; and how
        many new items within LENGTH.
        """
        base, slope = self.level - np.float32(gain * threshold) * self.scale, np.float32(gain)
        users, scores, places = self.known_wanted
        above = base[users, None] + slope * self.new[users] > scores[:, None]
        known_ranks = places + np.count_nonzero(above, axis=1)
        users, scores, places = self.new_wanted
        own = base[users] + slope * scores
        new_ranks = places + np.count_nonzero(self.known[users] >= own[:, None], axis=1)
        everything = _discounted(known_ranks, LENGTH) + _discounted(new_ranks, LENGTH)
        return np.array([_discounted(known_ranks, CUT_OFF), everything, np.count_nonzero(new_ranks < LENGTH)])

    @property
    def undisturbed(self) -> float:
        """The sum of known items where no new ones are shown."""
        return _discounted(self.known_wanted[2], CUT_OFF)


def _discounted(places: Int64, cut_off: int) -> float:
    """Sum 1 / log2(rank + 1) of places, 0 the first, as in NDCG."""
    return float((1.0 / np.log2(places[places < cut_off] + 2.0)).sum())


def _placed(
    model: HybridModel, users: list[Scored], weights: FusionWeights, *, cost: float, report: Callable[[str], None]
) -> FusionWeights:
    """Choose gain and offset: as much as can be found of all items, within the cost for known ones."""
    wanted = users[0].fold.wanted
    known = _known_scores(model, wanted, weights)
    lists = [_lists(scored, weights, known, model.leading(wanted.histories.items)) for scored in users]
    undisturbed = sum(one.undisturbed for one in lists)
    n_new = sum(one.n_new for one in lists)
    tried = {
        (gain, threshold): np.sum([one.found(gain, threshold) for one in lists], axis=0)
        for gain, threshold in product(GAINS, THRESHOLDS)
    }
    allowed = {place: found for place, found in tried.items() if found[0] >= (1.0 - cost) * undisturbed}
    if not allowed or not undisturbed:  # no known items to find, and nothing to measure a cost by
        return _cautious(weights)
    (gain, threshold), (kept, _, n_found) = max(allowed.items(), key=lambda one: (one[1][1], one[1][0]))
    report(
        f"new items: gain {gain:g} from {threshold:g} standard deviations on; {n_found:,.0f} of {n_new:,} interactions "
        f"with new items within the first {LENGTH}, {1.0 - kept / undisturbed:.1%} lost on known ones"
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


def _lists(scored: Scored, weights: FusionWeights, known: Float32, leading: Int64) -> _Lists:
    """Put the new items of a fold beside the known ones, whose scores are (n_users, n_items)."""
    fold = scored.fold
    new = np.where(scored.taken, np.float32(-np.inf), scored.scores @ weights.new.reshape(-1))
    known = known.copy()
    known[:, fold.rows] = -np.inf
    users, own = fold.wanted.users(), fold.wanted.own
    columns = fold.column(own)
    new_users, new_columns = users[columns >= 0], columns[columns >= 0]
    return _Lists(
        known=_first(known),
        new=_first(new),
        level=levels_of(known[:, leading]),
        scale=weights.totals[scored.classes],
        known_wanted=_found(known, users, known[users, own]),
        new_wanted=_found(new, new_users, new[new_users, new_columns]),
        n_new=len(new_users),
    )


def _first(scores: Float32) -> Float32:
    """Return the first LENGTH scores of each user in any order, of (n_users, n_items)."""
    depth = min(LENGTH, scores.shape[1])
    return -np.partition(-scores, depth - 1, axis=1)[:, :depth]


def _found(scores: Float32, users: Int64, own: Float32) -> _Found:
    """Return those of some items, (n,) each, that stand within the first LENGTH of their user's (n_users, n_items)."""
    pairs = zip(users, own, strict=True)
    places = np.array([np.count_nonzero(scores[user] > score) for user, score in pairs], dtype=np.int64)
    inside = (places < LENGTH) & (own > -np.inf)
    return users[inside], own[inside], places[inside]
