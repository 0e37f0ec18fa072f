"""What a model is given in each protocol, what it has to find, and how well every user is served.

A protocol is a `Task`: a world to choose and fit in, with interactions held out for choosing;
for the test a second world, which holds these as well; and targets. Measured is in the second
world, or, without it, in the first on what the choice was made by.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from bench_learned_models import (
    ITEM,
    TIME,
    USER,
    created,
    histories_of,
    leave_one_out,
    profiles_of,
    training_data,
)

from recpipe.models.base import (
    BlockScorer,
    FactoredModel,
    FitContext,
    FitReport,
    Histories,
    Items,
    Model,
    Profiles,
    TrainingData,
)
from recpipe.training.fitting import fit

N_NDCG, N_RECALL = 10, 20


@dataclass(frozen=True, kw_only=True)
class World:
    """Users, what they took and their profiles, made of that alone.

    Attributes:
        users: those with a history, then those who come later and have none.
        n_known: users with a history.
        profiles: of all users.
        histories: of all users.
    """

    users: list[str]
    n_known: int
    profiles: Profiles
    histories: Histories

    @classmethod
    def of(cls, rows: pd.DataFrame, *, later: pd.DataFrame, items: Items) -> World:
        """Build the world of these rows, with room for the users of later ones."""
        known = sorted(rows[USER].unique())
        users = [*known, *sorted(set(later[USER]) - set(known))]
        histories = histories_of(rows, users, items)
        profiles = profiles_of(histories, users)
        return cls(users=users, n_known=len(known), profiles=profiles, histories=histories)

    def data(self, n_users: int) -> TrainingData:
        """What the first users teach."""
        return training_data(self.histories.rows(0, n_users), self.profiles.rows(0, n_users))

    def events(self, rows: pd.DataFrame) -> Histories:
        """Other interactions of the same users."""
        return histories_of(rows, self.users, self.histories.items)


@dataclass(frozen=True)
class Target:
    """Interactions to be found.

    Attributes:
        wanted: of the users of the world measured in; users without any are not measured.
        ranked: bool (n_items,): items that stand in the list besides those taken before; None: all.
    """

    wanted: Histories
    ranked: np.ndarray | None = None


@dataclass(frozen=True, kw_only=True)
class Task:
    """A protocol; see the module. `refit` is None without the test."""

    choosing: World
    held_out: TrainingData
    refit: World | None
    targets: Mapping[str, Target]

    @property
    def measured(self) -> World:
        """The world that is measured in."""
        return self.refit or self.choosing


@dataclass(frozen=True)
class Found:
    """Figures of every user of a world, float64 (n_users,); NaN where there was nothing to find.

    Attributes:
        ndcg: NDCG@10; the ideal list is as long as what is wanted, at most 10.
        recall: share of what is wanted within the first 20.
        capped: the same hits, divided by at most 20.
    """

    ndcg: np.ndarray
    recall: np.ndarray
    capped: np.ndarray

    @classmethod
    def mean(cls, found: list[Found]) -> Found:
        """Each user's mean over seeds."""
        columns = ([getattr(one, name) for one in found] for name in ("ndcg", "recall", "capped"))
        return cls(*(np.mean(column, axis=0) for column in columns))


@dataclass(frozen=True, kw_only=True)
class Run:
    """One seed: what was found of each target, what was chosen, CPU seconds, peak memory of the process so far."""

    seed: int
    found: Mapping[str, Found]
    report: FitReport
    choosing_seconds: float
    refit_seconds: float
    peak_mib: float


def run(task: Task, name: str, seed: int) -> Run:
    """Choose, fit, refit where there is more to learn from, and measure every target."""
    model = created(name, {"target": "implicit"})
    started = time.process_time()
    everybody = len(task.choosing.users)
    report = fit(model, task.choosing.data(everybody), FitContext(seed=seed, held_out=task.held_out))
    chosen = time.process_time()
    if task.refit is not None:
        model = created(name, {"target": "implicit"})
        fit(model, task.refit.data(task.refit.n_known), FitContext(seed=seed, choice=report.choice))
    ended = time.process_time()
    peak = peak_mib()  # before all users are ranked at once, which no pipeline does
    scores = all_scores(model, task.measured)
    return Run(
        seed=seed,
        found={key: find(scores, target) for key, target in task.targets.items()},
        report=report,
        choosing_seconds=chosen - started,
        refit_seconds=ended - chosen,
        peak_mib=peak,
    )


