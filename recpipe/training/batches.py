"""Mini-batches: slices of a permutation of the interactions. No loader, no worker processes."""

from __future__ import annotations

import numpy as np
import torch

from recpipe.models.examples import Examples
from recpipe.models.iterative import Batch, HistoryOrder, Loss
from recpipe.models.settings import IterativeSettings
from recpipe.seeding import derive_seed, generator
from recpipe.training.losses import ranking_loss, squared_error
from recpipe.training.sampling import Candidates, CandidateSampler


class Batches:
    """The interactions as tensors, and the batches of each epoch.

    Args:
        examples: What is learned from; held as int32 and float32, 12 bytes each.
        settings: Batch size, loss, negatives.
        max_history: Items of the user given for each interaction.
        seed: Decides the permutation of every epoch.
        device: Where batches go.
        history_order: `sequence`: the items given are those taken before, the last first; `set`:
            any others, in any order.
    """

    def __init__(
        self,
        examples: Examples,
        settings: IterativeSettings,
        *,
        max_history: int,
        seed: int,
        device: str,
        history_order: HistoryOrder = "sequence",
    ) -> None:
        self._settings = settings
        self._seed = seed
        self._device = device
        self._rating = examples.target == "rating"
        self._max_history = 0 if self._rating else max_history
        self._pinned = settings.pin_memory and device.startswith("cuda")
        self._user_rows = torch.from_numpy(examples.user_rows)
        self._as_set = history_order == "set"
        item_rows = _shuffled(examples, seed) if self._as_set else examples.item_rows
        self._item_rows = torch.from_numpy(item_rows)
        self._ratings = torch.from_numpy(examples.ratings)
        self._offsets = torch.from_numpy(examples.offsets)
        self._loss: Loss = squared_error if self._rating else ranking_loss(settings.loss)
        self._sampler: CandidateSampler | None = None
        if not self._rating:
            softmax = settings.loss == "softmax"
            self._sampler = CandidateSampler(
                examples.item_counts,
                exponent=settings.negative_exponent,
                n_sampled=settings.negatives,
                in_batch=softmax and settings.batch_negatives,
                corrected=softmax,
                device=device,
            )

    @property
    def n_steps(self) -> int:
        """Batches in an epoch."""
        return -(-len(self._item_rows) // self._settings.batch_size)

    def order(self, epoch: int) -> torch.Tensor:
        """Return the permutation of an epoch: int64 (n,), a function of seed and epoch alone."""
        generator = torch.Generator().manual_seed(derive_seed(self._seed, "batches", epoch))
        return torch.randperm(len(self._item_rows), generator=generator)

    def batch(self, order: torch.Tensor, step: int, generator: torch.Generator) -> Batch:
        """Return batch number `step` of an epoch."""
        size = self._settings.batch_size
        chosen = order[step * size : (step + 1) * size]
        user_rows = self._user_rows[chosen].to(torch.int64)
        item_rows = self._moved(self._item_rows[chosen].to(torch.int64))
        if self._sampler is not None:
            candidates = self._sampler.draw(item_rows, generator)
        else:
            candidates = _no_candidates(len(chosen), self._device)
        return Batch(
            user_rows=self._moved(user_rows),
            item_rows=item_rows,
            ratings=self._moved(self._ratings[chosen] if self._rating else self._ratings),
            candidates=candidates.rows,
            log_expected=candidates.log_expected,
            masked=candidates.masked,
            histories=self._moved(
                self._others(chosen, user_rows, generator) if self._as_set else self._histories(chosen, user_rows)
            ),
            loss=self._loss,
            generator=generator,
        )

    def _histories(self, chosen: torch.Tensor, user_rows: torch.Tensor) -> torch.Tensor:
        """Return what the users took before the chosen interactions: int64 (n, max_history), newest first."""
        places = chosen[:, None] - torch.arange(1, self._max_history + 1)  # (n, max_history)
        there = places >= self._offsets[user_rows][:, None]
        rows = self._item_rows[places.clamp(min=0)].to(torch.int64)
        return torch.where(there, rows, -1)

    def _others(self, chosen: torch.Tensor, user_rows: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Return other items of the users of the chosen interactions: int64 (n, max_history).

        Users with more than that give a stretch of their shuffled interactions, from a random place on.
        """
        starts = self._offsets[user_rows][:, None]
        n_others = self._offsets[user_rows + 1][:, None] - starts - 1  # (n, 1)
        drawn = torch.rand(len(chosen), 1, generator=generator, device=self._device).cpu()
        steps = (drawn * n_others).long() + torch.arange(self._max_history)  # (n, max_history)
        places = starts + (chosen[:, None] - starts + 1 + steps % n_others.clamp(min=1)) % (n_others + 1)
        rows = self._item_rows[places].to(torch.int64)
        there = torch.arange(self._max_history) < n_others
        # an item taken twice must not stand in the history it is to be found from
        return torch.where(there & (rows != self._item_rows[chosen][:, None]), rows, -1)

    def _moved(self, tensor: torch.Tensor) -> torch.Tensor:
        # from page-locked memory the copy runs beside the step before
        return (tensor.pin_memory() if self._pinned else tensor).to(self._device, non_blocking=True)


def _no_candidates(n: int, device: str) -> Candidates:
    none = torch.zeros(0, device=device)
    return Candidates(none.to(torch.int64), none, torch.zeros((n, 0), dtype=torch.bool, device=device))


def _shuffled(examples: Examples, seed: int) -> np.ndarray:
    """Return the item rows, those of each user in random order."""
    keys = generator(seed, "batches", "history order").random(len(examples))
    return examples.item_rows[np.lexsort((keys, examples.user_rows))]
