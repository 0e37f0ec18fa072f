"""A user's text and the titles of recent items as one text that fits the model's window."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from recpipe.encoders.fields import is_blank, join_fields
from recpipe.encoders.settings import UsersSettings

TokenCounter = Callable[[Sequence[str]], npt.NDArray[np.int64]]


@dataclass(frozen=True, slots=True)
class HistoryTexts:
    """Texts of n users.

    Attributes:
        texts: One text a user; None where there is neither profile nor title.
        titles_used: (n,) int64, titles in the text.
        titles_given: (n,) int64, non-blank titles there were.
    """

    texts: list[str | None]
    titles_used: npt.NDArray[np.int64]
    titles_given: npt.NDArray[np.int64]

    @property
    def shortened(self) -> int:
        """Number of users whose older titles did not fit."""
        return int((self.titles_used < self.titles_given).sum())


def history_texts(
    profiles: Sequence[str | None],
    titles: Sequence[Sequence[str | None]],
    *,
    budget: int,
    count_tokens: TokenCounter,
    settings: UsersSettings,
) -> HistoryTexts:
    """Write `{profile}. Recently liked: {t1}; {t2}` for each user, within a budget of tokens.

    The profile comes first, then titles, newest first, as long as they fit. A profile longer than the
    budget stands alone; the encoder cuts and counts it.

    Args:
        profiles: One text a user, or None.
        titles: Titles of each user's items, newest first; blank ones are left out.
        budget: Tokens of the whole text, special tokens and prompt not included (`TextEncoder.content_budget`).
        count_tokens: The model's own count (`TextEncoder.count_tokens`).
    """
    known = [[title.strip() for title in row if title is not None and not is_blank(title)] for row in titles]
    used = _first_guess(profiles, known, budget=budget, count_tokens=count_tokens, settings=settings)
    texts = [_write(profile, row[:n], settings) for profile, row, n in zip(profiles, known, used, strict=True)]
    # Tokens of the parts do not always add up to those of the whole: take away until it fits.
    open_rows = [row for row, n in enumerate(used) if n > 0]
    while open_rows:
        counts = count_tokens([texts[row] or "" for row in open_rows])
        open_rows = [row for row, count in zip(open_rows, counts, strict=True) if count > budget and used[row] > 0]
        for row in open_rows:
            used[row] -= 1
            texts[row] = _write(profiles[row], known[row][: used[row]], settings)
    return HistoryTexts(
        texts=texts,
        titles_used=np.asarray(used, dtype=np.int64),
        titles_given=np.asarray([len(row) for row in known], dtype=np.int64),
    )


def _first_guess(
    profiles: Sequence[str | None],
    titles: Sequence[Sequence[str]],
    *,
    budget: int,
    count_tokens: TokenCounter,
    settings: UsersSettings,
) -> list[int]:
    """Return how many titles of each user fit if the tokens of the parts add up."""
    # Titles repeat from user to user: each is counted once.
    parts = list(dict.fromkeys(settings.history_separator + title for row in titles for title in row))
    cost = dict(zip(parts, count_tokens(parts).tolist(), strict=True)) if parts else {}
    openings = [_write(profile, [""], settings) or "" for profile in profiles]
    if not openings:
        return []
    # The first title has no separator before it.
    room = budget - count_tokens(openings) + int(count_tokens([settings.history_separator])[0])
    used = []
    for row, left in zip(titles, room, strict=True):
        ends = np.cumsum([cost[settings.history_separator + title] for title in row])
        used.append(int(np.searchsorted(ends, left, side="right")))
    return used


def _write(profile: str | None, titles: Sequence[str], settings: UsersSettings) -> str | None:
    history = settings.history_intro + settings.history_separator.join(titles) if titles else None
    return join_fields([[profile], [history]])[0]
