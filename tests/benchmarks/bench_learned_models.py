"""The learned models on MovieLens latest small: RMSE on five folds, NDCG@10 on the last item of every user.

    python tests/benchmarks/bench_learned_models.py ratings SPLITS ITEMS EMBEDDINGS [--model deep] [--set k=v]
    python tests/benchmarks/bench_learned_models.py ranking SPLITS ITEMS EMBEDDINGS [--test] [--no-profiles]

SPLITS is the folder with rating_folds.parquet and loo/, or for `ranking` a table of interactions
ordered by position; ITEMS and EMBEDDINGS are the artifacts
`items` and `item_embeddings` that the pipeline wrote. Profiles are built from training rows
alone, for every fold again. `ranking` chooses on loo/valid; with --test it fits again to train
and validation with the epochs chosen and measures loo/test, to be done once.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import torch
import yaml

from recpipe.attributes import ValueCounts, item_attributes
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
from recpipe.models.registry import find_model
from recpipe.models.settings import Target
from recpipe.schemas import EMBEDDING, INTERACTIONS, ITEM_ID, ITEMS, USERS
from recpipe.segments.behaviour import Histories as Behaviour
from recpipe.segments.behaviour import compute_features
from recpipe.segments.features import choose_attributes, fill_unknown, plan_features
from recpipe.segments.kmeans import fit_kmeans
from recpipe.segments.profiles import assign_users
from recpipe.segments.reduce import PcaStatistics, fit_pca, project
from recpipe.segments.settings import FeatureSettings
from recpipe.training.fitting import fit

USER, ITEM, RATING, TIME, POSITION = (column.name for column in INTERACTIONS.columns[:5])
CONTEXT = FitContext(seed=42)


def read_items(items: Path, embeddings: Path) -> Items:
    """Read the catalogue."""
    table = pq.read_table(items)
    column = pq.read_table(embeddings).column(EMBEDDING.name)
    embedded = np.asarray(column.is_valid())
    vectors = np.zeros((len(column), column.type.list_size), np.float32)
    flat = np.concatenate([chunk.flatten().to_numpy() for chunk in column.chunks])  # without the null rows
    vectors[embedded] = flat.reshape(-1, vectors.shape[1])
    ids = table.column(ITEM_ID.name).combine_chunks()
    return Items(ids=ids, embeddings=vectors, embedded=embedded, attributes=table)


def histories_of(rows: pd.DataFrame, users: list[str], items: Items) -> Histories:
    """Group rows by user, oldest first: by time, or by position where there are no times; a position is no time."""
    user_rows = pd.Index(users).get_indexer(rows[USER])
    item_rows = pd.Index(items.ids.to_pylist()).get_indexer(rows[ITEM])
    known = (user_rows >= 0) & (item_rows >= 0)
    rows, user_rows, item_rows = rows[known], user_rows[known], item_rows[known]
    timed = TIME in rows
    order = np.lexsort([rows[TIME if timed else POSITION].to_numpy(), user_rows])
    times = rows[TIME].to_numpy().astype(np.int64)[order] * 1_000_000 if timed else None
    return Histories(
        items=items,
        offsets=np.append(0, np.cumsum(np.bincount(user_rows, minlength=len(users)))).astype(np.int64),
        item_rows=item_rows[order].astype(np.int32),
        ratings=rows[RATING].to_numpy().astype(np.float32)[order] if RATING in rows else None,
        timestamps_us=times,
        as_of_us=None if times is None else int(times.max()),
    )


def profiles_of(histories: Histories, users: list[str]) -> Profiles:
    """Build profiles from histories: mean embedding, PCA, ten segments, behaviour features."""
    items = histories.items
    assert items.attributes is not None
    sums = np.zeros((len(users), items.embeddings.shape[1]), np.float32)
    np.add.at(sums, histories.user_rows(), items.embeddings[histories.item_rows])
    norms = np.linalg.norm(sums, axis=1, keepdims=True)
    present = norms[:, 0] > 0
    embeddings = sums / np.maximum(norms, 1e-9)
    statistics = PcaStatistics.empty(embeddings.shape[1])
    statistics.update(embeddings[present])
    basis = fit_pca(statistics, 64)
    points = fit_kmeans(project(embeddings[present], basis), n_clusters=10, seed=42)
    nearest = np.argmin(((project(embeddings[present], basis)[:, None] - points[None]) ** 2).sum(-1), axis=1)
    centres = np.stack([embeddings[present][nearest == number].mean(axis=0) for number in range(10)])
    assigned = assign_users(embeddings, present, centres, mean=statistics.mean, basis=basis)
    options = FeatureSettings()
    counts = ValueCounts(options.list_separator, frozenset(column.name for column in ITEMS.columns))
    counts.update(items.attributes)
    values = choose_attributes(counts, options)
    table = pa.table({USER: users})
    user_counts = ValueCounts(options.list_separator, frozenset(column.name for column in USERS.columns))
    rated, timed = histories.ratings is not None, histories.timestamps_us is not None
    space = plan_features(values, user_counts, options, has_ratings=rated, has_timestamps=timed)
    behaviour = Behaviour(
        histories.offsets, histories.item_rows.astype(np.int64), histories.ratings, histories.timestamps_us
    )
    attributes = item_attributes(values, [items.attributes], separator=options.list_separator)
    features = compute_features(space, table, behaviour, attributes, as_of_us=histories.as_of_us or 0)
    return Profiles(
        user_ids=pa.array(users),
        embeddings=embeddings,
        embedded=present,
        features=fill_unknown(features, np.nan_to_num(np.nanmean(features, axis=0))),
        segments=assigned.segments,
        centres=assigned.centres,
    )


def training_data(histories: Histories, profiles: Profiles) -> TrainingData:
    """Everybody in one block."""
    targets: set[Target] = {"implicit"} if histories.ratings is None else {"implicit", "rating"}
    return TrainingData(
        items=histories.items,
        open_blocks=lambda: iter([(profiles, histories)]),
        n_users=len(profiles),
        targets=frozenset(targets),
        as_of_us=histories.as_of_us,
    )


def created(name: str, values: dict[str, Any]) -> Model:
    """An unfitted model."""
    spec = find_model(name)
    return spec.create(spec.settings.model_validate(values))


@dataclass(frozen=True)
class RatingErrors:
    """How far predicted ratings are from those given.

    Attributes:
        rmse: root mean squared error.
        mae: mean absolute error.
        inside: share of the ratings within the model's interval; NaN without one.
        cpu_seconds: of fitting and predicting.
    """

    rmse: float
    mae: float
    inside: float
    cpu_seconds: float


def rate_fold(
    model: Model, items: Items, *, train: pd.DataFrame, test: pd.DataFrame, seed: int, profiled: bool = True
) -> tuple[FitReport, RatingErrors]:
    """Fit to training rows, as `recpipe train` fits alone, and predict the ratings of test rows."""
    users = sorted({*train[USER], *test[USER]})
    histories = histories_of(train, users, items)
    profiles = profiles_of(histories, users) if profiled else Profiles.bare(pa.array(users))
    started = time.process_time()
    report = fit(model, training_data(histories, profiles), FitContext(seed=seed))
    wanted = histories_of(test, users, items)
    pairs = {"user_rows": wanted.user_rows(), "item_rows": wanted.item_rows.astype(np.int64)}
    predicted = model.predict_rating(profiles, histories, items, **pairs)
    interval = model.rating_interval(profiles, histories, items, **pairs)
    seconds = time.process_time() - started
    assert wanted.ratings is not None
    difference = predicted - wanted.ratings
    inside = np.nan if interval is None else within(wanted.ratings, *interval).mean()
    rmse, mae = float(np.sqrt(np.mean(difference**2))), float(np.abs(difference).mean())
    return report, RatingErrors(rmse, mae, float(inside), seconds)


def rate(options: argparse.Namespace, items: Items) -> None:
    """Five folds, as `recpipe train` fits alone: epochs chosen on 10 % of the training rows, then all of them."""
    rows = pq.read_table(options.splits / "rating_folds.parquet").to_pandas()
    errors = []
    for fold in range(5):
        model = created(options.model, options.set | {"target": "rating"})
        train, test = rows[rows["fold"] != fold], rows[rows["fold"] == fold]
        report, found = rate_fold(model, items, train=train, test=test, seed=options.seed, profiled=options.profiles)
        errors.append((found.rmse, found.mae, found.inside))
        print(
            f"fold {fold}: {report.choice}, validation {report.validation}, RMSE {found.rmse:.4f} "
            f"MAE {found.mae:.4f}, within the interval {found.inside:.3f}, {found.cpu_seconds:.0f} CPU-s",
            flush=True,
        )
    rmse, mae, inside = np.mean(errors, axis=0)
    print(f"{options.model}, seed {options.seed}: RMSE {rmse:.4f} MAE {mae:.4f}, within the interval {inside:.3f}")


def within(ratings: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Say which ratings lie in their intervals."""
    return (ratings >= low) & (ratings <= high)


