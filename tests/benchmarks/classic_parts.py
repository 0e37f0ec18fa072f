"""What embeddings, profile texts, r = p·v, f(p, v; θ) and profiles are worth: comparisons for `bench_classic_parts`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial, reduce
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from bench_few_events import read_simulated
from bench_learned_models import USER, created, histories_of, profiles_of, training_data

from recpipe.encoders.fields import is_blank
from recpipe.encoders.histories import combine
from recpipe.encoders.resolve import resolve
from recpipe.encoders.settings import EncoderSettings, Role, UsersSettings
from recpipe.encoders.text import TextEncoder
from recpipe.ingest.simulate.files import ITEMS_FILE, USERS_FILE, write_world
from recpipe.ingest.simulate.settings import SimulateSettings
from recpipe.ingest.simulate.world import simulate
from recpipe.metrics.intervals import Bootstrap, is_real
from recpipe.metrics.ranking import Relevant, per_user
from recpipe.metrics.rating import RatingAccumulator, RatingErrors, rating_differences
from recpipe.metrics.values import Metric
from recpipe.models.base import FitContext, Histories, Items, Model, Profiles
from recpipe.schemas import NDCG
from recpipe.scoring.ranker import Ranker, seen
from recpipe.training.fitting import fit
from recpipe.training.hold_out import hold_out

Values = np.ndarray | RatingErrors
"""Of every user: a ranking's metric, NaN without one, or the errors of predicted ratings."""

LIST_LENGTH = 10
FOLDS = 5
SIMULATED = {"n_users": 800, "n_items": 600, "n_interactions": 16_000}
NETWORKS: tuple[tuple[str, str, Mapping[str, object]], ...] = (
    ("factorization", "r = p·v of ratings", {"target": "rating", "n_epochs": 11}),
    ("deep", "f(p, v; θ) of ratings", {"target": "rating", "n_epochs": 15}),
    ("factorization", "p·v of items taken", {"target": "implicit", "n_epochs": 4}),
    ("deep", "f(p, v; θ) of items taken", {"target": "implicit", "n_epochs": 25, "negatives": 16}),
    ("two_tower", "two towers of items taken", {"history_order": "sequence", "n_epochs": 5}),
)
"""Model, name in the table and settings: the passes that `auto` takes for ratings, fewer for items taken."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A part and its control, measured on the same users.

    Attributes:
        ours, theirs: one entry for each seed.
        same_users: the users of all seeds are the same, and their values are averaged; else put side by side.
    """

    part: str
    what: str
    control: str
    metric: str
    ours: Sequence[Values]
    theirs: Sequence[Values]
    same_users: bool = True

    def cells(self, bootstrap: Bootstrap) -> list[str]:
        """Return the row of the table."""
        pairs = list(zip(self.ours, self.theirs, strict=True))
        errors = [(a, b) for a, b in pairs if isinstance(a, RatingErrors) and isinstance(b, RatingErrors)]
        values = [(a, b) for a, b in pairs if isinstance(a, np.ndarray) and isinstance(b, np.ndarray)]
        if errors:
            ours, theirs = (reduce(_sum, side) for side in zip(*errors, strict=True))
            value, found = ours.figures()[0], rating_differences(ours, theirs, bootstrap)
            by_seed = [a.figures()[0] - b.figures()[0] for a, b in errors]
        else:
            tables = [np.stack(pair, axis=1) for pair in values]  # (n_users, 2) each
            users = np.mean(tables, axis=0) if self.same_users else np.concatenate(tables)
            value, found = float(np.nanmean(users[:, 0])), bootstrap.differences(users[:, :1], users[:, 1:])
            by_seed = [float(np.nanmean(a - b)) for a, b in values]
        difference, low, high = found.value[0], found.low[0], found.high[0]
        better = difference < 0 if errors else difference > 0
        verdict = ("real" if better else "real, worse") if is_real(low, high) else "not real"
        return [
            self.part,
            self.what,
            self.control,
            self.metric,
            f"{value:.4f}",
            f"{difference:+.4f} [{low:+.4f}, {high:+.4f}]",
            " ".join(f"{each:+.4f}" for each in by_seed),
            verdict,
        ]


