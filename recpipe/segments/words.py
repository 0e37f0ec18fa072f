"""Words of free text in any script, for labels."""

from __future__ import annotations

import functools
import html
import re
import sys
import unicodedata
from collections.abc import Iterable

MAX_UNSPACED_CHARACTERS = 6
"""A longer run of a script written without spaces is a sentence, and cutting it makes nonsense."""

# Scripts written without spaces: Thai to Tibetan's neighbours, kana, Han, in the Basic Multilingual Plane.
_UNSPACED = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff]")

_UNITS = frozenset({
    "cm", "fl", "ft", "gal", "inch", "inches", "kg", "lb", "lbs", "mg", "ml", "mm", "oz",
    "pack", "packs", "pc", "pcs", "piece", "pieces", "qty", "yd", "yds",
})  # fmt: skip
"""They stand beside every number of a product title and say nothing about it."""

_FILLERS = frozenset({
    "best", "better", "big", "bit", "buy", "come", "day", "days", "enjoy", "enjoys", "getting", "good", "great",
    "guide", "just", "know", "like", "likes", "little", "long", "look", "looking", "lot", "love", "loves", "make",
    "makes", "making", "new", "old", "really", "short", "small", "thing", "things", "time", "times", "try", "trying",
    "turn", "use", "used", "using", "want", "way", "work", "works", "year", "years",
})  # fmt: skip
"""Frequent in any text about oneself and in any title; no subject by themselves."""


@functools.cache
def _token_pattern() -> re.Pattern[str]:
    """Letters and digits with their combining marks, which `\\w` alone splits words at (Hindi, Thai)."""
    marks = "".join(
        chr(c) for c in range(0x300, min(sys.maxunicode, 0x10000)) if unicodedata.category(chr(c))[0] == "M"
    )
    inside = rf"[^\W_{re.escape(marks)}]|[{re.escape(marks)}]"
    return re.compile(rf"(?:{inside})+(?:['’\-](?:{inside})+)*")


@functools.cache
def stop_words() -> frozenset[str]:
    """English function words (scikit-learn's list), units and fillers."""
    from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

    return frozenset(ENGLISH_STOP_WORDS) | _UNITS | _FILLERS


def tokens(text: str) -> list[str | None]:
    """Return the words of a text, lower case; None where a phrase cannot continue.

    Numbers, single letters, English function and filler words, and sentences in scripts without
    spaces are left out; they and punctuation end a phrase.
    """
    found: list[str | None] = []
    normal = unicodedata.normalize("NFKC", html.unescape(text)).lower()
    end = 0
    for match in _token_pattern().finditer(normal):
        word = match.group().replace("’", "'").removesuffix("'s")
        if normal[end : match.start()].strip():
            found.append(None)
        found.append(word if _is_term(word) else None)
        end = match.end()
    return found


def _is_term(word: str) -> bool:
    if _UNSPACED.search(word):
        return 2 <= len(word) <= MAX_UNSPACED_CHARACTERS
    return len(word) >= 2 and not any(c.isdigit() for c in word) and word not in stop_words()


def terms(texts: Iterable[str | None]) -> set[str]:
    """Return the distinct words and two-word phrases of the texts of one user or item."""
    found: set[str] = set()
    for text in texts:
        previous = None
        for word in tokens(text) if text else ():
            if word:
                found.add(word)
                if previous and previous != word:
                    found.add(f"{previous} {word}")
            previous = word
    return found
