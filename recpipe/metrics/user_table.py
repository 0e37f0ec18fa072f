"""The artifact `user_metrics`: written for each model, read again to compare two models later."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recpipe.errors import DataError
from recpipe.metrics.beyond_accuracy import LIST_METRICS
from recpipe.metrics.intervals import Bootstrap
from recpipe.metrics.ranking import RANKING_METRICS
from recpipe.metrics.rating import RatingErrors
from recpipe.metrics.summary import ALL, DifferenceRow, difference_rows, rating_difference_rows, user_slices
from recpipe.metrics.values import Metric, UserValues
from recpipe.schemas import (
    ABSOLUTE_ERROR,
    ITEM_SLICE,
    LIST_LENGTH,
    MODEL_NAME,
    N_RELEVANT,
    SEGMENT,
    SQUARED_ERROR,
    USER_ID,
    WARM,
)

if TYPE_CHECKING:
    import numpy.typing as npt

    Float64 = npt.NDArray[np.float64]
    Int32 = npt.NDArray[np.int32]
    Int64 = npt.NDArray[np.int64]
    Bool = npt.NDArray[np.bool_]

_ERRORS = (SQUARED_ERROR.name, ABSOLUTE_ERROR.name)
_COLUMNS = (*RANKING_METRICS, *LIST_METRICS, *_ERRORS)


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredUsers:
    """The users measured, in the order of their values.

    Attributes:
        user_ids: `pa.StringArray` (n_users,), unique.
        warm: bool (n_users,): the user has training interactions.
        segments: int32 (n_users,); -1 for none.
    """

    user_ids: pa.StringArray
    warm: Bool
    segments: Int32

    def __len__(self) -> int:
        return len(self.user_ids)


def ranking_table(
    model: str, users: MeasuredUsers, values: UserValues, *, n_relevant: Int64, item_slice: str = ALL
) -> pa.Table:
    """Return rows of `user_metrics`, one for each user with held-out items and k.

    Args:
        n_relevant: int64 (n_users,): held-out items of each user.
        item_slice: all, cold_items or cold_items_only.
    """
    kept = n_relevant > 0
    tables = []
    for k in sorted({metric.k for metric in values.metrics}):
        columns = {metric.name: values.column(metric)[kept] for metric in values.metrics if metric.k == k}
        tables.append(_rows((model, item_slice, k), users, kept, counts=n_relevant[kept], columns=columns))
    return pa.concat_tables(tables)


def rating_table(model: str, users: MeasuredUsers, errors: RatingErrors) -> pa.Table:
    """Return rows of `user_metrics` with k = 0, one for each user with held-out ratings."""
    kept = errors.counts > 0
    columns = {SQUARED_ERROR.name: errors.squared[kept], ABSOLUTE_ERROR.name: errors.absolute[kept]}
    return _rows((model, ALL, 0), users, kept, counts=errors.counts[kept], columns=columns)


def compare_users(ours: pa.Table, theirs: pa.Table, bootstrap: Bootstrap) -> list[DifferenceRow]:
    """Return the paired differences between two models, for every slice and metric both have.

    Warm users and segments are those of `ours`.

    Args:
        ours: the rows of one model in `user_metrics`.
        theirs: the rows of the model to compare with, from the same file or another run's.

    Raises:
        DataError: The two were not measured on the same users with the same held-out items.
    """
    models = (_model(ours), _model(theirs))
    found: list[DifferenceRow] = []
    for item_slice in pc.unique(ours.column(ITEM_SLICE.name)).to_pylist():
        for k in sorted(pc.unique(ours.column(LIST_LENGTH.name)).to_pylist()):
            left, right = _part(ours, item_slice, k), _part(theirs, item_slice, k)
            if not left.num_rows or not right.num_rows:
                continue
            if not all(left.column(name).equals(right.column(name)) for name in (USER_ID.name, N_RELEVANT.name)):
                raise DataError(
                    f"{models[0]} and {models[1]} were not measured on the same held-out items",
                    where=f"user_metrics, slice {item_slice}, k = {k}",
                    next_step="evaluate both on the same split: recpipe evaluate",
                )
            slices = {item_slice: np.ones(left.num_rows, dtype=np.bool_)}
            if item_slice == ALL:
                slices = _user_slices(left)
            if k == 0:
                found += rating_difference_rows(
                    models, _errors(left), _errors(right), slices=slices, bootstrap=bootstrap
                )
            else:
                found += difference_rows(
                    models, _values(left, k), _values(right, k), slices=slices, bootstrap=bootstrap
                )
    return found


def _rows(
    place: tuple[str, str, int], users: MeasuredUsers, kept: Bool, *, counts: Int64, columns: dict[str, Float64]
) -> pa.Table:
    """Return the rows of one model, slice and k."""
    model, item_slice, k = place
    n = int(kept.sum())
    return pa.table(
        {
            MODEL_NAME.name: pa.repeat(pa.scalar(model, pa.string()), n),
            USER_ID.name: users.user_ids.filter(pa.array(kept)),
            ITEM_SLICE.name: pa.repeat(pa.scalar(item_slice, pa.string()), n),
            LIST_LENGTH.name: pa.repeat(pa.scalar(k, pa.int32()), n),
            WARM.name: pa.array(users.warm[kept], pa.bool_()),
            SEGMENT.name: pa.array(users.segments[kept], pa.int32()),
            N_RELEVANT.name: pa.array(counts, pa.int32()),
            **{
                # from_pandas: NaN, not defined for this user, becomes null
                name: pa.array(columns[name], pa.float64(), from_pandas=True)
                if name in columns
                else pa.nulls(n, pa.float64())
                for name in _COLUMNS
            },
        }
    )


def _model(table: pa.Table) -> str:
    names = pc.unique(table.column(MODEL_NAME.name)).to_pylist()
    if len(names) != 1:
        raise ValueError(f"one model's rows are compared with one other's, not {names}")
    return str(names[0])


def _part(table: pa.Table, item_slice: str, k: int) -> pa.Table:
    chosen = pc.and_(
        pc.equal(table.column(ITEM_SLICE.name), item_slice),
        pc.equal(table.column(LIST_LENGTH.name), k),
    )
    return table.filter(chosen).sort_by(USER_ID.name).combine_chunks()


def _user_slices(table: pa.Table) -> dict[str, Bool]:
    return user_slices(
        warm=_array(table, WARM.name).astype(np.bool_), segments=_array(table, SEGMENT.name).astype(np.int32)
    )


def _array(table: pa.Table, name: str) -> npt.NDArray[np.generic]:
    return np.asarray(table.column(name).to_numpy())


def _values(table: pa.Table, k: int) -> UserValues:
    """Return the metrics somebody has a value for; null becomes NaN."""
    names = [name for name in (*RANKING_METRICS, *LIST_METRICS) if table.column(name).null_count < table.num_rows]
    return UserValues.of({Metric(name, k): _array(table, name).astype(np.float64) for name in names})


def _errors(table: pa.Table) -> RatingErrors:
    squared, absolute = (_array(table, name).astype(np.float64) for name in _ERRORS)
    return RatingErrors(counts=_array(table, N_RELEVANT.name).astype(np.int64), squared=squared, absolute=absolute)
