"""Counting and coding attribute values."""

from __future__ import annotations

import pyarrow as pa
import pytest

from recpipe import attributes
from recpipe.attributes import AttributeValue, ValueCounts, choose_values, explode, item_attributes

ITEMS = pa.table(
    {
        "item_id": ["a", "b", "c", "d"],
        "genres": pa.array([["Drama", "War"], ["Drama", "Drama"], None, []], pa.list_(pa.string())),
        "kind": ["x | y", "x", " ", None],
        "url": ["u1", "u2", "u3", "u4"],
        "price": [1.0, 2.0, None, 3.0],
    }
)


def test_explode_lists_and_separated_text() -> None:
    rows, values = explode(ITEMS.column("genres"), "|")
    assert list(zip(rows.tolist(), values.to_pylist(), strict=True)) == [(0, "Drama"), (0, "War"), (1, "Drama")]
    rows, values = explode(ITEMS.column("kind"), "|")
    assert list(zip(rows.tolist(), values.to_pylist(), strict=True)) == [(0, "x"), (0, "y"), (1, "x")]


def test_explode_counts_rows_from_the_slice() -> None:
    rows, values = explode(ITEMS.slice(1, 2).column("genres"), "|")
    assert (rows.tolist(), values.to_pylist()) == ([0], ["Drama"])


@pytest.mark.parametrize("data_type", [pa.large_string(), pa.dictionary(pa.int32(), pa.string())])
def test_explode_other_text_types(data_type: pa.DataType) -> None:
    column = pa.chunked_array([pa.array(["a|b", None, "b"]).cast(data_type)])
    rows, values = explode(column, "|")
    assert (rows.tolist(), values.to_pylist()) == ([0, 0, 2], ["a", "b", "b"])


def test_explode_truth_values_and_large_lists() -> None:
    assert explode(pa.chunked_array([[True, None, False]]), "|")[1].to_pylist() == ["true", "false"]
    lists = pa.chunked_array([pa.array([["a"], None, ["b", "a"]], pa.large_list(pa.large_string()))])
    rows, values = explode(lists, "|")
    assert (rows.tolist(), values.to_pylist()) == ([0, 2, 2], ["a", "b", "a"])


def test_explode_an_empty_column() -> None:
    rows, values = explode(ITEMS.slice(0, 0).column("genres"), "|")
    assert (len(rows), len(values)) == (0, 0)


def test_counts_do_not_depend_on_batches() -> None:
    whole = ValueCounts()
    whole.update(ITEMS)
    parts = [ValueCounts(), ValueCounts()]
    for part, start in zip(parts, (2, 0), strict=True):
        part.update(ITEMS.slice(start, 2))
    parts[0].merge(parts[1])
    assert parts[0].values == whole.values
    assert whole.values["genres"] == {"Drama": 2, "War": 1}
    assert whole.numbers == parts[0].numbers == {"price"}


def test_repeating_columns_are_lists_and_texts_that_repeat() -> None:
    counts = ValueCounts(excluded=frozenset({"item_id"}))
    counts.update(
        pa.concat_tables([ITEMS.drop_columns(["url"])] * 2).append_column("url", [[f"u{i}" for i in range(8)]])
    )
    assert counts.repeating() == ["genres", "kind"]


def test_a_crowded_column_is_given_up_whatever_the_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attributes, "MAX_DISTINCT", 3)
    counts = ValueCounts()
    counts.update(ITEMS)
    counts.update(ITEMS.slice(0, 1))
    assert counts.crowded == {"item_id", "url"}
    assert not counts.values["url"]


def test_most_frequent_values_first_then_by_name() -> None:
    counts = ValueCounts()
    counts.update(pa.table({"c": ["b", "a", "z", "z"]}))
    assert [value.value for value in choose_values(counts, ["c"], max_values=2)] == ["z", "a"]


def test_item_attributes_by_hand() -> None:
    values = (AttributeValue("genres", "Drama"), AttributeValue("kind", "x"))
    coded = item_attributes(values, [ITEMS.slice(0, 1), ITEMS.slice(1)])
    # Drama, x, any genre, any kind
    assert coded.matrix.toarray().tolist() == [[1, 1, 1, 1], [1, 1, 1, 1], [0, 0, 0, 0], [0, 0, 0, 0]]


def test_a_row_with_another_value_is_known_but_does_not_carry_it() -> None:
    coded = item_attributes((AttributeValue("genres", "War"),), [ITEMS])
    assert coded.matrix.toarray().tolist() == [[1, 1], [0, 1], [0, 0], [0, 0]]
