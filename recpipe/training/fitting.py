"""Fit a model of any kind: the one way in from a stage."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from recpipe.config import identity_of
from recpipe.errors import DataError
from recpipe.models.base import FitContext, FitReport, JsonValue, Model, SearchedModel, TrainingData
from recpipe.models.examples import Examples, gather_examples
from recpipe.models.hybrid.model import HybridModel
from recpipe.models.iterative import IterativeModel
from recpipe.models.registry import find_model
from recpipe.models.settings import Target
from recpipe.training.batches import Batches
from recpipe.training.fusing import fit_hybrid
from recpipe.training.hold_out import HELD_OUT_SHARE, hold_out
from recpipe.training.loop import Fitted, Loop
from recpipe.training.validation import Validator, gather_held_out

N_EPOCHS = "n_epochs"
"""Name of the epochs among the chosen hyper-parameters."""

SEARCH_USERS = 2000
"""Most users ranked for each set of hyper-parameters that a search tries."""

TRIAL_EPOCHS = 4
"""Passes after which the alternatives of a model are compared: they differ long before they are good."""


def fit(model: Model, data: TrainingData, context: FitContext) -> FitReport:
    """Fit a model.

    Models that learn in one go fit themselves; what a `SearchedModel` leaves open is searched
    first, on `context.held_out` or on 10 % held out for that purpose, unless `context.choice`
    has it. Iterative ones train for

    - `context.choice["n_epochs"]`, where an earlier fit chose it (the production view), or
    - `train.n_epochs`, where that is a number, or
    - as long as `context.held_out` says (the evaluation view): the best epoch's weights stay,
      and the number is in the report's `choice`, or
    - without any of these, as many epochs as do best on 10 % of the interactions, held out for
      that purpose; then the model is fitted again to all of them. Held out are each user's last
      ones where times exist and the order of taking is to be learned, else random ones: a
      predicted rating fills a gap anywhere in the table.

    What a model leaves to held-out data (`IterativeModel.alternatives`) is settled first, by a
    short training of each, and stands in the report's `choice` as well.

    Raises:
        ConfigError: The model cannot learn the target that is set.
        DataError: The interactions hold nothing to learn from, or training diverged.
    """
    if isinstance(model, HybridModel):
        return fit_hybrid(model, data, context, fit_part=fit)
    if isinstance(model, SearchedModel):
        return _fit_searched(model, data, context)
    if not isinstance(model, IterativeModel):
        return model.fit(data, context)
    target = find_model(model.settings.model).target_for(model.settings, data)
    n_epochs = _chosen_epochs(model, context)
    if n_epochs is None and context.held_out is None:
        return _choose_and_refit(model, data, context, target)
    settled = _settle(model, data, context, target)
    report = _fit_once(model, data, context, target=target, n_epochs=n_epochs)
    return replace(report, choice={**report.choice, **settled})


def _fit_searched(model: SearchedModel, data: TrainingData, context: FitContext) -> FitReport:
    """Fit a model whose open hyper-parameters were chosen before, or are chosen now on held-out interactions."""
    wanted = [name for name in model.open_settings if name not in context.choice]
    if not wanted:
        return model.fit(data, context)
    kept, held = data, context.held_out
    if held is None:
        last = data.as_of_us is not None
        kept, held = hold_out(data, share=HELD_OUT_SHARE, seed=context.seed, last=last)
        context.report(f"{', '.join(wanted)} auto: choosing on {HELD_OUT_SHARE:.0%} of the interactions held out")
    try:
        validator = gather_held_out(
            kept,
            held,
            "implicit",
            positive_from=model.settings.positive_from,
            max_users=SEARCH_USERS,
            seed=context.seed,
        )
    except DataError as error:  # a handful of interactions: nothing to choose by, and no reason to fail
        if context.held_out is not None:
            raise
        context.report(f"{error.what}: taking the usual {', '.join(wanted)}")
        return model.fit(data, context)
    found = model.search(kept, context, validator.ndcg)
    report = model.fit(data, replace(context, choice={**context.choice, **found}))
    value = validator.ndcg(model) if kept is data else None
    return replace(report, metric=validator.metric, validation=value)


def _settle(model: IterativeModel, data: TrainingData, context: FitContext, target: Target) -> Mapping[str, JsonValue]:
    """Settle what the model leaves open: as chosen before, or by held-out data, or the usual way."""
    alternatives = model.alternatives
    if not alternatives:
        return {}
    chosen = {name: context.choice[name] for name in alternatives[0] if name in context.choice}
    if chosen and chosen not in alternatives:
        raise ValueError(f"{chosen!r} is none of {alternatives!r}")
    best: Mapping[str, JsonValue] = chosen or alternatives[0]
    if not chosen and context.held_out is not None:
        best = max(alternatives, key=lambda values: _tried(model, data, context, target=target, values=values))
    model.settle(best)
    return best


def _tried(
    model: IterativeModel, data: TrainingData, context: FitContext, *, target: Target, values: Mapping[str, JsonValue]
) -> float:
    """Return how well an alternative ranks held-out interactions after a few epochs."""
    model.settle(values)
    phase = "-".join(["try", *(str(value) for value in values.values())])
    trial = _fit_once(
        model, data, context, target=target, n_epochs=TRIAL_EPOCHS, schedule_epochs=TRIAL_EPOCHS, phase=phase
    )
    if trial.metric != "ndcg" or trial.validation is None:
        raise RuntimeError("alternatives are for implicit feedback and held-out interactions")
    described = ", ".join(f"{name} {value}" for name, value in values.items())
    context.report(f"{described}: NDCG {trial.validation:.4f} on held-out interactions after {TRIAL_EPOCHS} epochs")
    return trial.validation


def _chosen_epochs(model: IterativeModel, context: FitContext) -> int | None:
    chosen = context.choice.get(N_EPOCHS)
    if chosen is None:
        return None if model.settings.n_epochs == "auto" else model.settings.n_epochs
    if not isinstance(chosen, int) or isinstance(chosen, bool) or chosen < 1:
        raise ValueError(f"{N_EPOCHS} must be a positive integer, not {chosen!r}")
    return chosen


def _choose_and_refit(model: IterativeModel, data: TrainingData, context: FitContext, target: Target) -> FitReport:
    last = data.as_of_us is not None and target == "implicit"
    kept, held = hold_out(data, share=HELD_OUT_SHARE, seed=context.seed, last=last)
    which = "each user's last" if last else "random"
    context.report(f"train.n_epochs is auto: choosing on {HELD_OUT_SHARE:.0%} of the interactions ({which}) held out")
    choosing = replace(context, held_out=held)
    settled = _settle(model, kept, choosing, target)
    found = _fit_once(model, kept, choosing, target=target, n_epochs=None, phase="choose")
    n_epochs = int(str(found.choice[N_EPOCHS]))
    context.report(f"{n_epochs} epochs did best ({found.metric} {found.validation:.4f}); fitting again to everything")
    final = _fit_once(model, data, replace(context, held_out=None), target=target, n_epochs=n_epochs, phase="refit")
    return replace(
        final,
        choice={**final.choice, **settled},
        metric=found.metric,
        validation=found.validation,
        history=found.history,
    )


def _fit_once(
    model: IterativeModel,
    data: TrainingData,
    context: FitContext,
    *,
    target: Target,
    n_epochs: int | None,
    schedule_epochs: int | None = None,
    phase: str = "fit",
) -> FitReport:
    """Train once; without `n_epochs`, the held-out data say when to stop.

    A schedule spans what the settings allow, so that fewer epochs chosen are its first ones again.
    """
    settings = model.settings
    allowed = settings.max_epochs if settings.n_epochs == "auto" else settings.n_epochs
    examples = gather_examples(data, target, positive_from=settings.positive_from)
    validator: Validator | None = None
    if context.held_out is not None:
        validator = gather_held_out(
            data,
            context.held_out,
            target,
            positive_from=settings.positive_from,
            max_users=settings.validation_users,
            seed=context.seed,
        )
    model.prepare(data, examples, context)
    batches = Batches(
        examples,
        settings,
        max_history=model.max_history,
        seed=context.seed,
        device=context.device,
        history_order=model.history_order,
    )
    fitted = Loop(
        model,
        batches,
        n_epochs=n_epochs or settings.max_epochs,
        schedule_epochs=schedule_epochs or allowed,
        seed=context.seed,
        device=context.device,
        validator=validator,
        stop_early=n_epochs is None,
        checkpoint=_checkpoint_file(context.checkpoint, phase),
        identity=_identity(model, examples, context, n_epochs),
        report=context.report,
    ).run()
    model.finish()
    return _report(model, examples, fitted, validator)


def _report(model: IterativeModel, examples: Examples, fitted: Fitted, validator: Validator | None) -> FitReport:
    return FitReport(
        target=examples.target,
        counts={
            "users": int((examples.user_counts > 0).sum()),
            "items": int((examples.item_counts > 0).sum()),
            "interactions": len(examples),
            "epochs": fitted.best_epoch,
        },
        choice={N_EPOCHS: fitted.best_epoch},
        metric=None if validator is None else validator.metric,
        validation=fitted.validation,
        history=fitted.history,
    )


def _checkpoint_file(folder: Path | None, phase: str) -> Path | None:
    return None if folder is None else folder / f"{phase}.safetensors"


def _identity(model: IterativeModel, examples: Examples, context: FitContext, n_epochs: int | None) -> str:
    """Digest of what decides the fit, so that a checkpoint of another one is not taken up."""
    values: dict[str, JsonValue] = {
        "settings": json.dumps(identity_of(model.settings), sort_keys=True),
        "target": examples.target,
        "seed": context.seed,
        "n_epochs": n_epochs,
        "history_order": model.history_order,
        "device": context.device.partition(":")[0],
    }
    digest = hashlib.blake2b(json.dumps(values, sort_keys=True).encode(), digest_size=16)
    for array in (examples.item_rows, examples.ratings, examples.offsets):
        digest.update(array.tobytes())
    return digest.hexdigest()