def ndcg_at_10(
    model: Model | BlockScorer, profiles: Profiles, histories: Histories, wanted: Histories
) -> tuple[np.ndarray, float]:
    """NDCG@10 of every user with one held-out item, and recall@20; all items ranked, seen ones left out."""
    if isinstance(model, FactoredModel):
        scores = model.user_vectors(profiles, histories).vectors @ model.item_vectors(histories.items).T
    else:
        assert isinstance(model, BlockScorer)
        scores = model.score_block(profiles, histories, histories.items).scores
    scores[histories.user_rows(), histories.item_rows] = -np.inf
    users = wanted.user_rows()
    own = scores[users, wanted.item_rows][:, None]
    rank = (scores[users] > own).sum(axis=1) + ((scores[users] == own).sum(axis=1) - 1) / 2
    return np.where(rank < 10, 1 / np.log2(rank + 2), 0.0), float((rank < 20).mean())


def leave_one_out(source: Path) -> list[pd.DataFrame]:
    """Return training, validation and test rows: of the folder loo/, or of one table ordered by position.

    Of such a table the last position of every user is test and the last but one validation;
    an item taken again counts the first time.
    """
    if source.is_dir():
        return [pq.read_table(source / "loo" / f"{part}.parquet").to_pandas() for part in ("train", "valid", "test")]
    rows = pq.read_table(source).to_pandas().sort_values([USER, POSITION]).drop_duplicates([USER, ITEM])
    left = rows.groupby(USER).cumcount(ascending=False)
    return [rows[left >= 2], rows[left == 1], rows[left == 0]]


