"""The whole production chain: every stage in the order of what it reads."""

from __future__ import annotations

from dataclasses import replace

from recpipe.stages.pipeline.plan import Plan, Planner
from recpipe.stages.pipeline.registry import AnyStage, stages
from recpipe.stages.pipeline.runner import Outcome, run_plan
from recpipe.store import locks, parts
from recpipe.store.layout import View


def production_stages() -> list[AnyStage]:
    """Return the stages of the production chain, in order."""
    return [stage for stage in stages() if View.PRODUCTION in stage.views]


def plan_chain(planner: Planner) -> list[Plan]:
    """Plan source tables and stages, each as if those before it had run."""
    plans: list[Plan] = []
    for stage in production_stages():
        plan = planner.plan(stage, View.PRODUCTION, tuple(plans))
        known = {earlier.stage.name for earlier in plans}
        plans += [table for table in plan.tables if table.stage.name not in known]
        plans.append(plan)
    return plans


def run_chain(planner: Planner, *, force: bool = False) -> list[Outcome]:
    """Run the chain, holding the work directory for itself.

    Every stage is planned before the first one runs, so that a missing table, an unknown
    model or a wrong device ends the run before the expensive part.

    Raises:
        LockedError: Another run or stage holds the work directory.
    """
    layout = planner.layout
    with locks.hold(locks.workdir_lock(layout.locks), what=f"work directory {layout.workdir}", exclusive=True):
        plans = plan_chain(planner)
        planner.digests.save()  # here, not in plan_chain: `status` and `--dry-run` write nothing
        outcomes: list[Outcome] = []
        for plan in plans:
            # the chain has the source tables as plans of their own
            outcomes += run_plan(planner, replace(plan, tables=()), force=force)
        # nobody else works here, and what was planned is published: these are parts of settings given up
        parts.discard(layout.all_parts)
        return outcomes
