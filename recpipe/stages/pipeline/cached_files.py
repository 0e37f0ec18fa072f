"""Files of pictures or sounds to vectors, each content once."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from recpipe.encoders.fields import is_blank
from recpipe.encoders.media_files import BadFileError, locate, unreadable
from recpipe.encoders.media_spec import MediaEncoderSettings, MediaModel, Modality
from recpipe.encoders.settings import MediaSettings
from recpipe.schemas import AUDIO, IMAGE, Column
from recpipe.store.cache import EmbeddingCache, content_keys
from recpipe.store.fingerprint import FileDigests

if TYPE_CHECKING:
    from recpipe.encoders.media import MediaEncoder

COLUMNS: dict[Modality, Column] = {"image": IMAGE, "audio": AUDIO}
"""The columns of paths."""

_DIGESTS = ".media_digests.json"
# 40 bits: sums over ten million files stay below 2^64.
_SUMMAND_BYTES = 5
# The memory of digests is written as a whole: in steps that grow with it, so that its cost stays a share of the work.
_SAVED_EVERY = 256
_SAVED_SHARE = 0.125


@dataclass(frozen=True, slots=True)
class FileVectors:
    """What n rows of a column of paths hold.

    Attributes:
        vectors: (n, dim) float32; zero where there is none.
        present: (n,) bool.
        failed: What is wrong with the files that gave none, by row.
        n_named: Rows that name a file.
        n_cached: Rows whose file the cache knew.
        stamps, contents: Sums over the files, see `stamp_of` and `content_of`.
    """

    vectors: NDArray[np.float32]
    present: NDArray[np.bool_]
    failed: dict[int, BadFileError]
    n_named: int
    n_cached: int
    stamps: int
    contents: int


@dataclass
class NamedFiles:
    """The files that rows name: their rows, paths and digests, and what is wrong with the others, by row.

    Attributes:
        stamps, contents: Sums over all of them, see `stamp_of` and `content_of`.
    """

    rows: list[int] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)
    digests: list[str] = field(default_factory=list)
    failed: dict[int, BadFileError] = field(default_factory=dict)
    stamps: int = 0
    contents: int = 0


@dataclass
class CachedFiles:
    """Encodes files, each content once: what the cache knows is neither decoded nor computed again.

    The model is loaded when the first unknown file comes. A file is hashed again when its size or
    modification time has changed.

    Attributes:
        root: The media root, resolved.
        cache_folder: The embedding cache.
    """

    model: MediaModel
    settings: MediaEncoderSettings
    media: MediaSettings
    root: Path
    device: str
    cache_folder: Path
    _encoder: MediaEncoder | None = None
    _cache: EmbeddingCache | None = None
    _digests: FileDigests | None = None
    _bad: dict[str, BadFileError] = field(default_factory=dict)
    _n_digested: int = 0
    _n_unsaved: int = 0

    @property
    def column(self) -> str:
        """The column of paths."""
        return COLUMNS[self.model.modality].name

    @property
    def encoder(self) -> MediaEncoder:
        """The loaded encoder."""
        if self._encoder is None:
            from recpipe.encoders import media

            self._encoder = media.load(self.model, self.settings, self.media, device=self.device)
        return self._encoder

    def read(self, paths: Sequence[str | None], *, last: bool = False) -> FileVectors:
        """Return the vectors of the files that rows name.

        Args:
            last: Nothing follows, so what is known of the files is written down.
        """
        if self._cache is None:
            about = {"model": self.model.folder.name, "files": self.column, "precision": self.settings.precision}
            self._cache = EmbeddingCache(self.cache_folder, self.model.key, about=about)
        if self._digests is None:
            self._digests = file_digests(self.cache_folder)
        named = find_files(paths, self.root, self.media, self._digests)
        self._save_digests(len(named.files), last=last)
        n_named = len(named.rows) + len(named.failed)
        rows, keys = np.asarray(named.rows, dtype=np.int64), content_keys(named.digests)
        cached = self._cache.lookup(keys)
        vectors = np.zeros((len(paths), self._cache.dim or self.encoder.dim), np.float32)
        present = np.zeros(len(paths), bool)
        if cached.found.any():
            vectors[rows[cached.found]], present[rows[cached.found]] = cached.vectors[cached.found], True
        missing = np.flatnonzero(~cached.found).tolist()
        bad = [place for place in missing if named.digests[place] in self._bad]
        named.failed.update({named.rows[place]: self._bad[named.digests[place]] for place in bad})
        unknown = np.array([place for place in missing if named.digests[place] not in self._bad], np.int64)
        if len(unknown):
            vectors[rows[unknown]], present[rows[unknown]] = self._encoded(named, keys, unknown)
        failed = dict(sorted(named.failed.items()))
        return FileVectors(vectors, present, failed, n_named, int(cached.found.sum()), named.stamps, named.contents)

    def _encoded(
        self, named: NamedFiles, keys: NDArray[np.uint64], unknown: NDArray[np.int64]
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Encode files the cache does not know, each content once, and remember them.

        Args:
            keys: (n, 2) content keys of all files named.
            unknown: (k,) places among them.

        Returns:
            (k, dim) vectors, and (k,) which files gave one; those that did not are added to `named.failed`.
        """
        assert self._cache is not None
        _, firsts, inverse = np.unique(keys[unknown], axis=0, return_index=True, return_inverse=True)
        # in the order of the table, not of the keys: neighbouring files are read together
        order = np.argsort(firsts)
        place_of = np.argsort(order)[inverse.reshape(-1)]  # (k,) of each unknown file, among the distinct ones
        distinct = unknown[firsts[order]]
        encoded = self.encoder.encode([named.files[place] for place in distinct.tolist()])
        good = np.array([place not in encoded.failed for place in range(len(distinct))], dtype=bool)
        self._cache.add(keys[distinct[good]], encoded.vectors[good], np.zeros(int(good.sum()), bool))
        for place, number in zip(unknown.tolist(), place_of.tolist(), strict=True):
            if not good[number]:
                # the second pass over the table need not decode it again
                self._bad[named.digests[place]] = named.failed[named.rows[place]] = encoded.failed[number]
        return encoded.vectors[place_of], good[place_of]

    def _save_digests(self, n_new: int, *, last: bool) -> None:
        self._n_digested += n_new
        self._n_unsaved += n_new
        if self._digests and (last or self._n_unsaved >= max(_SAVED_EVERY, _SAVED_SHARE * self._n_digested)):
            self._digests.save()
            self._n_unsaved = 0


