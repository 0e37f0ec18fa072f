"""From `split.by` to a splitter."""

from __future__ import annotations

from collections.abc import Sequence

from recpipe.errors import DataError
from recpipe.ingest.settings import DataSettings, Paths, SplitSettings
from recpipe.ingest.sources import SourceFile, find_sources
from recpipe.ingest.splits.base import Part, ReadColumns, Splitter
from recpipe.ingest.splits.by_time import GlobalTime
from recpipe.ingest.splits.cold_items import ColdItems
from recpipe.ingest.splits.files import SuppliedFiles
from recpipe.ingest.splits.leave_one_out import LeaveOneOut
from recpipe.ingest.splits.random_share import RandomShare
from recpipe.schemas import POSITION, TIMESTAMP

_LEAKS = (
    "leave_one_out takes each user's last interactions whenever they were: models learn from what others did later; "
    "split.by: time does not"
)
_NO_ORDER = "the interactions have neither time nor position: 'last' is the order of the source"
_NO_TIME = (
    "the interactions have neither time nor position: held out at random, so metrics say how well gaps are filled, "
    "not how well the next interaction is foreseen"
)


def choose_splitter(
    settings: SplitSettings, *, read: ReadColumns, columns: Sequence[str], n_rows: int, seed: int, data: DataSettings
) -> Splitter:
    """Return the splitter the settings ask for, after its pass over the interactions, if it takes one.

    Args:
        read: Reads columns of the interactions, as often as it is called.
        columns: Columns of the interactions.
        n_rows: Number of interactions.
        seed: The run's seed.
        data: How the source tables are read, for `files`.

    Raises:
        DataError: The interactions lack the times, or too little of anything to be split so.
        MissingInputError: A file of `split.files` is not there.
    """
    by = _resolve(settings, columns)
    shares = {"test_share": settings.test_share, "validation_share": settings.validation_share}
    if by == "time":
        return GlobalTime(read, n_rows=n_rows, **shares)
    if by == "cold_items":
        return ColdItems(read, seed=seed, **shares)
    if by == "files":
        found = {part: _found(paths, part) for part, paths in _paths(settings).items() if paths is not None}
        return SuppliedFiles(found, data=data, columns=columns)
    if by == "leave_one_out":
        return LeaveOneOut(warnings=_order_warnings(columns))
    warnings = (_NO_TIME,) if settings.by == "auto" else ()
    return RandomShare(seed=seed, warnings=warnings, **shares)


def part_files(settings: SplitSettings) -> list[SourceFile]:
    """Return all files the split reads besides the interactions, in a fixed order.

    Raises:
        MissingInputError: One is not there.
    """
    if settings.by != "files":
        return []
    return [source for part, paths in _paths(settings).items() if paths for source in _found(paths, part)]


def _resolve(settings: SplitSettings, columns: Sequence[str]) -> str:
    if settings.by == "time" and TIMESTAMP.name not in columns:
        raise DataError(
            "a split by time needs timestamps, and the interactions have none",
            where=f"columns of the interactions: {', '.join(columns)}",
            next_step="map them with data.columns.interactions.timestamp, or set split.by: auto",
        )
    if settings.by != "auto":
        return settings.by
    if TIMESTAMP.name in columns:
        return "time"
    return "leave_one_out" if POSITION.name in columns else "random"


def _order_warnings(columns: Sequence[str]) -> tuple[str, ...]:
    if TIMESTAMP.name in columns:
        return (_LEAKS,)
    return () if POSITION.name in columns else (_NO_ORDER,)


def _paths(settings: SplitSettings) -> dict[Part, Paths]:
    files = settings.files
    return {Part.TRAIN: files.train, Part.VALIDATION: files.validation, Part.TEST: files.test}


def _found(paths: str | list[str], part: Part) -> list[SourceFile]:
    return find_sources(paths, table=f"split.files.{part.name.lower()}")
