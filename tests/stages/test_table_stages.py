"""The source tables as stages: derived users, the quarantine, histories of what was rated well."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from conftest import World

from recpipe.schemas import USERS
from recpipe.stages.pipeline.plan import Planner
from recpipe.stages.pipeline.registry import stage_named
from recpipe.stages.pipeline.runner import run_stage
from recpipe.stages.settings import load
from recpipe.store.layout import View


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def run(world: World, name: str, *overrides: str) -> Path:
    planner = Planner(load(world.config, ["executor.workers=1", *overrides]))
    plan = planner.plan(stage_named(name), View.PRODUCTION)
    run_stage(planner, plan)
    return next(iter(plan.outputs.values()))


def test_users_of_the_interactions_come_in_their_order(world: World) -> None:
    users = pq.read_table(run(world, USERS.name, "data.users=null")).column("user_id").to_pylist()
    events = pq.read_table("work/tables/interactions.parquet").column("user_id").to_pylist()
    assert users == list(dict.fromkeys(events))
    assert len(users) > 1


def test_what_a_killed_run_left_in_the_quarantine_goes(world: World) -> None:
    leftover = Path("work/quarantine/.tmp-123-0123abcd-users.parquet")
    others = leftover.with_name(".tmp-123-0123abcd-items.parquet")
    leftover.parent.mkdir(parents=True)
    leftover.write_bytes(b"half")
    others.write_bytes(b"of a table that is read at the same time")
    run(world, USERS.name)
    assert not leftover.exists()
    assert others.exists()


@pytest.mark.parametrize("history", ["mean", "text"])
def test_histories_leave_out_what_was_rated_badly(world: World, history: str) -> None:
    """Leaving rows out by a threshold is the same as not having them."""
    with world.interactions.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    middle = sorted(float(row["rating"]) for row in rows if row["rating"])[len(rows) // 2]
    kept = [row for row in rows if not row["rating"] or float(row["rating"]) >= middle]
    assert 0 < len(kept) < len(rows)
    fewer = Path("fewer.csv")
    with fewer.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(kept)
    common = (f"users.history={history}", "users.max_history=3")
    run(world, "embed_items")
    everything = pq.read_table(run(world, "embed_users", *common))
    filtered = pq.read_table(run(world, "embed_users", *common, f"users.positive_from={middle}"))
    expected = pq.read_table(run(world, "embed_users", *common, f"data.interactions={fewer}"))
    vectors = [np.array(table.column("embedding").to_pylist(), dtype=object) for table in (filtered, expected)]
    for one, other in zip(*vectors, strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            assert np.asarray(one, float) == pytest.approx(np.asarray(other, float), abs=1e-5)
    assert not filtered.column("embedding").equals(everything.column("embedding"))
