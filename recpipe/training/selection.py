"""Choosing among models by how well they rank held-out interactions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from recpipe.errors import ConfigError, DataError
from recpipe.models.base import FitContext, FitReport, Model, TrainingData
from recpipe.models.registry import find_model
from recpipe.models.settings import ModelSettings
from recpipe.schemas import USER_EMBEDDINGS
from recpipe.training.fitting import fit
from recpipe.training.hold_out import HELD_OUT_SHARE, hold_out, without_profiles
from recpipe.training.validation import gather_held_out

MODEL = "model"
"""Name of the chosen model among the chosen hyper-parameters."""

VALIDATION_USERS = 5000


@dataclass(frozen=True, slots=True)
class Selected:
    """The model that was chosen, fitted.

    Attributes:
        report: Of its fit; `choice` holds `model` beside the model's own hyper-parameters.
        values: Validation NDCG over the whole ranking by candidate; empty where nothing was chosen.
    """

    model: Model
    report: FitReport
    values: Mapping[str, float] = field(default_factory=dict)


def select(candidates: Sequence[ModelSettings], data: TrainingData, context: FitContext) -> Selected:
    """Fit the candidates, keep the one that ranks the held-out interactions best.

    With one candidate, or with a choice made earlier (`context.choice["model"]`), nothing is
    chosen: that one is fitted. Without held-out data (production alone), 10 % of the
    interactions are held out for the choice, and the chosen model is fitted again to all of
    them. The users' embeddings and profiles saw the held-out interactions there, so the choice
    is made without them, and models that live by user embeddings are left out of it.

    Raises:
        ConfigError: The earlier choice is no candidate.
    """
    chosen = context.choice.get(MODEL)
    if chosen is not None:
        candidates = [settings for settings in candidates if settings.model == chosen]
        if not candidates:
            raise ConfigError(f"the model {chosen!r} chosen earlier is no candidate any more", where="train.candidates")
    if len(candidates) == 1:
        return _fitted(candidates[0], data, context)
    if context.held_out is not None:
        return _best(candidates, data, context)
    judged = [settings for settings in candidates if USER_EMBEDDINGS.name not in find_model(settings.model).reads]
    left_out = [settings.model for settings in candidates if settings not in judged]
    context.report(
        f"train.model is auto: choosing on {HELD_OUT_SHARE:.0%} of the interactions held out"
        + (f", without {', '.join(left_out)}; recpipe run chooses among all" if left_out else "")
    )
    if not judged:
        return select(candidates[:1], data, context)
    known = without_profiles(data)
    kept, held = hold_out(known, share=HELD_OUT_SHARE, seed=context.seed, last=data.as_of_us is not None)
    try:
        found = _best(judged, kept, replace(context, held_out=held, checkpoint=None))
    except DataError as error:  # a handful of interactions: the first night must not fail for a choice
        context.report(f"{error.what}: taking {candidates[0].model} without a choice")
        return select(candidates[:1], data, context)
    again = replace(context, choice=found.report.choice)
    return replace(select(candidates, data, again), values=found.values)


def _best(candidates: Sequence[ModelSettings], data: TrainingData, context: FitContext) -> Selected:
    assert context.held_out is not None
    validator = gather_held_out(
        data,
        context.held_out,
        "implicit",
        positive_from=candidates[0].positive_from,
        max_users=VALIDATION_USERS,
        seed=context.seed,
    )
    best: Selected | None = None
    values: dict[str, float] = {}
    for settings in candidates:
        found = _fitted(settings, data, context)
        values[settings.model] = validator.measure(found.model)
        context.report(f"{settings.model}: validation ndcg {values[settings.model]:.4f}")
        if best is None or values[settings.model] > values[best.model.settings.model]:
            best = found
    assert best is not None
    return replace(best, values=values)


def _fitted(settings: ModelSettings, data: TrainingData, context: FitContext) -> Selected:
    folder = None if context.checkpoint is None else context.checkpoint / settings.model
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
    model = find_model(settings.model).create(settings)
    own = {name: value for name, value in context.choice.items() if name != MODEL}
    report = fit(model, data, replace(context, choice=own, checkpoint=folder))
    return Selected(model, replace(report, choice={MODEL: settings.model, **report.choice}))
