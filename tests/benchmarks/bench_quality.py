"""How good the default model is, by fixed protocols on real data; writes the tables of docs/quality.md.

    OMP_NUM_THREADS=1 PYTHONPATH=. python tests/benchmarks/bench_quality.py DATA WORK
        [--only loo cold gts ratings amazon] [--model hybrid] [--seeds 1 2 3] [--test] [--to docs/quality.md]

DATA holds movielens-latest-small/ (raw/, splits/) and amazon-industrial/ (items.parquet,
interactions.parquet); WORK the artifacts `items` and `item_embeddings` of both, made with the defaults by

    recpipe import movielens DATA/movielens-latest-small/raw --to WORK/import
    recpipe embed-items --set data.items=WORK/import/items.parquet --workdir WORK/movielens
    recpipe embed-items --set data.items=DATA/amazon-industrial/items.parquet --workdir WORK/amazon-industrial

Without --test nothing but the validation part is looked at: chosen and measured on the same
interactions. With --test the model chooses on the validation part, is fitted again to training
and validation with what it chose, its users' profiles made again, and finds the test part; to
be done once.

Every item is ranked for every user, those taken before left out. Users are resampled for
intervals. Seconds are CPU seconds of the model alone, peak memory is that of a process in which
one protocol runs, both of one thread. Peers' values for each user stand in
splits/peers_per_user.parquet. Those without are quoted from the table they were measured for: BM25 of
the library implicit on amazon-industrial (NDCG@10 .0783, recall@20 .133) and the SVD of
scikit-surprise on the rating folds (RMSE .8501, MAE .6506), each tuned on the same splits.
"""

from __future__ import annotations

import argparse
import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import torch
from bench_learned_models import USER, created, rate_fold, read_items
from quality_protocols import Found, Run, Task, cold_task, peak_mib, positions_task, run, split_task
from quality_report import difference_cells, loss_cell, mean_cell, replace_section, table

from recpipe.models.base import Items

MOVIELENS, AMAZON = "movielens-latest-small", "amazon-industrial"
NOT_A_PEER = "(not a peer)"
BM25_NDCG = 0.0783
SVD_RMSE, SVD_MAE = 0.8501, 0.6506
RATING_MODEL = "bayesian_factorization"
VALIDATION_SHARE = 0.1


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the command line says."""

    data: Path
    work: Path
    model: str
    seeds: list[int]
    test: bool

    @property
    def splits(self) -> Path:
        """Fixed splits of MovieLens."""
        return self.data / MOVIELENS / "splits"

    def items(self, name: str) -> Items:
        """A catalogue with its embeddings."""
        return read_items(self.work / name / "tables" / "items.parquet", self.work / name / "item_embeddings.parquet")


def runs_of(options: Options, task: Task, name: str | None = None) -> list[Run]:
    """Fit and measure every seed; of a reference, one."""
    model = name or options.model
    runs = []
    for seed in options.seeds if name is None else options.seeds[:1]:
        one = run(task, model, seed)
        values = ", ".join(f"{key} {np.nanmean(found.ndcg):.4f}" for key, found in one.found.items())
        print(
            f"{model}, seed {seed}: NDCG@10 {values}; {one.report.choice}; choosing and fitting "
            f"{one.choosing_seconds:.0f} CPU-s, again {one.refit_seconds:.0f} CPU-s, peak {one.peak_mib:.0f} MiB",
            flush=True,
        )
        runs.append(one)
    return runs


def by_seed(runs: list[Run], columns: dict[str, Callable[[dict[str, Found]], str]]) -> str:
    """A row a seed, and one of every user's mean over seeds."""
    costs = ["choosing, fitting: CPU-s", "fitting again: CPU-s", "peak: MiB"]
    rows = [
        [
            f"{one.seed}",
            *(cell(dict(one.found)) for cell in columns.values()),
            f"{one.choosing_seconds:.0f}",
            f"{one.refit_seconds:.0f}",
            f"{one.peak_mib:,.0f}",
        ]
        for one in runs
    ]
    rows.append(["mean", *(cell(mean_of(runs)) for cell in columns.values()), "", "", ""])
    return table(["seed", *columns, *costs], rows)


