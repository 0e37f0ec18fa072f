"""Artifact declarations as Arrow schemas, and vectors between NumPy and Arrow."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from recpipe.errors import DataError
from recpipe.schemas import Artifact, Column, Type

_TYPES: dict[Type, pa.DataType] = {
    Type.STRING: pa.string(),
    Type.INT32: pa.int32(),
    Type.INT64: pa.int64(),
    Type.FLOAT32: pa.float32(),
    Type.FLOAT64: pa.float64(),
    Type.BOOL: pa.bool_(),
    Type.TIMESTAMP: pa.timestamp("us", tz="UTC"),
    Type.STRINGS: pa.list_(pa.string()),
}


def arrow_type(column: Column, dim: int | None = None) -> pa.DataType:
    """Return the Arrow type of a column; `dim` is the length of a vector."""
    if column.type is Type.VECTOR:
        if dim is None:
            raise ValueError(f"{column.name} is a vector: its length is needed")
        return pa.list_(pa.float32(), dim)
    return _TYPES[column.type]


def empty_table(artifact: Artifact, *, dim: int) -> pa.Table:
    """Return a table of no rows with every declared column."""
    fields = [pa.field(column.name, arrow_type(column, dim)) for column in artifact.columns]
    return pa.schema(fields).empty_table()


def vector_array(matrix: NDArray[np.floating[Any]], present: NDArray[np.bool_] | None = None) -> pa.Array:
    """Turn a matrix (n, d) into fixed_size_list<float32>[d]; rows not `present` become null."""
    n_rows, dim = matrix.shape
    values = pa.array(np.ascontiguousarray(matrix, dtype=np.float32).reshape(-1))
    mask = None if present is None or bool(present.all()) else pa.array(~present)
    array = pa.FixedSizeListArray.from_arrays(values, dim, mask=mask)
    assert len(array) == n_rows
    return array


def vector_matrix(column: pa.ChunkedArray | pa.Array) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Turn a vector column into a matrix (n, d) float32 and a mask of the rows present.

    Absent rows are zero. A slice gives its own rows: `.values` would ignore the offset and
    `.flatten()` drops null rows, so the child is cut by hand.
    """
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if isinstance(array, pa.ChunkedArray):  # combine_chunks may keep chunks past 2 GB
        parts = [vector_matrix(chunk) for chunk in array.chunks]
        return np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])
    dim = array.type.list_size
    values = array.values.slice(array.offset * dim, len(array) * dim)
    matrix = values.to_numpy(zero_copy_only=False).reshape(len(array), dim)
    present = np.asarray(pc.is_valid(array).to_numpy(zero_copy_only=False), dtype=bool)
    if not present.all():
        matrix = np.where(present[:, None], matrix, np.float32(0))
    return np.asarray(matrix, dtype=np.float32), present


def conform(table: pa.Table, artifact: Artifact, where: str) -> pa.Table:
    """Cast the declared columns of a table to their declared types.

    Lets artifacts written by other programs in (list<double> for a vector, large_string for
    a string) and refuses what cannot be cast.

    Raises:
        DataError: A required column is missing or has another type.
    """
    for column in artifact.columns:
        index = table.schema.get_field_index(column.name)
        if index < 0:
            continue
        wanted = _wanted_type(column, table.column(index), where)
        if table.schema.field(index).type == wanted:
            continue
        try:
            table = table.set_column(index, column.name, table.column(index).cast(wanted))
        except pa.ArrowException as error:
            raise DataError(
                f"column {column.name} is {table.schema.field(index).type}, not {wanted}: {error}", where=where
            ) from error
    return table


def _wanted_type(column: Column, values: pa.ChunkedArray, where: str) -> pa.DataType:
    if column.type is not Type.VECTOR:
        return arrow_type(column)
    if pa.types.is_fixed_size_list(values.type):
        return arrow_type(column, values.type.list_size)
    if pa.types.is_list(values.type) or pa.types.is_large_list(values.type):
        lengths = pc.unique(pc.list_value_length(values).drop_null()).to_pylist()
        if len(lengths) > 1:
            raise DataError(
                f"vectors of column {column.name} have different lengths: {sorted(lengths)[:5]}", where=where
            )
        return arrow_type(column, lengths[0] if lengths else 0)
    raise DataError(f"column {column.name} is {values.type}, not a vector", where=where)
