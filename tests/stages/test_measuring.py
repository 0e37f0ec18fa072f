"""Evaluation of a tiny world equals one written out with dictionaries and loops."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recpipe.errors import DataError
from recpipe.metrics.settings import EvaluateSettings
from recpipe.metrics.values import Metric
from recpipe.models.base import FitContext, FitReport, ModelState, PairwiseModel, ScoreBlock
from recpipe.models.settings import ModelSettings
from recpipe.models.tables import Histories, Items, Profiles, TrainingData
from recpipe.schemas import INTERACTIONS, TEST_INTERACTIONS, VALIDATION_INTERACTIONS, Artifact
from recpipe.stages.pipeline import population as population_module
from recpipe.stages.pipeline.events import UserEvents
from recpipe.stages.pipeline.measuring import Measurement, Measurer
from recpipe.stages.pipeline.population import Population, PopulationPaths
from recpipe.stages.train import training_data
from recpipe.store.artifacts import ArtifactReader

USERS = [f"u{user:02d}" for user in range(14)]
ITEMS = [f"i{item:02d}" for item in range(12)]
COLD = {"i10", "i11"}
K = (3, 5)
SLICES = ("cold_items", "cold_items_only")

Event = tuple[str, str, float | None]


@dataclass
class Interactions:
    train: list[Event]
    validation: list[Event]
    test: list[Event]


def draw(seed: int) -> Interactions:
    """Cold users and items, repeats of what was taken, the same item twice, items that are gone, missing ratings."""
    rng = np.random.default_rng(seed)
    found = Interactions([], [], [])
    for user in USERS:
        if user == "u13":
            continue  # nothing held out, nothing taken
        if user not in ("u03", "u04"):  # cold users
            found.train += events(rng, user, ITEMS[:10], 4)
        found.validation += events(rng, user, [*ITEMS, "gone"], 2)
        if user != "u05":
            found.test += events(rng, user, [*ITEMS, "gone"], 6)
    # all that u06 took later it had taken before
    found.test = [event for event in found.test if event[0] != "u06"]
    found.test += [event for event in found.train if event[0] == "u06"]
    # u07's are gone from the catalogue
    found.test = [(user, "gone" if user == "u07" else item, rating) for user, item, rating in found.test]
    found.test.sort(key=lambda event: event[0])
    return found


def events(rng: np.random.Generator, user: str, items: list[str], n: int) -> list[Event]:
    return [
        (user, str(item), None if rng.random() < 0.2 else float(rng.integers(1, 6))) for item in rng.choice(items, n)
    ]


def write(path: Path, rows: list[Event]) -> Path:
    pq.write_table(
        pa.table({
            "user_id": pa.array([row[0] for row in rows], pa.string()),
            "item_id": pa.array([row[1] for row in rows], pa.string()),
            "rating": pa.array([row[2] for row in rows], pa.float32()),
        }),
        path,
    )  # fmt: skip
    return path


def score(user: str, item: str) -> float:
    """Anything without ties."""
    return math.sin(1 + 31 * int(user[1:]) + 7 * int(item[1:]))


class Scorer(PairwiseModel):
    """Scores by a formula; predicts 1 + the item's number mod 5, or no ratings at all."""

    def __init__(self, *, rates: bool) -> None:
        self.settings = ModelSettings(model="scorer")
        self._rates = rates

    def fit(self, data: TrainingData, context: FitContext) -> FitReport:
        raise NotImplementedError

    def state(self) -> ModelState:
        raise NotImplementedError

    def restore(self, state: ModelState) -> None:
        raise NotImplementedError

    def score_block(self, profiles: Profiles, histories: Histories, items: Items) -> ScoreBlock:
        users, ids = profiles.user_ids.to_pylist(), items.ids.to_pylist()
        scores = np.array([[score(user, item) for item in ids] for user in users], np.float32)
        return ScoreBlock(scores.reshape(len(users), len(ids)), np.full(len(users), "scorer"))

    @property
    def predicts_ratings(self) -> bool:
        return self._rates

    def predict_rating(
        self, profiles: Profiles, histories: Histories, items: Items, *, user_rows: np.ndarray, item_rows: np.ndarray
    ) -> np.ndarray:
        assert user_rows.max(initial=0) < len(profiles)
        return np.array([1 + int(items.ids[row].as_py()[1:]) % 5 for row in item_rows], np.float32)

    def rating_interval(
        self, profiles: Profiles, histories: Histories, items: Items, *, user_rows: np.ndarray, item_rows: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray] | None:
        if not self._rates:
            return None
        rating = self.predict_rating(profiles, histories, items, user_rows=user_rows, item_rows=item_rows)
        return rating - 1, rating + 1


