"""Finding the two files of a category of Amazon Reviews 2023, and checking that they are such."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from recpipe.errors import ConfigError, DataError, MissingInputError
from recpipe.ingest.imports import ForeignFile
from recpipe.ingest.sources import Format, Lines, SourceFile

# the packed file first: its checksum tells whether it is whole
_SUFFIXES = (".jsonl.gz", ".jsonl")
_META = "meta_"
_REVIEW_KEYS = ("user_id", "parent_asin", "rating", "timestamp")
_META_KEYS = ("parent_asin", "title")
_PAIR = "<Category>.jsonl.gz with meta_<Category>.jsonl.gz beside it, both also without .gz"


@dataclass(frozen=True, slots=True)
class Pair:
    """The reviews and the products of one category."""

    category: str
    reviews: ForeignFile
    products: ForeignFile


def find_pair(source: Path, *, category: str | None) -> Pair:
    """Find the pair of a category.

    Args:
        source: Folder with the pair, or one file of it.
        category: Which one, where the folder holds several.

    Raises:
        MissingInputError: Nothing is there, or one file without the other.
        ConfigError: The folder holds several categories and none is named, or the file is of another.
        DataError: A file does not hold what the release of 2023 holds.
    """
    if not source.exists():
        raise MissingInputError("no such file or folder", where=str(source), next_step=f"name the folder of {_PAIR}")
    if source.is_dir():
        folder, name = source, _choose(source, category)
    else:
        folder, name = source.parent, _category(source)
        if category not in (None, name):
            raise ConfigError(
                f"the file is of the category {name}, not {category}",
                where=str(source),
                next_step="leave --category out, or name the folder",
            )
    reviews, products = (_file(folder, stem, given=source) for stem in (name, _META + name))
    if reviews is None or products is None:
        what = f"no products ({_META}{name}.jsonl.gz)" if products is None else f"no reviews ({name}.jsonl.gz)"
        raise MissingInputError(
            f"{what} beside {(reviews or products or source).name}",
            where=str(folder),
            next_step="download it from the same release and put it there",
        )
    pair = Pair(name, _foreign(reviews), _foreign(products))
    _check(pair.reviews, _REVIEW_KEYS, "reviews")
    _check(pair.products, _META_KEYS, "products")
    return pair


def _choose(folder: Path, category: str | None) -> str:
    stems = {stem for path in folder.iterdir() if path.is_file() and (stem := _stem(path)) is not None}
    names = sorted({stem.removeprefix(_META) for stem in stems})
    found = f"found: {', '.join(names)}"
    if category is not None:
        if category not in names:
            what = f"no file of the category {category}" + (f"; {found}" if names else "")
            raise MissingInputError(what, where=str(folder), next_step=f"the folder needs {_PAIR}")
        return category
    if not names:
        raise MissingInputError("no .jsonl.gz or .jsonl file is there", where=str(folder), next_step=f"needs {_PAIR}")
    # a file of something else, alone, does not make the choice unclear
    whole = [name for name in names if {name, _META + name} <= stems]
    candidates = whole or names
    if len(candidates) > 1:
        raise ConfigError(
            f"the folder holds {len(candidates)} categories; {found}",
            where=str(folder),
            next_step=f"choose one, e.g. --category {candidates[0]}",
        )
    return candidates[0]


def _stem(path: Path) -> str | None:
    suffix = next((suffix for suffix in _SUFFIXES if path.name.endswith(suffix)), None)
    return None if suffix is None or path.name[0] == "." else path.name.removesuffix(suffix)


def _category(path: Path) -> str:
    stem = _stem(path)
    if stem is None:
        raise DataError("the file is no JSONL", where=str(path), next_step=f"name {_PAIR}")
    return stem.removeprefix(_META)


def _file(folder: Path, stem: str, *, given: Path) -> Path | None:
    if _stem(given) == stem and given.is_file():
        return given
    paths = (folder / f"{stem}{suffix}" for suffix in _SUFFIXES)
    return next((path for path in paths if path.is_file()), None)


def _foreign(path: Path) -> ForeignFile:
    packed = path.suffix == ".gz"
    remedy = f"download it again; gzip -t {path.name} tells whether it is whole" if packed else "download it again"
    return ForeignFile(SourceFile(path, Format.JSONL, packed), str(path), remedy)


def _check(file: ForeignFile, keys: tuple[str, ...], what: str) -> None:
    """Look at the first line before hours are spent on the rest."""
    try:
        line = Lines(file.source, "auto").line()
    except DataError as error:
        raise DataError(error.what, where=file.label, next_step=file.remedy) from error
    if not line.strip():
        raise DataError("the file is empty", where=file.label, next_step=file.remedy)
    try:
        first = json.loads(line)
    except (ValueError, RecursionError):
        return  # counted and told with its line when all rows are read
    if isinstance(first, dict) and (missing := [key for key in keys if key not in first]):
        raise DataError(
            f"these are no {what} of Amazon Reviews 2023: no {', '.join(missing)}; found: {', '.join(first)}",
            where=f"{file.label}, line 1",
            next_step="take the release of 2023 (earlier ones have asin and overall), raw JSONL",
        )
