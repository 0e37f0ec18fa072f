from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recpipe.errors import DataError
from recpipe.schemas import EMBEDDING, ITEM_EMBEDDINGS, ITEM_ID, SCORE, TIMESTAMP, Artifact, Column, Scope, Type
from recpipe.store.arrow import arrow_type, conform, empty_table, vector_array, vector_matrix

TYPED = Artifact("typed", 1, Scope.TABLE, "", (ITEM_ID, SCORE, TIMESTAMP), key=(ITEM_ID.name,))


def vectors(rows: list[list[float] | None], type_: pa.DataType) -> pa.Table:
    return pa.table({ITEM_ID.name: [str(i) for i in range(len(rows))], EMBEDDING.name: pa.array(rows, type_)})


class TestVectors:
    @given(
        n_rows=st.integers(0, 20),
        dim=st.integers(1, 5),
        cut=st.tuples(st.integers(0, 20), st.integers(0, 20)),
        n_chunks=st.integers(0, 4),
        seed=st.integers(0, 100),
    )
    def test_a_slice_of_chunks_with_nulls_is_that_slice_of_the_matrix(
        self, n_rows: int, dim: int, cut: tuple[int, int], n_chunks: int, seed: int
    ) -> None:
        generator = np.random.default_rng(seed)
        matrix = generator.standard_normal((n_rows, dim)).astype(np.float32)
        present = generator.random(n_rows) < 0.7
        array = vector_array(matrix, present)
        bounds = np.sort(generator.integers(0, n_rows + 1, n_chunks))
        chunks = [array[a:b] for a, b in zip([0, *bounds], [*bounds, n_rows], strict=True)]
        column = pa.chunked_array(chunks, array.type)
        start, stop = sorted(cut)
        expected = np.where(present[:, None], matrix, 0)[start:stop]
        for sliced in (array[start:stop], column[start:stop]):
            found, found_present = vector_matrix(sliced)
            assert found.dtype == np.float32
            assert np.array_equal(found, expected)
            assert np.array_equal(found_present, present[start:stop])
            assert sliced.to_pylist() == [
                row.tolist() if there else None for row, there in zip(expected, present[start:stop], strict=True)
            ]

    def test_no_chunks_at_all(self) -> None:
        matrix, present = vector_matrix(pa.chunked_array([], pa.list_(pa.float32(), 3)))
        assert matrix.shape == (0, 3)
        assert present.shape == (0,)

    def test_rubbish_below_a_null_is_zero(self) -> None:
        values = pa.array([np.nan, np.inf, 1, 2], pa.float32())
        array = pa.FixedSizeListArray.from_arrays(values, 2, mask=pa.array([True, False]))
        matrix, present = vector_matrix(array)
        assert matrix.tolist() == [[0, 0], [1, 2]]
        assert present.tolist() == [False, True]

    def test_a_null_inside_a_vector_is_not_a_number(self) -> None:
        matrix, present = vector_matrix(pa.array([[1.0, None]], pa.list_(pa.float32(), 2)))
        assert np.isnan(matrix[0, 1])
        assert present.all()

    def test_a_strided_matrix_keeps_its_rows(self) -> None:
        matrix = np.arange(12, dtype=np.float64).reshape(3, 4).T
        assert np.array_equal(vector_matrix(vector_array(matrix))[0], matrix)


class TestConform:
    @pytest.mark.parametrize(
        "type_",
        [
            pa.list_(pa.float64()),
            pa.list_(pa.float32()),
            pa.large_list(pa.float64()),
            pa.list_(pa.float64(), 2),
            pa.list_(pa.float16(), 2),
        ],
    )
    @pytest.mark.parametrize("rows", [[[1, 2], [3, 4]], [[1, 2], None, [3, 4]], [None, [3, 4]]])
    def test_lists_of_other_programs_are_vectors(self, type_: pa.DataType, rows: list[list[float] | None]) -> None:
        rows = [None if row is None else [np.float16(value) for value in row] for row in rows]
        for start in (0, 1):
            table = conform(vectors(rows, type_).slice(start), ITEM_EMBEDDINGS, "x")
            assert table.column(EMBEDDING.name).type == pa.list_(pa.float32(), 2)
            assert table.column(EMBEDDING.name).to_pylist() == rows[start:]

    def test_ragged_vectors_are_bad_data(self) -> None:
        with pytest.raises(DataError, match=r"embedding have different lengths: \[1, 2\]") as caught:
            conform(vectors([[1.0, 2.0], [1.0]], pa.list_(pa.float32())), ITEM_EMBEDDINGS, "file.parquet")
        assert caught.value.where == "file.parquet"

    @pytest.mark.parametrize("type_", [pa.list_(pa.string()), pa.large_list(pa.string())])
    def test_lists_of_words_are_no_vectors(self, type_: pa.DataType) -> None:
        with pytest.raises(DataError, match="column embedding is "):
            conform(vectors([["a", "b"]], type_), ITEM_EMBEDDINGS, "x")  # type: ignore[list-item]

    def test_a_number_is_no_vector(self) -> None:
        table = pa.table({ITEM_ID.name: ["a"], EMBEDDING.name: [1.0]})
        with pytest.raises(DataError, match="column embedding is double, not a vector"):
            conform(table, ITEM_EMBEDDINGS, "x")

    def test_ids_become_text_and_undeclared_columns_stay(self) -> None:
        table = pa.table({"extra": [1], ITEM_ID.name: pa.array([7], pa.int64())})
        result = conform(table, TYPED, "x")
        assert result.column_names == ["extra", ITEM_ID.name]
        assert result.column(ITEM_ID.name).to_pylist() == ["7"]
        assert result.schema.field("extra").type == pa.int64()

    @pytest.mark.parametrize("type_", [pa.large_string(), pa.dictionary(pa.int32(), pa.string()), pa.string_view()])
    def test_texts_of_other_programs(self, type_: pa.DataType) -> None:
        table = pa.table({ITEM_ID.name: pa.array(["a", "b"]).cast(type_)})
        assert conform(table, TYPED, "x").schema.field(ITEM_ID.name).type == pa.string()

    def test_words_are_no_score(self) -> None:
        with pytest.raises(DataError, match="column score is string, not float"):
            conform(pa.table({SCORE.name: ["high"]}), TYPED, "x")

    def test_times_of_pandas(self) -> None:
        table = pa.table({TIMESTAMP.name: pa.array([1_000], pa.timestamp("ns"))})
        assert conform(table, TYPED, "x").schema.field(0).type == pa.timestamp("us", "UTC")

    def test_nothing_to_do_gives_the_same_table(self) -> None:
        table = vectors([[1.0, 2.0]], pa.list_(pa.float32(), 2))
        assert conform(table, ITEM_EMBEDDINGS, "x") is table


def test_an_empty_table_has_every_column() -> None:
    table = empty_table(ITEM_EMBEDDINGS, dim=3)
    assert table.schema.field(EMBEDDING.name).type == pa.list_(pa.float32(), 3)
    assert (table.num_rows, table.column_names) == (0, [column.name for column in ITEM_EMBEDDINGS.columns])


def test_every_type_has_an_arrow_type() -> None:
    for type_ in Type:
        assert isinstance(arrow_type(Column("x", type_, ""), 3), pa.DataType)
    with pytest.raises(ValueError, match="its length is needed"):
        arrow_type(EMBEDDING)
