"""Profiles and the table of segments."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from recpipe import schemas
from recpipe.segments.labels import SegmentDescription
from recpipe.segments.profiles import NO_SEGMENT, assign_users, centres_from_table, profile_table, segment_table

CENTRES = np.array([[1.0, 0.0], [0.0, 1.0]])
MEAN = np.array([0.75, 0.25])
EMBEDDINGS = np.array([[0.9, 0.1], [np.nan, np.nan], [0.0, 1.0]], np.float32)
PRESENT = np.array([True, False, True])


def test_users_without_embedding_get_no_segment_the_mean_and_no_distance() -> None:
    found = assign_users(EMBEDDINGS, PRESENT, CENTRES, mean=MEAN, basis=None)
    assert found.segments.tolist() == [0, NO_SEGMENT, 1]
    np.testing.assert_allclose(found.centres, [[1, 0], [0.75, 0.25], [0, 1]])
    np.testing.assert_allclose(found.distances, [np.hypot(0.1, 0.1), np.nan, 0], atol=1e-6)


def test_nobody_has_an_embedding() -> None:
    found = assign_users(EMBEDDINGS, np.zeros(3, bool), CENTRES, mean=MEAN, basis=None)
    assert set(found.segments.tolist()) == {NO_SEGMENT}


def test_profile_table_has_the_declared_columns() -> None:
    found = assign_users(EMBEDDINGS, PRESENT, CENTRES, mean=MEAN, basis=None)
    users = pa.chunked_array([["u", "v", "w"]])
    table = profile_table(users, np.ones((3, 4), np.float32), found)
    assert table.column_names == [column.name for column in schemas.USER_PROFILES.columns]
    assert table.column("distance").null_count == 1
    assert table.schema.field("features").type == pa.list_(pa.float32(), 4)
    assert table.column("centre").to_pylist()[1] == [0.75, 0.25]


def described(label: str) -> SegmentDescription:
    return SegmentDescription(label, ("x",), (1,), ("Heat",))


def test_segment_table_and_back() -> None:
    table = segment_table(
        CENTRES, np.array([3, 1]), [described("a"), described("b")], item_ids=["i", "j"], n_without=4, mean=MEAN
    )
    assert table.column_names == [column.name for column in schemas.SEGMENTS.columns]
    assert table.column("segment").to_pylist() == [0, 1, NO_SEGMENT]
    assert table.column("share").to_pylist() == [0.375, 0.125, 0.5]
    assert table.column("items").to_pylist() == [["j"], ["j"], []]
    centres, mean = centres_from_table(pa.concat_tables([table.slice(1), table.slice(0, 1)]))
    np.testing.assert_allclose(centres, CENTRES)
    np.testing.assert_allclose(mean, MEAN)


def test_no_row_for_nobody() -> None:
    table = segment_table(
        CENTRES, np.array([3, 1]), [described("a"), described("b")], item_ids=["i", "j"], n_without=0, mean=MEAN
    )
    assert table.column("segment").to_pylist() == [0, 1]