def mean_of(runs: list[Run]) -> dict[str, Found]:
    """Each user's mean over seeds, of every target."""
    return {key: Found.mean([one.found[key] for one in runs]) for key in runs[0].found}


def main_columns(key: str = "all") -> dict[str, Callable[[dict[str, Found]], str]]:
    """NDCG@10 and recall@20 of a target."""
    return {
        "NDCG@10 [95 %]": lambda found: mean_cell(found[key].ndcg),
        "recall@20 [95 %]": lambda found: mean_cell(found[key].recall),
    }


def differences(values: np.ndarray, references: dict[str, np.ndarray]) -> str:
    """A row a reference, the best first."""
    ordered = sorted(references.items(), key=lambda pair: -np.nanmean(pair[1]))
    rows = [[name, f"{np.nanmean(other):.4f}", *difference_cells(values, other)] for name, other in ordered]
    return table(["against", "its NDCG@10", "users", "difference [95 %]"], rows)


def against_peers(options: Options, protocol: str, *, users: list[str], values: np.ndarray) -> str:
    """Paired differences to every peer; their values are of the test, so there are none without it."""
    if not options.test:
        return "Peers' values are of the test part: no differences."
    rows = pq.read_table(options.splits / "peers_per_user.parquet").to_pandas()
    rows = rows[rows["protocol"] == protocol]
    peers = {
        str(name): found.set_index(USER)["ndcg_at_10"].reindex(users).to_numpy(np.float64)
        for name, found in rows.groupby("model")
    }
    return differences(values, peers)


def loo(options: Options) -> str:
    """Each user's last interaction."""
    task = split_task(options.splits / "loo", options.items("movielens"), test=options.test)
    runs = runs_of(options, task)
    found = mean_of(runs)["all"]
    peers = against_peers(options, "loo", users=task.measured.users, values=found.ndcg)
    return f"{by_seed(runs, main_columns())}\n\n{peers}"


def cold(options: Options) -> str:
    """Items nobody took yet, ranked among themselves and among all."""
    task = cold_task(options.splits / "cold", options.items("movielens"), test=options.test)
    runs = runs_of(options, task)
    found = mean_of(runs)
    alone: dict[str, Callable[[dict[str, Found]], str]] = {
        "cold items alone: NDCG@10 [95 %]": lambda found: mean_cell(found["cold only"].ndcg),
    }
    mixed: dict[str, Callable[[dict[str, Found]], str]] = {
        "cold recall@20 [95 %]": lambda found: mean_cell(found["cold, mixed"].recall),
        "cold hits / min(20, n) [95 %]": lambda found: mean_cell(found["cold, mixed"].capped),
        "warm NDCG@10 [95 %]": lambda found: mean_cell(found["warm, mixed"].ndcg),
        "without cold items [95 %]": lambda found: mean_cell(found["warm only"].ndcg),
        "loss [95 %]": lambda found: loss_cell(found["warm, mixed"].ndcg, found["warm only"].ndcg),
    }
    rows = [[f"{one.seed}", *(cell(dict(one.found)) for cell in mixed.values())] for one in runs]
    rows.append(["mean", *(cell(found) for cell in mixed.values())])
    peers = against_peers(options, "cold", users=task.measured.users, values=found["cold only"].ndcg)
    return f"{by_seed(runs, alone)}\n\n{peers}\n\nOne list of all items:\n\n{table(['seed', *mixed], rows)}"


def gts(options: Options) -> str:
    """Everything after a date."""
    task = split_task(options.splits / "gts", options.items("movielens"), test=options.test)
    runs = runs_of(options, task)
    values = mean_of(runs)["all"].ndcg
    recent = runs_of(options, task, "recent_popularity")[0].found["all"].ndcg
    known = np.arange(len(values)) < task.measured.n_known
    rows = []
    for name, chosen in (("all", np.ones_like(known)), ("with history", known), ("without history", ~known)):
        own, other = np.where(chosen, values, np.nan), np.where(chosen, recent, np.nan)
        rows.append([name, mean_cell(own), mean_cell(other), *difference_cells(own, other)])
    head = ["who", "NDCG@10 [95 %]", "recent_popularity [95 %]", "users", "difference [95 %]"]
    return f"{by_seed(runs, main_columns())}\n\n{table(head, rows)}"


