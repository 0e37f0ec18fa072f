"""From values for each user to the rows of `metrics` and `metric_differences`.

A slice of users is a mask over the users measured. A slice of items was measured by an
accumulator of its own; give its values with the one slice that names it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from recpipe.metrics.intervals import Bootstrap, Estimates, is_real
from recpipe.metrics.rating import RATING_METRICS, RatingErrors, rating_differences, rating_estimates
from recpipe.metrics.values import Metric, UserValues
from recpipe.schemas import (
    DIFFERENCE,
    HIGH,
    LIST_LENGTH,
    LOW,
    METRIC,
    MODEL_NAME,
    N_USERS,
    REFERENCE,
    SLICE,
    VALUE,
)

if TYPE_CHECKING:
    import numpy.typing as npt

    Bool = npt.NDArray[np.bool_]
    Int32 = npt.NDArray[np.int32]

ALL = "all"
WARM_USERS = "warm_users"
COLD_USERS = "cold_users"
COLD_ITEMS = "cold_items"
COLD_ITEMS_ONLY = "cold_items_only"
SEGMENT_PREFIX = "segment_"


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricRow:
    """One figure; low and high are NaN where no interval can be given."""

    model: str
    slice: str
    metric: Metric
    value: float
    low: float
    high: float
    n_users: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DifferenceRow:
    """One figure of a model minus that of the reference, over the same users."""

    model: str
    reference: str
    slice: str
    metric: Metric
    difference: float
    low: float
    high: float
    n_users: int

    @property
    def real(self) -> bool:
        """Whether the interval excludes 0."""
        return is_real(self.low, self.high)


def user_slices(*, warm: Bool, segments: Int32 | None = None) -> dict[str, Bool]:
    """Return the slices of users by name, the empty ones left out.

    Args:
        warm: bool (n_users,): the user has training interactions.
        segments: int32 (n_users,), -1 for none: adds a slice for each segment from 0.
    """
    slices = {ALL: np.ones(len(warm), dtype=np.bool_), WARM_USERS: warm, COLD_USERS: ~warm}
    if segments is not None:
        slices |= {f"{SEGMENT_PREFIX}{number}": segments == number for number in np.unique(segments[segments >= 0])}
    return {name: mask for name, mask in slices.items() if mask.any()}


def metric_rows(model: str, values: UserValues, slices: Mapping[str, Bool], bootstrap: Bootstrap) -> list[MetricRow]:
    """Return a row for each slice and metric that has a user.

    Args:
        slices: bool (n_users,) by name.
    """
    return [
        row
        for name, mask in slices.items()
        for row in _figures(model, name, values.metrics, bootstrap.means(values.values[mask]))
    ]


def rating_rows(model: str, errors: RatingErrors, slices: Mapping[str, Bool], bootstrap: Bootstrap) -> list[MetricRow]:
    """Return rmse and mae for each slice that has a rating."""
    return [
        row
        for name, mask in slices.items()
        for row in _figures(model, name, RATING_METRICS, rating_estimates(errors.users(mask), bootstrap))
    ]


def coverage_rows(
    model: str, coverage: Mapping[Metric, float], *, n_users: int, item_slice: str = ALL
) -> list[MetricRow]:
    """Return a row for each coverage, of the catalogue or of intervals, without an interval of its own."""
    return [
        MetricRow(model=model, slice=item_slice, metric=metric, value=share, low=np.nan, high=np.nan, n_users=n_users)
        for metric, share in coverage.items()
        if n_users and not np.isnan(share)
    ]


def difference_rows(
    models: tuple[str, str],
    values: UserValues,
    reference: UserValues,
    *,
    slices: Mapping[str, Bool],
    bootstrap: Bootstrap,
) -> list[DifferenceRow]:
    """Return model minus reference for each slice and each metric both have.

    Args:
        models: names of the model and of the reference.
        values: of the model.
        reference: of the reference, the same users in the same order.
    """
    shared = [metric for metric in values.metrics if metric in reference.metrics]
    ours, theirs = values.only(shared).values, reference.only(shared).values
    return [
        row
        for name, mask in slices.items()
        for row in _differences(models, name, shared, bootstrap.differences(ours[mask], theirs[mask]))
    ]


def rating_difference_rows(
    models: tuple[str, str],
    errors: RatingErrors,
    reference: RatingErrors,
    *,
    slices: Mapping[str, Bool],
    bootstrap: Bootstrap,
) -> list[DifferenceRow]:
    """Return rmse and mae of the model minus the reference's, for each slice."""
    return [
        row
        for name, mask in slices.items()
        for row in _differences(
            models, name, RATING_METRICS, rating_differences(errors.users(mask), reference.users(mask), bootstrap)
        )
    ]


