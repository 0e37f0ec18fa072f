"""Attributes y_j of items, or of users, as coordinates: what genres, brands and years become.

Every column is a block of its own. A category becomes one coordinate per value, divided by
the square root of how many values the row has, so that the block's length is 1. A number
becomes linear interpolation between knots at its quantiles, brought to length 1: near years
have a large product, far ones none, which a standardised number cannot say. A row without a
value has zeros.

The space is learned once and kept with the model, so that rows unseen in training take part.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy import sparse

from recpipe.attributes import AttributeValue, ValueCounts, choose_values, indicator_matrix
from recpipe.schemas import ITEMS, USERS

if TYPE_CHECKING:
    from recpipe.models.tables import Float32

MAX_VALUES = 256
"""Most values of a category that get a coordinate, most frequent first."""

MIN_ROWS = 2
"""A value of a single row tells it from all others and joins it to none."""

N_KNOTS = 12
"""Most knots of a number."""

SEPARATOR = "|"

_NO_ATTRIBUTES = frozenset(column.name for column in (*ITEMS.columns, *USERS.columns))


@dataclass(frozen=True, slots=True)
class AttributeSpace:
    """How rows of a table become coordinates.

    Attributes:
        values: the categories' values, those of one column together.
        knots: of each number, ascending: (column, positions).
    """

    values: tuple[AttributeValue, ...] = ()
    knots: tuple[tuple[str, tuple[float, ...]], ...] = ()

    @property
    def blocks(self) -> list[tuple[str, slice]]:
        """Name and coordinates of every column."""
        blocks: list[tuple[str, slice]] = []
        start = 0
        columns = list(dict.fromkeys(value.column for value in self.values))
        widths = [(name, sum(value.column == name for value in self.values)) for name in columns]
        for name, width in [*widths, *((name, len(knots)) for name, knots in self.knots)]:
            blocks.append((name, slice(start, start + width)))
            start += width
        return blocks

    @property
    def width(self) -> int:
        """Number of coordinates."""
        return len(self.values) + sum(len(knots) for _, knots in self.knots)

    @classmethod
    def of(cls, table: pa.Table | None) -> AttributeSpace:
        """Learn the space from all rows of a table; without a table there are no coordinates."""
        if table is None:
            return cls()
        counts = ValueCounts(SEPARATOR, _NO_ATTRIBUTES)
        counts.update(table)
        values = choose_values(counts, counts.repeating(), max_values=MAX_VALUES)
        kept = tuple(value for value in values if counts.values[value.column][value.value] >= MIN_ROWS)
        knots = []
        for name in sorted(counts.numbers):
            if pa.types.is_boolean(table.schema.field(name).type):
                continue  # counted among the categories
            numbers = _numbers(table, name)
            known = numbers[np.isfinite(numbers)]
            positions = np.unique(np.quantile(known, np.linspace(0, 1, N_KNOTS))) if len(known) else known
            if len(positions) > 1:
                knots.append((name, tuple(float(position) for position in positions)))
        return cls(kept, tuple(knots))

    def encode(self, table: pa.Table | None, n_rows: int) -> sparse.csr_matrix:
        """Return the coordinates, float32 (n_rows, width).

        Args:
            table: The rows; columns it does not have, and None, are rows without values.
        """
        if table is None or self.width == 0:
            return sparse.csr_matrix((n_rows, self.width), dtype=np.float32)
        parts = []
        if self.values:
            categories = indicator_matrix(table, self.values, separator=SEPARATOR)[:, : len(self.values)].tocsr()
            parts += [_unit_rows(categories[:, place]) for _, place in self.blocks if place.stop <= len(self.values)]
        parts += [sparse.csr_matrix(_interpolated(table, name, knots)) for name, knots in self.knots]
        return sparse.hstack(parts, format="csr", dtype=np.float32)

    def to_json(self) -> str:
        """Return the space as text, for the state of a model."""
        values = [[value.column, value.value] for value in self.values]
        return json.dumps({"values": values, "knots": self.knots}, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> AttributeSpace:
        """Read back what `to_json` gave."""
        raw = json.loads(text)
        return cls(
            tuple(AttributeValue(column, value) for column, value in raw["values"]),
            tuple((name, tuple(positions)) for name, positions in raw["knots"]),
        )


def _numbers(table: pa.Table, name: str) -> np.ndarray:
    """Return a column as float64, NaN where it has nothing."""
    column = table.column(name)
    if pa.types.is_decimal(column.type):
        column = pc.cast(column, pa.float64())
    numbers: np.ndarray = pc.fill_null(pc.cast(column, pa.float64(), safe=False), float("nan")).to_numpy()
    return numbers


def _interpolated(table: pa.Table, name: str, knots: Sequence[float]) -> Float32:
    """Return hat functions of a number, brought to length 1: float32 (n_rows, n_knots)."""
    n_rows = table.num_rows
    coordinates = np.zeros((n_rows, len(knots)), dtype=np.float32)
    if name not in table.column_names:
        return coordinates
    numbers = _numbers(table, name)
    known = np.flatnonzero(np.isfinite(numbers))
    positions = np.asarray(knots)
    inside = np.clip(numbers[known], positions[0], positions[-1])
    upper = np.clip(np.searchsorted(positions, inside, side="right"), 1, len(positions) - 1)
    share = (inside - positions[upper - 1]) / (positions[upper] - positions[upper - 1])
    length = np.hypot(share, 1.0 - share)
    coordinates[known, upper - 1] = (1.0 - share) / length
    coordinates[known, upper] = share / length
    return coordinates


def _unit_rows(matrix: sparse.csr_matrix) -> sparse.csr_matrix:
    """Divide rows of 0 and 1 by their length; rows of zeros stay."""
    counts = np.asarray(matrix.sum(axis=1)).ravel()
    scale = np.divide(1.0, np.sqrt(counts), out=np.zeros_like(counts), where=counts > 0)
    unit: sparse.csr_matrix = sparse.diags(scale.astype(np.float32)) @ matrix
    return unit.tocsr()
