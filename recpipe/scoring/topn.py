"""The best n items of every user, exactly, also among ties, in bounded memory.

Scores are made for a block of users and a tile of items at a time and never leave the
cache for long: only scores above the n-th best so far are kept, which after the first tile
are few. Items are laid out in tie order beforehand; that order is random with regard to
scores, so the bar rises at once, and an equal score in a later tile loses by definition.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from recpipe.errors import DataError

if TYPE_CHECKING:
    import numpy.typing as npt

    Float32 = npt.NDArray[np.float32]
    Int32 = npt.NDArray[np.int32]
    Int64 = npt.NDArray[np.int64]

TILE_ITEMS = 8192
"""Items scored at a time: 8 MB for 256 users; smaller tiles merge more often, larger ones leave the cache."""

_MINUS_INFINITY = float("-inf")
_LOW_BITS = 0xFFFFFFFF


@dataclass(frozen=True, slots=True, kw_only=True)
class Excluded:
    """Items each user must not get: those of user i are item_rows[offsets[i]:offsets[i + 1]].

    Attributes:
        offsets: int64 (n_users + 1,), not decreasing; need not begin at 0.
        item_rows: int32 (n_excluded,): rows of the items, in any order, repeats allowed.
    """

    offsets: Int64
    item_rows: Int32


@dataclass(frozen=True, slots=True)
class TopN:
    """Lists, best first.

    Attributes:
        rows: int32 (n_users, n): rows of the items; -1 after the end of a shorter list.
        scores: float32 (n_users, n); -inf after the end.
    """

    rows: Int32
    scores: Float32


def top_n(
    user_vectors: Float32,
    item_vectors: Float32,
    *,
    n: int,
    tie_order: Int32,
    excluded: Excluded | None = None,
    block_users: int = 256,
    device: str = "cpu",
) -> TopN:
    """Return the n items with the largest dot product for every user.

    For many blocks of users and the same items, keep an `ItemIndex` instead.

    Args:
        user_vectors: float32 (n_users, k).
        item_vectors: float32 (n_items, k).
        n: Length of the lists.
        tie_order: int32 (n_items,), from `ties.tie_order`: equal scores come in this order.
        excluded: Items to leave out, for each user.
        block_users: Users scored at a time.
        device: Where the products are made.

    Raises:
        DataError: A vector is not finite.
    """
    index = ItemIndex(item_vectors, tie_order, device=device)
    return index.top_n(user_vectors, n=n, excluded=excluded, block_users=block_users)


def top_n_of_scores(scores: Float32, *, n: int, tie_order: Int32, excluded: Excluded | None = None) -> TopN:
    """Return the n best items for every user from scores that exist already.

    Args:
        scores: float32 (n_users, n_items); an item with -inf is not recommended.

    Raises:
        DataError: A score is NaN.
    """
    if scores.ndim != 2 or scores.shape[1] != len(tie_order):
        raise ValueError(f"scores {scores.shape} do not fit {len(tie_order)} items")
    if np.isnan(scores).any():
        raise _not_finite("scores")
    order = np.argsort(tie_order)

    def tile(start: int, stop: int) -> torch.Tensor:
        return torch.from_numpy(scores.take(order[start:stop], axis=1))

    best = _select(tile, n_users=len(scores), places=tie_order, n=n, excluded=excluded, device="cpu")
    return _decode(best, order=order, n=n)


class ItemIndex:
    """Item vectors in tie order, ready for block after block of users."""

    def __init__(self, item_vectors: Float32, tie_order: Int32, *, device: str = "cpu") -> None:
        """Copy the vectors; DataError when one is not finite."""
        if item_vectors.ndim != 2 or len(item_vectors) != len(tie_order):
            raise ValueError(f"item vectors {item_vectors.shape} do not fit a tie order of {len(tie_order)}")
        if not np.isfinite(item_vectors).all():
            raise _not_finite("item vectors")
        self._places = tie_order
        self._order = np.argsort(tie_order)  # (n_items,): the item at each place
        self._vectors = torch.from_numpy(item_vectors[self._order]).to(device)  # (n_items, k)
        self._device = device

    def top_n(self, user_vectors: Float32, *, n: int, excluded: Excluded | None = None, block_users: int = 256) -> TopN:
        """Return the n best items for every user; see the function `top_n`."""
        n_users = len(user_vectors)
        if user_vectors.ndim != 2 or user_vectors.shape[1] != self._vectors.shape[1]:
            raise ValueError(f"user vectors {user_vectors.shape} do not fit item vectors {tuple(self._vectors.shape)}")
        if not np.isfinite(user_vectors).all():
            raise _not_finite("user vectors")
        lists = TopN(np.empty((n_users, n), dtype=np.int32), np.empty((n_users, n), dtype=np.float32))
        # One buffer for all tiles: a fresh allocation costs page faults, as much time as small products.
        tile_items = min(TILE_ITEMS, len(self._order))
        buffer = torch.empty(min(block_users, n_users) * tile_items, device=self._device)
        for start in range(0, n_users, block_users):
            stop = min(start + block_users, n_users)
            users = torch.from_numpy(np.ascontiguousarray(user_vectors[start:stop])).to(self._device)

            def tile(first: int, last: int, users: torch.Tensor = users) -> torch.Tensor:
                out = buffer[: len(users) * (last - first)].view(len(users), last - first)
                return torch.mm(users, self._vectors[first:last].T, out=out)

            part = excluded and Excluded(offsets=excluded.offsets[start : stop + 1], item_rows=excluded.item_rows)
            best = _select(tile, n_users=stop - start, places=self._places, n=n, excluded=part, device=self._device)
            block = _decode(best, order=self._order, n=n)
            lists.rows[start:stop], lists.scores[start:stop] = block.rows, block.scores
        return lists


def _select(
    tile: Callable[[int, int], torch.Tensor],
    *,
    n_users: int,
    places: Int32,
    n: int,
    excluded: Excluded | None,
    device: str,
) -> torch.Tensor:
    """Return the keys of the best items: int64 (n_users, at most n), best first.

    Args:
        tile: Gives the scores (n_users, stop - start) of the items at places start to stop;
            they may be overwritten.
        places: int32 (n_items,): where each item stands in the tie order.
    """
    n_items = len(places)
    starts = np.arange(0, n_items, TILE_ITEMS)
    excluded_users, excluded_places = _excluded_pairs(excluded, n_users=n_users, places=places)
    bounds = np.searchsorted(excluded_places, np.append(starts, n_items))
    best = _Best(n_users, n, device)
    for number, start in enumerate(starts.tolist()):
        scores = tile(start, min(start + TILE_ITEMS, n_items))
        here = slice(bounds[number], bounds[number + 1])
        users = torch.from_numpy(excluded_users[here]).to(device)
        columns = torch.from_numpy(excluded_places[here] - start).to(device)
        scores[users, columns] = _MINUS_INFINITY
        best.offer(scores, start)
    return best.keys.sort(dim=1, descending=True).values


def _excluded_pairs(excluded: Excluded | None, *, n_users: int, places: Int32) -> tuple[Int64, Int64]:
    """Return the excluded (user, place) pairs, both int64, by place."""
    if excluded is None:
        return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
    if len(excluded.offsets) != n_users + 1:
        raise ValueError(f"exclusions of {len(excluded.offsets) - 1} users for {n_users} users")
    users = np.repeat(np.arange(n_users), np.diff(excluded.offsets))
    excluded_places = places[excluded.item_rows[excluded.offsets[0] : excluded.offsets[-1]]].astype(np.int64)
    by_place = np.argsort(excluded_places, kind="stable")
    return users[by_place], excluded_places[by_place]


class _Best:
    """The best n of every user so far, in no order.

    One int64 key stands for score and place: the score's bits, made to sort as integers, above
    the inverted place. No two keys of a user are equal, so that top-k of keys is exact.
    """

    def __init__(self, n_users: int, n: int, device: str) -> None:
        self.n = n
        self.keys = torch.empty((n_users, 0), dtype=torch.int64, device=device)
        self.bar: torch.Tensor | None = None  # (n_users,): what a score must exceed

    def offer(self, scores: torch.Tensor, start: int) -> None:
        """Take in the scores (n_users, width) of the items from place `start` on."""
        n_users, width = scores.shape
        if self.bar is None:
            self.bar = self._first_bar(scores)
        found = _above(scores, self.bar)
        if len(found) == 0:
            return
        users = found // width
        keys = _encode(scores.reshape(-1)[found], found - users * width + start)
        counts = torch.bincount(users, minlength=n_users)
        slots = torch.arange(len(found), device=users.device) - (counts.cumsum(0) - counts)[users]
        n_held = self.keys.shape[1]
        merged = torch.full((n_users, n_held + int(counts.max())), _EMPTY, device=users.device)
        merged[:, :n_held] = self.keys
        merged[users, n_held + slots] = keys
        self.keys = merged.topk(min(self.n, merged.shape[1]), dim=1, sorted=False).values
        if self.keys.shape[1] == self.n:
            self.bar = _scores_of(self.keys.amin(dim=1))

    def _first_bar(self, scores: torch.Tensor) -> torch.Tensor:
        """Return a bar just below the n-th best score of the first tile, so that its ties pass."""
        lowest = torch.full((len(scores),), _MINUS_INFINITY, device=scores.device)
        if scores.shape[1] < self.n:
            return lowest
        return torch.nextafter(scores.topk(self.n, dim=1, sorted=False).values.amin(dim=1), lowest)


def _above(scores: torch.Tensor, bar: torch.Tensor) -> torch.Tensor:
    """Return the flat positions of the scores above each user's bar, int64, ascending."""
    if scores.device.type == "cpu":  # NumPy's comparison and search are vectorised where torch's are not
        return torch.from_numpy(np.flatnonzero(scores.numpy() > bar.numpy()[:, None]))
    return torch.nonzero((scores > bar[:, None]).reshape(-1)).reshape(-1)


