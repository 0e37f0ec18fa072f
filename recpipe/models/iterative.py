"""Models that learn by passes over mini-batches; `recpipe.training` drives them.

Who does what: training gathers the interactions, draws batches and negatives, chooses the
loss, steps the optimiser, validates, stops, writes checkpoints. The model builds its
parameters (`prepare`), turns a batch into scores and those into a loss (`train_step`), and
in the end keeps plain arrays (`finish`).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from recpipe.models.base import FitContext, FitReport, JsonValue, Model, TrainingData
from recpipe.models.settings import IterativeSettings

if TYPE_CHECKING:
    import torch

    from recpipe.models.examples import Examples

Loss = Callable[["torch.Tensor", "torch.Tensor"], "torch.Tensor"]
"""Of ratings: (predicted (n,), given (n,)). Of implicit feedback: (scores (n,) of the items
taken, scores (n, n_candidates) of the candidates, already corrected and masked). A scalar."""

HistoryOrder = Literal["sequence", "set"]
"""What stands in the history of an interaction in training: what the user took before, the last
first; or anything else they took, in any order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Interactions of one step, on the device.

    Attributes:
        user_rows: int64 (n,).
        item_rows: int64 (n,).
        ratings: float32 (n,); empty for implicit feedback.
        candidates: int64 (n_candidates,): items that stand for those not taken, the same for
            the whole batch; empty for ratings.
        log_expected: float32 (n_candidates,): log of how often each candidate was to be
            expected among the candidates; what a softmax subtracts from its score.
        masked: bool (n, n_candidates): the candidate is an item the user took (the one of
            this interaction, and where it is cheap to know others); it must not count.
        histories: int64 (n, width): items the user took before, most recent first (or other
            items of the user, `IterativeModel.history_order`), -1 where there is none; width 0
            for a model without `max_history`.
        loss: what to minimise.
        generator: of dropout, on the device.
    """

    user_rows: torch.Tensor
    item_rows: torch.Tensor
    ratings: torch.Tensor
    candidates: torch.Tensor
    log_expected: torch.Tensor
    masked: torch.Tensor
    histories: torch.Tensor
    loss: Loss
    generator: torch.Generator

    def ranking_loss(self, taken: torch.Tensor, candidates: torch.Tensor) -> torch.Tensor:
        """Return the loss of implicit feedback.

        Args:
            taken: float32 (n,): scores of the items taken.
            candidates: float32 (n, n_candidates): raw scores of the candidates.
        """
        corrected = candidates - self.log_expected
        return self.loss(taken, corrected.masked_fill(self.masked, float("-inf")))


class IterativeModel(Model):
    """A model with parameters and a step; mix it into `FactoredModel` or `PairwiseModel`."""

    settings: IterativeSettings

    @property
    def max_history(self) -> int:
        """How many earlier items a batch gives for each interaction."""
        return 0

    @property
    def history_order(self) -> HistoryOrder:
        """Which items these are."""
        return "sequence"

    @property
    def alternatives(self) -> tuple[Mapping[str, JsonValue], ...]:
        """What is left to held-out data: values to choose among, the usual ones first. Most models leave nothing."""
        return ()

    def settle(self, values: Mapping[str, JsonValue]) -> None:
        """Take one of the alternatives, before `prepare`."""

    @abstractmethod
    def prepare(self, data: TrainingData, examples: Examples, context: FitContext) -> None:
        """Read users and items and build the parameters, drawn from the context's seed."""

    @abstractmethod
    def parameters(self) -> Mapping[str, torch.nn.Parameter]:
        """Return all parameters by name, always in the same order. RuntimeError before `prepare`."""

    @abstractmethod
    def train_step(self, batch: Batch) -> torch.Tensor:
        """Return the loss of a batch, a scalar to differentiate; the parameters stay as they are."""

    @abstractmethod
    def refresh(self) -> None:
        """Forget what was derived from the parameters: they have changed, and the model will be asked for scores."""

    @abstractmethod
    def finish(self) -> None:
        """Keep the parameters as arrays and let go of everything that only training needs."""

    def fit(self, data: TrainingData, context: FitContext) -> FitReport:
        """Refuse: `recpipe.training.fitting.fit` fits this model. TypeError."""
        raise TypeError(f"{type(self).__name__} is fitted by recpipe.training.fitting.fit")
