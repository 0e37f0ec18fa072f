"""Coordinates of attributes."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recpipe.models.attribute_space import AttributeSpace

FILMS = pa.table(
    {
        "item_id": ["a", "b", "c", "d"],
        "title": ["same", "same", "same", "same"],
        "genres": [["Comedy", "Drama"], ["Comedy"], [], None],
        "year": pa.array([1990.0, 1990.0, 2020.0, None]),
    }
)


def test_rows_of_a_category_have_length_one_and_share_what_they_have_in_common() -> None:
    films = FILMS.set_column(2, "genres", [[["Comedy", "Drama"], ["Comedy"], ["Drama"], None]])
    space = AttributeSpace.of(films)
    name, place = space.blocks[0]
    rows = space.encode(films, 4).toarray()[:, place]
    assert name == "genres"
    assert rows @ rows.T == pytest.approx(
        np.array([[1, 0.5**0.5, 0.5**0.5, 0], [0.5**0.5, 1, 0, 0], [0.5**0.5, 0, 1, 0], [0, 0, 0, 0]])
    )


def test_ids_titles_and_values_of_a_single_row_are_no_attributes() -> None:
    space = AttributeSpace.of(FILMS)
    assert [(value.column, value.value) for value in space.values] == [("genres", "Comedy")]
    assert [name for name, _ in space.blocks] == ["genres", "year"]


@given(st.lists(st.floats(-1e6, 1e6), min_size=3, max_size=30, unique=True))
def test_near_numbers_have_larger_products_than_far_ones(numbers: list[float]) -> None:
    table = pa.table({"price": sorted(numbers)})
    space = AttributeSpace.of(table)
    rows = space.encode(table, len(numbers)).toarray()
    if space.width:
        assert np.linalg.norm(rows, axis=1) == pytest.approx(1.0, abs=1e-5)
        assert (rows[0] @ rows.T)[-1] <= (rows[0] @ rows.T)[1] + 1e-6


def test_unknown_values_missing_columns_and_no_table_are_rows_of_zeros() -> None:
    space = AttributeSpace.of(FILMS)
    other = pa.table({"genres": ["Western", None]})
    assert space.encode(other, 2).nnz == 0
    assert space.encode(None, 3).shape == (3, space.width)
    assert AttributeSpace.of(None).width == 0


def test_json_round_trip() -> None:
    space = AttributeSpace.of(FILMS)
    assert AttributeSpace.from_json(space.to_json()) == space