@dataclass(frozen=True)
class Task:
    """Users, what they took and what they are to find."""

    profiles: Profiles
    past: Histories
    wanted: Histories

    @classmethod
    def of(cls, train: pd.DataFrame, valid: pd.DataFrame, items: Items) -> Task:
        """Build the task of two tables; profiles are made of the first alone."""
        users = sorted(train[USER].unique())
        past = histories_of(train, users, items)
        return cls(profiles_of(past, users), past, histories_of(valid, users, items))

    def fitted(self, name: str, values: Mapping[str, object], *, seed: int) -> Model:
        """Fit a model to what the users took."""
        model = created(name, dict(values))
        fit(model, training_data(self.past, self.profiles), FitContext(seed=seed))
        return model

    def ndcg(self, model: Model, *, candidates: np.ndarray | None = None) -> np.ndarray:
        """Return NDCG@10 of every user, NaN without anything to find; what was taken before is left out."""
        ranker = Ranker(model, self.past.items, candidates=candidates)
        ranked = ranker.rank(self.profiles, self.past, n=LIST_LENGTH, excluded=seen(self.past)).lists.rows
        return self.ndcg_of_lists(ranked)

    def ndcg_of_lists(self, ranked: np.ndarray) -> np.ndarray:
        """Return NDCG@10 of lists int32 (n_users, 10)."""
        wanted = self.wanted
        relevant = Relevant.distinct(wanted.user_rows(), wanted.item_rows, n_users=len(wanted))
        return per_user(ranked, relevant, (LIST_LENGTH,)).column(Metric(NDCG.name, LIST_LENGTH))

    def errors(self, predicted: np.ndarray) -> RatingErrors:
        """Return the errors of ratings predicted for `wanted`."""
        assert self.wanted.ratings is not None
        errors = RatingAccumulator()
        errors.add(self.wanted.offsets, predicted, self.wanted.ratings)
        return errors.result()

    def predicted(self, model: Model) -> RatingErrors:
        """Return the errors of a model."""
        pairs = {"user_rows": self.wanted.user_rows(), "item_rows": self.wanted.item_rows.astype(np.int64)}
        return self.errors(model.predict_rating(self.profiles, self.past, self.past.items, **pairs))

    @property
    def known_ratings(self) -> np.ndarray:
        """Ratings of `past`."""
        assert self.past.ratings is not None
        return self.past.ratings


def split_task(folder: Path, items: Items) -> Task:
    """Read the training and the validation part of a split."""
    train, valid = (pq.read_table(folder / f"{part}.parquet").to_pandas() for part in ("train", "valid"))
    return Task.of(train, valid, items)


def rating_task(table: pd.DataFrame, items: Items, *, seed: int) -> Task:
    """Put one fold aside, and of the others hold a random tenth out."""
    rows, users = table[table["fold"] != seed % FOLDS], sorted(table[USER].unique())
    whole = training_data(histories_of(rows, users, items), Profiles.bare(pa.array(users)))
    kept, held = (next(iter(part.blocks()))[1] for part in hold_out(whole, share=0.1, seed=seed, last=False))
    return Task(profiles_of(kept, users), kept, held)


def embeddings(loo: Task, cold: Task, seeds: Sequence[int]) -> list[Comparison]:
    """Raw and centred cosine against chance, for all items and for those nobody took."""
    unseen = np.bincount(cold.past.item_rows, minlength=len(cold.past.items)) == 0
    held = np.bincount(cold.wanted.item_rows, minlength=len(cold.past.items)) > 0
    found: list[Comparison] = []
    for task, place, candidates in ((loo, "all items", None), (cold, "new items", unseen & held)):
        chance = [task.ndcg(task.fitted("random", {}, seed=seed), candidates=candidates) for seed in seeds]
        raw, centred = (
            [task.ndcg(task.fitted("content", {"centred": value}, seed=1), candidates=candidates)] * len(seeds)
            for value in (False, True)
        )
        for what, control, ours, theirs in (
            ("cosine, raw", "chance", raw, chance),
            ("cosine, centred", "raw", centred, raw),
        ):
            part = f"item embeddings, {place}"
            found.append(_ndcg(part, what, control, ours, theirs))
        if candidates is None:
            popular = [task.ndcg(task.fitted("popularity", {}, seed=1))] * len(seeds)
            found.append(_ndcg(f"item embeddings, {place}", "cosine, centred", "popularity", centred, popular))
    return found


def learned(loo: Task, ratings: Sequence[Task], seeds: Sequence[int]) -> list[Comparison]:
    """r = p·v, f(p, v; θ) and two towers: what they are worth, and what profiles are worth to them."""
    popular = [loo.ndcg(loo.fitted("popularity", {}, seed=1))] * len(seeds)
    means = [task.errors(np.full(len(task.wanted.item_rows), np.mean(task.known_ratings))) for task in ratings]
    models: list[Comparison] = []
    profiles: list[Comparison] = []
    for name, what, values in NETWORKS:
        rated = values.get("target") == "rating"
        compared = partial(Comparison, metric="RMSE" if rated else "NDCG@10")
        whole, bare, unclustered = (
            [
                _measured(replace(task, profiles=change(task.profiles)), name, values, seed=seed)
                for task, seed in zip(ratings if rated else [loo] * len(seeds), seeds, strict=True)
            ]
            for change in (lambda own: own, lambda own: Profiles.bare(own.user_ids), _unclustered)
        )
        if rated:
            models.append(compared(part="models", what=what, control="mean rating", ours=whole, theirs=means))
            lists = [loo.ndcg(loo.fitted(name, values, seed=seed)) for seed in seeds]
            models.append(_ndcg("models", f"{what}, as a ranking", "popularity", lists, popular))
        else:
            models.append(_ndcg("models", what, "popularity", whole, popular))
        profiles.append(
            compared(part="profiles", what=f"profile in {what}", control="no profile", ours=whole, theirs=bare)
        )
        in_it = f"segment and centre in {what}"
        profiles.append(compared(part="profiles", what=in_it, control="x alone", ours=whole, theirs=unclustered))
    dot, deep = (model for model in models if model.metric == "RMSE")
    return [*models, replace(deep, control=dot.what, theirs=dot.ours), *profiles]