def measure(folder: Path, found: Interactions, *, block_users: int = 256) -> tuple[Measurement, Measurer]:
    pq.write_table(pa.table({"user_id": USERS}), folder / "users.parquet")
    pq.write_table(pa.table({"item_id": ITEMS, "title": ITEMS}), folder / "items.parquet")

    def reader(artifact: Artifact, rows: list[Event]) -> ArtifactReader:
        return ArtifactReader(write(folder / f"{artifact.name}.parquet", rows), artifact)

    train = reader(INTERACTIONS, found.train).path
    population = Population(
        PopulationPaths(folder / "users.parquet", folder / "items.parquet", train, None, None, None, None, False)
    )
    measurer = Measurer(
        population,
        training_data(population),
        test=UserEvents(reader(TEST_INTERACTIONS, found.test), population.items.ids),
        validation=UserEvents(reader(VALIDATION_INTERACTIONS, found.validation), population.items.ids),
        settings=EvaluateSettings(k=K, slices=SLICES, block_users=block_users),
        device="cpu",
    )
    return measurer.measure({"scorer": Scorer(rates=True), "silent": Scorer(rates=False)}), measurer


def items_of(rows: list[Event], user: str) -> list[str]:
    return [item for who, item, _ in rows if who == user]


def expected(ranked: list[str], relevant: set[str], k: int) -> dict[str, float]:
    if not relevant:
        return dict.fromkeys(("ndcg", "recall", "hit_rate", "mrr", "map"), math.nan)
    hit = [item in relevant for item in ranked[:k]]
    ideal = sum(1 / math.log2(rank + 1) for rank in range(1, min(len(relevant), k) + 1))
    return {
        "ndcg": sum(1 / math.log2(rank + 1) for rank, found in enumerate(hit, 1) if found) / ideal,
        "recall": sum(hit) / len(relevant),
        "hit_rate": float(any(hit)),
        "mrr": next((1 / rank for rank, found in enumerate(hit, 1) if found), 0.0),
        "map": sum(sum(hit[:rank]) / rank for rank, found in enumerate(hit, 1) if found) / len(relevant),
    }


@pytest.mark.parametrize("seed", range(4))
def test_equals_loops_over_dictionaries(tmp_path: Path, seed: int) -> None:
    found = draw(seed)
    measurement, measurer = measure(tmp_path, found)
    cold = set(ITEMS) - {item for _, item, _ in found.train}
    assert cold >= COLD
    assert [ITEMS[row] for row in np.flatnonzero(measurer.cold)] == sorted(cold)

    tested = [user for user in USERS if items_of(found.test, user)]
    assert measurement.users.user_ids.to_pylist() == tested
    assert measurement.users.warm.tolist() == [bool(items_of(found.train, user)) for user in tested]
    taken = {user: {*items_of(found.train, user), *items_of(found.validation, user)} for user in tested}
    relevant = {user: ({*items_of(found.test, user)} & {*ITEMS}) - taken[user] for user in tested}
    assert not relevant["u06"] and not relevant["u07"]

    for name, among, wanted in (("all", set(ITEMS), set(ITEMS)), ("cold_items", set(ITEMS), cold),
                                ("cold_items_only", cold, cold)):  # fmt: skip
        counts = [len(relevant[user] & wanted) for user in tested]
        assert measurement.n_relevant[name].tolist() == counts
        values = measurement.models["scorer"].rankings[name].values
        for row, user in enumerate(tested):
            ranked = sorted(among - taken[user], key=lambda item, user=user: -score(user, item))
            for k in K:
                for metric, value in expected(ranked, relevant[user] & wanted, k).items():
                    np.testing.assert_allclose(
                        values.column(Metric(metric, k))[row], value, rtol=1e-12, err_msg=f"{name} {user} {metric}@{k}"
                    )
    everything = sum(map(len, relevant.values()))
    repeats = sum(item in taken[user] for user, item, _ in found.test if item in ITEMS)
    assert repeats >= 4
    assert measurement.counts == {
        "users": sum(bool(items) for items in relevant.values()),
        "cold_users": sum(bool(relevant[user]) and not items_of(found.train, user) for user in tested),
        "test_items": everything,
        "repeats_left_out": repeats,
        "cold_items": len(cold),
    }