def peak_mib() -> float:
    """Most memory this process has held, MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def all_scores(model: Model | BlockScorer, world: World) -> np.ndarray:
    """Scores of all users and items, float32; -inf where the user took the item."""
    histories = world.histories
    if isinstance(model, FactoredModel):
        scores = model.user_vectors(world.profiles, histories).vectors @ model.item_vectors(histories.items).T
    else:
        assert isinstance(model, BlockScorer)
        scores = model.score_block(world.profiles, histories, histories.items).scores.copy()
    scores[histories.user_rows(), histories.item_rows] = -np.inf
    return scores


def find(scores: np.ndarray, target: Target) -> Found:
    """Measure every user; items with equal scores share the mean of their ranks."""
    wanted = target.wanted
    found = Found(*(np.full(len(wanted), np.nan) for _ in range(3)))
    ideal = np.cumsum(1 / np.log2(np.arange(2, N_NDCG + 2)))
    for user in np.flatnonzero(np.diff(wanted.offsets)):
        relevant = np.unique(wanted.item_rows[wanted.offsets[user] : wanted.offsets[user + 1]])
        own = scores[user, relevant]
        ordered = np.sort(scores[user] if target.ranked is None else scores[user, target.ranked])
        above = len(ordered) - np.searchsorted(ordered, own, side="right")
        equal = len(ordered) - np.searchsorted(ordered, own, side="left") - above
        ranks = above + (equal - 1) / 2  # 0 is best
        gains = np.where(ranks < N_NDCG, 1 / np.log2(ranks + 2), 0.0).sum()
        hits = np.sum(ranks < N_RECALL)
        found.ndcg[user] = gains / ideal[min(len(relevant), N_NDCG) - 1]
        found.recall[user] = hits / len(relevant)
        found.capped[user] = hits / min(len(relevant), N_RECALL)
    return found


def task_of(
    items: Items,
    *,
    train: pd.DataFrame,
    valid: pd.DataFrame,
    test: pd.DataFrame | None,
    later_items: Items | None = None,
    targets: Callable[[World], Mapping[str, Target]] | None = None,
) -> Task:
    """Make a task of rows.

    Args:
        items: the catalogue.
        train: what is fitted to while choosing.
        valid: held out for choosing; then part of what is fitted to.
        test: to be found in the end; None: nothing but `valid` is looked at.
        later_items: the catalogue after choosing, where it has grown.
        targets: what is to be found in the world measured in; otherwise all of `test`, or of `valid`.
    """
    choosing = World.of(train, later=valid, items=items)
    refit = None
    if test is not None:
        refit = World.of(pd.concat([train, valid]), later=test, items=later_items or items)
    measured, wanted = refit or choosing, valid if test is None else test
    found = {"all": Target(measured.events(wanted))} if targets is None else targets(measured)
    held_out = training_data(choosing.events(valid), choosing.profiles)
    return Task(choosing=choosing, held_out=held_out, refit=refit, targets=found)


def read_part(folder: Path, part: str) -> pd.DataFrame:
    """Rows of one part of a split."""
    rows: pd.DataFrame = pq.read_table(folder / f"{part}.parquet").to_pandas()
    return rows


def split_task(folder: Path, items: Items, *, test: bool) -> Task:
    """Return the task of a folder with train, valid and test: the user's last interaction, or the last by date."""
    last = read_part(folder, "test") if test else None
    return task_of(items, train=read_part(folder, "train"), valid=read_part(folder, "valid"), test=last)


def positions_task(source: Path, items: Items, *, test: bool) -> Task:
    """Return the task of a table ordered by position, of users with three items or more."""
    train, valid, last = leave_one_out(source)
    known = set(train[USER])
    valid, last = (rows[rows[USER].isin(known)] for rows in (valid, last))
    return task_of(items, train=train, valid=valid, test=last if test else None)


def cold_task(folder: Path, items: Items, *, test: bool) -> Task:
    """Return the task of items nobody took yet, together with each user's next known item.

    While choosing, the items of the test are not in the catalogue: they come later.
    """
    rows, valid = read_part(folder, "train"), read_part(folder, "valid")
    # events of one second stand in order of item ids: shuffled, or the last of them were always the largest id
    rows = rows.sample(frac=1, random_state=0).sort_values([USER, TIME], kind="stable")
    left = rows.groupby(USER).cumcount(ascending=False)
    train, warm_valid, warm_test = rows[left >= 2], rows[left == 1], rows[left == 0]
    cold, warm = (read_part(folder, "test"), warm_test) if test else (valid, warm_valid)

    def targets(world: World) -> dict[str, Target]:
        is_cold = np.isin(world.histories.items.ids.to_numpy(zero_copy_only=False), cold[ITEM].unique())
        return {
            "cold only": Target(world.events(cold), is_cold),
            "cold, mixed": Target(world.events(cold)),
            "warm, mixed": Target(world.events(warm)),
            "warm only": Target(world.events(warm), ~is_cold),
        }

    now = known_items(items, pd.concat([rows, valid]))
    later = pd.concat([cold, warm]) if test else None
    held_out = pd.concat([valid, warm_valid])
    return task_of(now, train=train, valid=held_out, test=later, later_items=items, targets=targets)


def known_items(items: Items, rows: pd.DataFrame) -> Items:
    """The part of the catalogue that stands in rows."""
    kept = np.isin(items.ids.to_numpy(zero_copy_only=False), rows[ITEM].unique())
    mask = pa.array(kept)
    attributes = None if items.attributes is None else items.attributes.filter(mask)
    return replace(
        items,
        ids=items.ids.filter(mask),
        embeddings=items.embeddings[kept],
        embedded=items.embedded[kept],
        attributes=attributes,
    )
