from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from recpipe.models.base import (
    FactoredModel,
    FitContext,
    FitReport,
    Histories,
    Items,
    Model,
    ModelState,
    PairwiseModel,
    Profiles,
    ScoreBlock,
    TrainingData,
    UserVectors,
)
from recpipe.schemas import RECOMMENDATIONS
from recpipe.scoring.recommendations import SCHEMA, Recommender
from recpipe.scoring.settings import ScoreSettings

N_USERS = 11
ITEMS = Items.bare(pa.array([f"i{row}" for row in range(6)]), titles=pa.array(["A", None, "C", "D", "E", "F"]))
USERS = Profiles.bare(pa.array([f"u{row}" for row in range(N_USERS)]))
VECTORS = np.random.default_rng(5).standard_normal((6, 3), dtype=np.float32)
HISTORIES = Histories(  # u0 took nothing, u1 i1, u2 i1 and i2, ..., u6 and those after everything
    items=ITEMS,
    offsets=np.append(0, np.cumsum(np.minimum(np.arange(N_USERS), 6))),
    item_rows=np.concatenate([np.arange(1, 1 + min(user, 6)) % 6 for user in range(N_USERS)]).astype(np.int32),
)


class Known(Model):
    """A model whose answers the test knows."""

    def fit(self, data: TrainingData, context: FitContext) -> FitReport:
        return FitReport(target="implicit")

    def state(self) -> ModelState:
        return ModelState(weights={})

    def restore(self, state: ModelState) -> None:
        pass

    def item_sources(self, items: Items) -> np.ndarray:
        return np.array(["", "", "", "", "", "cold item"])

    def users(self, profiles: Profiles) -> UserVectors:
        numbers = np.array([int(user_id[1:]) for user_id in profiles.user_ids.to_pylist()])
        vectors = np.stack([np.cos(numbers), np.sin(numbers), np.ones(len(numbers))], axis=1).astype(np.float32)
        return UserVectors(vectors, np.where(numbers % 2 == 0, "known", "popularity"))


class Factored(Known, FactoredModel):
    def user_vectors(self, profiles: Profiles, histories: Histories) -> UserVectors:
        return self.users(profiles)

    def item_vectors(self, items: Items) -> np.ndarray:
        return VECTORS


class Pairwise(Known, PairwiseModel):
    def score_block(self, profiles: Profiles, histories: Histories, items: Items) -> ScoreBlock:
        users = self.users(profiles)
        return ScoreBlock(users.vectors @ VECTORS.T, users.source)


class Rating(Factored):
    """Expects the number of the user plus a tenth of the item's, give or take what `reach` says."""

    def __init__(self, reach: float | None) -> None:
        self._reach = reach

    @property
    def predicts_ratings(self) -> bool:
        return True

    def predict_rating(
        self, profiles: Profiles, histories: Histories, items: Items, *, user_rows: np.ndarray, item_rows: np.ndarray
    ) -> np.ndarray:
        numbers = np.array([int(user_id[1:]) for user_id in profiles.user_ids.to_pylist()])
        return (numbers[user_rows] + item_rows / 10).astype(np.float32)

    def rating_interval(
        self, profiles: Profiles, histories: Histories, items: Items, *, user_rows: np.ndarray, item_rows: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray] | None:
        if self._reach is None:
            return None
        rating = self.predict_rating(profiles, histories, items, user_rows=user_rows, item_rows=item_rows)
        return rating - np.float32(self._reach), rating + np.float32(self._reach)


def recommend(model: Model, **settings: int | bool) -> pa.Table:
    return Recommender(model, ITEMS, ScoreSettings.model_validate(settings)).recommend(USERS, HISTORIES)


@pytest.mark.parametrize("model", [Factored(), Pairwise()])
def test_lists_are_the_best_unseen_items(model: Known) -> None:
    table = recommend(model, top_n=3)
    scores = model.users(USERS).vectors @ VECTORS.T
    expected = []
    for user in range(N_USERS):
        seen = set(HISTORIES.item_rows[HISTORIES.offsets[user] : HISTORIES.offsets[user + 1]].tolist())
        best = [row for row in np.argsort(-scores[user]) if row not in seen][:3]
        path = "known" if user % 2 == 0 else "popularity"
        for rank, row in enumerate(best, start=1):
            title = ITEMS.titles[int(row)].as_py()
            expected.append((f"u{user}", rank, f"i{row}", title, "cold item" if row == 5 else path))
    columns = [table.column(name).to_pylist() for name in ("user_id", "rank", "item_id", "title", "source")]
    assert list(zip(*columns, strict=True)) == expected
    assert "u6" not in columns[0]  # nothing is left for whoever took everything
    assert {"cold item", "known", "popularity"} == set(columns[4])
    by_row = scores[[int(user[1:]) for user in columns[0]], [int(item[1:]) for item in columns[2]]]
    np.testing.assert_allclose(table.column("score").to_numpy(), by_row, atol=1e-5)


def test_factored_and_pairwise_agree_whatever_the_block() -> None:
    whole = recommend(Factored(), top_n=4)
    for model in (Factored(), Pairwise()):
        table = recommend(model, top_n=4, block_users=2)
        assert table.drop(["score"]).equals(whole.drop(["score"]))
        np.testing.assert_allclose(table.column("score").to_numpy(), whole.column("score").to_numpy(), atol=1e-5)


def test_seen_items_stay_when_asked_for() -> None:
    table = recommend(Factored(), top_n=6, exclude_seen=False)
    assert table.num_rows == N_USERS * 6


def test_schema_is_the_declared_one() -> None:
    assert SCHEMA.names == [column.name for column in RECOMMENDATIONS.columns]
    assert recommend(Factored()).schema == SCHEMA


def test_predicted_ratings_and_their_intervals_are_of_the_listed_pairs() -> None:
    table = recommend(Rating(0.5), top_n=3, block_users=2)
    pairs = zip(table.column("user_id").to_pylist(), table.column("item_id").to_pylist(), strict=True)
    expected = np.array([int(user[1:]) + int(item[1:]) / 10 for user, item in pairs])
    for name, shift in (("predicted_rating", 0), ("predicted_rating_low", -0.5), ("predicted_rating_high", 0.5)):
        np.testing.assert_allclose(table.column(name).to_numpy(), expected + shift, atol=1e-5)


@pytest.mark.parametrize(("model", "nulls"), [(Rating(None), 2), (Factored(), 3)])
def test_what_a_model_does_not_say_is_null(model: Model, nulls: int) -> None:
    table = recommend(model, top_n=3)
    names = ["predicted_rating_high", "predicted_rating_low", "predicted_rating"]
    assert [table.column(name).null_count == table.num_rows for name in names] == [place < nulls for place in range(3)]


def test_no_users_give_an_empty_table() -> None:
    table = Recommender(Factored(), ITEMS, ScoreSettings()).recommend(USERS.rows(0, 0), HISTORIES.rows(0, 0))
    assert table.schema == SCHEMA
    assert table.num_rows == 0


def test_titles_may_be_absent() -> None:
    items = Items.bare(ITEMS.ids)
    table = Recommender(Factored(), items, ScoreSettings()).recommend(USERS, Histories.empty(N_USERS, items))
    assert table.column("title").null_count == table.num_rows == N_USERS * 6


def test_another_catalogue_is_refused() -> None:
    other = Histories.empty(N_USERS, Items.bare(ITEMS.ids))
    with pytest.raises(ValueError, match="another catalogue"):
        Recommender(Factored(), ITEMS, ScoreSettings()).recommend(USERS, other)
