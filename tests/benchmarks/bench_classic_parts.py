"""What the classic parts of a segment recommender are worth; writes the table `classic` of docs/quality.md.

    OMP_NUM_THREADS=1 PYTHONPATH=. python tests/benchmarks/bench_classic_parts.py DATA WORK
        [--seeds 1 2 3] [--to docs/quality.md]

DATA holds movielens-latest-small/splits/, WORK what the pipeline made of it, with the default encoder:

    recpipe import movielens DATA/movielens-latest-small/raw --to WORK/import
    recpipe embed-items --set data.items=WORK/import/items.parquet --workdir WORK/movielens

Item embeddings, profile text, segments, centres, cosine, r = p·v and f(p, v; θ) each against a control
on the same users. Only validation parts are read: fitted to loo/train and measured on loo/valid, cold
likewise; of the rating folds one is put aside for each seed and a tenth of the others measured.
Whatever needs a number (λ, β, τ) learns it from training rows or from the other half of the users.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
from bench_few_events import World, measure_fold, read_movielens, read_simulated, z_scores
from bench_learned_models import created, read_items, training_data
from classic_parts import (
    LIST_LENGTH,
    Comparison,
    Task,
    embeddings,
    learned,
    profile_texts,
    rating_task,
    split_task,
    write_simulated,
)
from quality_report import replace_section

from recpipe.metrics.intervals import Bootstrap
from recpipe.models.base import FactoredModel, FitContext, Histories, JsonValue, Profiles
from recpipe.scoring.ranker import seen
from recpipe.scoring.ties import tie_order
from recpipe.scoring.topn import top_n_of_scores
from recpipe.segments.kmeans import assign, fit_kmeans
from recpipe.training.fitting import fit

LENGTHS = (0, 1, 3)
FEW_EVENTS_FOLDS = 3
RANK = 256
ROUTES, ROUTED_LIST = 32, 20
N_SEGMENTS = 8
LOCAL_ITEMS = 2000
BETAS = (0.0, 0.03, 0.1, 0.3, 1.0)
HEAD = ("part", "measured", "control", "metric", "value", "difference [95 %]", "by seed", "verdict")


@dataclass(frozen=True)
class Ease:
    """The global model of routing and re-ranking.

    Attributes:
        choice: strengths, chosen on the last tenth of the training histories.
        scores: float32 (n_users, n_items).
        factors: float32 (n_users, `RANK` + 1), user vectors of the same model folded.
    """

    task: Task
    choice: Mapping[str, JsonValue]
    scores: np.ndarray
    factors: np.ndarray

    @classmethod
    def of(cls, task: Task) -> Ease:
        """Fit it."""
        data, people = training_data(task.past, task.profiles), (task.profiles, task.past)
        model, folded = created("ease", {"rank": 0}), created("ease", {"rank": RANK})
        choice = fit(model, data, FitContext(seed=1)).choice
        fit(folded, data, FitContext(seed=1, choice=choice))
        assert isinstance(model, FactoredModel) and isinstance(folded, FactoredModel)
        scores = model.user_vectors(*people).vectors @ model.item_vectors(task.past.items).T
        return cls(task, choice, scores, folded.user_vectors(*people).vectors)

    def local_scores(self, members: np.ndarray) -> np.ndarray:
        """Return scores of the same model fitted to some users alone: float32 (n_members, n_items)."""
        profiles, past = World(self.task.profiles, self.task.past).people(members)
        model = created("ease", {**self.choice, "rank": 0, "max_items": LOCAL_ITEMS})
        fit(model, training_data(past, profiles), FitContext(seed=1))
        assert isinstance(model, FactoredModel)
        return model.user_vectors(profiles, past).vectors @ model.item_vectors(past.items).T


def few_events(world: World, name: str, seeds: Sequence[int]) -> list[Comparison]:
    """Hard and soft segments as prior of users whose first events are known, in folds drawn by seed."""
    users = np.flatnonzero(np.diff(world.histories.offsets) > max(LENGTHS))
    values: dict[tuple[int, str], np.ndarray] = {}  # (length, row of the table): (n_seeds, n_users)
    for turn, seed in enumerate(seeds):
        fold = np.random.default_rng(seed).permutation(len(users)) % FEW_EVENTS_FOLDS
        for number in range(FEW_EVENTS_FOLDS):
            known, new = users[fold != number], users[fold == number]
            hard = hard_segments(*world.people(known), seed=seed)
            for length, (_, measured) in measure_fold(world, known, new, LENGTHS).items():
                likeliest = world.ndcg(hard(*world.people(new, first=length)), new, length)
                for row, own in {**measured, "hard segment": likeliest}.items():
                    values.setdefault((length, row), np.zeros((len(seeds), len(users))))[turn, fold == number] = own
    return [
        Comparison(
            part=f"prior, {name}, {length} events",
            what=what,
            control=control,
            metric="NDCG@10",
            ours=list(values[length, what]),
            theirs=list(values[length, control]),
        )
        for length in LENGTHS
        for what, control in (
            ("hard segment", "popularity"),
            ("segment_prior", "popularity"),
            ("segment_prior", "hard segment"),
            *([("ridge", "popularity")] if length == 0 else [("segment_prior", "ease")]),
            *([] if length == 0 else [("ease + segment_prior", "ease")]),
        )
        if (length, what) in values
    ]


def hard_segments(profiles: Profiles, histories: Histories, *, seed: int) -> Callable[..., np.ndarray]:
    """Fit `segment_prior` and score by the likeliest segment alone."""
    model = created("segment_prior", {})
    fit(model, training_data(histories, profiles), FitContext(seed=seed))
    assert isinstance(model, FactoredModel)
    shares = model.item_vectors(histories.items).T  # (n_segments, n_items)

    def score(people: Profiles, pasts: Histories) -> np.ndarray:
        scores: np.ndarray = shares[model.user_vectors(people, pasts).vectors.argmax(axis=1)]
        return scores

    return score


def routing(ease: Ease, seeds: Sequence[int]) -> list[Comparison]:
    """Share of each user's exact list inside the best items of the segment, and inside one list for all."""
    past, n_users = ease.task.past, len(ease.scores)
    order = tie_order(past.items.ids)
    exact = top_n_of_scores(ease.scores, n=ROUTED_LIST, tie_order=order, excluded=seen(past)).rows
    everybody, found = np.arange(n_users), []
    for share in (0.1, 0.2):
        n_kept = round(share * ease.scores.shape[1])

        def kept(members: np.ndarray, asked: np.ndarray, n_kept: int = n_kept) -> np.ndarray:
            best = np.argsort(-ease.scores[members].mean(axis=0))[:n_kept]
            shares: np.ndarray = np.isin(exact[asked], best).mean(axis=1)
            return shares

        of_own, of_others = [], []
        for seed in seeds:
            half = np.random.default_rng(seed).permutation(n_users) % 2
            values = np.zeros((2, n_users))
            halves = [(1, everybody[half == side], everybody[half != side]) for side in (0, 1)]
            for row, known, asked in ((0, everybody, everybody), *halves):
                segments = assign(ease.factors, fit_kmeans(ease.factors[known], n_clusters=ROUTES, seed=seed))[0]
                for segment in range(ROUTES):
                    chosen = asked[segments[asked] == segment]
                    if len(chosen):
                        values[row, chosen] = kept(known[segments[known] == segment], chosen)
            of_own.append(values[0])
            of_others.append(values[1])
        part, metric = f"routing to {share:.0%} of the items", f"top {ROUTED_LIST} kept"
        control, theirs = "one list for all", [kept(everybody, everybody)] * len(seeds)
        for what, ours in (("lists of the own segment", of_own), ("the same, made by other users", of_others)):
            found.append(Comparison(part=part, what=what, control=control, metric=metric, ours=ours, theirs=theirs))
    return found


