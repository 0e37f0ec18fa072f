"""From columns of text to the one text that is encoded."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

_SENTENCE_ENDS = frozenset(".!?…。！？؟।۔")


def is_blank(text: str | None) -> bool:
    """Return whether there is nothing to read: None, white space, zero-width or control characters alone."""
    return text is None or not text.strip() or all(_is_invisible(character) for character in text)


def _is_invisible(character: str) -> bool:
    return character.isspace() or unicodedata.category(character) in {"Cf", "Cc"}


def join_fields(columns: Sequence[Sequence[str | None]]) -> list[str | None]:
    """Join the non-blank fields of each row by ". ".

    A field that ends a sentence itself gets no second full stop.

    Args:
        columns: Columns of equal length, in the order in which their fields are joined.

    Returns:
        One text a row; None where every field is blank.
    """
    if not columns:
        raise ValueError("join_fields needs at least one column")
    return [_join_row(row) for row in zip(*columns, strict=True)]


def _join_row(fields: tuple[str | None, ...]) -> str | None:
    kept = [field.strip() for field in fields if field is not None and not is_blank(field)]
    if not kept:
        return None
    return "".join(field + (" " if field[-1] in _SENTENCE_ENDS else ". ") for field in kept[:-1]) + kept[-1]
