"""Candidates: items that stand for all those a user did not take."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from recpipe.models.tables import Int64


@dataclass(frozen=True, slots=True)
class Candidates:
    """Candidates of one step.

    Attributes:
        rows: int64 (n_candidates,).
        log_expected: float32 (n_candidates,): log of the expected count of each among the
            candidates, 0 where the loss wants no correction.
        masked: bool (n, n_candidates): the candidate is the item taken itself.
    """

    rows: torch.Tensor
    log_expected: torch.Tensor
    masked: torch.Tensor


class CandidateSampler:
    """Draws items in proportion to (count in training) ** exponent; items without a count are never drawn.

    Args:
        item_counts: int64 (n_items,), interactions of each item in training.
        exponent: 0 is uniform, 1 by popularity.
        n_sampled: Items drawn per step, with replacement.
        in_batch: The items taken in the batch are candidates for each other as well.
        corrected: Give the log of the expected counts, for a softmax.
    """

    def __init__(
        self,
        item_counts: Int64,
        *,
        exponent: float,
        n_sampled: int,
        in_batch: bool,
        corrected: bool,
        device: str = "cpu",
    ) -> None:
        items = np.flatnonzero(item_counts)
        if len(items) == 0:
            raise ValueError("no item has an interaction")
        weights = item_counts[items].astype(np.float64) ** exponent
        cumulative = np.cumsum(weights)
        self._items = torch.from_numpy(items).to(device)
        # float64: in float32 the tail of a large catalogue would share one value
        self._cumulative = torch.from_numpy(cumulative / cumulative[-1]).to(device)
        share = np.zeros(len(item_counts), dtype=np.float64)
        share[items] = weights / cumulative[-1]
        self._sampled_share = torch.from_numpy(share).to(device)
        self._taken_share = torch.from_numpy(item_counts / item_counts.sum()).to(device)
        self._n_sampled = n_sampled
        self._in_batch = in_batch
        self._corrected = corrected
        self._device = device

    def draw(self, taken: torch.Tensor, generator: torch.Generator) -> Candidates:
        """Return the candidates of a batch.

        Args:
            taken: int64 (n,), the items of the batch.
            generator: Of the device.
        """
        points = torch.rand(self._n_sampled, generator=generator, device=self._device, dtype=torch.float64)
        places = torch.searchsorted(self._cumulative, points, right=True).clamp(max=len(self._items) - 1)
        rows = self._items[places]
        if self._in_batch:
            rows = torch.cat([taken, rows])
        if self._corrected:
            expected = self._sampled_share[rows] * self._n_sampled
            if self._in_batch:
                expected = expected + self._taken_share[rows] * len(taken)
            log_expected = expected.log().to(torch.float32)
        else:
            log_expected = torch.zeros(len(rows), device=self._device)
        return Candidates(rows, log_expected, rows[None, :] == taken[:, None])