def reranking(ease: Ease, seeds: Sequence[int]) -> list[Comparison]:
    """z(ease) + β z(log popularity in the segment, or a local model), β learned from the other half of the users."""
    task, base = ease.task, z_scores(ease.scores)
    n_users, n_items = base.shape
    matrix = np.zeros((n_users, n_items), np.float32)
    matrix[task.past.user_rows(), task.past.item_rows] = 1.0
    order = tie_order(task.past.items.ids)

    def ndcg(scores: np.ndarray) -> np.ndarray:
        lists = top_n_of_scores(scores.astype(np.float32), n=LIST_LENGTH, tie_order=order, excluded=seen(task.past))
        return task.ndcg_of_lists(lists.rows)

    def blended(addition: np.ndarray, seed: int) -> np.ndarray:
        values = np.stack([ndcg(base + beta * addition) for beta in BETAS])  # (n_betas, n_users)
        half = np.random.default_rng(seed).permutation(n_users) % 2
        best = [int(np.nanmean(values[:, half != side], axis=1).argmax()) for side in (0, 1)]
        chosen: np.ndarray = np.where(half == 0, values[best[0]], values[best[1]])
        return chosen

    def popularity(segments: np.ndarray) -> np.ndarray:
        sizes = np.bincount(segments)
        counts = np.stack([matrix[segments == number].sum(axis=0) for number in range(len(sizes))])
        shares = (counts + 5 * matrix.mean(axis=0)) / (sizes + 5)[:, None]  # smoothed as in segment_prior
        of_users: np.ndarray = z_scores(np.log(shares + 1e-4))[segments]
        return of_users

    alone = [ndcg(base)] * len(seeds)
    everybody = popularity(np.zeros(n_users, np.int64))
    overall = [blended(everybody, seed) for seed in seeds]
    profile = [blended(popularity(task.profiles.segments.astype(np.int64)), seed) for seed in seeds]
    own, local = [], []
    for seed in seeds:
        segments = assign(ease.factors, fit_kmeans(ease.factors, n_clusters=N_SEGMENTS, seed=seed))[0]
        own.append(blended(popularity(segments), seed))
        scores = np.zeros_like(base)
        for number in range(N_SEGMENTS):
            members = np.flatnonzero(segments == number)
            scores[members] = ease.local_scores(members)
        local.append(blended(z_scores(scores), seed))
    rows = [
        ("ease + popularity of all", "ease", overall, alone),
        ("ease + popularity in profile segments", "ease", profile, alone),
        ("ease + popularity in segments of ease", "ease", own, alone),
        ("ease + popularity in segments of ease", "ease + popularity of all", own, overall),
        ("ease + ease of the segment", "ease", local, alone),
    ]
    return [
        Comparison(part="re-ranking", what=what, control=control, metric="NDCG@10", ours=ours, theirs=theirs)
        for what, control, ours, theirs in rows
    ]


