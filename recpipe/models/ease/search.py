"""The regression of EASE as a problem to solve for one set of strengths after another, and the search among them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from recpipe.models.base import FitContext, JsonValue, Measure, ScoreBlock
from recpipe.models.ease.gram import CoOccurrence, Neighbours
from recpipe.models.ease.model import DEFAULTS, MODEL, WHOLE, EaseModel, EaseSettings, counted
from recpipe.models.ease.weights import ExactScores, FoldedWeights, fold, regularised_inverse, whole
from recpipe.models.examples import gather_examples
from recpipe.models.history_means import history_matrix
from recpipe.models.item_content import ItemContent
from recpipe.models.tables import Histories, Items, Profiles, TrainingData
from recpipe.seeding import derive_seed

if TYPE_CHECKING:
    from recpipe.models.tables import Float32, Int64

GRIDS: Mapping[str, tuple[float, ...]] = {
    "window_weight": (0.0, 0.3, 1.0),
    "content_weight": (0.0, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0),
    "l2": (10.0, 30.0, 100.0, 300.0, 1_000.0, 3_000.0, 10_000.0, 30_000.0),
    "history_decay": (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 1.0),
}
"""Values tried."""

RANKS = (128, 256, 512, 1024, 2048)
RANK_LOSS = 0.005
"""Part of the NDCG that fewer coordinates may cost."""

MAX_WHOLE = 100_000_000
"""Most numbers (400 MB) of the item vectors that stay whole."""


class Problem:
    """What the regression is made of.

    Args:
        n_items: Most items inside the matrix.

    Attributes:
        inside: int64 (n_inside,): places of the items inside among those somebody took.
        outside: int64 (n_seen - n_inside,): of the others.
        n_users: int64 (n_seen,): users of each.
        ids: `pa.StringArray` (n_seen,); `inside_ids` the same of those inside.
    """

    def __init__(self, data: TrainingData, settings: EaseSettings, *, n_items: int) -> None:
        examples = gather_examples(data, "implicit", positive_from=settings.positive_from)
        self._settings = settings
        self._items = data.items
        self._taken = CoOccurrence.of(examples, window=settings.window)
        self.inside = self._taken.most_taken(n_items)
        self.outside = np.setdiff1d(np.arange(len(self._taken.seen)), self.inside).astype(np.int64)
        self.n_users = self._taken.n_users
        self.ids = data.items.ids.cast(pa.string()).take(pa.array(self._taken.seen))
        self.inside_ids = self.ids.take(pa.array(self.inside))
        self.content = ItemContent.of(data.items, examples.item_counts > 0)
        self._content_rows = self.content.encode(data.items)
        self._last: tuple[float, Float32, Neighbours] | None = None

    @property
    def n_seen(self) -> int:
        """Items somebody took."""
        return len(self._taken.seen)

    @property
    def n_shared(self) -> int:
        """Items that two users or more took."""
        return int((self.n_users > 1).sum())

    @property
    def n_inside(self) -> int:
        """Items inside the matrix."""
        return len(self.inside)

    def solve(self, *, l2: float, window_weight: float, content_weight: float) -> ExactScores:
        """Return exact scores of the items somebody took, for one set of strengths."""
        gram, outside = self._co_occurrences(window_weight)
        content = self._content_rows[self._taken.seen]
        return ExactScores(
            inverse=regularised_inverse(gram, content[self.inside], content_weight=content_weight, l2=l2),
            outside=outside,
            content=content[self.inside],
            outside_content=content[self.outside],
            content_weight=content_weight,
        )

    def _co_occurrences(self, window_weight: float) -> tuple[Float32, Neighbours]:
        """Return those of the items inside, and of these with the others; kept for the next solution."""
        if self._last is None or self._last[0] != window_weight:
            gram = self._taken.inside(self.inside, window_weight=window_weight)
            outside = self._taken.outside(self.inside, self.outside, window_weight=window_weight)
            self._last = (window_weight, gram, outside)
        return self._last[1:]

    def may_stay_whole(self, n_inside: int) -> bool:
        """Whether the vectors of the catalogue are small enough with so many coordinates."""
        return len(self._items) * n_inside <= MAX_WHOLE

    def fold(self, exact: ExactScores, *, rank: int, seed: int) -> FoldedWeights:
        """Return the scores as vectors of so many coordinates, or whole; what was kept to solve again is let go."""
        self._last = None
        if rank == WHOLE or rank >= self.n_inside:
            return whole(exact)
        users = self.n_users[self.inside].astype(np.float32)
        return fold(exact, users, rank=rank, seed=derive_seed(seed, "ease", "fold") % 2**32)

    def scorer(self, exact: ExactScores, *, decay: float) -> _Exact:
        """Return the exact scores as something that ranks; items nobody took come by content."""
        unseen = np.setdiff1d(np.arange(len(self._items)), self._taken.seen)
        wider = replace(
            exact,
            outside=exact.outside.widened(len(unseen)),
            outside_content=np.concatenate([exact.outside_content, self._content_rows[unseen]]),
        )
        seen = self._taken.seen
        places = (seen[self.inside], np.concatenate([seen[self.outside], unseen]))
        columns = np.full(len(self._items), -1, dtype=np.int64)
        columns[seen[self.inside]] = np.arange(self.n_inside)
        return _Exact(self._settings, wider, columns=columns, places=places, decay=decay)


class _Exact:
    """Scores by the whole matrix, over the catalogue it was made for."""

    def __init__(
        self,
        settings: EaseSettings,
        exact: ExactScores,
        *,
        columns: Int64,
        places: tuple[Int64, Int64],
        decay: float,
    ) -> None:
        self._settings = settings
        self._exact = exact
        self._columns = columns  # (n_items,): column of each item, -1: outside
        self._places = places  # rows of the items inside in the catalogue, and of all others
        self._decay = decay

    def score_block(self, profiles: Profiles, histories: Histories, items: Items) -> ScoreBlock:
        history = history_matrix(
            histories,
            self._columns,
            n_columns=len(self._exact.inverse),
            decay=self._decay,
            length=counted(self._settings.history, decay=self._decay),
            positive_from=self._settings.positive_from,
        )
        scores = np.empty((len(profiles), len(items)), dtype=np.float32)
        for places, part in zip(self._places, self._exact.of(history), strict=True):
            scores[:, places] = part
        return ScoreBlock(scores, np.full(len(profiles), MODEL.name))


def search(
    settings: EaseSettings, data: TrainingData, context: FitContext, measure: Measure
) -> Mapping[str, JsonValue]:
    """Choose the open settings: one after the other, each by climbing from where it stands.

    Each value of a strength costs an inverse, so one is measured with the decay of histories
    as it stands; the decay, which costs none, is chosen anew after each strength. Windows come
    first, as the other strengths depend on them most. All of it, the rank too, on the
    `search_items` items with most users.
    """
    problem = Problem(data, settings, n_items=min(settings.search_items, settings.max_items))
    best = Strengths(settings, problem, measure)
    for name in ("window_weight", "content_weight", "l2", "content_weight", "history_decay"):
        if best.is_open(name):
            value = best.improve(name)
            described = ", ".join(f"{key} {number:g}" for key, number in best.values.items())
            context.report(f"ease: {described}: validation ndcg {value:.4f}")
    found: dict[str, JsonValue] = {name: best.values[name] for name in GRIDS if getattr(settings, name) == "auto"}
    if settings.rank == "auto":
        found["rank"] = _rank(problem, settings, context, measure=measure, best=best)
    return found


class Strengths:
    """The best strengths so far, and the way on from there.

    Attributes:
        values: l2, window_weight, content_weight, history_decay.
    """

    def __init__(self, settings: EaseSettings, problem: Problem, measure: Measure) -> None:
        self._settings = settings
        self._problem = problem
        self._measure = measure
        self._tried: dict[tuple[float, ...], float] = {}
        self._best: tuple[float, tuple[float, ...], ExactScores] | None = None
        self.values: dict[str, float] = {}
        for name in GRIDS:
            own = getattr(settings, name)
            self.values[name] = float(DEFAULTS[name] or 0.0) if own == "auto" else float(own)
        if not problem.content.width:
            self.values["content_weight"] = 0.0

    def is_open(self, name: str) -> bool:
        """Whether there is anything to choose."""
        if name == "content_weight" and not self._problem.content.width:
            return False
        return bool(getattr(self._settings, name) == "auto")

    def improve(self, name: str) -> float:
        """Take the best value of a strength, then the best decay with it; return the NDCG."""
        for turned in dict.fromkeys((name, "history_decay")):
            if self.is_open(turned):
                self.values[turned] = self._climbed(turned)
        return self._ndcg(self.values)

    def solution(self) -> ExactScores:
        """Return the scores of the best strengths."""
        return self._solve(self.values)

    def _climbed(self, name: str) -> float:
        return climb(GRIDS[name], self.values[name], lambda value: self._ndcg({**self.values, name: value}))[1]

    def _ndcg(self, values: Mapping[str, float]) -> float:
        key = tuple(values.values())
        if key not in self._tried:
            exact = self._solve(values)
            self._tried[key] = self._measure(self._problem.scorer(exact, decay=values["history_decay"]))
            if self._best is None or self._tried[key] > self._best[0]:
                self._best = (self._tried[key], _solved_for(values), exact)
        return self._tried[key]

    def _solve(self, values: Mapping[str, float]) -> ExactScores:
        """Return the solution, kept where it is the best so far: its decay is still to be chosen."""
        if self._best is not None and self._best[1] == _solved_for(values):
            return self._best[2]
        return self._problem.solve(
            l2=values["l2"], window_weight=values["window_weight"], content_weight=values["content_weight"]
        )


def _solved_for(values: Mapping[str, float]) -> tuple[float, ...]:
    """Return the strengths that a solution depends on."""
    return values["l2"], values["window_weight"], values["content_weight"]


def climb(grid: Sequence[float], start: float, measure: Callable[[float], float]) -> tuple[float, float]:
    """Go along a grid from one of its values as long as it gets better; return the measure and the value."""
    best = (measure(start), start)
    for step in (1, -1):
        at = grid.index(start) + step
        while 0 <= at < len(grid):
            found = (measure(grid[at]), grid[at])
            if found[0] <= best[0]:
                break
            best, at = found, at + step
        if best[1] != start:
            break
    return best


def _rank(
    problem: Problem,
    settings: EaseSettings,
    context: FitContext,
    *,
    measure: Measure,
    best: Strengths,
) -> int:
    """Return the fewest coordinates that lose next to nothing; WHOLE where all are few enough."""
    if problem.may_stay_whole(min(problem.n_shared, settings.max_items)):
        return WHOLE
    decay = best.values["history_decay"]
    exact = best.solution()
    whole_value = measure(problem.scorer(exact, decay=decay))
    ranks = [rank for rank in RANKS if rank < problem.n_inside] or [problem.n_inside]
    folded = problem.fold(exact, rank=ranks[-1], seed=context.seed)
    for rank in ranks:
        model = EaseModel(settings)
        model.take(problem, folded.truncated(rank), decay=decay)
        value = measure(model)
        context.report(f"ease: rank {rank}: validation ndcg {value:.4f} of {whole_value:.4f}")
        if value >= whole_value * (1.0 - RANK_LOSS):
            return rank
    return ranks[-1]