def _encode(scores: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    bits = (scores + 0.0).view(torch.int32)  # + 0.0: -0.0 is the same score as 0.0
    ordered = bits ^ ((bits >> 31) & 0x7FFFFFFF)
    return (ordered.to(torch.int64) << 32) | (_LOW_BITS - places)


def _scores_of(keys: torch.Tensor) -> torch.Tensor:
    ordered = (keys >> 32).to(torch.int32)
    return (ordered ^ ((ordered >> 31) & 0x7FFFFFFF)).view(torch.float32)


_EMPTY = int(_encode(torch.tensor([_MINUS_INFINITY]), torch.tensor([_LOW_BITS]))[0])
"""The key of no item: -inf, which no real key has, since only scores above it are kept."""


def _decode(keys: torch.Tensor, *, order: Int64, n: int) -> TopN:
    """Return the lists that keys (n_users, at most n) stand for, filled up to n."""
    n_users, length = keys.shape
    rows = np.full((n_users, n), -1, dtype=np.int32)
    scores = np.full((n_users, n), _MINUS_INFINITY, dtype=np.float32)
    found = _scores_of(keys).cpu().numpy()
    places = (_LOW_BITS - (keys & _LOW_BITS)).cpu().numpy()
    there = found > _MINUS_INFINITY
    rows[:, :length][there] = order[places[there]]
    scores[:, :length] = found
    return TopN(rows, scores)


def _not_finite(what: str) -> DataError:
    return DataError(
        f"the model gave {what} that are not finite",
        next_step="run: recpipe train --force, with a smaller learning rate where the model has one",
    )
