"""Holding out a part of the interactions where nobody did: `train` alone with `n_epochs: auto`.

Each user's last events, or events at random. Profiles stay those made from all interactions,
so that the validation value is a little optimistic; the evaluation view's is not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from recpipe.models.tables import Histories, Profiles, TrainingData
from recpipe.seeding import derive_seed

if TYPE_CHECKING:
    from recpipe.models.tables import Bool, Int64

HELD_OUT_SHARE = 0.1
"""Part of the interactions that is held out where something is to be chosen and no validation data are given."""

Chooser = Callable[[Histories, int], "Bool"]
"""(histories, events in the blocks before) → which of the block's events are held out."""


def hold_out(data: TrainingData, *, share: float, seed: int, last: bool) -> tuple[TrainingData, TrainingData]:
    """Return (what stays, what is held out), each read block by block when asked for.

    A user with a single event keeps it.

    Args:
        share: Of each user's events where `last`, rounded up; else of all events.
        last: Hold out each user's newest events instead of random ones.
    """
    if not 0.0 < share < 1.0:
        raise ValueError(f"share must lie between 0 and 1, not {share}")
    chooser = _last(share) if last else _random(share, derive_seed(seed, "hold out"))
    return _filtered(data, chooser, held_out=False), _filtered(data, chooser, held_out=True)


def keep_items(data: TrainingData, wanted: Bool) -> TrainingData:
    """Return the same users with their events of wanted items only, bool (n_items,), read when asked for."""
    return _filtered(data, lambda histories, _: wanted[histories.item_rows[histories.events()]], held_out=True)


def without_profiles(data: TrainingData) -> TrainingData:
    """Return the same users with nothing known of them but their attributes and histories.

    Embeddings and profiles are made of interactions: where some of these are held out, they have seen them.
    """

    def bare(profiles: Profiles) -> Profiles:
        return replace(Profiles.bare(profiles.user_ids), attributes=profiles.attributes)

    return replace(data, open_blocks=lambda: ((bare(profiles), histories) for profiles, histories in data.blocks()))


def without_segments(data: TrainingData) -> TrainingData:
    """Return the same users without features and segments, for models that read neither."""
    return replace(
        data, open_blocks=lambda: ((profiles.without_segments(), histories) for profiles, histories in data.blocks())
    )


def _last(share: float) -> Chooser:
    def choose(histories: Histories, start: int) -> Bool:
        counts = np.diff(histories.offsets)
        held = np.minimum(np.ceil(counts * share).astype(np.int64), np.maximum(counts - 1, 0))
        ends = np.repeat(histories.offsets[1:] - histories.offsets[0], counts)
        chosen: Bool = np.arange(int(counts.sum())) >= ends - np.repeat(held, counts)
        return chosen

    return choose


def _random(share: float, key: int) -> Chooser:
    def choose(histories: Histories, start: int) -> Bool:
        counts = np.diff(histories.offsets)
        n_events = int(counts.sum())
        draws = _mixed(np.arange(start, start + n_events, dtype=np.uint64) + np.uint64(key & (2**62 - 1)))
        held = draws < np.uint64(int(share * 2**64))
        # whoever would lose everything keeps the first event
        users = histories.user_rows()
        losing = np.bincount(users, ~held, minlength=len(histories)) == 0
        first = (histories.offsets[:-1] - histories.offsets[0])[losing & (counts > 0)]
        held[first] = False
        return held

    return choose


def _mixed(numbers: np.ndarray) -> np.ndarray:
    """Scramble uint64 counters (splitmix64, Steele, Lea & Flood 2014): a draw depends on its event alone."""
    with np.errstate(over="ignore"):
        state = (numbers + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
        state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        mixed: np.ndarray = state ^ (state >> np.uint64(31))
    return mixed


def _filtered(data: TrainingData, chooser: Chooser, *, held_out: bool) -> TrainingData:
    def blocks() -> Iterator[tuple[Profiles, Histories]]:
        start = 0
        for profiles, histories in data.blocks():
            held = chooser(histories, start)
            start += len(held)
            yield profiles, _kept(histories, held if held_out else ~held)

    return replace(data, open_blocks=blocks)


def _kept(histories: Histories, kept: Bool) -> Histories:
    events = histories.events()
    before: Int64 = np.append(0, np.cumsum(kept)).astype(np.int64)
    return replace(
        histories,
        offsets=before[histories.offsets - histories.offsets[0]],
        item_rows=histories.item_rows[events][kept],
        ratings=None if histories.ratings is None else histories.ratings[events][kept],
        timestamps_us=None if histories.timestamps_us is None else histories.timestamps_us[events][kept],
    )
