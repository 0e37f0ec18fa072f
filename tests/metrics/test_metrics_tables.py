"""Rows of the artifacts metrics, metric_differences and user_metrics, and their text."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from recpipe.errors import DataError
from recpipe.metrics.definitions import DEFINITIONS
from recpipe.metrics.intervals import MIN_USERS, Bootstrap
from recpipe.metrics.rating import RatingErrors
from recpipe.metrics.summary import (
    DifferenceRow,
    MetricRow,
    coverage_rows,
    difference_rows,
    differences_table,
    metric_rows,
    metrics_table,
    rating_difference_rows,
    rating_rows,
    read_difference_rows,
    read_metric_rows,
    user_slices,
)
from recpipe.metrics.text import BEYOND_ACCURACY, differences_text, metrics_text
from recpipe.metrics.user_table import MeasuredUsers, compare_users, ranking_table, rating_table
from recpipe.metrics.values import Metric, UserValues
from recpipe.schemas import METRIC_DIFFERENCES, METRICS, USER_METRICS, Artifact

N = 40
NDCG, RECALL, NOVELTY = Metric("ndcg", 10), Metric("recall", 10), Metric("novelty", 10)
WARM = np.arange(N) >= 12
SEGMENTS = np.where(WARM, np.arange(N) % 2, -1).astype(np.int32)
N_RELEVANT = np.where(np.arange(N) % 10 == 9, 0, 2)
BOOTSTRAP = Bootstrap(n_draws=200, seed=1)


def values(seed: int) -> UserValues:
    found = np.random.default_rng(seed).random((N, 3))
    found[N_RELEVANT == 0] = np.nan
    found[0, 2] = np.nan  # an empty list: no novelty
    return UserValues((NDCG, RECALL, NOVELTY), found)


def errors(seed: int) -> RatingErrors:
    rng = np.random.default_rng(seed)
    counts = (np.arange(N) % 4).astype(np.int64)
    absolute = np.where(counts > 0, rng.random(N), 0.0)
    return RatingErrors(counts=counts, squared=absolute**2, absolute=absolute)


def users() -> MeasuredUsers:
    names = pa.array([f"u{number:03}" for number in range(N)])
    return MeasuredUsers(user_ids=names, warm=WARM, segments=SEGMENTS)


def assert_declared(table: pa.Table, artifact: Artifact) -> None:
    assert table.column_names == [column.name for column in artifact.columns]
    assert [str(field.type) for field in table.schema] == [
        column.type.value.replace("float64", "double") for column in artifact.columns
    ]
    for column in artifact.columns:
        assert column.nullable or table.column(column.name).null_count == 0, column.name
    keys = list(zip(*[table.column(name).to_pylist() for name in artifact.key], strict=True))
    assert len(set(keys)) == len(keys)


def test_slices_of_users() -> None:
    slices = user_slices(warm=WARM, segments=SEGMENTS)
    sizes = {name: int(mask.sum()) for name, mask in slices.items()}
    assert sizes == {"all": 40, "warm_users": 28, "cold_users": 12, "segment_0": 14, "segment_1": 14}
    assert list(user_slices(warm=np.ones(3, dtype=bool))) == ["all", "warm_users"]


def test_rows_hold_the_means_of_their_users() -> None:
    found = values(0)
    rows = metric_rows("deep", found, user_slices(warm=WARM, segments=SEGMENTS), BOOTSTRAP)
    by_place = {(row.slice, row.metric): row for row in rows}
    assert len(by_place) == len(rows) == 5 * 3
    for name, mask in user_slices(warm=WARM, segments=SEGMENTS).items():
        row = by_place[name, NOVELTY]
        assert row.value == pytest.approx(np.nanmean(found.values[mask, 2]))
        assert row.n_users == (~np.isnan(found.values[mask, 2])).sum()
        assert row.low < row.value < row.high


def test_tables_are_as_declared_and_can_be_read_back() -> None:
    slices = user_slices(warm=WARM, segments=SEGMENTS)
    rows = metric_rows("deep", values(0), slices, BOOTSTRAP)
    rows += rating_rows("deep", errors(0), slices, BOOTSTRAP)
    rows += coverage_rows("deep", {Metric("coverage", 10): 0.25}, n_users=36)
    table = metrics_table(rows)
    assert_declared(table, METRICS)
    without_interval = [row for row in rows if row.n_users < MIN_USERS or row.metric.name == "coverage"]
    assert table.column("low").null_count == len(without_interval) == 5
    assert repr(read_metric_rows(table)) == repr(rows)  # repr: NaN equals NaN

    models = ("deep", "popularity")
    differences = difference_rows(models, values(0), values(1), slices=slices, bootstrap=BOOTSTRAP)
    differences += rating_difference_rows(models, errors(0), errors(1), slices=slices, bootstrap=BOOTSTRAP)
    table = differences_table(differences)
    assert_declared(table, METRIC_DIFFERENCES)
    assert repr(read_difference_rows(table)) == repr(differences)


def test_a_slice_without_anybody_measured_has_no_row() -> None:
    nobody = {"cold_users": N_RELEVANT == 0}
    assert metric_rows("deep", values(0), nobody, BOOTSTRAP) == []
    assert coverage_rows("deep", {Metric("coverage", 10): 0.0}, n_users=0) == []


def test_differences_take_the_metrics_both_have() -> None:
    rows = difference_rows(
        ("a", "b"),
        values(0),
        values(1).only([RECALL, NDCG]),
        slices=user_slices(warm=np.ones(N, dtype=bool)),
        bootstrap=BOOTSTRAP,
    )
    assert [row.metric for row in rows if row.slice == "all"] == [NDCG, RECALL]
    expected = np.nanmean(values(0).values[:, 0]) - np.nanmean(values(1).values[:, 0])
    assert rows[0].difference == pytest.approx(expected)


def test_user_metrics_compared_later_equal_the_differences_at_once() -> None:
    slices = user_slices(warm=WARM[N_RELEVANT > 0], segments=SEGMENTS[N_RELEVANT > 0])
    kept = N_RELEVANT > 0
    ours, theirs = (
        pa.concat_tables(
            [
                ranking_table(name, users(), values(seed), n_relevant=N_RELEVANT),
                ranking_table(name, users(), values(seed + 5), n_relevant=N_RELEVANT, item_slice="cold_items"),
                rating_table(name, users(), errors(seed)),
            ]
        )
        for seed, name in enumerate(("deep", "popularity"))
    )
    assert_declared(ours, USER_METRICS)
    assert ours.num_rows == 36 + 36 + 30
    shuffled = theirs.take(np.random.default_rng(0).permutation(theirs.num_rows))
    found = compare_users(ours, shuffled, BOOTSTRAP)
    at_once = difference_rows(
        ("deep", "popularity"), values(0).users(kept), values(1).users(kept), slices=slices, bootstrap=BOOTSTRAP
    )
    by_place = {(row.slice, row.metric): row for row in found}
    assert len(by_place) == len(found)
    for row in at_once:
        assert by_place[row.slice, row.metric] == row
    assert by_place["all", Metric("rmse")].n_users == 30
    assert by_place["cold_items", NDCG].n_users == 36
    assert {row.slice for row in found} == {*slices, "cold_items"}


def test_a_model_compared_with_itself_is_not_different() -> None:
    table = ranking_table("deep", users(), values(0), n_relevant=N_RELEVANT)
    found = compare_users(table, table, BOOTSTRAP)
    assert {(row.difference, row.real) for row in found} == {(0.0, False)}


def test_other_held_out_items_are_refused() -> None:
    ours = ranking_table("a", users(), values(0), n_relevant=N_RELEVANT)
    theirs = ranking_table("b", users(), values(1), n_relevant=N_RELEVANT * 2)
    with pytest.raises(DataError, match="a and b were not measured on the same held-out items"):
        compare_users(ours, theirs, BOOTSTRAP)
    with pytest.raises(ValueError, match="one model's rows"):
        compare_users(pa.concat_tables([ours, theirs]), theirs, BOOTSTRAP)


def row(model: str, metric: Metric, value: float, low: float = np.nan, high: float = np.nan) -> MetricRow:
    return MetricRow(model=model, slice="all", metric=metric, value=value, low=low, high=high, n_users=1610)


def difference(value: float, low: float, high: float, model: str = "deep") -> DifferenceRow:
    return DifferenceRow(
        model=model,
        reference="popularity",
        slice="all",
        metric=NDCG,
        difference=value,
        low=low,
        high=high,
        n_users=1610,
    )


def test_text_of_metrics() -> None:
    rows = [
        row("popularity", NDCG, 0.0151, 0.01, 0.0214),
        row("popularity", RECALL, 0.03),
        row("popularity", Metric("ndcg", 20), 0.9),
        row("factorization", NDCG, 0.0322, 0.024, 0.041),
        row("factorization", RECALL, 0.06),
        row("deep", NDCG, 0.016, 0.009, 0.024),
        row("popularity", Metric("coverage", 10), 0.0123),
        row("popularity", NOVELTY, 12.345),
        row("factorization", Metric("rmse"), 0.8501, 0.84, 0.86),
        row("factorization", Metric("mae"), 0.6506),
    ]
    differences = [difference(0.0171, 0.006, 0.028, "factorization"), difference(0.0009, -0.004, 0.0063)]
    assert (
        metrics_text(rows, differences, k=10, level=0.95)
        == """\
