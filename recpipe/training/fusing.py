"""Fitting a hybrid: its parts, then the weights they are fused with.

In the evaluation view held-out interactions choose everything: each part's own numbers, the
weights, and how new items come into the lists. In production all of that was chosen before.
Where it was not (`train` alone), 10 % of the interactions are held out for it, without the
users' embeddings, which have seen them, and all parts are fitted again to everything.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from recpipe.errors import DataError
from recpipe.models.base import FitContext, FitReport, JsonValue, Model, TrainingData
from recpipe.models.hybrid.fusion import CLASS_STARTS, FusionWeights
from recpipe.models.hybrid.model import HybridModel
from recpipe.models.popularity import ItemCounts
from recpipe.models.registry import find_model
from recpipe.schemas import USER_EMBEDDINGS
from recpipe.seeding import generator
from recpipe.training.candidates import Candidates, Wanted, gather_candidates, joined, shortened
from recpipe.training.fusion_search import search_weights
from recpipe.training.hold_out import HELD_OUT_SHARE, hold_out, keep_items, without_profiles, without_segments
from recpipe.training.new_items import place_new_items
from recpipe.training.validation import gather_held_out

if TYPE_CHECKING:
    from recpipe.models.tables import Bool

MAX_USERS = 2000
"""Most users that weights are chosen by."""

MIN_USERS = 200
"""Users of a class of histories below which others, their histories cut short, stand for them."""

SET_DECAY = 0.98
"""The decay of ease from which on the order of a history means nothing to two_tower either."""

METRIC = "ndcg@100"

FitPart = Callable[[Model, TrainingData, FitContext], FitReport]


def fit_hybrid(model: HybridModel, data: TrainingData, context: FitContext, *, fit_part: FitPart) -> FitReport:
    """Fit the parts and choose, or take, the weights.

    Args:
        fit_part: `recpipe.training.fitting.fit`.

    Raises:
        DataError: The interactions hold nothing to learn from.
    """
    data = without_segments(data)
    weights = FusionWeights.from_choice(model.settings.parts, context.choice)
    if weights is not None:
        return _fit_chosen(model, data, context, weights, fit_part)
    if context.held_out is not None:
        return _choose(model, data, context, fit_part)
    left_out = [name for name in model.parts if USER_EMBEDDINGS.name in find_model(name).reads]
    context.report(
        f"weights: choosing on {HELD_OUT_SHARE:.0%} of the interactions held out"
        + (f", without {', '.join(left_out)}; recpipe run chooses among all" if left_out else "")
    )
    known = without_profiles(data)
    kept, held = hold_out(known, share=HELD_OUT_SHARE, seed=context.seed, last=data.as_of_us is not None)
    judged = HybridModel(model.settings)
    judged.parts = {name: part for name, part in judged.parts.items() if name not in left_out}
    try:
        found = _choose(judged, kept, replace(context, held_out=held, checkpoint=None), fit_part)
    except DataError as error:  # a handful of interactions: the first night must not fail for a choice
        first = next(iter(model.parts))
        context.report(f"{error.what}: taking {first} alone")
        return _fit_chosen(model, data, context, FusionWeights.alone(model.settings.parts, first), fit_part)
    weights = FusionWeights.from_choice(model.settings.parts, found.choice)
    assert weights is not None
    again = replace(context, choice=found.choice)
    final = _fit_chosen(model, data, again, weights, fit_part)
    return replace(final, metric=found.metric, validation=found.validation)


def _fit_chosen(
    model: HybridModel, data: TrainingData, context: FitContext, weights: FusionWeights, fit_part: FitPart
) -> FitReport:
    """Fit the parts that have weights, with what was chosen for them."""
    model.parts = {name: model.parts[name] for name in weights.used}
    reports = _fit_parts(model, data, context, fit_part)
    model.measure_parts(data, seed=context.seed)
    model.weigh(weights)
    return _report(data, reports, weights)


def _choose(model: HybridModel, data: TrainingData, context: FitContext, fit_part: FitPart) -> FitReport:
    """Fit the parts and choose the weights on `context.held_out`."""
    assert context.held_out is not None
    settings = model.settings
    seen = ItemCounts.of(data, settings.positive_from).n_users > 0
    held = _gather(data, context.held_out, context, positive_from=settings.positive_from)
    own = context
    if seen[held.item_rows].any():  # what the parts do with new items is weighed apart
        own = replace(context, held_out=keep_items(context.held_out, seen))
    reports = _fit_parts(model, data, own, fit_part)
    regression = model.measure_parts(data, seed=context.seed)
    candidates = _candidates(model, _known(held, seen), context.seed)
    parts = tuple(model.parts)
    by_class = search_weights(candidates, parts, report=context.report)
    weights = place_new_items(
        model,
        held,
        by_class,
        regression=regression,
        cost=settings.new_item_cost,
        seed=context.seed,
        report=context.report,
    )
    model.weigh(weights)
    own_classes = candidates.of(candidates.classes > 0) if (candidates.classes > 0).any() else candidates
    values = [
        own_classes.of(own_classes.classes == number).ndcg(by_class[:, number])
        for number in np.unique(own_classes.classes)
    ]
    return replace(_report(data, reports, weights), metric=METRIC, validation=float(np.concatenate(values).mean()))


def _fit_parts(model: HybridModel, data: TrainingData, context: FitContext, fit_part: FitPart) -> dict[str, FitReport]:
    """Fit the parts one after the other."""
    reports: dict[str, FitReport] = {}
    for name, part in model.parts.items():
        folder = None if context.checkpoint is None else context.checkpoint / name
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
        choice = {
            key.removeprefix(f"{name}."): value for key, value in context.choice.items() if key.startswith(f"{name}.")
        }
        if name == "two_tower" and "ease" in reports and "history_order" not in choice:
            choice["history_order"] = _history_order(reports["ease"])
        own = replace(context, choice=choice, checkpoint=folder)
        reports[name] = fit_part(part, data, own)
        value = reports[name].validation
        context.report(
            f"{name}: fitted" + ("" if value is None else f", validation {reports[name].metric} {value:.4f}")
        )
    return reports


def _history_order(ease: FitReport) -> str:
    """Return whether order means anything, as ease found: trying both again would cost two trainings."""
    decay = ease.choice.get("history_decay")
    return "set" if isinstance(decay, float) and decay >= SET_DECAY else "sequence"


def _report(data: TrainingData, reports: Mapping[str, FitReport], weights: FusionWeights) -> FitReport:
    choice: dict[str, JsonValue] = {
        f"{name}.{key}": value
        for name, report in reports.items()
        if name in weights.used
        for key, value in report.choice.items()
    }
    first = next(iter(reports.values()))
    counts = {"users": data.n_users, "items": len(data.items), "parts": len(weights.used)}
    history = next((report.history for report in reports.values() if report.history), ())
    return FitReport(target=first.target, counts=counts, choice=choice | weights.choice(), history=history)


def _gather(data: TrainingData, held_out: TrainingData, context: FitContext, *, positive_from: float | None) -> Wanted:
    """Collect the users to choose by. DataError where nothing held out can be measured."""
    held = gather_held_out(
        data, held_out, "implicit", positive_from=positive_from, max_users=MAX_USERS, seed=context.seed
    )
    return Wanted(held.profiles, held.histories, held.histories, held.offsets, held.item_rows)


def _known(wanted: Wanted, seen: Bool) -> Wanted:
    """Leave only items to find that somebody took; of all of them where there are no others."""
    kept = seen[wanted.own]
    if not kept.any():
        return wanted
    counts = np.bincount(wanted.users()[kept], minlength=len(wanted))
    return replace(wanted, offsets=np.append(0, np.cumsum(counts)).astype(np.int64), item_rows=wanted.own[kept])


def _candidates(model: HybridModel, wanted: Wanted, seed: int) -> Candidates:
    """Gather candidates for histories of every length; where a class has few users, others are cut short to it."""
    real = gather_candidates(model, wanted)
    several = [real]
    random = generator(seed, "short histories")
    lengths = np.diff(wanted.histories.offsets)
    for number, low in enumerate(CLASS_STARTS):
        missing = MIN_USERS - int((real.classes == number).sum())
        high = CLASS_STARTS[number + 1] - 1 if number + 1 < len(CLASS_STARTS) else low
        longer = np.flatnonzero(lengths > high)
        if missing <= 0 or len(longer) == 0:
            continue
        chosen = np.sort(random.choice(longer, min(2 * MIN_USERS, len(longer)), replace=False))
        several.append(gather_candidates(model, shortened(wanted, chosen, random.integers(low, high + 1, len(chosen)))))
    return joined(several)
