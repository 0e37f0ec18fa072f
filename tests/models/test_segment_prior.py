from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from recpipe.models.base import FitContext, FitReport, Histories, Items, Profiles, TrainingData
from recpipe.models.popularity import PopularityModel, PopularitySettings
from recpipe.models.segment_prior.model import SegmentPriorModel, SegmentPriorSettings

N_GROUPS, N_ITEMS = 4, 80
ITEMS = Items.bare(pa.array([f"i{row}" for row in range(N_ITEMS)]))
GROUP_OF_ITEM = np.arange(N_ITEMS) % N_GROUPS


def people(n_users: int, *, seed: int, with_attributes: bool = True) -> tuple[np.ndarray, Profiles, Histories]:
    """Users of planted groups: nine of ten items from the group's own, a country that mostly says which group."""
    rng = np.random.default_rng(seed)
    groups = rng.integers(0, N_GROUPS, n_users)
    weights = np.where(np.arange(N_GROUPS)[:, None] == GROUP_OF_ITEM, 0.9, 0.1 / (N_GROUPS - 1))
    weights /= weights.sum(axis=1, keepdims=True)
    taken = [rng.choice(N_ITEMS, size=13, replace=False, p=weights[group]) for group in groups]
    countries = np.where(rng.random(n_users) < 0.8, groups, rng.integers(0, N_GROUPS, n_users))
    users = pa.array([f"u{seed}-{row}" for row in range(n_users)])
    table = pa.table({"user_id": users, "country": [f"C{country}" for country in countries]})
    profiles = replace(Profiles.bare(users), attributes=table if with_attributes else None)
    histories = Histories(
        items=ITEMS, offsets=np.arange(n_users + 1) * 13, item_rows=np.concatenate(taken).astype(np.int32)
    )
    return groups, profiles, histories


def data_of(profiles: Profiles, histories: Histories) -> TrainingData:
    return TrainingData(items=histories.items, open_blocks=lambda: iter([(profiles, histories)]), n_users=len(profiles))


def fitted(
    profiles: Profiles, histories: Histories, context: FitContext | None = None, **settings: Any
) -> tuple[SegmentPriorModel, FitReport]:
    model = SegmentPriorModel(SegmentPriorSettings(**settings))
    return model, model.fit(data_of(profiles, histories), context or FitContext())


def first(histories: Histories, length: int) -> tuple[Histories, np.ndarray]:
    """The first items of everybody, and the rest (n_users, n)."""
    rows = histories.item_rows.reshape(len(histories), -1)
    return replace(histories, offsets=np.arange(len(rows) + 1) * length, item_rows=rows[:, :length].ravel()), rows[
        :, length:
    ]


def hits(scores: np.ndarray, histories: Histories, wanted: np.ndarray) -> float:
    """Share of the ten best unseen items that the user took."""
    scores = scores.copy()
    scores[histories.user_rows(), histories.item_rows] = -np.inf
    best = np.argsort(-scores, axis=1)[:, :10]
    return float(np.mean([np.isin(row, items).mean() for row, items in zip(best, wanted, strict=True)]))


@pytest.mark.parametrize("tau", [0.5, 2.0])
def test_user_vector_is_the_posterior_of_the_formula(tau: float) -> None:
    """Products of plain probabilities, one user at a time, from the model's own item vectors."""
    _, profiles, histories = people(120, seed=1)
    model, _ = fitted(profiles, histories, tau=tau, n_segments=4)
    q = model.item_vectors(ITEMS).T.astype(np.float64)  # (n_segments, n_items)
    short, _ = first(histories, 3)
    nobody = Histories.empty(len(profiles), ITEMS)
    priors = model.user_vectors(profiles, nobody).vectors
    found = model.user_vectors(profiles, short).vectors
    chance = q / q.sum(axis=1, keepdims=True)
    for row in range(len(profiles)):
        items = short.item_rows[short.offsets[row] : short.offsets[row + 1]]
        expected = priors[row] * np.prod(chance[:, items] ** tau, axis=1)
        np.testing.assert_allclose(found[row], expected / expected.sum(), rtol=1e-4, atol=1e-6)


def test_shares_and_sizes_are_smoothed_counts() -> None:
    """One segment: the share of the users with the item, whatever the smoothing; several: they average to it."""
    _, profiles, histories = people(200, seed=2, with_attributes=False)
    overall = np.bincount(histories.item_rows, minlength=N_ITEMS) / 200  # items do not repeat
    one, report = fitted(profiles, histories, tau=1.0, n_segments=1)
    assert report.counts["segments"] == 1
    np.testing.assert_allclose(one.item_vectors(ITEMS)[:, 0], overall, rtol=1e-5)
    four, _ = fitted(profiles, histories, tau=1.0, n_segments=4, smoothing=1e-9)
    nobody = Histories.empty(200, ITEMS)
    np.testing.assert_allclose(
        four.user_vectors(profiles, nobody).vectors @ four.item_vectors(ITEMS).T, np.tile(overall, (200, 1)), rtol=1e-4
    )


