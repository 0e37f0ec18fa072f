"""Sections of a Markdown page that benchmarks write: tables between markers, prose beside them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from recpipe.metrics.intervals import Bootstrap, Estimates


def replace_section(path: Path, name: str, markdown: str) -> None:
    """Put `markdown` between the markers of a section, and leave the rest of the page as it is.

    The markers are the lines `<!-- begin: name -->` and `<!-- end: name -->`. A page without them gets
    the section at its end; a page that does not exist is begun.

    Raises:
        ValueError: a marker stands alone or more than once.

    """
    begin, end = f"<!-- begin: {name} -->", f"<!-- end: {name} -->"
    page = path.read_text(encoding="utf-8") if path.exists() else ""
    body = markdown.strip("\n")  # spaces at its beginning make a line a listing
    section = f"{begin}\n\n{body}\n\n{end}"
    found = re.findall(f"{re.escape(begin)}.*?{re.escape(end)}", page, flags=re.DOTALL)
    if not found and begin not in page and end not in page:
        page = f"{page.rstrip()}\n\n{section}\n".lstrip()
    elif len(found) == page.count(begin) == page.count(end) == 1:
        page = page.replace(found[0], section)
    else:
        raise ValueError(f"{path} must hold the markers of {name!r} once, the first before the second")
    path.write_text(page, encoding="utf-8")


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table; all columns but the first stand to the right."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def mean_cell(values: np.ndarray) -> str:
    """Return the mean over users who have a value, with its interval."""
    return _cell(Bootstrap().means(values[:, None]), "")


def difference_cells(values: np.ndarray, reference: np.ndarray) -> tuple[str, str]:
    """Return the number of users who have both values, and the mean difference with its interval."""
    found = Bootstrap().differences(values[:, None], reference[:, None])
    return f"{found.n_users[0]:,}", _cell(found, "+")


def loss_cell(values: np.ndarray, reference: np.ndarray) -> str:
    """Return by how many per cent the mean is below the reference's of the same users, with its interval."""
    both = np.stack([values, reference], axis=1)
    both = both[~np.isnan(both).any(axis=1)]
    (sums,) = Bootstrap().resampled_sums([both])
    low, high = Bootstrap().bounds(100 * (1 - sums[:, :1] / sums[:, 1:]))
    return f"{100 * (1 - both[:, 0].mean() / both[:, 1].mean()):.2f} % [{low[0]:.2f}, {high[0]:.2f}]"


def _cell(found: Estimates, sign: str) -> str:
    value, low, high = (f"{column[0]:{sign}.4f}" for column in (found.value, found.low, found.high))
    return f"{value} [{low}, {high}]"
