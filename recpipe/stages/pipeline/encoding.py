"""Texts to vectors through the cache: what embed-items and embed-users share."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recpipe import logs
from recpipe.encoders.fields import is_blank
from recpipe.encoders.folder import EncoderFolder
from recpipe.encoders.prompts import prompt_hint
from recpipe.encoders.resolve import resolve
from recpipe.encoders.settings import EncoderSettings, Role
from recpipe.encoders.spec import EncoderSpec, spec
from recpipe.errors import ConfigError, DataError
from recpipe.schemas import EMBEDDING
from recpipe.stages.pipeline import calibration as calibrations
from recpipe.store.artifacts import ArtifactReader
from recpipe.store.cache import Cached, EmbeddingCache, content_keys
from recpipe.store.fingerprint import FileDigests

if TYPE_CHECKING:
    from recpipe.encoders.text import TextEncoder

SHARD_ROWS = 2048

Vectors = tuple[NDArray[np.float32], NDArray[np.bool_]]
"""(n, dim) vectors, zero where there is none, and (n,) which rows have one."""


def encoder_spec(settings: EncoderSettings, role: Role, digests: FileDigests) -> tuple[EncoderFolder, EncoderSpec]:
    """Find the encoder's folder and what decides its vectors.

    Raises:
        UnavailableError: The model is not here.
        ConfigError: The folder needs a setting that is missing.
    """
    folder = resolve(settings.model_name)
    return folder, spec(folder, settings, role=role, weights_digest=digests.combined(folder.digest_files))


def identity(settings: EncoderSettings, role: Role, digests: FileDigests, cache: Path) -> str:
    """Return the encoder's name and key, as it stands in manifests, with the calibrated model where there is one."""
    folder, found = encoder_spec(settings, role, digests)
    digest = calibrations.digest_of(cache, found)
    return f"{folder.name}@{found.key}{'' if digest is None else f'+int8:{digest}'}"


def warn_of_missing_prompts(folder: EncoderFolder, settings: EncoderSettings) -> None:
    """Log where a model that was trained with prompts has none."""
    hint = prompt_hint(folder, settings)
    if hint:
        logs.get().warning("%s", hint)


@dataclass
class CachedEncoder:
    """Encodes texts, each once: what the cache knows is not computed again.

    The model is loaded when the first unknown text comes, so a night without new texts
    never loads it.

    Attributes:
        key: The encoder key its vectors are kept under.
        calibrated: Folder of the int8 model, where precision is int8.
        counts: Texts encoded, found in the cache, empty and truncated since the last `take_counts`.
    """

    folder: EncoderFolder
    settings: EncoderSettings
    role: Role
    device: str
    cache_folder: Path
    key: str
    calibrated: Path | None = None
    counts: dict[str, int] = field(default_factory=dict)
    _encoder: TextEncoder | None = None
    _cache: EmbeddingCache | None = None

    @property
    def encoder(self) -> TextEncoder:
        """The loaded encoder."""
        if self._encoder is None:
            from recpipe.encoders.text import TextEncoder

            self._encoder = TextEncoder.load(
                self.folder, self.settings, role=self.role, device=self.device, calibrated=self.calibrated
            )
        return self._encoder

    def vectors(self, texts: Sequence[str | None], ids: Sequence[str]) -> Vectors:
        """Return (n, dim) float32 vectors and which texts had one; blank texts have none.

        Args:
            ids: Names of the rows, for error messages.

        Raises:
            DataError: A vector is not finite or zero, or a text is too long and that is an error.
        """
        return self.vectors_of_columns({EMBEDDING.name: texts}, ids)[EMBEDDING.name]

    def vectors_of_columns(self, columns: Mapping[str, Sequence[str | None]], ids: Sequence[str]) -> dict[str, Vectors]:
        """Return the vectors of several columns of texts; a text in two columns is encoded once.

        Args:
            columns: Texts of the rows, by the name of the vector column they become.
            ids: Names of the rows, for error messages.

        Raises:
            DataError: A vector is not finite or zero, or a text is too long and that is an error.
        """
        if self._cache is None:
            told = {
                name: str(getattr(self.settings, name))
                for name in ("pooling", "max_length", "on_truncate", "precision")
            }
            about = {"model": self.folder.name, "role": self.role, **told}
            self._cache = EmbeddingCache(self.cache_folder, self.key, about=about)
        n_rows = len(ids)
        texts = [text for column in columns.values() for text in column]
        assert len(texts) == n_rows * len(columns), (len(texts), n_rows)
        present = np.array([not is_blank(text) for text in texts], dtype=bool)
        rows = np.flatnonzero(present)
        found = self._found([str(texts[row]) for row in rows.tolist()], [ids[row % n_rows] for row in rows.tolist()])
        matrix = np.zeros((len(texts), found.vectors.shape[1]), np.float32)
        matrix[rows] = found.vectors
        result = {}
        for place, name in enumerate(columns):
            mine = slice(place * n_rows, (place + 1) * n_rows)
            result[name] = matrix[mine], present[mine]
            kept = (rows >= mine.start) & (rows < mine.stop)
            self._count(name, n_rows, Cached(found.vectors[:0], found.truncated[kept], found.found[kept]))
        return result

    def _found(self, contents: list[str], ids: list[str]) -> Cached:
        """Return the vectors of non-blank texts; `found` says which the cache knew, the others are encoded here."""
        assert self._cache is not None
        keys = content_keys(contents)
        cached = self._cache.lookup(keys)
        missing = ~cached.found
        if self.settings.on_truncate == "error":
            missing |= cached.truncated  # the encoder says which text it is
        vectors = np.zeros((len(contents), self._cache.dim or self.encoder.dim), np.float32)
        truncated = cached.truncated.copy()
        if cached.found.any():
            vectors[cached.found] = cached.vectors[cached.found]
        if missing.any():
            wanted = np.flatnonzero(missing)
            encoded = self.encoder.encode([contents[i] for i in wanted], ids=[ids[i] for i in wanted])
            vectors[wanted], truncated[wanted] = encoded.vectors, encoded.long_rows
            self._remember(keys[wanted], encoded.vectors, encoded.long_rows)
        return Cached(vectors, truncated, ~missing)

    def _remember(self, keys: NDArray[np.uint64], vectors: NDArray[np.float32], truncated: NDArray[np.bool_]) -> None:
        assert self._cache is not None
        first = np.sort(np.unique(keys, axis=0, return_index=True)[1])
        self._cache.add(keys[first], vectors[first], truncated[first])

    def _count(self, column: str, n_rows: int, known: Cached) -> None:
        """Count rows of one column; those of blocks under the column's name."""
        long = "chunked" if self.settings.on_truncate == "chunk_mean" else "truncated"
        counts = {
            "empty": n_rows - len(known.found),
            "cached": int(known.found.sum()),
            "encoded": int((~known.found).sum()),
            long: int(known.truncated.sum()),
        }
        for name, count in counts.items():
            full = count_name(name, column)
            self.counts[full] = self.counts.get(full, 0) + count

    def take_counts(self) -> dict[str, Any]:
        """Return the counts since the last call and start again at zero."""
        taken, self.counts = dict(self.counts), {}
        return taken


