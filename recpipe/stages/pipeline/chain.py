"""The whole chain: evaluation first, then production."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from recpipe import logs
from recpipe.schemas import INTERACTIONS, TRAIN_INTERACTIONS, Scope
from recpipe.stages.pipeline import preflight
from recpipe.stages.pipeline.nights import keep_night, prune
from recpipe.stages.pipeline.plan import Plan, Planner
from recpipe.stages.pipeline.registry import AnyStage, producer, stage_named, stages
from recpipe.stages.pipeline.runner import Outcome, run_plan
from recpipe.store import locks, parts
from recpipe.store.layout import View


def production_stages() -> list[AnyStage]:
    """Return the stages of the production chain, in order."""
    return [stage for stage in stages() if View.PRODUCTION in stage.views]


def evaluation_stages() -> list[AnyStage]:
    """Return the stages that `evaluate` needs in the evaluation view, in order, and itself.

    What both views share (item embeddings) is made in production.
    """
    needed = {"evaluate"}
    waiting = ["evaluate"]
    while waiting:
        for entry in stage_named(waiting.pop()).reads:
            artifact = entry.artifact
            if artifact is INTERACTIONS:
                artifact = TRAIN_INTERACTIONS
            if artifact.scope in (Scope.TABLE, Scope.SHARED) or entry.view is View.PRODUCTION:
                continue
            maker = producer(artifact).name
            if maker not in needed:
                needed.add(maker)
                waiting.append(maker)
    return [stage for stage in stages() if stage.name in needed]


def plan_chain(planner: Planner, *, skip_evaluation: bool = False) -> list[Plan]:
    """Plan source tables and stages, each as if those before it had run."""
    plans: list[Plan] = []
    shared = [stage for stage in production_stages() if _writes_shared(stage)]
    _extend(planner, plans, shared, View.PRODUCTION)
    if not skip_evaluation:
        _extend(planner, plans, evaluation_stages(), View.EVALUATION)
    _extend(planner, plans, (stage for stage in production_stages() if stage not in shared), View.PRODUCTION)
    return plans


def _writes_shared(stage: AnyStage) -> bool:
    return all(output.artifact.scope is Scope.SHARED for output in stage.writes)


def _extend(planner: Planner, plans: list[Plan], chosen: Iterable[AnyStage], view: View) -> None:
    for stage in chosen:
        plan = planner.plan(stage, view, tuple(plans))
        known = {earlier.stage.name for earlier in plans}
        plans += [table for table in plan.tables if table.stage.name not in known]
        plans.append(plan)


def run_chain(planner: Planner, *, force: bool = False, skip_evaluation: bool = False) -> list[Outcome]:
    """Run the chain, holding the work directory for itself, and keep the night's results.

    Every stage is planned before the first one runs, so that a missing table, an unknown
    model or a wrong device ends the run before the expensive part.

    Raises:
        LockedError: Another run or stage holds the work directory.
    """
    layout = planner.layout
    with locks.hold(locks.workdir_lock(layout.locks), what=f"work directory {layout.workdir}", exclusive=True):
        plans = plan_chain(planner, skip_evaluation=skip_evaluation)
        preflight.check(planner.config, plans, force=force)
        planner.digests.save()  # here, not in plan_chain: `status` and `--dry-run` write nothing
        outcomes: list[Outcome] = []
        for plan in plans:
            # the chain has the source tables as plans of their own
            outcomes += run_plan(planner, replace(plan, tables=()), force=force)
            if not outcomes[-1].ran:
                with logs.stage(plan.stage.command):
                    logs.get().debug("up to date")
        # nobody else works here, and what was planned is published: these are parts of settings given up
        parts.discard(layout.all_parts)
        if any(outcome.ran for outcome in outcomes):
            keep_night(layout, planner.config, plans, outcomes)
        prune(layout, planner.config)
        return outcomes