def file_digests(cache_folder: Path) -> FileDigests:
    """Return the memory of the digests of pictures and sounds."""
    return FileDigests(cache_folder / _DIGESTS)


def find_files(paths: Sequence[str | None], root: Path, media: MediaSettings, digests: FileDigests) -> NamedFiles:
    """Find and hash the files that rows name.

    Args:
        root: The media root, resolved.
    """
    named = NamedFiles()
    for row, path in enumerate(paths):
        if path is None or is_blank(path):
            continue
        named.stamps += stamp_of(path)  # first: what changes from here on is seen the next time
        try:
            file = locate(path, root, max_megabytes=media.max_megabytes)
            digest = _digest(digests, file)
        except BadFileError as error:
            named.failed[row] = error
            named.contents += content_of(path, error.code)
            continue
        named.rows.append(row)
        named.files.append(file)
        named.digests.append(digest)
        named.contents += content_of(path, digest)
    return named


def stamp_of(path: str) -> int:
    """Return a number that changes with a file's size or modification time: 40 bits, to be summed over files."""
    try:
        state = Path(path).stat()
        return content_of(path, f"{state.st_size} {state.st_mtime_ns}")
    except (OSError, ValueError):
        return content_of(path, "")


def content_of(path: str, content: str) -> int:
    """Return a number that changes with a file's digest, or with what is wrong with it: 40 bits, to be summed."""
    name = f"{path}\0{content}".encode(errors="surrogatepass")
    return int.from_bytes(hashlib.blake2b(name, digest_size=_SUMMAND_BYTES).digest())


def _digest(digests: FileDigests, file: Path) -> str:
    try:
        return digests.digest(file)
    except OSError as error:  # no permission, or gone since
        raise unreadable(error) from error
