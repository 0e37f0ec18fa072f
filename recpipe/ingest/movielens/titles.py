"""Titles of films as MovieLens writes them."""

from __future__ import annotations

import re

_YEAR = re.compile(r"^(?P<title>.*\S)\s*\((?P<year>\d{4})(?:[-–]\d{0,4})?\)\s*$")
_ARTICLES = r"The|A|An|Le|La|Les|L'|El|Los|Las|Il|Lo|Gli|I|Der|Die|Das|Den|Det|En|Ein|Eine|Un|Une|Una|O|Os|As|Al"
_INVERTED = re.compile(rf"^(?P<rest>.+), (?P<article>{_ARTICLES})(?P<more> \(.*\))?$")
_ALIAS = re.compile(r"\(([^()]*)\)")


def split_title(title: str) -> tuple[str, int | None]:
    """Return title in reading order and year: "Matrix, The (1999)" gives ("The Matrix", 1999)."""
    match = _YEAR.match(title.strip())
    year = int(match["year"]) if match else None
    plain = match["title"] if match else title.strip()
    plain = _ALIAS.sub(lambda alias: f"({_reading_order(alias[1])})", plain)
    return _reading_order(plain), year


def _reading_order(title: str) -> str:
    match = _INVERTED.match(title)
    if not match:
        return title
    space = "" if match["article"].endswith("'") else " "
    return f"{match['article']}{space}{match['rest']}{match['more'] or ''}"
