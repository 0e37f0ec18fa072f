from __future__ import annotations

import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recpipe.errors import DataError
from recpipe.schemas import INTERACTIONS, USER_ID
from recpipe.store import artifacts, groups
from recpipe.store.artifacts import ArtifactReader
from recpipe.store.groups import GroupedRows, KeyIndex


def open_groups(folder: Path, users: list[str], group_rows: int) -> GroupedRows:
    table = pa.table({
        "user_id": pa.array(users, pa.string()),
        "item_id": pa.array([f"i{row}" for row in range(len(users))], pa.string()),
        "rating": pa.array(range(len(users)), pa.float32()),
    })  # fmt: skip
    pq.write_table(table, folder / "interactions.parquet", row_group_size=group_rows)
    return GroupedRows(ArtifactReader(folder / "interactions.parquet", INTERACTIONS), USER_ID)


@settings(max_examples=80, deadline=None)
@given(
    sizes=st.dictionaries(st.sampled_from("abcdefgh"), st.integers(1, 6)),
    asked=st.lists(st.sampled_from([*"abcdefgh", "unknown"]), max_size=10),
    group_rows=st.integers(1, 9),
    batch_rows=st.integers(1, 9),
)
def test_it_finds_the_rows_a_scan_finds(
    sizes: dict[str, int], asked: list[str], group_rows: int, batch_rows: int
) -> None:
    users = [user for user, size in sizes.items() for _ in range(size)]
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        # batches are cut inside a user's rows
        whole = artifacts.ArtifactReader.batches
        patch.setattr(ArtifactReader, "batches", lambda self, columns: whole(self, columns, batch_rows))
        found_groups = open_groups(Path(folder), users, group_rows)
        assert found_groups.keys.to_pylist() == list(sizes)
        found = found_groups.rows_of(pa.array(asked, pa.string()), ["item_id", "rating"])
    assert found.table.column_names == ["item_id", "rating"]
    assert len(found.offsets) == len(asked) + 1
    assert found.offsets[0] == 0
    items = found.table.column("item_id").to_pylist()
    for number, user in enumerate(asked):
        expected = [f"i{row}" for row, other in enumerate(users) if other == user]
        assert items[found.offsets[number] : found.offsets[number + 1]] == expected
    assert found.offsets[-1] == found.table.num_rows


@settings(max_examples=60, deadline=None)
@given(
    known=st.lists(st.text(max_size=3), unique=True), asked=st.lists(st.none() | st.text(max_size=3)), bad=st.booleans()
)
def test_positions_are_those_of_a_dictionary(known: list[str], asked: list[str | None], bad: bool) -> None:
    expected = {key: position for position, key in enumerate(known)}
    with pytest.MonkeyPatch.context() as patch:
        if bad:  # all keys have one of two hashes
            patch.setattr(groups, "hash", lambda key: len(key or "") % 2, raising=False)
        index = KeyIndex(pa.array(known, pa.string()))
        found = index.find(pa.array([*asked, *known], pa.string()))
    assert found.tolist() == [expected.get(key, -1) for key in [*asked, *known]]  # type: ignore[call-overload]


def test_rows_that_do_not_stand_together(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="rows of user_id 'b' do not stand together") as caught:
        open_groups(tmp_path, ["a", "b", "c", "b"], 100)
    assert str(tmp_path) in str(caught.value.where)
    assert "sort the table" in str(caught.value.next_step)


def test_users_in_table_order_are_one_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found_groups = open_groups(tmp_path, [user for user in "abcd" for _ in range(3)], 4)
    reads: list[tuple[int, int]] = []
    whole = ArtifactReader.row_range

    def counted(self: ArtifactReader, start: int, stop: int, columns: list[str]) -> pa.Table:
        reads.append((start, stop))
        return whole(self, start, stop, columns)

    monkeypatch.setattr(ArtifactReader, "row_range", counted)
    found_groups.rows_of(pa.array(["b", "nobody", "c", "a"]), ["item_id"])
    assert reads == [(3, 9), (0, 3)]
