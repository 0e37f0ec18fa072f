"""The files of a folder or a zip, reached alike."""

from __future__ import annotations

import zipfile
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TypeVar

from recpipe.errors import DataError, MissingInputError
from recpipe.ingest.movielens.layouts import EXPECTED, KNOWN_FILES, RATINGS_FILES

# The ratings of a MovieLens zip unpack to about five times their size.
_MAX_RATIO = 200
_RATIO_FROM = 64 << 20
_ZIP_START = b"PK\x03\x04"
Place = TypeVar("Place", str, Path)
ZIP_REMEDY = "download the zip again; unzip -t tells whether it is whole"


@dataclass(frozen=True, slots=True)
class Members:
    """Files that stand in one folder, on disk or in a zip.

    Attributes:
        where: The folder, for messages.
        paths: Name -> path, of files on disk.
        packed: Name -> entry, of files in `archive`.
    """

    where: str
    paths: dict[str, Path]
    packed: dict[str, zipfile.ZipInfo]
    archive: zipfile.ZipFile | None = None

    @property
    def names(self) -> Collection[str]:
        """Names of the files."""
        return {*self.paths, *self.packed}

    def label(self, name: str) -> str:
        """Return where a file is, for messages."""
        return str(self.paths[name]) if name in self.paths else f"{self.where}/{name}"

    def open(self, name: str) -> IO[bytes]:
        """Open a file.

        Raises:
            DataError: The zip has it under a password, or packed as no table of ratings can be.
        """
        if name in self.paths:
            return self.paths[name].open("rb")
        entry = self.packed[name]
        if entry.flag_bits & 1:
            raise DataError("the file is under a password", where=self.label(name), next_step=ZIP_REMEDY)
        if entry.file_size > max(_RATIO_FROM, _MAX_RATIO * entry.compress_size):
            raise DataError(
                f"the file would unpack to {entry.file_size:,} bytes, from {entry.compress_size:,}: it is no table",
                where=self.label(name),
                next_step="download the zip from GroupLens",
            )
        assert self.archive is not None
        return self.archive.open(entry)


@contextmanager
def open_members(source: Path) -> Iterator[Members]:
    """Open a folder, a zip, or either around the one folder that holds the files.

    Raises:
        MissingInputError: Nothing is there.
        DataError: A file that is no whole zip, or several folders with ratings.
    """
    if source.is_dir():
        yield _in_folder(source)
        return
    if not source.exists():
        raise MissingInputError("folder or zip not found", where=str(source), next_step=EXPECTED)
    if not zipfile.is_zipfile(source):
        with source.open("rb") as file:
            cut_off = file.read(len(_ZIP_START)) == _ZIP_START
        what = "the zip is cut off" if cut_off else "the file is no zip"
        raise DataError(what, where=str(source), next_step=ZIP_REMEDY if cut_off else EXPECTED)
    try:
        archive = zipfile.ZipFile(source)
    except zipfile.BadZipFile as error:
        raise DataError(f"the zip is damaged: {error}", where=str(source), next_step=ZIP_REMEDY) from error
    with archive:
        yield _in_zip(source, archive)


def _in_folder(source: Path) -> Members:
    folders = [source, *sorted(path for path in source.iterdir() if path.is_dir() and path.name[0] != ".")]
    there = {path: [name for name in KNOWN_FILES if (path / name).is_file()] for path in folders}
    folder = _choose(there, top=source, where=source)
    return Members(str(folder), {name: folder / name for name in there[folder]}, {})


def _in_zip(source: Path, archive: zipfile.ZipFile) -> Members:
    """List the known files at the top or one folder down; no other entry is ever read, and no name made a path."""
    folders: dict[str, dict[str, zipfile.ZipInfo]] = {"": {}}
    for entry in archive.infolist():
        folder, _, name = entry.filename.rpartition("/")
        # __MACOSX holds what one archiver notes about files, under their names
        if name in KNOWN_FILES and "/" not in folder and folder != "__MACOSX":
            folders.setdefault(folder, {})[name] = entry
    chosen = _choose(folders, top="", where=source)
    return Members(f"{source}/{chosen}".rstrip("/"), {}, folders[chosen], archive)


def _choose(folders: Mapping[Place, Iterable[str]], *, top: Place, where: Path) -> Place:
    """Return the top where ratings are there, else the one folder that has them, or at least another known file."""
    holding: list[Place] = []
    for wanted in (RATINGS_FILES, KNOWN_FILES):
        holding = holding or [folder for folder, names in folders.items() if wanted.intersection(names)]
    if top in holding or not holding:
        return top
    if len(holding) > 1:
        raise DataError(
            f"{len(holding)} folders hold files of MovieLens: {', '.join(map(str, sorted(holding)))}",
            where=str(where),
            next_step="name one of them; from a zip, unpack it first",
        )
    return holding[0]
