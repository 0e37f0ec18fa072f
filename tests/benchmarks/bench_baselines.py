"""item_knn and ials beside the library implicit: NDCG@10 and CPU seconds on the same interactions.

    OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 python tests/benchmarks/bench_baselines.py SPLITS ITEMS

SPLITS is the folder with loo/, ITEMS the artifact `items`. All are fitted to loo/train, every
item is ranked for every user of loo/valid, and what the user took in training is left out;
loo/test is not read. Nearest neighbours are the same formula on both sides, with the same
number of neighbours (implicit counts the item itself). Least squares have the same dimension
and number of epochs; the peer's weight and regularization are the best of a small grid on the
same users, ours are the defaults. Seconds are of fitting, and of scoring all users.
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from bench_learned_models import USER, created, histories_of, ndcg_at_10, training_data
from scipy import sparse

from recpipe.models.base import BlockScorer, FitContext, Histories, Items, Model, Profiles, ScoreBlock
from recpipe.schemas import ITEM_ID
from recpipe.training.fitting import fit

SEEDS = (1, 2, 3)
N_NEIGHBORS = 20
HIDDEN_DIM, N_EPOCHS = 64, 16
PEER_GRID = [(alpha, regularization) for alpha in (1.0, 3.0, 10.0) for regularization in (0.001, 0.01, 0.1, 1.0, 10.0)]


@dataclass(frozen=True)
class Work:
    """What everybody is given."""

    profiles: Profiles
    past: Histories
    wanted: Histories

    @property
    def matrix(self) -> Any:
        """What the users took: csr float32 (n_users, n_items)."""
        shape = (len(self.past), len(self.past.items))
        return sparse.csr_matrix(
            (np.ones(len(self.past.item_rows), np.float32), self.past.item_rows, self.past.offsets), shape
        )


@dataclass(frozen=True)
class Measured:
    """One model's figures."""

    ndcg: float
    fit_seconds: float
    score_seconds: float


class Peer:
    """A fitted model of the library, seen as its scores."""

    def __init__(self, scores: Callable[[], np.ndarray]) -> None:
        self._scores = scores

    def score_block(self, profiles: Profiles, histories: Histories, items: Items) -> ScoreBlock:
        """All scores."""
        return ScoreBlock(self._scores().astype(np.float32), np.full(len(profiles), "implicit"))


def measured(work: Work, make: Callable[[], Model | BlockScorer]) -> Measured:
    """Fit and score."""
    started = time.process_time()
    model = make()
    fitted = time.process_time()
    ndcg, _ = ndcg_at_10(model, work.profiles, work.past, work.wanted)
    return Measured(float(ndcg.mean()), fitted - started, time.process_time() - fitted)


def ours(work: Work, name: str, *, seed: int = 1, **values: Any) -> Measured:
    """A model of the house."""

    def make() -> Model:
        model = created(name, values)
        fit(model, training_data(work.past, work.profiles), FitContext(seed=seed))
        return model

    return measured(work, make)


def peer_neighbors(work: Work, library: Any, weighting: str) -> Measured:
    """The library's nearest neighbours."""
    kinds = {"cosine": "CosineRecommender", "tfidf": "TFIDFRecommender", "bm25": "BM25Recommender"}

    def make() -> Model:
        taken = work.matrix
        seen = np.flatnonzero(np.diff(taken.tocsc().indptr))  # its idf counts items: those that somebody took
        model = getattr(library.nearest_neighbours, kinds[weighting])(K=N_NEIGHBORS + 1, num_threads=1)
        with warnings.catch_warnings(action="ignore"):  # it warns of the format of its own intermediate
            model.fit(taken[:, seen], show_progress=False)

        def scores() -> np.ndarray:
            dense = np.zeros(taken.shape, np.float32)
            dense[:, seen] = (taken[:, seen] @ model.similarity).toarray()
            return dense

        return Peer(scores)

    return measured(work, make)


def peer_least_squares(work: Work, library: Any, *, alpha: float, regularization: float, seed: int) -> Measured:
    """The library's alternating least squares."""

    def make() -> Model:
        model = library.cpu.als.AlternatingLeastSquares(
            factors=HIDDEN_DIM,
            iterations=N_EPOCHS,
            alpha=alpha,
            regularization=regularization,
            num_threads=1,
            random_state=seed,
        )
        model.fit(work.matrix, show_progress=False)
        return Peer(lambda: model.user_factors @ model.item_factors.T)

    return measured(work, make)


def line(name: str, mine: list[Measured], theirs: list[Measured]) -> str:
    """A row of the table: means over seeds."""

    def mean(values: list[Measured], what: str) -> float:
        return float(np.mean([getattr(value, what) for value in values]))

    cells = [f"NDCG@10 {mean(mine, 'ndcg'):.4f} / {mean(theirs, 'ndcg'):.4f}"]
    for what in ("fit_seconds", "score_seconds"):
        own, other = mean(mine, what), mean(theirs, what)
        cells.append(
            f"{what.removesuffix('_seconds')} {own:.2f} / {other:.2f} CPU-s, ratio {own / max(other, 1e-9):.2f}"
        )
    return f"{name:16} " + "; ".join(cells)


def main() -> None:
    """Measure both, print a line a model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("splits", type=Path)
    parser.add_argument("items", type=Path)
    options = parser.parse_args()
    try:
        import implicit
    except ImportError:
        sys.exit("the peer is not installed; run: pip install implicit==0.7.3")
    torch.set_num_threads(1)
    items = Items.bare(pq.read_table(options.items, columns=[ITEM_ID.name]).column(0).combine_chunks())
    train, valid = (
        pq.read_table(options.splits / "loo" / f"{part}.parquet").to_pandas() for part in ("train", "valid")
    )
    users = sorted(train[USER].unique())
    work = Work(Profiles.bare(pa.array(users)), histories_of(train, users, items), histories_of(valid, users, items))
    ours(work, "popularity")  # whatever is imported on first use is no model's time
    print("ours / implicit")
    for weighting in ("cosine", "tfidf", "bm25"):
        mine = ours(work, "item_knn", weighting=weighting, n_neighbors=N_NEIGHBORS)
        print(line(f"knn {weighting}", [mine], [peer_neighbors(work, implicit, weighting)]), flush=True)
    found = {
        (alpha, regularization): peer_least_squares(work, implicit, alpha=alpha, regularization=regularization, seed=0)
        for alpha, regularization in PEER_GRID
    }
    alpha, regularization = max(found, key=lambda point: found[point].ndcg)
    mine_by_seed = [ours(work, "ials", seed=seed, hidden_dim=HIDDEN_DIM, n_epochs=N_EPOCHS) for seed in SEEDS]
    theirs = [
        peer_least_squares(work, implicit, alpha=alpha, regularization=regularization, seed=seed) for seed in SEEDS
    ]
    print(line(f"als (implicit: alpha {alpha:g}, regularization {regularization:g})", mine_by_seed, theirs))


if __name__ == "__main__":
    main()
