"""What to recommend to users with few events or none: popularity, EASE, soft segments and their rivals.

    python tests/benchmarks/bench_few_events.py movielens SPLITS/loo
    recpipe simulate --to world --set n_users=4000 --set n_items=1500 --set n_interactions=80000
    python tests/benchmarks/bench_few_events.py simulated world --lengths 0 1 3

Users are cut into folds. Each fold in turn is new: of its users the first n events (and the
attributes, where there are any) are known, and the next five are to be found, all items
ranked, those known left out. Models are fitted to the whole histories of the other users.
Every number (λ, noise, weights of a blend) is chosen, for each n, on a fifth of those others,
left out of a first fit. MovieLens: training and validation rows of the leave-one-out split;
the test rows are not read.

The rivals that are no models of the house are written out in `few_events_rivals`.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from few_events_rivals import Scorer, dense, ease, gaussian, ridge

from recpipe.metrics.intervals import Bootstrap
from recpipe.models.attribute_space import AttributeSpace
from recpipe.models.base import FactoredModel, FitContext, Histories, Items, Profiles, TrainingData
from recpipe.models.registry import find_model

Plan = Mapping[str, Mapping[str, float]]
"""Name of a row of the table → scorers and the weights of their z-scores."""

N_WANTED = 5
LIST_LENGTH = 10
SINGLE = ("popularity", "recent_popularity", "segment_prior", "ease", "gaussian", "ridge")
PARTS = ("popularity", "recent_popularity", "segment_prior", "gaussian", "ridge")
BLEND_WEIGHTS = (0.0, 0.1, 0.3, 1.0, 3.0)


@dataclass(frozen=True)
class World:
    """Everybody's events, oldest first, and attributes."""

    profiles: Profiles
    histories: Histories

    def people(self, users: np.ndarray, *, first: int | None = None) -> tuple[Profiles, Histories]:
        """Return users with their first events, or all of them."""
        whole = self.histories
        begins, ends = whole.offsets[users], whole.offsets[users + 1]
        ends = ends if first is None else np.minimum(begins + first, ends)
        places = np.concatenate([np.arange(begin, end) for begin, end in zip(begins, ends, strict=True)])
        attributes = self.profiles.attributes
        profiles = replace(
            Profiles.bare(self.profiles.user_ids.take(pa.array(users))),
            attributes=None if attributes is None else attributes.take(pa.array(users)),
        )
        assert whole.timestamps_us is not None
        histories = Histories(
            items=whole.items,
            offsets=np.append(0, np.cumsum(ends - begins)).astype(np.int64),
            item_rows=whole.item_rows[places.astype(np.int64)],
            timestamps_us=whole.timestamps_us[places.astype(np.int64)],
            as_of_us=whole.as_of_us,
        )
        return profiles, histories

    def ndcg(self, scores: np.ndarray, users: np.ndarray, length: int) -> np.ndarray:
        """Return NDCG@10 of the events after the first `length`; equal scores share the mean of their ranks."""
        values = np.zeros(len(users))
        for row, user in enumerate(users):
            own = self.histories.item_rows[self.histories.offsets[user] : self.histories.offsets[user + 1]]
            wanted = np.setdiff1d(own[length : length + N_WANTED], own[:length])
            ranked = scores[row].copy()
            ranked[own[:length]] = -np.inf
            ranks = (ranked > ranked[wanted][:, None]).sum(axis=1)
            ranks = ranks + ((ranked == ranked[wanted][:, None]).sum(axis=1) - 1) / 2
            gains = np.where(ranks < LIST_LENGTH, 1 / np.log2(ranks + 2), 0.0).sum()
            values[row] = gains / (1 / np.log2(np.arange(2, len(wanted) + 2))).sum() if len(wanted) else 0.0
        return values


