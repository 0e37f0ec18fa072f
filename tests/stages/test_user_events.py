from __future__ import annotations

import tempfile
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recpipe.schemas import INTERACTIONS
from recpipe.stages.pipeline.events import UserEvents, column_array
from recpipe.store.artifacts import ArtifactReader

ITEMS = pa.array(["i2", "i0", "i1"], pa.string())
ROW = st.tuples(st.sampled_from(["i0", "i1", "i2", "gone"]), st.sampled_from([None, 1.0, 4.5]))


def events_of(folder: Path, rows: list[tuple[str, str, float | None, int]], *drop: str) -> UserEvents:
    table = pa.table({
        "user_id": pa.array([row[0] for row in rows], pa.string()),
        "item_id": pa.array([row[1] for row in rows], pa.string()),
        "rating": pa.array([row[2] for row in rows], pa.float32()),
        "timestamp": pa.array([row[3] for row in rows], pa.timestamp("us", "UTC")),
    })  # fmt: skip
    pq.write_table(table.drop_columns(list(drop)), folder / "interactions.parquet", row_group_size=3)
    return UserEvents(ArtifactReader(folder / "interactions.parquet", INTERACTIONS), ITEMS)


@settings(max_examples=50, deadline=None)
@given(
    histories=st.dictionaries(st.sampled_from("abcd"), st.lists(ROW, min_size=1, max_size=5)),
    asked=st.lists(st.sampled_from("abcdx"), max_size=6),
)
def test_events_are_those_of_the_users_in_their_order(
    histories: dict[str, list[tuple[str, float | None]]], asked: list[str]
) -> None:
    rows = [(user, *row) for user, found in histories.items() for row in found]
    timed = [(*row, number) for number, row in enumerate(rows)]
    with tempfile.TemporaryDirectory() as folder:
        events = events_of(Path(folder), timed).of(pa.array(asked, pa.string()))
    expected = [row for user in asked for row in timed if row[0] == user]
    assert events.item_rows.tolist() == [{"i2": 0, "i0": 1, "i1": 2}.get(row[1], -1) for row in expected]
    assert np.diff(events.offsets).tolist() == [len(histories.get(user, [])) for user in asked]
    assert events.timestamps_us is not None
    assert events.timestamps_us.tolist() == [row[3] for row in expected]
    assert events.ratings is not None
    assert events.ratings.dtype == np.float32
    wanted = np.array([np.nan if row[2] is None else row[2] for row in expected], np.float32)
    assert np.array_equal(events.ratings, wanted, equal_nan=True)


def test_columns_that_are_not_there(tmp_path: Path) -> None:
    events = events_of(tmp_path, [("a", "i0", 1.0, 5)], "rating", "timestamp")
    assert not events.has_ratings
    assert not events.has_timestamps
    assert events.newest_us is None
    assert events.as_of_us(None) == 0
    found = events.of(pa.array(["a"]))
    assert found.ratings is None
    assert found.timestamps_us is None


def test_now_is_the_setting_or_the_newest_event(tmp_path: Path) -> None:
    events = events_of(tmp_path, [("a", "i0", 1.0, 7), ("a", "i1", 1.0, 9), ("b", "i0", None, 8)])
    assert events.as_of_us(None) == 9
    assert events.as_of_us(datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC)) == 1_000_000


def test_no_interactions_at_all(tmp_path: Path) -> None:
    events = events_of(tmp_path, [])
    assert events.newest_us is None
    found = events.of(pa.array(["a"]))
    assert found.offsets.tolist() == [0, 0]
    assert found.item_rows.tolist() == []


@pytest.mark.parametrize("n_chunks", [0, 1, 3])
def test_a_column_is_one_array(n_chunks: int) -> None:
    table = pa.table({"x": pa.chunked_array([["a", "b"]] * n_chunks, pa.string())})
    array = column_array(table, "x")
    assert isinstance(array, pa.Array)
    assert array.to_pylist() == ["a", "b"] * n_chunks
