"""Attribute values: the genres, tags, categories, brands of a table's rows, counted and coded.

One pass over a table counts values (`ValueCounts`), `choose_values` keeps the most
frequent ones, a second pass codes the items (`item_attributes`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy import sparse

MAX_DISTINCT = 50_000
"""A column with more distinct values than this is no attribute: counting it would not be bounded."""

MAX_VALUE_CHARACTERS = 80
"""Longer values are prose, not attributes."""


@dataclass(frozen=True, slots=True, order=True)
class AttributeValue:
    """One value of one column, e.g. genres = Comedy."""

    column: str
    value: str


def is_category(data_type: pa.DataType) -> bool:
    """Say whether a column holds a value or a list of values to count."""
    if pa.types.is_list(data_type) or pa.types.is_large_list(data_type):
        return is_text(data_type.value_type)
    return is_text(data_type) or bool(pa.types.is_boolean(data_type))


def is_text(data_type: pa.DataType) -> bool:
    """Say whether a type is text, dictionary-encoded or not."""
    if pa.types.is_dictionary(data_type):
        return is_text(data_type.value_type)
    return bool(pa.types.is_string(data_type) or pa.types.is_large_string(data_type))


def is_number(data_type: pa.DataType) -> bool:
    """Say whether a type is a number or a truth value."""
    return bool(
        pa.types.is_integer(data_type)
        or pa.types.is_floating(data_type)
        or pa.types.is_decimal(data_type)
        or pa.types.is_boolean(data_type)
    )


def explode(column: pa.ChunkedArray, separator: str) -> tuple[np.ndarray, pa.Array]:
    """Flatten a column of values or lists.

    Args:
        column: Text, truth values or lists of text.
        separator: Splits text that holds a list.

    Returns:
        Row numbers (n_values,) int64 and values (n_values,) string, trimmed, without
        nulls, empty and overlong values, each at most once per row.
    """
    array = pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)
    if not (pa.types.is_list(array.type) or pa.types.is_large_list(array.type)):
        array = pc.split_pattern(array.cast(pa.string()), separator)
    rows = pc.list_parent_indices(array).to_numpy(zero_copy_only=False).astype(np.int64)
    values = pc.utf8_trim_whitespace(pc.list_flatten(array).cast(pa.string()))
    length = pc.fill_null(pc.utf8_length(values), 0)
    kept = pc.and_(pc.greater(length, 0), pc.less_equal(length, MAX_VALUE_CHARACTERS))
    rows, values = rows[kept.to_numpy(zero_copy_only=False)], values.filter(kept)
    codes = values.dictionary_encode().indices.to_numpy(zero_copy_only=False)
    first = np.unique(np.stack([rows, codes.astype(np.int64)]), axis=1, return_index=True)[1]
    first.sort()
    return rows[first], values.take(pa.array(first))


@dataclass(slots=True)
class ValueCounts:
    """How often each value of each column occurs, by rows; counted batch by batch."""

    separator: str = "|"
    excluded: frozenset[str] = frozenset()
    values: dict[str, Counter[str]] = field(default_factory=dict)
    lists: set[str] = field(default_factory=set)
    numbers: set[str] = field(default_factory=set)
    crowded: set[str] = field(default_factory=set)
    """Columns given up: more than MAX_DISTINCT values."""

    def update(self, table: pa.Table) -> None:
        """Count the rows of a batch."""
        for name in table.column_names:
            if name in self.excluded:
                continue
            data_type = table.schema.field(name).type
            if is_number(data_type):
                self.numbers.add(name)
            if not is_category(data_type):
                continue
            self.values.setdefault(name, Counter())
            if pa.types.is_list(data_type) or pa.types.is_large_list(data_type):
                self.lists.add(name)
            if name not in self.crowded:
                _, values = explode(table.column(name), self.separator)
                counted = pc.value_counts(values)
                self._add(name, dict(zip(*(counted.field(i).to_pylist() for i in (0, 1)), strict=True)))

    def merge(self, other: ValueCounts) -> None:
        """Add the counts of other rows of the same table."""
        self.crowded |= other.crowded
        self.lists |= other.lists
        self.numbers |= other.numbers
        for name, counter in other.values.items():
            self._add(name, counter)

    def _add(self, name: str, counts: dict[str, int]) -> None:
        counter = self.values.setdefault(name, Counter())
        counter.update(counts)
        if name in self.crowded or len(counter) > MAX_DISTINCT:
            self.crowded.add(name)
            counter.clear()

    def repeating(self) -> list[str]:
        """Names of the columns whose values occur twice or more on average, and of all lists, in table order."""
        return [
            name
            for name, counter in self.values.items()
            if counter and (name in self.lists or 2 * len(counter) <= counter.total())
        ]


def choose_values(counts: ValueCounts, columns: Sequence[str], *, max_values: int) -> tuple[AttributeValue, ...]:
    """Return the most frequent values of each column, most frequent first, equal ones by name."""
    chosen = []
    for name in columns:
        ranked = sorted(counts.values.get(name, Counter()).items(), key=lambda pair: (-pair[1], pair[0]))
        chosen += [AttributeValue(name, value) for value, _ in ranked[:max_values]]
    return tuple(chosen)


def indicator_matrix(table: pa.Table, values: Sequence[AttributeValue], *, separator: str) -> sparse.csr_matrix:
    """Say which rows carry which values.

    Returns:
        (n_rows, n_values + n_columns) float32 of 0 and 1. The last n_columns, in the
        order in which the columns first occur in `values`, say whether the row has any
        value in the column, chosen or not.
    """
    columns = list(dict.fromkeys(value.column for value in values))
    all_rows, all_codes = [], []
    for position, name in enumerate(columns):
        if name not in table.column_names:
            continue
        rows, found = explode(table.column(name), separator)
        wanted = [index for index, value in enumerate(values) if value.column == name]
        local = pc.index_in(found, pa.array([values[index].value for index in wanted], pa.string()))
        hit = local.is_valid().to_numpy(zero_copy_only=False)
        all_rows += [rows[hit], np.unique(rows)]
        codes = np.asarray(wanted, np.int64)[local.drop_null().to_numpy().astype(np.int64)]
        all_codes += [codes, np.full(len(all_rows[-1]), len(values) + position)]
    rows = np.concatenate([*all_rows, np.empty(0, np.int64)])
    codes = np.concatenate([*all_codes, np.empty(0, np.int64)])
    shape = (table.num_rows, len(values) + len(columns))
    return sparse.csr_matrix((np.ones(len(rows), np.float32), (rows, codes)), shape=shape)


@dataclass(frozen=True, slots=True)
class ItemAttributes:
    """Which items carry which attribute values.

    Attributes:
        values: The chosen values, those of one column together.
        matrix: (n_items, n_values + n_columns) as from `indicator_matrix`, items in table order.
    """

    values: tuple[AttributeValue, ...]
    matrix: sparse.csr_matrix

    @property
    def columns(self) -> list[str]:
        """Names of the columns, in the order of the matrix' last columns."""
        return list(dict.fromkeys(value.column for value in self.values))


def item_attributes(
    values: Sequence[AttributeValue], batches: Iterable[pa.Table], *, separator: str = "|"
) -> ItemAttributes:
    """Code the items table, read in batches in its order."""
    matrices = [indicator_matrix(batch, values, separator=separator) for batch in batches]
    n_columns = len(values) + len({value.column for value in values})
    empty = sparse.csr_matrix((0, n_columns), dtype=np.float32)
    return ItemAttributes(tuple(values), sparse.vstack([empty, *matrices], format="csr"))