def rank(options: argparse.Namespace, items: Items) -> None:
    """Leave one out."""
    train, valid, test = leave_one_out(options.splits)
    users = sorted(train[USER].unique())
    values: dict[str, np.ndarray] = {}
    for name in ("popularity", options.model):
        started = time.process_time()
        learned = name == options.model
        histories = histories_of(train, users, items)
        profiles = profiles_of(histories, users) if options.profiles else Profiles.bare(pa.array(users))
        held_out = training_data(histories_of(valid, users, items), profiles)
        model = created(name, options.set | {"target": "implicit"} if learned else {})
        context = FitContext(seed=42, held_out=held_out, report=print if learned else CONTEXT.report)
        report = fit(model, training_data(histories, profiles), context)
        wanted = histories_of(valid, users, items)
        if options.test:
            histories = histories_of(pd.concat([train, valid]), users, items)
            profiles = profiles_of(histories, users) if options.profiles else profiles
            model = created(name, options.set | {"target": "implicit"} if learned else {})
            fit(model, training_data(histories, profiles), FitContext(seed=42, choice=report.choice))
            wanted = histories_of(test, users, items)
        values[name], recall = ndcg_at_10(model, profiles, histories, wanted)
        print(
            f"{name}: NDCG@10 {values[name].mean():.4f}, recall@20 {recall:.4f}, {report.choice}, "
            f"{time.process_time() - started:.0f} CPU-s",
            flush=True,
        )
    difference = values[options.model] - values["popularity"]
    draws = np.random.default_rng(0).integers(0, len(difference), (10_000, len(difference)))
    low, high = np.percentile(difference[draws].mean(axis=1), [2.5, 97.5])
    print(f"{options.model} - popularity: {difference.mean():+.4f} [{low:+.4f}, {high:+.4f}]")


def main() -> None:
    """Read the arguments and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["ratings", "ranking"])
    parser.add_argument("splits", type=Path)
    parser.add_argument("items", type=Path)
    parser.add_argument("embeddings", type=Path)
    parser.add_argument("--model", default="factorization")
    parser.add_argument("--set", action="append", default=[], help="a setting: hidden_dim=32")
    parser.add_argument("--no-profiles", dest="profiles", action="store_false", help="leave profiles out")
    parser.add_argument("--seed", type=int, default=42, help="of the fit to ratings")
    parser.add_argument("--test", action="store_true", help="measure the test part")
    options = parser.parse_args()
    pairs = (setting.partition("=") for setting in options.set)
    options.set = {key: yaml.safe_load(value) for key, _, value in pairs}
    torch.set_num_threads(1)
    items = read_items(options.items, options.embeddings)
    (rate if options.what == "ratings" else rank)(options, items)


if __name__ == "__main__":
    main()