def world_of(events: pd.DataFrame, times: np.ndarray, users: pa.Table) -> World:
    """Build a world from events (user_id, item_id), their times in seconds, and the users table."""
    item_ids = sorted(events["item_id"].unique())
    user_rows = pd.Index(users.column("user_id").to_pylist()).get_indexer(events["user_id"])
    item_rows = pd.Index(item_ids).get_indexer(events["item_id"])
    order = np.lexsort([times, user_rows])
    order = order[user_rows[order] >= 0]
    offsets = np.append(0, np.cumsum(np.bincount(user_rows[order], minlength=users.num_rows))).astype(np.int64)
    histories = Histories(
        items=Items.bare(pa.array(item_ids)),
        offsets=offsets,
        item_rows=item_rows[order].astype(np.int32),
        timestamps_us=times[order].astype(np.int64) * 1_000_000,
        as_of_us=int(times.max()) * 1_000_000,
    )
    profiles = Profiles.bare(users.column("user_id").combine_chunks().cast(pa.string()))
    return World(replace(profiles, attributes=users if users.num_columns > 1 else None), histories)


def read_movielens(folder: Path) -> World:
    """Training and validation rows of a split; there are no attributes."""
    events = pd.concat([pq.read_table(folder / f"{part}.parquet").to_pandas() for part in ("train", "valid")])
    # a quarter of the cuts fall between events of one second, which the file sorts by item: shuffled, or it would tell
    events = events.sample(frac=1, random_state=0).reset_index(drop=True)
    users = pa.table({"user_id": sorted(events["user_id"].unique())})
    return world_of(events, events["timestamp"].to_numpy(), users)


