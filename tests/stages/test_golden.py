"""The chain on the small world gives what it gave before, or the stage's version says that it does not.

A result that changes while its stage keeps its version is a bug: work directories made before
would count as up to date. After raising the version, write the new results down:

    RECPIPE_GOLDEN=write python -m pytest tests/stages/test_golden.py

Where another version of a library changes results (rather than a change to recpipe), delete
golden.json first.
"""

from __future__ import annotations

import copy
import hashlib
import json
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import World

from recpipe.schemas import ITEM_VECTORS, MODEL
from recpipe.stages.pipeline.chain import plan_chain, run_chain
from recpipe.stages.pipeline.plan import Plan, Planner
from recpipe.stages.settings import load
from recpipe.store.arrow import vector_matrix
from recpipe.store.layout import View
from recpipe.store.model_folders import current_model

GOLDEN = Path(__file__).with_name("golden.json")
REGENERATE = "RECPIPE_GOLDEN=write python -m pytest tests/stages/test_golden.py"
TOLERANCE = 1e-3

Golden = dict[str, dict[str, Any]]
"""By stage and view, in the order of the chain: version, the stages read from, and artifacts summed up."""


def test_results_are_those_written_down(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    planner = Planner(load(world.config))
    plans = plan_chain(planner)
    run_chain(planner)
    found = summed_up(plans)
    writing = os.environ.get("RECPIPE_GOLDEN") == "write"
    if not writing or GOLDEN.exists():
        golden: Golden = json.loads(GOLDEN.read_text(encoding="utf-8"))
        complaints = compared(golden, found, writing=writing)
        assert not complaints, "\n".join(["", *complaints])
    if writing:
        GOLDEN.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


# what is written down -------------------------------------------------------------------------


def name_of(plan: Plan) -> str:
    return plan.stage.name if plan.view is View.PRODUCTION else f"{plan.view}/{plan.stage.name}"


def summed_up(plans: list[Plan]) -> Golden:
    makers = {path: name_of(plan) for plan in plans for path in plan.outputs.values()}
    found: Golden = {}
    for plan in plans:
        artifacts = {}
        for name, path in plan.outputs.items():
            if name == MODEL.name:
                name, path = ITEM_VECTORS.name, current_model(path)[0] / f"{ITEM_VECTORS.name}.parquet"
            artifacts[name] = summary(pq.read_table(path))
        reads = sorted({makers[entry.path] for entry in plan.inputs.values()} - {name_of(plan)})
        found[name_of(plan)] = {"version": plan.stage.version, "reads": reads, "artifacts": artifacts}
    return found


def summary(table: pa.Table) -> dict[str, Any]:
    """Rows; a hash of everything that is no float, in order; mean, deviation and signature of floats.

    Unit vectors have the same deviation whatever they hold: the signature, a sum with weights
    that differ, tells them apart.
    """
    exact: dict[str, list[Any]] = {}
    floats: dict[str, list[float]] = {}
    for name in table.column_names:
        column = table.column(name)
        if pa.types.is_fixed_size_list(column.type):
            matrix, present = vector_matrix(column)
            values = matrix[present].astype(np.float64).ravel()
        elif pa.types.is_floating(column.type):
            values = column.drop_null().to_numpy().astype(np.float64)
        else:
            exact[name] = column.to_pylist()
            continue
        exact[f"{name} is null"] = column.is_null().to_pylist()
        floats[name] = figures(values) if len(values) else []
    text = json.dumps(exact, sort_keys=True, ensure_ascii=False, default=str)
    return {"rows": table.num_rows, "exact": hashlib.sha256(text.encode()).hexdigest()[:16], "floats": floats}


def figures(values: np.ndarray) -> list[float]:
    signature = values @ np.cos(np.arange(len(values))) / math.sqrt(len(values))
    # + 0.0: no negative zeros
    return [round(float(value), 6) + 0.0 for value in (values.mean(), values.std(), signature)]


# what is compared -----------------------------------------------------------------------------


def compared(golden: Golden, found: Golden, *, writing: bool) -> list[str]:
    """Say which stages changed; those that only pass on a change of what they read are not to blame."""
    complaints: list[str] = []
    excused: set[str] = set()
    for stage, entry in found.items():
        old = golden.get(stage)
        if excused.intersection(entry["reads"]) or old is None or old["version"] != entry["version"]:
            excused.add(stage)
            continue
        changes = differences(old["artifacts"], entry["artifacts"])
        if changes or old["reads"] != entry["reads"]:
            excused.add(stage)
            what = "; ".join(changes) or f"reads {entry['reads']}, no longer {old['reads']}"
            name = stage.rpartition("/")[2]
            complaints.append(
                f"{stage} gives another result ({what}): raise the version of stage {name} or mend it; "
                f"then: {REGENERATE}"
            )
    outdated = {stage for stage in {*golden, *found} if not_as_written(golden.get(stage), found.get(stage))}
    if not complaints and outdated and not writing:
        complaints.append(f"{GOLDEN.name} is out of date for {', '.join(sorted(outdated))}; run: {REGENERATE}")
    return complaints


def not_as_written(old: dict[str, Any] | None, new: dict[str, Any] | None) -> bool:
    if old is None or new is None:
        return True
    return old["version"] != new["version"] or bool(differences(old["artifacts"], new["artifacts"]))


def differences(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    found: list[str] = []
    for name in sorted({*old, *new}):
        if name not in old or name not in new:
            found.append(f"{name} is {'new' if name in new else 'gone'}")
            continue
        before, after = old[name], new[name]
        if before["rows"] != after["rows"]:
            found.append(f"{name} has {after['rows']} rows, not {before['rows']}")
        elif before["exact"] != after["exact"]:
            found.append(f"{name} has other ids, words or ranks")
        columns = {*before["floats"], *after["floats"]}
        for column in sorted(columns):
            pair = [part["floats"].get(column) for part in (before, after)]
            if not close(*pair):
                found.append(f"{name}.{column} has mean, std and signature {pair[1]}, not {pair[0]}")
    return found


def close(old: list[float] | None, new: list[float] | None) -> bool:
    if old is None or new is None or len(old) != len(new):
        return False
    return all(
        math.isclose(before, after, rel_tol=TOLERANCE, abs_tol=TOLERANCE)
        for before, after in zip(old, new, strict=True)
    )


# the comparison itself ------------------------------------------------------------------------


def other_ids(golden: Golden, stage: str) -> None:
    next(iter(golden[stage]["artifacts"].values()))["exact"] = "0"


def drift(golden: Golden, stage: str, by: float) -> None:
    next(iter(next(iter(golden[stage]["artifacts"].values()))["floats"].values()))[0] += by


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda new: None, []),
        (lambda new: drift(new, "score", 5e-4), []),
        (lambda new: drift(new, "score", 5e-3), ["raise the version of stage score or mend it"]),
        (lambda new: other_ids(new, "score"), ["raise the version of stage score or mend it"]),
        # what only passes a change on is not to blame
        (lambda new: [other_ids(new, stage) for stage in ("embed_users", "cluster", "score")],
         ["raise the version of stage embed_users or mend it"]),
        (lambda new: [other_ids(new, stage) for stage in ("evaluation/split", "evaluation/evaluate")],
         ["raise the version of stage split or mend it"]),
        (lambda new: [new["embed_users"].update(version=99), other_ids(new, "cluster"), other_ids(new, "score")],
         ["out of date for cluster, embed_users, score"]),
        (lambda new: [new["score"].update(version=99), other_ids(new, "cluster")],
         ["raise the version of stage cluster or mend it"]),
        (lambda new: new.update(later={"version": 1, "reads": [], "artifacts": {}}), ["out of date for later"]),
        (lambda new: new["score"]["reads"].append("items2"), ["raise the version of stage score or mend it"]),
    ],
)  # fmt: skip
def test_who_is_blamed(change: Callable[[Golden], object], expected: list[str]) -> None:
    golden: Golden = json.loads(GOLDEN.read_text(encoding="utf-8"))
    new = copy.deepcopy(golden)
    change(new)
    complaints = compared(golden, new, writing=False)
    assert len(complaints) == len(expected)
    for complaint, part in zip(complaints, expected, strict=True):
        assert part in complaint
        assert REGENERATE in complaint
    # writing is refused where a version is to be raised first
    assert compared(golden, new, writing=True) == [text for text in complaints if "raise the version" in text]