def profile_texts(folder: Path, seeds: Sequence[int]) -> list[Comparison]:
    """Simulated users by their own text, by their history and by both; a world for each seed."""
    values: dict[str, list[np.ndarray]] = {}
    for seed in seeds:
        for name, measured in _simulated(folder / f"world{seed}", seed).items():
            values.setdefault(name, []).append(measured)
    pairs = [
        ("cosine from the text", "cosine from the history"),
        ("cosine from both", "cosine from the history"),
        ("cosine from the text", "popularity"),
        ("cosine from the history", "popularity"),
    ]
    part = "profile text, simulated"
    return [replace(_ndcg(part, a, b, values[a], values[b]), same_users=False) for a, b in pairs]


def write_simulated(folder: Path, seed: int, *, n_users: int, n_items: int, n_interactions: int) -> None:
    """Write a simulated world."""
    settings = SimulateSettings(seed=seed, n_users=n_users, n_items=n_items, n_interactions=n_interactions)
    write_world(simulate(settings), folder)


def _simulated(folder: Path, seed: int) -> dict[str, np.ndarray]:
    """NDCG@10 of the last tenth of every history, of users who wrote about themselves."""
    write_simulated(folder, seed, **SIMULATED)
    world = read_simulated(folder)
    table = pd.read_json(folder / ITEMS_FILE, lines=True, dtype=False).set_index("item_id")
    table = table.loc[world.histories.items.ids.to_pylist()]
    item_vectors, embedded = _encoded((table["title"] + "\n" + table["text"].fillna("")).to_list(), role="document")
    items = Items(ids=world.histories.items.ids, embeddings=item_vectors, embedded=embedded)
    users = pd.read_csv(folder / USERS_FILE, dtype=str).set_index("user_id")["text"]
    texts = users.loc[world.profiles.user_ids.to_pylist()].fillna("").to_list()
    vectors, written = _encoded(texts, role="query")
    whole = training_data(replace(world.histories, items=items), world.profiles)
    past, wanted = (next(iter(part.blocks()))[1] for part in hold_out(whole, share=0.1, seed=seed, last=True))
    sums = np.zeros((len(past), item_vectors.shape[1]))
    np.add.at(sums, past.user_rows(), item_vectors[past.item_rows])
    means = (sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-9)).astype(np.float32)
    known = np.diff(past.offsets) > 0
    weight = UsersSettings().profile_weight
    both = combine(vectors, written, history=means, history_present=known, profile_weight=weight)
    asked = written & known
    found = {}
    for name, (own, present) in {"the text": (vectors, written), "the history": (means, known), "both": both}.items():
        task = Task(replace(world.profiles, embeddings=own, embedded=present, centres=own * 0), past, wanted)
        found[f"cosine from {name}"] = task.ndcg(task.fitted("content", {}, seed=seed))[asked]
        found["popularity"] = task.ndcg(task.fitted("popularity", {}, seed=seed))[asked]
    return found


def _encoded(texts: Sequence[str], *, role: Role) -> tuple[np.ndarray, np.ndarray]:
    """Return vectors by the default encoder, zeros for blank texts, and which are not blank."""
    settings = EncoderSettings()
    encoder = TextEncoder.load(resolve(settings.model_name), settings, role=role, device="cpu")
    present = np.array([not is_blank(text) for text in texts])
    vectors = np.zeros((len(texts), encoder.dim), np.float32)
    vectors[present] = encoder.encode([text for text in texts if not is_blank(text)]).vectors
    return vectors, present


def _measured(task: Task, name: str, values: Mapping[str, object], *, seed: int) -> Values:
    model = task.fitted(name, values, seed=seed)
    return task.predicted(model) if values.get("target") == "rating" else task.ndcg(model)


def _unclustered(profiles: Profiles) -> Profiles:
    """Leave out what K-means says."""
    return replace(profiles, segments=np.full_like(profiles.segments, -1), centres=np.zeros_like(profiles.centres))


def _ndcg(part: str, what: str, control: str, ours: Sequence[Values], theirs: Sequence[Values]) -> Comparison:
    return Comparison(part=part, what=what, control=control, metric="NDCG@10", ours=ours, theirs=theirs)


def _sum(ours: RatingErrors, theirs: RatingErrors) -> RatingErrors:
    """Add the errors of the same users."""
    return RatingErrors(
        counts=ours.counts + theirs.counts,
        squared=ours.squared + theirs.squared,
        absolute=ours.absolute + theirs.absolute,
    )
