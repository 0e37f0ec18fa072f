"""Runs plans: locks, staleness checked again under the lock, publication, clean-up."""

from __future__ import annotations

import os
import resource
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from recpipe import logs
from recpipe.errors import DataError
from recpipe.executors import local
from recpipe.schemas import Scope
from recpipe.stages.pipeline import preflight
from recpipe.stages.pipeline.context import StageContext
from recpipe.stages.pipeline.plan import Plan, Planner, State
from recpipe.stages.tables import TABLE_STAGES
from recpipe.store import locks, parts, publish
from recpipe.store.layout import View
from recpipe.store.manifest import CURRENT, read_manifest


@dataclass(frozen=True)
class Outcome:
    """What a stage did.

    Attributes:
        ran: False when it was up to date.
        seconds: Wall clock.
        peak_mib: Peak resident memory of this process while it ran.
        rows: Rows of its first output; None for a model.
        shown: What the stage has to say to people.
    """

    stage: str
    view: View
    ran: bool
    seconds: float
    peak_mib: float
    rows: int | None
    output: Path
    shown: str = ""


def run_stage(planner: Planner, plan: Plan, *, force: bool = False) -> list[Outcome]:
    """Run a stage and the source tables it needs, holding the work directory's lock shared.

    Raises:
        LockedError: Another run holds the work directory or one of the outputs.
        MissingInputError: An input is missing.
    """
    preflight.check(planner.config, [*plan.tables, plan], force=force)
    for command in preflight.stale_inputs(planner, plan):
        logs.get().warning("%s reads inputs that are not up to date; run: recpipe %s", plan.stage.command, command)
    folder = planner.layout.locks
    with locks.hold(locks.workdir_lock(folder), what=f"work directory {planner.layout.workdir}", exclusive=False):
        return run_plan(planner, plan, force=force)


def run_plan(planner: Planner, plan: Plan, *, force: bool = False) -> list[Outcome]:
    """Run a stage and the source tables it needs; the caller holds the work directory's lock."""
    outcomes = [_run_one(planner, table, force=False, wait=True) for table in plan.tables]
    outcomes.append(_run_one(planner, plan, force=force, wait=False))
    planner.digests.save()
    return outcomes


def _run_one(planner: Planner, plan: Plan, *, force: bool, wait: bool) -> Outcome:
    first = next(iter(plan.outputs.values()))
    if wait and not force and _current(plan):
        return _up_to_date(plan, first)  # without a lock: whoever reads this table holds it for hours
    with ExitStack() as stack, logs.stage(plan.stage.command):
        for path in sorted(plan.outputs.values()):
            lock = locks.output_lock(planner.layout.locks, path)
            stack.enter_context(locks.hold(lock, what=str(path), exclusive=True, wait=wait))
        for entry in plan.inputs.values():
            if entry.path not in plan.outputs.values():
                lock = locks.output_lock(planner.layout.locks, entry.path)
                # a table's lock is held alone for the moment of looking whether the table is current
                brief = wait or entry.artifact.scope is Scope.TABLE
                stack.enter_context(locks.hold(lock, what=str(entry.path), exclusive=False, wait=brief))
        # the same work for another view or --output has the same parts
        stack.enter_context(
            locks.hold(
                locks.parts_lock(planner.layout.locks, plan.fingerprint), what="its parts", exclusive=True, wait=True
            )
        )
        # another process may have made or replaced it since it was planned: look again under the lock
        if not force and (plan.state is State.CURRENT or wait) and _current(plan):
            return _up_to_date(plan, first)
        preflight.check_unchanged(plan)
        return _compute(planner, plan, first)


def _current(plan: Plan) -> bool:
    try:
        manifests = [read_manifest(path) for path in plan.outputs.values()]
    except DataError:
        return False
    return all(manifest is not None and manifest.fingerprint == plan.fingerprint for manifest in manifests)


def _up_to_date(plan: Plan, first: Path) -> Outcome:
    if plan.stage.name not in TABLE_STAGES:
        for path in plan.outputs.values():
            os.utime(path / CURRENT if path.is_dir() else path)  # so that make is content
    return Outcome(plan.stage.command, plan.view, False, 0.0, 0.0, _rows(first), first)


def _compute(planner: Planner, plan: Plan, first: Path) -> Outcome:
    logs.get().debug("running: %s", "; ".join(plan.reasons) or "forced")
    _reset_peak_memory()
    started = time.monotonic()
    for path in plan.outputs.values():
        publish.sweep(path.parent, path.name)
    context = StageContext(
        plan,
        planner.layout,
        executor=local.create(planner.config.executor),
        device=planner.config.device,
        digests=planner.digests,
        cache=planner.config.cache_folder,
    )
    plan.stage.run(plan.settings, context)
    parts.discard(planner.layout.parts(plan.fingerprint))
    seconds = time.monotonic() - started
    outcome = Outcome(
        plan.stage.command, plan.view, True, seconds, _peak_memory_mib(), _rows(first), first, "\n".join(context.shown)
    )
    rows = f"{outcome.rows:,} rows, " if outcome.rows is not None else ""
    logs.get().info(
        "done: %s%.1f s, peak memory %.0f MiB → %s",
        rows, seconds, outcome.peak_mib, first,
        extra=logs.fields(
            rows=outcome.rows, seconds=round(seconds, 3), peak_mib=round(outcome.peak_mib), output=str(first)
        ),
    )  # fmt: skip
    return outcome


def _rows(path: Path) -> int | None:
    manifest = read_manifest(path)
    return manifest.rows if manifest is not None and path.is_file() else None


def _reset_peak_memory() -> None:
    """Start a new peak (Linux); elsewhere the peak is the process's own."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def _peak_memory_mib() -> float:
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    except OSError:
        pass
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
