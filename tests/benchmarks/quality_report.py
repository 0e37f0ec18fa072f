"""Sections of a Markdown page that benchmarks write: tables between markers, prose beside them."""

from __future__ import annotations

import re
from pathlib import Path


def replace_section(path: Path, name: str, markdown: str) -> None:
    """Put `markdown` between the markers of a section, and leave the rest of the page as it is.

    The markers are the lines `<!-- begin: name -->` and `<!-- end: name -->`. A page without them gets
    the section at its end; a page that does not exist is begun.

    Raises:
        ValueError: a marker stands alone or more than once.

    """
    begin, end = f"<!-- begin: {name} -->", f"<!-- end: {name} -->"
    page = path.read_text(encoding="utf-8") if path.exists() else ""
    section = f"{begin}\n{markdown.strip()}\n{end}"
    found = re.findall(f"{re.escape(begin)}.*?{re.escape(end)}", page, flags=re.DOTALL)
    if not found and begin not in page and end not in page:
        page = f"{page.rstrip()}\n\n{section}\n".lstrip()
    elif len(found) == page.count(begin) == page.count(end) == 1:
        page = page.replace(found[0], section)
    else:
        raise ValueError(f"{path} must hold the markers of {name!r} once, the first before the second")
    path.write_text(page, encoding="utf-8")