def read_simulated(folder: Path) -> World:
    """What `recpipe simulate` wrote."""
    events = pd.read_csv(folder / "interactions.csv", dtype={"user_id": str, "item_id": str})
    times = pd.to_datetime(events["timestamp"]).astype("int64").to_numpy()
    users = pd.read_csv(folder / "users.csv", dtype=str, usecols=["user_id", "age_group", "country"])
    return world_of(events, times // (times.max() // 10**9), pa.Table.from_pandas(users, preserve_index=False))


def house_model(name: str, profiles: Profiles, histories: Histories) -> Scorer:
    """Fit a model of the house with its defaults."""
    spec = find_model(name)
    model = spec.create(spec.settings())
    data = TrainingData(
        items=histories.items,
        open_blocks=lambda: iter([(profiles, histories)]),
        n_users=len(profiles),
        as_of_us=histories.as_of_us,
    )
    model.fit(data, FitContext(seed=42))
    assert isinstance(model, FactoredModel)
    item_vectors = model.item_vectors(histories.items)
    return lambda people, pasts: model.user_vectors(people, pasts).vectors @ item_vectors.T


def fit_all(profiles: Profiles, histories: Histories) -> dict[str, Scorer]:
    """Fit every scorer in every strength."""
    scorers = {name: house_model(name, profiles, histories) for name in SINGLE[:3]}
    taken = dense(histories)
    space = AttributeSpace.of(profiles.attributes)
    traits = space.encode(profiles.attributes, len(profiles)).toarray().astype(np.float64)
    scorers |= ease(taken, (100, 250, 1000, 4000, 16000, 64000))
    scorers |= gaussian(taken, traits, (0.01, 0.03, 0.1, 0.3, 1.0), space)
    if space.width:
        scorers |= ridge(taken, traits, (10, 100, 300, 1000), space)
    return scorers


def z_scores(scores: np.ndarray) -> np.ndarray:
    """Standardise each user's scores."""
    spread = scores.std(axis=1, keepdims=True)
    standard: np.ndarray = (scores - scores.mean(axis=1, keepdims=True)) / np.where(spread > 0, spread, 1.0)
    return standard


def blended(scores: Mapping[str, np.ndarray], weights: Mapping[str, float]) -> np.ndarray:
    """Return the weighted sum of z-scores."""
    total: np.ndarray = np.sum([weight * scores[name] for name, weight in weights.items()], axis=0)
    return total


def choose(scores: Mapping[str, np.ndarray], measure: Callable[[np.ndarray], float]) -> Plan:
    """Choose strengths and weights of blends by what ranks best."""
    plan: dict[str, Mapping[str, float]] = {}
    for name in SINGLE:
        variants = [variant for variant in scores if variant.split(" ")[0] == name]
        if variants:
            plan[name] = {max(variants, key=lambda variant: measure(scores[variant])): 1.0}
    base = plan["ease"]
    for part in PARTS:
        if part in plan:
            (variant,) = plan[part]
            options = [{**base, variant: weight} for weight in BLEND_WEIGHTS] + [plan[part]]
            plan[f"ease + {part}"] = max(options, key=lambda option: measure(blended(scores, option)))
    options = [{**plan["ease + segment_prior"], "recent_popularity": weight} for weight in BLEND_WEIGHTS]
    plan["ease + segment_prior + recent_popularity"] = max(options, key=lambda o: measure(blended(scores, o)))
    return plan


def mean_ndcg(world: World, users: np.ndarray, length: int, scores: np.ndarray) -> float:
    """Return the mean of `World.ndcg`."""
    return float(world.ndcg(scores, users, length).mean())


def measure_fold(
    world: World, known: np.ndarray, new: np.ndarray, lengths: Sequence[int]
) -> dict[int, tuple[Plan, dict[str, np.ndarray]]]:
    """Return, for each length, what was chosen and NDCG@10 of each new user by row of the table."""
    judged, fitted = known[::5], np.setdiff1d(known, known[::5])
    first_fit, final_fit = fit_all(*world.people(fitted)), fit_all(*world.people(known))
    found = {}
    for length in lengths:
        people = world.people(judged, first=length)
        scores = {name: z_scores(score(*people)) for name, score in first_fit.items()}
        plan = choose(scores, partial(mean_ndcg, world, judged, length))
        people = world.people(new, first=length)
        needed = {name for weights in plan.values() for name in weights}
        scores = {name: z_scores(final_fit[name](*people)) for name in needed}
        values = {row: world.ndcg(blended(scores, weights), new, length) for row, weights in plan.items()}
        found[length] = (plan, values)
    return found


def report(rows: Mapping[str, np.ndarray], length: int) -> None:
    """Print means and paired intervals against popularity and EASE."""
    names = list(rows)
    table = np.stack([rows[name] for name in names], axis=1)  # (n_users, n_rows)
    bootstrap = Bootstrap(n_draws=2000)
    print(
        f"\n{length} events known, {len(table)} users: NDCG@{LIST_LENGTH} of the next {N_WANTED}, paired 95 % intervals"
    )
    print(f"{'':42s}{'mean':>7s}  {'minus popularity':>26s}  {'minus ease':>26s}")
    against = [
        bootstrap.differences(table, np.repeat(rows[name][:, None], len(names), 1)) for name in ("popularity", "ease")
    ]
    for column, name in enumerate(names):
        parts = [f"{d.value[column]:+.4f} [{d.low[column]:+.4f}, {d.high[column]:+.4f}]" for d in against]
        print(f"{name:42s}{table[:, column].mean():7.4f}  {parts[0]:>26s}  {parts[1]:>26s}", flush=True)


def main() -> None:
    """Read the arguments and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["movielens", "simulated"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--lengths", type=int, nargs="+", default=[1, 3, 5, 10, 15])
    parser.add_argument("--folds", type=int, default=5)
    options = parser.parse_args()
    world = (read_movielens if options.what == "movielens" else read_simulated)(options.folder)
    counts = np.diff(world.histories.offsets)
    users = np.flatnonzero(counts > max(options.lengths))
    fold = np.random.default_rng(0).permutation(len(users)) % options.folds
    values: dict[int, dict[str, list[np.ndarray]]] = {length: {} for length in options.lengths}
    for number in range(options.folds):
        found = measure_fold(world, users[fold != number], users[fold == number], options.lengths)
        for length, (plan, rows) in found.items():
            chosen = ", ".join(
                "+".join(f"{weight:g} {part}" for part, weight in weights.items()) for weights in plan.values()
            )
            print(f"fold {number}, {length} events: {chosen}", flush=True)
            for name, measured in rows.items():
                values[length].setdefault(name, []).append(measured)
    for length, by_name in values.items():
        report({name: np.concatenate(parts) for name, parts in by_name.items()}, length)


if __name__ == "__main__":
    main()