def count_name(count: str, column: str) -> str:
    """Return the name of a count in manifests: bare for the embedding, with the column for a block."""
    return count if column == EMBEDDING.name else f"{column}_{count}"


def text_columns(reader: ArtifactReader, wanted: Sequence[str], key: str, *, every: bool = False) -> list[str]:
    """Return which of the configured text columns a table has.

    Args:
        key: The setting that names them.
        every: All are needed, not one at least.

    Raises:
        ConfigError: It has none of them, or not all where all are needed.
    """
    found = [name for name in wanted if name in reader.columns]
    lacking = [name for name in wanted if name not in reader.columns]
    if not found or (every and lacking):
        columns = "none of the columns" if not found else "no column"
        raise ConfigError(
            f"{reader.artifact.name} has {columns} to encode: {', '.join(lacking)}",
            where=f"{reader.path} (columns: {', '.join(reader.columns)})",
            next_step=f"name some in {key}, or map them: data.columns.{reader.artifact.name}.text; "
            "pictures and sounds need image_encoder.model_name or audio_encoder.model_name",
        )
    return found


def text_values(table: pa.Table, columns: Sequence[str]) -> list[list[str | None]]:
    """Return columns as lists of texts; lists of values are joined by commas, numbers written out."""
    return [[_as_text(value) for value in table.column(name).to_pylist()] for name in columns]


def _as_text(value: object) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, list):
        return ", ".join(str(entry) for entry in value if entry is not None)
    return str(value)


def require_same_encoder(reader: ArtifactReader, expected: str, *, calibration: str = "") -> None:
    """Refuse to mix vectors of two encoders.

    Encoders of pictures and sounds (` + image NAME@KEY` behind that of texts) are compared where both sides
    have one.

    Args:
        calibration: Digest of the calibrated model of texts, where there is one. The artifact's is in its details:
            it was made after the identity had been planned.

    Raises:
        DataError: The artifact's vectors come from another encoder than `expected`.
    """
    found = reader.manifest.identity if reader.manifest else None
    if found is None:
        return
    theirs, ours = _encoders_in(found), _encoders_in(expected)
    if any(theirs[kind] != ours[kind] for kind in theirs.keys() & ours.keys()):
        raise DataError(
            f"{reader.artifact.name} come from the encoder {found}, not {expected}: their vectors do not compare",
            where=str(reader.path),
            next_step="run: recpipe embed-items with the same encoder settings",
        )
    assert reader.manifest is not None
    if reader.manifest.details.get("encoder", {}).get("calibration", "") != calibration:
        raise DataError(
            f"{reader.artifact.name} come from another calibration of int8: their vectors do not compare",
            where=str(reader.path),
            next_step="run: recpipe embed-items --force",
        )


def _encoders_in(identity: str) -> dict[str, str]:
    """Return the encoders in an identity by what they encode."""
    text, *others = re.split(r" \+ (image|audio) ", identity)
    return {"text": re.sub(r"\+int8:[0-9a-f]+$", "", text), **dict(zip(others[::2], others[1::2], strict=True))}


def report_counts(counts: dict[str, Any], rows: str, *, column: str = EMBEDDING.name) -> None:
    """Log what was encoded for one vector column, and warn of truncated texts.

    Args:
        rows: What a row is.
    """
    log = logs.get()
    own = {name: counts.get(count_name(name, column), 0) for name in ("encoded", "cached", "empty")}
    log.info(
        "%s: %d encoded, %d from the cache, %d without text",
        rows, own["encoded"], own["cached"], own["empty"],
        extra=logs.fields(**(counts if column == EMBEDDING.name else own)),
    )  # fmt: skip
    if chunked := counts.get(count_name("chunked", column)):
        log.info("%s: %d long texts encoded in pieces", rows, chunked, extra=logs.fields(chunked=chunked))
    if truncated := counts.get(count_name("truncated", column)):
        log.warning(
            "%d %s have a text longer than the encoder reads: only its beginning counts "
            "(encoder.max_length; encoder.on_truncate: chunk_mean reads all of it)",
            truncated, rows, extra=logs.fields(truncated=truncated),
        )  # fmt: skip