def simulated_few_events(folder: Path, seeds: Sequence[int]) -> list[Comparison]:
    """`few_events` of simulated users, who have attributes."""
    write_simulated(folder, 42, n_users=1500, n_items=600, n_interactions=30_000)
    return few_events(read_simulated(folder), "simulated", seeds)


def page(comparisons: Sequence[Comparison], *, seeds: Sequence[int], seconds: float) -> str:
    """Return the section."""
    rows = [comparison.cells(Bootstrap(n_draws=2000)) for comparison in comparisons]
    lines = [HEAD, ["---"] * len(HEAD), *rows]
    return "\n".join(
        [
            "    OMP_NUM_THREADS=1 PYTHONPATH=. python tests/benchmarks/bench_classic_parts.py DATA WORK "
            f"--seeds {' '.join(map(str, seeds))} --to docs/quality.md",
            "",
            f"Validation parts of movielens-latest-small alone, no test part is read; {len(seeds)} seeds, "
            "95 % intervals of paired differences by resampling users after averaging the seeds. "
            "A difference is real when its interval excludes 0. Differences of RMSE are better below 0. "
            "Networks run a set number of passes, for items taken fewer than `auto` would. "
            f"{seconds / 60:.0f} CPU-minutes of one thread.",
            "",
            *("| " + " | ".join(cells) + " |" for cells in lines),
        ]
    )


def main() -> None:
    """Read the arguments, measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--to", type=Path, help="Markdown page whose section `classic` is replaced")
    options = parser.parse_args()
    torch.set_num_threads(1)
    splits, seeds = options.data / "movielens-latest-small" / "splits", options.seeds
    made = options.work / "movielens"
    items = read_items(made / "tables" / "items.parquet", made / "item_embeddings.parquet")
    loo, cold = split_task(splits / "loo", items), split_task(splits / "cold", items)
    folds = pq.read_table(splits / "rating_folds.parquet").to_pandas()
    found: list[Comparison] = []
    with tempfile.TemporaryDirectory() as name:
        parts: dict[str, Callable[[], list[Comparison]]] = {
            "embeddings": partial(embeddings, loo, cold, seeds),
            "profile texts": partial(profile_texts, Path(name), seeds),
            "learned": lambda: learned(loo, [rating_task(folds, items, seed=seed) for seed in seeds], seeds),
            "few events": lambda: few_events(read_movielens(splits / "loo"), "MovieLens", seeds),
            "few events, simulated": partial(simulated_few_events, Path(name) / "few", seeds),
            "ease": lambda: [*routing(ease := Ease.of(loo), seeds), *reranking(ease, seeds)],
        }
        for part, measure in parts.items():
            started = time.process_time()
            found += measure()
            print(f"{part}: {time.process_time() - started:.0f} CPU-s", file=sys.stderr, flush=True)
    text = page(found, seeds=seeds, seconds=time.process_time())
    print(text)
    if options.to:
        replace_section(options.to, "classic", text)


if __name__ == "__main__":
    main()
