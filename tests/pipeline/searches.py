"""Calls of `recpipe tune` in tests, and what they left."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from click.testing import Result

RunCli = Callable[..., Result]

LEARNED = (
    "--set", "train.model=factorization", "--set", "train.target=implicit", "--set", "train.max_epochs=3",
    "--set", "train.hidden_dim=8",
)  # fmt: skip
CONTENT_SPACE = ("--set", "tune.space.users.half_life_days={float: [1.0, 300.0], log: true}")


def space(key: str, **dimension: Any) -> tuple[str, str]:
    return "--set", f"tune.space.{key}={json.dumps(dimension)}"


def trials(folder: Path) -> list[dict[str, Any]]:
    (path,) = folder.glob("work/tune/*/trials.parquet")
    rows: list[dict[str, Any]] = pq.read_table(path).to_pylist()
    return rows


def without_seconds(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in row.items() if name != "seconds"} for row in rows]


def fitted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list that names every stage that runs from here on."""
    from recpipe.stages.pipeline import runner

    ran: list[str] = []
    original = runner._compute

    def compute(planner: Any, plan: Any, first: Path) -> Any:
        ran.append(plan.stage.name)
        return original(planner, plan, first)

    monkeypatch.setattr(runner, "_compute", compute)
    return ran
