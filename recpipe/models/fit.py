"""How a model is fitted, and what a fit reports."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from recpipe.models.settings import Target
from recpipe.models.tables import TrainingData

if TYPE_CHECKING:
    from pathlib import Path

JsonValue = bool | int | float | str | None


def _silent(message: str) -> None:
    """Report to nobody."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FitContext:
    """How to fit, as opposed to what.

    Attributes:
        seed: root of all randomness; take generators from `recpipe.seeding` with a purpose.
        device: `cpu`, `cuda` or `cuda:1`; already resolved.
        report: takes a line for the log.
        held_out: what `data` was held out for choosing hyper-parameters: block by block the
            same users in the same order, their histories the held-out events, item rows of
            the same catalogue. None: there is no such data.
        choice: values chosen by an earlier fit (`FitReport.choice`); they win over `held_out`.
        checkpoint: folder for checkpoints, of this fit alone (same data, settings and seed);
            a fit that finds one there goes on from it. None: no checkpoints.
    """

    seed: int = 42
    device: str = "cpu"
    report: Callable[[str], None] = _silent
    held_out: TrainingData | None = None
    choice: Mapping[str, JsonValue] = field(default_factory=dict)
    checkpoint: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochRow:
    """One pass over the interactions: a row of the history table.

    Attributes:
        epoch: 1 is the first.
        train_loss: mean over the steps.
        validation: value of the validation metric after the pass; None without held-out data.
        seconds: wall-clock seconds of the pass and its validation.
    """

    epoch: int
    train_loss: float
    validation: float | None
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class FitReport:
    """What a fit learned from, and what it chose.

    Attributes:
        target: the target that was learned.
        counts: named numbers for the log and the manifest.
        choice: hyper-parameters that held-out data chose, for the production fit
            (`FitContext.choice`): `n_epochs`.
        metric: name of the validation metric, None without validation.
        validation: its value at the choice.
        history: one row per pass; of the validated fit where there were two.
    """

    target: Target
    counts: Mapping[str, int] = field(default_factory=dict)
    choice: Mapping[str, JsonValue] = field(default_factory=dict)
    metric: str | None = None
    validation: float | None = None
    history: tuple[EpochRow, ...] = ()
