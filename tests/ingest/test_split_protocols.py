"""Every protocol of the split: whole, disjoint, seeded, independent of how the rows are cut."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recpipe.errors import DataError
from recpipe.ingest.settings import DataSettings, SplitSettings
from recpipe.ingest.splits.base import Part, Parts, Splitter
from recpipe.ingest.splits.choose import choose_splitter
from recpipe.ingest.splits.keys import HashSet
from recpipe.ingest.splits.tally import SplitTally
from recpipe.ingest.splits.whole_users import whole_users

PROTOCOLS = ("time", "leave_one_out", "random", "cold_items")


def table(users: Sequence[str], items: Sequence[str], times: Sequence[int] | None = None) -> pa.Table:
    columns = {"user_id": pa.array(users, pa.string()), "item_id": pa.array(items, pa.string())}
    if times is not None:
        columns["timestamp"] = pa.array(times, pa.int64()).cast(pa.timestamp("us", "UTC"))
    return pa.table(columns)


def cut(rows: pa.Table, at: Sequence[int] = ()) -> list[pa.Table]:
    """Cut a table into batches before the rows `at`."""
    edges = [0, *sorted({min(edge, rows.num_rows) for edge in at}), rows.num_rows]
    return [rows.slice(start, stop - start) for start, stop in pairwise(edges)]


def splitter_for(rows: pa.Table, by: str, *, seed: int = 42, at: Sequence[int] = (), **shares: float) -> Splitter:
    def read(columns: Sequence[str]) -> Iterator[pa.Table]:
        return (batch.select(columns) for batch in cut(rows, at))

    return choose_splitter(
        SplitSettings.model_validate({"by": by, **shares}),
        read=read,
        columns=rows.column_names,
        n_rows=rows.num_rows,
        seed=seed,
        data=DataSettings(),
    )


def split(
    rows: pa.Table, by: str, *, seed: int = 42, at: Sequence[int] = (), **shares: float
) -> tuple[Parts, SplitTally, Splitter]:
    """Return the part of each row, in the order of the table."""
    splitter = splitter_for(rows, by, seed=seed, at=at, **shares)
    tally, found, blocks = SplitTally(), [], []
    for block in whole_users(cut(rows, at)):
        parts = splitter.parts(block)
        assert parts.dtype == np.int8 and len(parts) == block.table.num_rows
        tally.update(block, parts)
        found.append(parts)
        blocks.append(block.table)
    splitter.finish()
    if blocks:
        assert pa.concat_tables(blocks).equals(rows)
    return np.concatenate([*found, np.empty(0, np.int8)]), tally, splitter


@st.composite
def interactions(draw: st.DrawFn) -> pa.Table:
    """Users one after the other, times ascending within a user; items and times repeat."""
    histories = draw(
        st.lists(
            st.lists(st.tuples(st.integers(0, 40), st.sampled_from("abcdefgh")), min_size=1, max_size=9),
            min_size=1,
            max_size=12,
        )
    )
    users, items, times = [], [], []
    for number, history in enumerate(histories):
        for time, item in sorted(history):
            users.append(f"u{number * 7 % 13}")
            items.append(item)
            times.append(time)
    return table(users, items, times)


def divisible(rows: pa.Table, by: str) -> bool:
    """Say whether a table can be split so at all."""
    needed = {"time": "timestamp", "cold_items": "item_id"}.get(by)
    return needed is None or len(set(rows.column(needed).to_pylist())) >= 3


@pytest.mark.parametrize("by", PROTOCOLS)
@given(rows=interactions(), at=st.lists(st.integers(0, 90), max_size=6), seed=st.integers(0, 3))
def test_parts_are_disjoint_and_complete_however_the_rows_are_cut(
    by: str, rows: pa.Table, at: list[int], seed: int
) -> None:
    if not divisible(rows, by):
        with pytest.raises(DataError):
            split(rows, by, seed=seed)
        return
    parts, tally, _ = split(rows, by, seed=seed, at=at)
    again, _, _ = split(rows, by, seed=seed)
    np.testing.assert_array_equal(parts, again)
    pieces = [rows.filter(pa.array(parts == part)) for part in Part]
    together = Counter(str(row) for piece in pieces for row in piece.to_pylist())
    assert together == Counter(str(row) for row in rows.to_pylist())
    assert [piece.num_rows for piece in pieces] == [tally.rows[part] for part in Part]
    _check_protocol(by, rows, parts)
    _check_tally(rows, parts, tally)


def _check_protocol(by: str, rows: pa.Table, parts: Parts) -> None:
    users, items = (np.array(rows.column(name).to_pylist()) for name in ("user_id", "item_id"))
    if by == "time":
        times = rows.column("timestamp").cast(pa.int64()).to_numpy()
        assert times[parts == Part.TRAIN].max() < times[parts == Part.VALIDATION].min()
        assert times[parts == Part.VALIDATION].max() < times[parts == Part.TEST].min()
    if by == "cold_items":
        sets = [set(items[parts == part]) for part in Part]
        assert all(sets) and sum(map(len, sets)) == len(set(items))
    for user in set(users) if by in ("leave_one_out", "random") else ():
        mine = parts[users == user]
        assert Part.TRAIN in mine
        if by == "leave_one_out":
            held_out = [Part.VALIDATION, Part.TEST] if len(mine) >= 3 else []
            assert mine.tolist() == [Part.TRAIN] * (len(mine) - len(held_out)) + held_out


def _check_tally(rows: pa.Table, parts: Parts, tally: SplitTally) -> None:
    """Count again, in plain Python."""
    found = tally.details()
    pairs: dict[int, list[tuple[str, str]]] = {part: [] for part in Part}
    for row, part in zip(rows.to_pylist(), parts.tolist(), strict=True):
        pairs[part].append((row["user_id"], row["item_id"]))
    train_users = {user for user, _ in pairs[Part.TRAIN]}
    train_items = {item for _, item in pairs[Part.TRAIN]}
    assert found["users"] == len(set(rows.column("user_id").to_pylist()))
    assert (found["train_users"], found["train_items"]) == (len(train_users), len(train_items))
    for part in (Part.VALIDATION, Part.TEST):
        users, items = ({pair[side] for pair in pairs[part]} for side in (0, 1))
        assert {name.split("_", 1)[1]: found[name] for name in found if name.startswith(part.name.lower())} == {
            "rows": len(pairs[part]),
            "repeats": sum(pair in set(pairs[Part.TRAIN]) for pair in pairs[part]),
            "users": len(users),
            "users_cold": len(users - train_users),
            "items": len(items),
            "items_cold": len(items - train_items),
        }


def many_users(n_users: int, n_each: int) -> pa.Table:
    users = [f"user {number}" for number in range(n_users) for _ in range(n_each)]
    items = [f"item {number * 7 % 101}" for number in range(n_users * n_each)]
    return table(users, items)


@pytest.mark.parametrize("n_each", [2, 3, 10, 30])
def test_random_meets_its_shares_over_all_users_also_where_users_have_few(n_each: int) -> None:
    parts, _, _ = split(many_users(2000, n_each), "random", test_share=0.1, validation_share=0.2)
    shares = np.bincount(parts, minlength=3) / len(parts)
    assert shares[Part.TEST] == pytest.approx(0.1, abs=0.02)
    assert shares[Part.VALIDATION] == pytest.approx(0.2, abs=0.02)
    # no place within a user is likelier than another
    first = parts.reshape(2000, n_each)[:, 0]
    assert (first == Part.TEST).mean() == pytest.approx(0.1, abs=0.03)


def test_random_leaves_every_user_something_under_the_largest_shares() -> None:
    parts, tally, _ = split(many_users(300, 2), "random", test_share=0.6, validation_share=0.39)
    assert ((parts.reshape(300, 2) == Part.TRAIN).sum(axis=1) >= 1).all()
    assert tally.users_cold[Part.TEST] == 0


def test_a_users_draw_depends_on_nobody_else() -> None:
    rows = many_users(50, 10)
    parts, _, _ = split(rows, "random")
    alone, _, _ = split(rows.slice(200, 10), "random")
    np.testing.assert_array_equal(parts[200:210], alone)


def test_another_seed_gives_another_split() -> None:
    rows = many_users(50, 10)
    for by in ("random", "cold_items"):
        one, other, same = (split(rows, by, seed=seed)[0] for seed in (1, 2, 1))
        assert not np.array_equal(one, other)
        np.testing.assert_array_equal(one, same)


def test_cold_items_are_shares_of_the_items() -> None:
    rows = table(["u"] * 300 + ["v"] * 100, [f"i{number % 100}" for number in range(400)])
    parts, tally, splitter = split(rows, "cold_items", test_share=0.2, validation_share=0.1)
    assert tally.details()["test_items"] == tally.details()["test_items_cold"] == 20
    assert tally.details()["validation_items"] == 10
    assert np.bincount(parts).tolist() == [280, 40, 80]
    assert "20 items are test and 10 validation" in splitter.protocol()


def test_cold_items_need_three_items() -> None:
    with pytest.raises(DataError, match="too few to hold out"):
        split(table(["u", "u", "v"], ["a", "b", "a"]), "cold_items")


def test_leave_one_out_by_hand() -> None:
    rows = table(["a", "a", "b", "b", "b", "b", "c"], ["1", "2", "1", "2", "3", "1", "4"])
    parts, tally, splitter = split(rows, "leave_one_out")
    assert parts.tolist() == [0, 0, 0, 0, 1, 2, 0]
    assert splitter.details()["users_too_short"] == 2
    assert tally.repeats == {Part.VALIDATION: 0, Part.TEST: 1}


def test_auto_takes_the_best_order_there_is() -> None:
    bare = many_users(5, 5)
    placed = bare.append_column("position", pa.array([0, 1, 2, 3, 4] * 5))
    timed = placed.append_column("timestamp", pa.array(range(25), pa.int64()).cast(pa.timestamp("us", "UTC")))
    time, order, chance = (splitter_for(rows, "auto") for rows in (timed, placed, bare))
    assert (time.by, order.by, chance.by) == ("time", "leave_one_out", "random")
    assert time.warnings == order.warnings == ()
    assert "neither time nor position" in chance.warnings[0]


def test_warnings_of_leave_one_out() -> None:
    timed = table(["a"] * 3, ["x", "y", "z"], [1, 2, 3])
    assert "what others did later" in splitter_for(timed, "leave_one_out").warnings[0]
    assert "order of the source" in splitter_for(timed.drop_columns("timestamp"), "leave_one_out").warnings[0]
    assert splitter_for(timed.drop_columns("timestamp"), "random").warnings == ()


def test_time_without_times() -> None:
    with pytest.raises(DataError, match="needs timestamps") as caught:
        splitter_for(many_users(5, 5), "time")
    assert "user_id, item_id" in (caught.value.where or "")
    assert "data.columns.interactions.timestamp" in (caught.value.next_step or "")


def test_boundaries_are_stated() -> None:
    times = [1_600_000_000_000_000 + number * 86_400_000_000 for number in range(10)]
    _, _, splitter = split(table(["u"] * 10, list("abcdefghij"), times), "time")
    assert splitter.details()["test_from"] == "2020-09-22 12:26:40+00:00"
    assert "validation from 2020-09-21 12:26:40+00:00" in splitter.protocol()


def test_an_empty_part_is_an_error() -> None:
    _, tally, splitter = split(table(["a", "a", "b"], ["1", "2", "1"]), "leave_one_out")
    with pytest.raises(DataError, match="nothing for validation and test"):
        tally.require_parts(splitter)


@given(st.lists(st.text("ab", min_size=1, max_size=2), max_size=20), st.lists(st.integers(0, 25), max_size=6))
def test_users_come_out_whole(users: list[str], at: list[int]) -> None:
    runs = [user for number, user in enumerate(users) if number == 0 or users[number - 1] != user]
    rows = table(users, [str(number) for number in range(len(users))])
    blocks = list(whole_users(cut(rows, at)))
    seen = [user for block in blocks for user in block.user_ids().to_pylist()]
    assert seen == runs
    for block in blocks:
        for number, (start, stop) in enumerate(pairwise(block.offsets)):
            assert set(block.column("user_id")[start:stop].to_pylist()) == {block.user_ids()[number].as_py()}
        assert block.offsets[-1] == block.table.num_rows == len(block.place_in_user) == len(block.user_of_row)


def test_hash_set_keeps_each_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recpipe.ingest.splits.keys._PENDING", 4)
    found = HashSet()
    for start in range(0, 40, 3):
        found.add(np.arange(start, start + 6, dtype=np.uint64))
    assert found.values().tolist() == list(range(45))
    found.add(np.array([7, 99, 99], np.uint64))
    assert found.values().tolist() == [*range(45), 99]