def test_long_histories_do_not_underflow() -> None:
    _, profiles, histories = people(120, seed=1)
    model, _ = fitted(profiles, histories, tau=4.0, n_segments=4)
    everything = Histories(items=ITEMS, offsets=np.array([0, N_ITEMS]), item_rows=np.arange(N_ITEMS, dtype=np.int32))
    vector = model.user_vectors(profiles.rows(0, 1), everything).vectors
    assert np.isfinite(vector).all()
    assert vector.sum() == pytest.approx(1.0)


def test_same_history_and_attributes_give_the_same_vector_to_strangers() -> None:
    _, profiles, histories = people(120, seed=1)
    model, _ = fitted(profiles, histories, tau=1.0)
    strangers = replace(profiles, user_ids=pa.array([f"stranger{row}" for row in range(120)]))
    np.testing.assert_array_equal(
        model.user_vectors(profiles, histories).vectors, model.user_vectors(strangers, histories).vectors
    )


def test_without_history_attributes_decide_and_without_those_sizes() -> None:
    groups, profiles, histories = people(400, seed=3)
    model, _ = fitted(profiles, histories, tau=1.0, n_segments=4)
    _, strangers, _ = people(40, seed=4)
    nobody = Histories.empty(40, ITEMS)
    assert strangers.attributes is not None
    countries = strangers.attributes.column("country").to_pylist()
    told = model.user_vectors(strangers, nobody)
    assert set(told.source) == {"segment_prior"}
    best = GROUP_OF_ITEM[(told.vectors @ model.item_vectors(ITEMS).T).argmax(axis=1)]
    assert [f"C{group}" for group in best] == countries
    untold = model.user_vectors(replace(strangers, attributes=None), nobody)
    assert set(untold.source) == {"popularity"}
    sizes = np.sort(np.bincount(groups)) / 400
    np.testing.assert_allclose(np.sort(untold.vectors[0]), sizes, atol=0.05)
    np.testing.assert_array_equal(untold.vectors, np.tile(untold.vectors[0], (40, 1)))


def test_missing_attributes_are_no_attributes() -> None:
    _, profiles, histories = people(400, seed=3)
    model, _ = fitted(profiles, histories, tau=1.0, n_segments=4)
    blank = pa.table({"user_id": ["x"], "country": pa.array([None], pa.string())})
    one = replace(Profiles.bare(pa.array(["x"])), attributes=blank)
    nobody = Histories.empty(1, ITEMS)
    bare = Profiles.bare(pa.array(["x"]))
    np.testing.assert_array_equal(model.user_vectors(one, nobody).vectors, model.user_vectors(bare, nobody).vectors)
    assert model.user_vectors(one, nobody).source.tolist() == ["popularity"]


@pytest.mark.parametrize("with_attributes", [True, False])
def test_planted_segments_are_recovered_for_users_with_three_events(with_attributes: bool) -> None:
    _, profiles, histories = people(300, seed=5, with_attributes=with_attributes)
    model, _ = fitted(profiles, histories)
    popularity = PopularityModel(PopularitySettings())
    popularity.fit(data_of(profiles, histories), FitContext())
    _, strangers, later = people(200, seed=6, with_attributes=with_attributes)
    short, wanted = first(later, 3)
    own, all_alike = (
        hits(one.user_vectors(strangers, short).vectors @ one.item_vectors(ITEMS).T, short, wanted)
        for one in (model, popularity)
    )
    assert own > all_alike + 0.2  # chance over the groups is a quarter of what is known of them


def test_tau_is_chosen_on_users_left_out_and_taken_over() -> None:
    _, profiles, histories = people(300, seed=7)
    _, report = fitted(profiles, histories)
    assert report.metric == "ndcg" and report.validation is not None
    model, again = fitted(profiles, histories, FitContext(choice=report.choice))
    assert again.choice == report.choice and again.validation is None
    assert model.state().values["tau"] == report.choice["tau"]
    with pytest.raises(ValueError, match="tau must be a positive number"):
        fitted(profiles, histories, FitContext(choice={"tau": "much"}))


def test_few_users_take_the_default() -> None:
    _, profiles, histories = people(12, seed=8)
    lines: list[str] = []
    _, report = fitted(profiles, histories, FitContext(report=lines.append))
    assert report.choice == {"tau": 1.0} and report.counts["segments"] == 1
    assert "too few users" in lines[0]