all: 1,610 users, the first 10 of each list
  model          ndcg                recall  ndcg against popularity
  popularity     .0151 [.010, .021]   .0300
  factorization  .0322 [.024, .041]   .0600  +.0171 [+.006, +.028]
  deep           .0160 [.009, .024]          +.0009 [-.004, +.006] not real

what the first 10 of each list are like
  model       coverage  novelty
  popularity  .0123       12.35

all: predicted ratings of 1,610 users
  model          rmse                  mae
  factorization  .8501 [.840, .860]  .6506

[low, high]: 95 % interval over users; a difference is real when its interval excludes 0.
"""
    )


def test_text_of_differences() -> None:
    rows = [difference(0.0, 0.0, 0.0), difference(0.0004, 0.00003, 0.001), difference(-0.5, np.nan, np.nan)]
    assert (
        differences_text(rows, level=0.9)
        == """\
all: deep minus popularity
  metric   difference               users
  ndcg@10  .0000 [.000, .000]       1,610  not real
  ndcg@10  +.0004 [+.00003, +.001]  1,610
  ndcg@10  -.5000                   1,610  too few users

[low, high]: 90 % interval over users; a difference is real when its interval excludes 0.
"""
    )


def test_every_metric_has_a_definition() -> None:
    from recpipe.metrics.ranking import RANKING_METRICS

    assert set(DEFINITIONS) == {*RANKING_METRICS, *BEYOND_ACCURACY, "rmse", "mae", "interval_coverage"}
    declared = {column.name for column in USER_METRICS.columns}
    assert declared >= set(DEFINITIONS) - {"coverage", "rmse", "mae", "interval_coverage"}