def metrics_table(rows: Iterable[MetricRow]) -> pa.Table:
    """Return the rows as the artifact `metrics`."""
    rows = list(rows)
    return pa.table(
        {
            MODEL_NAME.name: pa.array([row.model for row in rows], pa.string()),
            SLICE.name: pa.array([row.slice for row in rows], pa.string()),
            **_metric_columns([row.metric for row in rows]),
            VALUE.name: pa.array([row.value for row in rows], pa.float64()),
            **_interval_columns(rows),
        }
    )


def differences_table(rows: Iterable[DifferenceRow]) -> pa.Table:
    """Return the rows as the artifact `metric_differences`."""
    rows = list(rows)
    return pa.table(
        {
            MODEL_NAME.name: pa.array([row.model for row in rows], pa.string()),
            REFERENCE.name: pa.array([row.reference for row in rows], pa.string()),
            SLICE.name: pa.array([row.slice for row in rows], pa.string()),
            **_metric_columns([row.metric for row in rows]),
            DIFFERENCE.name: pa.array([row.difference for row in rows], pa.float64()),
            **_interval_columns(rows),
        }
    )


def read_metric_rows(table: pa.Table) -> list[MetricRow]:
    """Return the rows of the artifact `metrics`."""
    return [
        MetricRow(
            model=row[MODEL_NAME.name],
            slice=row[SLICE.name],
            metric=Metric(row[METRIC.name], row[LIST_LENGTH.name]),
            value=row[VALUE.name],
            low=_number(row[LOW.name]),
            high=_number(row[HIGH.name]),
            n_users=row[N_USERS.name],
        )
        for row in table.to_pylist()
    ]


def read_difference_rows(table: pa.Table) -> list[DifferenceRow]:
    """Return the rows of the artifact `metric_differences`."""
    return [
        DifferenceRow(
            model=row[MODEL_NAME.name],
            reference=row[REFERENCE.name],
            slice=row[SLICE.name],
            metric=Metric(row[METRIC.name], row[LIST_LENGTH.name]),
            difference=row[DIFFERENCE.name],
            low=_number(row[LOW.name]),
            high=_number(row[HIGH.name]),
            n_users=row[N_USERS.name],
        )
        for row in table.to_pylist()
    ]


def _figures(model: str, name: str, metrics: Sequence[Metric], found: Estimates) -> list[MetricRow]:
    return [
        MetricRow(model=model, slice=name, metric=metric, value=value, low=low, high=high, n_users=n)
        for metric, value, low, high, n in _entries(metrics, found)
    ]


def _differences(
    models: tuple[str, str], name: str, metrics: Sequence[Metric], found: Estimates
) -> list[DifferenceRow]:
    model, reference = models
    return [
        DifferenceRow(
            model=model, reference=reference, slice=name, metric=metric, difference=value, low=low, high=high, n_users=n
        )
        for metric, value, low, high, n in _entries(metrics, found)
    ]


def _entries(metrics: Sequence[Metric], found: Estimates) -> list[tuple[Metric, float, float, float, int]]:
    """Return the entries somebody has a value for."""
    columns = (found.value.tolist(), found.low.tolist(), found.high.tolist(), found.n_users.tolist())
    return [entry for entry in zip(metrics, *columns, strict=True) if entry[4] > 0]


def _metric_columns(metrics: list[Metric]) -> dict[str, pa.Array]:
    return {
        METRIC.name: pa.array([metric.name for metric in metrics], pa.string()),
        LIST_LENGTH.name: pa.array([metric.k for metric in metrics], pa.int32()),
    }


def _interval_columns(rows: Sequence[MetricRow] | Sequence[DifferenceRow]) -> dict[str, pa.Array]:
    return {
        # from_pandas: NaN, no interval, becomes null
        LOW.name: pa.array([row.low for row in rows], pa.float64(), from_pandas=True),
        HIGH.name: pa.array([row.high for row in rows], pa.float64(), from_pandas=True),
        N_USERS.name: pa.array([row.n_users for row in rows], pa.int64()),
    }


def _number(value: float | None) -> float:
    return np.nan if value is None else value
