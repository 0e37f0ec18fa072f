"""What one dot product loses of the hybrid: its lists beside the sum of exact z-scores written out.

    OMP_NUM_THREADS=1 PYTHONPATH=. python tests/benchmarks/bench_folding.py DATA WORK [--seeds 1 2 3]

Written out, every part scores every item, exact mean and standard deviation over the items
somebody took are those of the scores themselves, and the z-scores are added with the weights of
the user's history. The model keeps the spread of scores as a few directions instead, and adds
inside one vector. Validation part of the leave-one-out splits (DATA and WORK as for
bench_quality.py), NDCG@10 over users; the test part is not read.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from bench_learned_models import USER, created, histories_of, leave_one_out, ndcg_at_10, read_items, training_data

from recpipe.metrics.intervals import Bootstrap
from recpipe.models.base import FitContext, Histories, Items, Profiles, ScoreBlock
from recpipe.models.hybrid.model import HybridModel
from recpipe.training.fitting import fit


class WrittenOut:
    """The fused scores of known items as a sum; -inf for items nobody took."""

    def __init__(self, model: HybridModel) -> None:
        self._model = model

    def score_block(self, profiles: Profiles, histories: Histories, items: Items) -> ScoreBlock:
        """Score users and items."""
        weights = self._model.weights
        known = ~self._model.is_new(items)
        classes = self._model.classes(histories)
        total = np.zeros((len(profiles), len(items)), np.float64)
        for name, part in self._model.parts.items():
            number = weights.parts.index(name)
            if not weights.known[number]:
                continue
            users = part.user_vectors(profiles.without_segments(), histories).vectors
            scores = (users @ part.item_vectors(items).T).astype(np.float64)
            spread = scores[:, known].std(axis=1, keepdims=True)
            z_scores = (scores - scores[:, known].mean(axis=1, keepdims=True)) / np.maximum(spread, 1e-9)
            total += weights.by_class[number, classes][:, None] * np.where(spread > 1e-6, z_scores, 0.0)
        total[:, ~known] = -np.inf
        return ScoreBlock(total.astype(np.float32), np.full(len(profiles), "hybrid"))


def measure(name: str, interactions: Path, items: Items, seeds: list[int]) -> None:
    """Print both figures and the loss, over all seeds."""
    train, valid, _ = leave_one_out(interactions)
    users = sorted(train[USER].unique())
    past, wanted = histories_of(train, users, items), histories_of(valid, users, items)
    profiles = Profiles.bare(pa.array(users))
    folded, whole = [], []
    for seed in seeds:
        model = created("hybrid", {"new_item_cost": 0.0})
        assert isinstance(model, HybridModel)
        context = FitContext(seed=seed, held_out=training_data(wanted, profiles))
        fit(model, training_data(past, profiles), context)
        folded.append(ndcg_at_10(model, profiles, past, wanted)[0])
        whole.append(ndcg_at_10(WrittenOut(model), profiles, past, wanted)[0])
    first, second = np.mean(folded, axis=0), np.mean(whole, axis=0)
    difference = Bootstrap(n_draws=10_000).differences(first[:, None], second[:, None])
    print(
        f"{name}, seeds {seeds}: one dot product {first.mean():.4f}, written out {second.mean():.4f}, ratio "
        f"{first.mean() / second.mean():.4f}, difference {difference.value[0]:+.5f} "
        f"[{difference.low[0]:+.5f}, {difference.high[0]:+.5f}]",
        flush=True,
    )


def main() -> None:
    """Read the arguments and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    options = parser.parse_args()
    torch.set_num_threads(1)
    for name, interactions in (
        ("movielens-latest-small", options.data / "movielens-latest-small" / "splits"),
        ("amazon-industrial", options.data / "amazon-industrial" / "interactions.parquet"),
    ):
        folder = options.work / name.removesuffix("-latest-small")
        items = read_items(folder / "tables" / "items.parquet", folder / "item_embeddings.parquet")
        measure(name, interactions, items, options.seeds)


if __name__ == "__main__":
    main()