def amazon(options: Options) -> str:
    """The last item of every user, in order of positions."""
    source = options.data / AMAZON / "interactions.parquet"
    task = positions_task(source, options.items(AMAZON), test=options.test)
    runs = runs_of(options, task)
    values = mean_of(runs)["all"].ndcg
    others = [name for name in ("ease", "item_knn") if name != options.model]
    references = {name: runs_of(options, task, name)[0].found["all"].ndcg for name in others}
    told = f"BM25 of the library implicit has {BM25_NDCG} on the test part"
    told += f"; the mean here is {np.nanmean(values) / BM25_NDCG:.3f} times as much." if options.test else "."
    return f"{by_seed(runs, main_columns())}\n\n{told}\n\n{differences(values, references)}"


def ratings(options: Options) -> str:
    """Five folds of ratings; without the test, a tenth of every fold's training rows."""
    rows = pq.read_table(options.splits / "rating_folds.parquet").to_pandas()
    items = options.items("movielens")
    lines = []
    for seed in options.seeds:
        errors = []
        for fold in range(5):
            train, found = rows[rows["fold"] != fold], rows[rows["fold"] == fold]
            if not options.test:
                found = train.sample(frac=VALIDATION_SHARE, random_state=fold)
                train = train.drop(found.index)
            model = created(RATING_MODEL, {"target": "rating"})
            _, error = rate_fold(model, items, train=train, test=found, seed=seed)
            print(f"{RATING_MODEL}, seed {seed}, fold {fold}: {error}", flush=True)
            errors.append((error.rmse, error.mae, error.inside, error.cpu_seconds))
        lines.append([*np.mean(errors, axis=0), peak_mib()])
    means = pd.DataFrame(lines, index=[str(seed) for seed in options.seeds])
    means.loc["mean"] = means.mean()
    cells = [
        [seed, f"{rmse:.4f}", f"{mae:.4f}", f"{inside:.3f}", f"{seconds:.0f}", f"{peak:,.0f}"]
        for seed, rmse, mae, inside, seconds, peak in means.itertuples()
    ]
    if options.test:
        cells.append(["scikit-surprise SVD", f"{SVD_RMSE}", f"{SVD_MAE}", "", "", ""])
    head = ["seed", "RMSE", "MAE", "within the interval", "a fold: CPU-s", "peak: MiB"]
    return table(head, cells)


PROTOCOLS: dict[str, Callable[[Options], str]] = {
    "loo": loo,
    "cold": cold,
    "gts": gts,
    "ratings": ratings,
    "amazon": amazon,
}


def section(name: str, options: Options) -> str:
    """Run a protocol: the command, what was looked at, the tables."""
    torch.set_num_threads(1)
    given = f"--only {name} --model {options.model} --seeds {' '.join(map(str, options.seeds))}"
    flags = " --test" if options.test else ""
    command = f"OMP_NUM_THREADS=1 PYTHONPATH=. python tests/benchmarks/bench_quality.py DATA WORK {given}{flags}"
    looked = "test part." if options.test else "validation part: chosen and measured on the same interactions."
    model = RATING_MODEL if name == "ratings" else options.model
    return f"    {command}\n\n`{model}`, {looked}\n\n{PROTOCOLS[name](options)}"


def main() -> None:
    """Read the arguments, measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--only", nargs="+", choices=list(PROTOCOLS), default=list(PROTOCOLS))
    parser.add_argument("--model", default="hybrid")
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--test", action="store_true", help="measure the test part; to be done once")
    parser.add_argument("--to", type=Path, help="page whose sections are replaced")
    given = parser.parse_args()
    options = Options(data=given.data, work=given.work, model=given.model, seeds=given.seeds, test=given.test)
    # a process of its own for each, so that its peak memory is its own
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn, max_tasks_per_child=1) as pool:
        for name in given.only:
            markdown = pool.submit(section, name, options).result()
            print(f"\n{markdown}\n", flush=True)
            if given.to is not None:
                replace_section(given.to, name, markdown)


if __name__ == "__main__":
    main()
