"""Users' histories: recency weights, weighted means of item vectors, texts of recent titles.

Which interactions count is decided first (`positive`, setting `users.positive_from`); then each
counts as liking, and the rating itself is no weight.

Histories are given by offsets: user u's interactions are rows offsets[u] to offsets[u + 1],
oldest first, as the interactions table has them.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from recpipe.encoders.settings import UsersSettings

MICROSECONDS_A_DAY = 86_400_000_000
_SMALLEST_NORM = 1e-9
# Item vectors gathered at once, in float64: 8192 x 384 take 25 MB.
_GATHERED_ROWS = 8192


def positive(
    offsets: npt.NDArray[np.int64], ratings: npt.NDArray[np.float32] | None, positive_from: float | None
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Keep the interactions that count: those rated `positive_from` or better, and those without a rating.

    Args:
        offsets: (n_users + 1,) int64.
        ratings: (n,) float32, NaN where there is none; None: no interaction has one.
        positive_from: None keeps all.

    Returns:
        The new (n_users + 1,) offsets and the rows kept, (n_kept,) int64, in their old order.
    """
    if ratings is None or positive_from is None:
        return offsets, np.arange(offsets[-1], dtype=np.int64)
    assert ratings.shape == (offsets[-1],), (ratings.shape, offsets[-1])
    # compared in float32, as ratings are kept: 3.7 is at least 3.7
    counts = ~(ratings < np.float32(positive_from))
    n_before = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    return n_before[offsets], np.flatnonzero(counts).astype(np.int64)


def newest(offsets: npt.NDArray[np.int64], max_history: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Keep the newest interactions of each user.

    Args:
        offsets: (n_users + 1,) int64.

    Returns:
        The new (n_users + 1,) offsets and the rows kept, (n_kept,) int64, in their old order.
    """
    lengths = np.diff(offsets)
    kept = np.minimum(lengths, max_history)
    new_offsets = np.concatenate([[0], np.cumsum(kept)]).astype(np.int64)
    shift = np.repeat(offsets[1:] - kept - new_offsets[:-1], kept)
    return new_offsets, np.arange(new_offsets[-1], dtype=np.int64) + shift


def history_weights(
    offsets: npt.NDArray[np.int64],
    *,
    timestamps: npt.NDArray[np.int64] | None,
    as_of: int | None,
    settings: UsersSettings,
) -> npt.NDArray[np.float64]:
    """Weigh interactions by recency: 2^(-age / half_life).

    With times the age is in days, without it is the number of the user's later interactions. Weights are
    relative to the user's newest interaction, which has 1: a weighted mean is the same, and a user who was
    last seen decades ago does not vanish in rounding.

    Args:
        offsets: (n_users + 1,) int64.
        timestamps: (n,) int64 microseconds; None where there are no times.
        as_of: "Now" in microseconds; what is later has weight 0. None: nothing is later.

    Returns:
        (n,) float64 in [0, 1].
    """
    lengths = np.diff(offsets)
    if timestamps is None:
        later = np.repeat(offsets[1:], lengths) - 1 - np.arange(offsets[0], offsets[-1])
        return np.asarray(np.exp2(-later / settings.half_life_events))
    assert timestamps.shape == (offsets[-1],), (timestamps.shape, offsets[-1])
    known = np.ones(len(timestamps), dtype=np.bool_) if as_of is None else timestamps <= as_of
    smallest = np.iinfo(np.int64).min
    usable = np.where(known, timestamps, smallest)
    newest_time = np.full(len(lengths), smallest)
    occupied = lengths > 0
    if occupied.any():
        newest_time[occupied] = np.maximum.reduceat(usable, offsets[:-1][occupied])
    latest = np.repeat(newest_time, lengths)
    # Where nothing is known both are masked out; subtracting them as they are would overflow.
    age_days = np.where(known, np.where(known, latest, 0) - np.where(known, timestamps, 0), 0) / MICROSECONDS_A_DAY
    return np.where(known, np.exp2(-age_days / settings.half_life_days), 0.0)


def mean_of_history(
    item_vectors: npt.NDArray[np.float32],
    item_present: npt.NDArray[np.bool_],
    *,
    offsets: npt.NDArray[np.int64],
    item_rows: npt.NDArray[np.int64],
    weights: npt.NDArray[np.float64],
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    """Return the normalised weighted mean of the item vectors of each user's history.

    Args:
        item_vectors: (n_items, dim) float32, document vectors.
        item_present: (n_items,) bool; items without a vector are left out.
        offsets: (n_users + 1,) int64.
        item_rows: (n,) int64, rows of item_vectors; -1: an item that is not in the table.
        weights: (n,) float64, not negative.

    Returns:
        (n_users, dim) float32 of unit length, and (n_users,) bool. A user without a usable interaction, or whose
        items cancel out, is absent and has a zero row.
    """
    n, n_users = int(offsets[-1]), len(offsets) - 1
    assert item_rows.shape == weights.shape == (n,), (item_rows.shape, weights.shape, n)
    assert item_present.shape == (len(item_vectors),), (item_present.shape, item_vectors.shape)
    usable = item_rows >= 0
    usable[usable] = item_present[item_rows[usable]]
    usable &= weights > 0
    users = np.repeat(np.arange(n_users), np.diff(offsets))[usable]
    rows, used_weights = item_rows[usable], weights[usable]
    sums = np.zeros((n_users, item_vectors.shape[1]), dtype=np.float64)
    for start in range(0, len(rows), _GATHERED_ROWS):
        block = slice(start, start + _GATHERED_ROWS)
        gathered = item_vectors[rows[block]] * used_weights[block, None]  # (block, dim) float64
        block_users = users[block]
        starts = np.flatnonzero(np.diff(block_users, prepend=-1))
        # A history may go on in the next block, so sums are added to, not set.
        sums[block_users[starts]] += np.add.reduceat(gathered, starts, axis=0)
    totals = np.bincount(users, weights=used_weights, minlength=n_users)
    means = np.divide(sums, totals[:, None], out=sums, where=totals[:, None] > 0)
    return _unit(means)


def combine(
    profile: npt.NDArray[np.float32],
    profile_present: npt.NDArray[np.bool_],
    *,
    history: npt.NDArray[np.float32],
    history_present: npt.NDArray[np.bool_],
    profile_weight: float,
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    """Join the vectors of text and history to the user's vector z.

    Args:
        profile, history: (n_users, dim) float32 of unit length; rows that are not present are not read.
        profile_present, history_present: (n_users,) bool.
        profile_weight: Share of the profile in [0, 1] where both exist; where one exists it is taken as it is.

    Returns:
        (n_users, dim) float32 of unit length, and (n_users,) bool; absent rows are zero.
    """
    assert profile.shape == history.shape, (profile.shape, history.shape)
    both = profile_present & history_present
    profile_share = np.where(both, profile_weight, profile_present.astype(np.float64))[:, None]
    history_share = np.where(both, 1.0 - profile_weight, history_present.astype(np.float64))[:, None]
    profile_part = np.where(profile_share > 0, profile, 0.0) * profile_share
    history_part = np.where(history_share > 0, history, 0.0) * history_share
    return _unit(profile_part + history_part)


def _unit(vectors: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    """Scale rows to unit length; return them in float32 with a mask of those that have a direction."""
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    present = norms[:, 0] > _SMALLEST_NORM
    scaled = np.divide(vectors, norms, out=np.zeros_like(vectors), where=present[:, None])
    return scaled.astype(np.float32), present
