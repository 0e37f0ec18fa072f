"""The training loop: epochs, early stopping, checkpoints. The only loop there is."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from recpipe import logs
from recpipe.errors import DataError
from recpipe.models.base import EpochRow
from recpipe.models.iterative import IterativeModel
from recpipe.models.settings import IterativeSettings
from recpipe.seeding import derive_seed
from recpipe.training.batches import Batches
from recpipe.training.checkpoint import (
    Checkpoint,
    optimizer_tensors,
    read_checkpoint,
    restore_optimizer,
    write_checkpoint,
)
from recpipe.training.schedule import one_cycle
from recpipe.training.validation import Validator, better


@dataclass(frozen=True, slots=True)
class Fitted:
    """How a loop ended; the model holds the best weights.

    Attributes:
        history: One row per epoch.
        best_epoch: The epoch whose weights were kept: the best on validation, the last without.
        validation: The metric at that epoch; None without validation.
    """

    history: tuple[EpochRow, ...]
    best_epoch: int
    validation: float | None


class Loop:
    """Trains a prepared model.

    Args:
        model: Prepared; its parameters change in place.
        batches: What it learns from.
        n_epochs: Most epochs.
        schedule_epochs: Epochs that a schedule of the step size spans; `n_epochs` where none is given.
        validator: Measures after each epoch.
        stop_early: Stop after `patience` epochs without a better value, and keep the best
            weights; else all epochs are made and the last weights are kept. A one-cycle
            schedule is gone through to its end, as the gain comes with the last, small steps.
        checkpoint: File to keep the state in; training goes on from one that is there.
        identity: Names data, settings and seed; a checkpoint of another fit is not taken up.
        report: Takes a line for the log.
    """

    def __init__(
        self,
        model: IterativeModel,
        batches: Batches,
        *,
        n_epochs: int,
        seed: int,
        device: str,
        schedule_epochs: int | None = None,
        validator: Validator | None = None,
        stop_early: bool = True,
        checkpoint: Path | None = None,
        identity: str = "",
        report: Callable[[str], None] = lambda message: None,
    ) -> None:
        self._model = model
        self._settings: IterativeSettings = model.settings
        self._batches = batches
        self._n_epochs = n_epochs
        self._schedule_steps = batches.n_steps * (schedule_epochs or n_epochs)
        self._seed = seed
        self._device = device
        self._validator = validator
        self._stop_early = stop_early and validator is not None
        self._checkpoint = checkpoint
        self._identity = identity
        self._report = report
        self._parameters = dict(model.parameters())
        self._optimizer = torch.optim.Adam(self._parameters.values(), lr=self._settings.learning_rate, fused=True)
        self._generator = torch.Generator(device=device)
        self._best: dict[str, torch.Tensor] = {}
        self._history: list[EpochRow] = []
        self._best_epoch = 0
        self._step = 0
        self._loss_sum = torch.zeros((), dtype=torch.float64, device=device)
        self._seconds = 0.0

    def run(self) -> Fitted:
        """Train to the end.

        Raises:
            DataError: The loss is not finite, or no validation value is.
        """
        self._resume()
        done = len(self._history)
        with logs.progress(self._n_epochs, "training", "epochs", done=done) as progress:
            while not self._finished():
                self._epoch(len(self._history) + 1)
                progress.advance(1)
        if self._best_epoch == 0:
            raise DataError(
                "no epoch gave a validation value that is a number",
                next_step="look for missing values in the validation interactions, or set train.n_epochs to a number",
            )
        if self._best:
            self._load(self._best)
        self._model.refresh()
        value = self._history[self._best_epoch - 1].validation
        return Fitted(tuple(self._history), self._best_epoch, value)

    def _finished(self) -> bool:
        done = len(self._history)
        impatient = self._stop_early and self._settings.schedule == "constant"
        return done >= self._n_epochs or (impatient and done - self._best_epoch >= self._settings.patience)

    def _epoch(self, epoch: int) -> None:
        started = saved = time.monotonic()
        order = self._batches.order(epoch)
        if self._step == 0:
            self._generator.manual_seed(derive_seed(self._seed, "steps", epoch))
        while self._step < self._batches.n_steps:
            self._loss_sum += self._one_step(order)
            self._step += 1
            now = time.monotonic()
            if self._checkpoint is not None and now - saved >= self._settings.checkpoint_seconds:
                self._seconds, started, saved = self._seconds + now - started, now, now
                self._save()
        train_loss = float(self._loss_sum) / self._batches.n_steps
        if not torch.isfinite(self._loss_sum):
            raise DataError(
                f"the loss became {train_loss} in epoch {epoch}",
                next_step="set a smaller train.learning_rate, or look for extreme values in ratings and features",
            )
        self._model.refresh()
        value = None if self._validator is None else self._validator.measure(self._model)
        seconds = self._seconds + time.monotonic() - started
        self._history.append(EpochRow(epoch=epoch, train_loss=train_loss, validation=value, seconds=seconds))
        self._keep_best(epoch, value)
        self._step, self._seconds = 0, 0.0
        self._loss_sum.zero_()
        logs.get().debug("%s", self._line(self._history[-1]))
        if self._checkpoint is not None:
            self._save()

    def _one_step(self, order: torch.Tensor) -> torch.Tensor:
        """Take one step; return its loss, float32 ()."""
        batch = self._batches.batch(order, self._step, self._generator)
        reduced = self._settings.precision == "bfloat16"
        with torch.autocast(torch.device(self._device).type, dtype=torch.bfloat16, enabled=reduced):
            loss = self._model.train_step(batch)
        self._optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(self._parameters.values(), self._settings.clip_norm)
        if self._settings.schedule == "one_cycle":
            step = len(self._history) * self._batches.n_steps + self._step
            self._optimizer.param_groups[0]["lr"] = self._settings.learning_rate * one_cycle(step, self._schedule_steps)
        self._optimizer.step()
        return loss.detach()

    def _keep_best(self, epoch: int, value: float | None) -> None:
        if self._validator is None or value is None or not self._stop_early:
            self._best_epoch = epoch
            return
        so_far = self._history[self._best_epoch - 1].validation if self._best_epoch else None
        if better(self._validator.metric, value, so_far):
            self._best_epoch = epoch
            self._best = {name: parameter.detach().clone() for name, parameter in self._parameters.items()}

    def _line(self, row: EpochRow) -> str:
        measured = "" if self._validator is None else f", validation {self._validator.metric} {row.validation:.4f}"
        return f"epoch {row.epoch}: loss {row.train_loss:.4f}{measured}, {row.seconds:.1f} s"

    def _load(self, tensors: dict[str, torch.Tensor]) -> None:
        with torch.no_grad():
            for name, parameter in self._parameters.items():
                parameter.copy_(tensors[name])

    def _save(self) -> None:
        if self._checkpoint is None:
            return
        tensors: dict[str, torch.Tensor] = {
            f"parameter/{name}": parameter for name, parameter in self._parameters.items()
        }
        tensors |= {f"best/{name}": tensor for name, tensor in self._best.items()}
        optimizer = optimizer_tensors(self._optimizer, self._parameters)
        tensors |= {f"optimizer/{name}": tensor for name, tensor in optimizer.items()}
        tensors |= {"generator": self._generator.get_state(), "loss_sum": self._loss_sum}
        values = {
            "step": self._step,
            "seconds": self._seconds,
            "best_epoch": self._best_epoch,
            "history": [asdict(row) for row in self._history],
        }
        write_checkpoint(self._checkpoint, Checkpoint(tensors, values), identity=self._identity)

    def _resume(self) -> None:
        found = None if self._checkpoint is None else read_checkpoint(self._checkpoint, identity=self._identity)
        if found is None:
            return
        groups: dict[str, dict[str, torch.Tensor]] = {"parameter": {}, "best": {}, "optimizer": {}}
        for name, tensor in found.tensors.items():
            group, _, rest = name.partition("/")
            if rest:
                groups[group][rest] = tensor
        self._load(groups["parameter"])
        self._best = {name: tensor.to(self._device) for name, tensor in groups["best"].items()}
        restore_optimizer(self._optimizer, self._parameters, groups["optimizer"])
        self._generator.set_state(found.tensors["generator"])
        self._loss_sum = found.tensors["loss_sum"].to(self._device)
        self._step = int(found.values["step"])
        self._seconds = float(found.values["seconds"])
        self._best_epoch = int(found.values["best_epoch"])
        self._history = [EpochRow(**row) for row in found.values["history"]]
        self._report(f"going on from a checkpoint after {len(self._history)} epochs and {self._step} steps")