@pytest.mark.parametrize("seed", range(2))
def test_errors_of_ratings_are_of_every_rated_test_event(tmp_path: Path, seed: int) -> None:
    found = draw(seed)
    measurement, _ = measure(tmp_path, found)
    errors = measurement.models["scorer"].errors
    assert errors is not None
    assert measurement.models["silent"].errors is None
    for row, user in enumerate(measurement.users.user_ids.to_pylist()):
        of_user = [
            1 + int(item[1:]) % 5 - rating
            for who, item, rating in found.test
            if who == user and item in ITEMS and rating is not None
        ]
        assert errors.counts[row] == len(of_user)
        assert errors.squared[row] == pytest.approx(sum(error**2 for error in of_user))
        assert errors.absolute[row] == pytest.approx(sum(map(abs, of_user)))
    rated = [(int(item[1:]) % 5, rating) for _, item, rating in found.test if item in ITEMS and rating is not None]
    inside = np.mean([abs(1 + number - rating) <= 1 for number, rating in rated])
    assert 0 < inside < 1
    assert measurement.models["scorer"].interval_coverage == pytest.approx(inside)
    assert math.isnan(measurement.models["silent"].interval_coverage)


@pytest.mark.parametrize(("block_users", "read_users"), [(1, 4096), (3, 4096), (256, 5), (2, 5)])
def test_blocks_change_nothing(
    tmp_path: Path, block_users: int, read_users: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = draw(0)
    whole, _ = measure(tmp_path, found)
    monkeypatch.setattr("recpipe.stages.pipeline.measuring.BLOCK_USERS", read_users)
    monkeypatch.setattr(population_module, "BLOCK_USERS", read_users)
    cut, _ = measure(tmp_path, found, block_users=block_users)
    assert cut.users.user_ids.equals(whole.users.user_ids)
    assert cut.counts == whole.counts
    for name, ranking in whole.models["scorer"].rankings.items():
        np.testing.assert_array_equal(cut.models["scorer"].rankings[name].values.values, ranking.values.values)
        assert cut.models["scorer"].rankings[name].coverage == ranking.coverage
        np.testing.assert_array_equal(cut.n_relevant[name], whole.n_relevant[name])


def test_nothing_but_repeats_cannot_be_measured(tmp_path: Path) -> None:
    taken: list[Event] = [("u00", "i00", None), ("u01", "i01", None)]
    with pytest.raises(DataError, match="no test interaction is left") as caught:
        measure(tmp_path, Interactions(taken, [("u02", "i02", None)], [*taken, ("u02", "i02", None)]))
    assert "3 of them repeat" in str(caught.value.where)


def test_without_cold_items_there_is_no_slice_of_them(tmp_path: Path) -> None:
    train: list[Event] = [("u00", item, None) for item in ITEMS]
    measurement, _ = measure(tmp_path, Interactions(train, [], [("u01", "i03", None)]))
    assert set(measurement.models["scorer"].rankings) == {"all"}
    assert measurement.counts["cold_users"] == 1
