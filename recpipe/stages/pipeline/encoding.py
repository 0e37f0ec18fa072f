"""Texts to vectors through the cache: what embed-items and embed-users share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recpipe import logs
from recpipe.encoders.fields import is_blank
from recpipe.encoders.folder import EncoderFolder
from recpipe.encoders.resolve import resolve
from recpipe.encoders.settings import EncoderSettings, Role
from recpipe.encoders.spec import EncoderSpec, prompt_hint, spec
from recpipe.errors import ConfigError, DataError
from recpipe.store.artifacts import ArtifactReader
from recpipe.store.cache import EmbeddingCache, content_keys
from recpipe.store.fingerprint import FileDigests

if TYPE_CHECKING:
    from recpipe.encoders.text import TextEncoder

SHARD_ROWS = 2048


def encoder_spec(settings: EncoderSettings, role: Role, digests: FileDigests) -> tuple[EncoderFolder, EncoderSpec]:
    """Find the encoder's folder and what decides its vectors.

    Raises:
        UnavailableError: The model is not here.
        ConfigError: The folder needs a setting that is missing.
    """
    folder = resolve(settings.model_name)
    return folder, spec(folder, settings, role=role, weights_digest=digests.combined(folder.digest_files))


def identity(settings: EncoderSettings, role: Role, digests: FileDigests) -> str:
    """Return the encoder's name and key, as it stands in manifests."""
    folder, found = encoder_spec(settings, role, digests)
    return f"{folder.name}@{found.key}"


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
        counts: Texts encoded, found in the cache, empty and truncated since the last `take_counts`.
    """

    folder: EncoderFolder
    settings: EncoderSettings
    role: Role
    device: str
    cache_folder: Path
    key: str
    counts: dict[str, int] = field(default_factory=dict)
    _encoder: TextEncoder | None = None
    _cache: EmbeddingCache | None = None

    @property
    def encoder(self) -> TextEncoder:
        """The loaded encoder."""
        if self._encoder is None:
            from recpipe.encoders.text import TextEncoder

            self._encoder = TextEncoder.load(self.folder, self.settings, role=self.role, device=self.device)
        return self._encoder

    def vectors(self, texts: Sequence[str | None], ids: Sequence[str]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Return (n, dim) float32 vectors and which texts had one; blank texts have none.

        Args:
            ids: Names of the rows, for error messages.

        Raises:
            DataError: A vector is not finite or zero, or a text is too long and that is an error.
        """
        if self._cache is None:
            self._cache = EmbeddingCache(self.cache_folder, self.key)
        present = np.array([not is_blank(text) for text in texts], dtype=bool)
        rows = np.flatnonzero(present)
        contents = [str(texts[row]) for row in rows.tolist()]
        keys = content_keys(contents)
        cached = self._cache.lookup(keys)
        missing = ~cached.found
        if self.settings.on_truncate == "error":
            missing |= cached.truncated  # the encoder says which text it is
        truncated = cached.truncated.copy()
        dim = self._cache.dim or self.encoder.dim
        matrix = np.zeros((len(texts), dim), np.float32)
        if cached.found.any():
            matrix[rows[cached.found]] = cached.vectors[cached.found]
        if missing.any():
            wanted = np.flatnonzero(missing)
            encoded = self.encoder.encode([contents[i] for i in wanted], ids=[ids[rows[i]] for i in wanted])
            matrix[rows[wanted]] = encoded.vectors
            truncated[wanted] = encoded.truncated_rows
            self._remember(keys[wanted], encoded.vectors, encoded.truncated_rows)
        self._count(empty=len(texts) - len(rows), cached=len(rows) - int(missing.sum()), encoded=int(missing.sum()))
        self._count(truncated=int(truncated.sum()))
        return matrix, present

    def _remember(self, keys: NDArray[np.uint64], vectors: NDArray[np.float32], truncated: NDArray[np.bool_]) -> None:
        assert self._cache is not None
        first = np.sort(np.unique(keys, axis=0, return_index=True)[1])
        self._cache.add(keys[first], vectors[first], truncated[first])

    def _count(self, **counts: int) -> None:
        for name, count in counts.items():
            self.counts[name] = self.counts.get(name, 0) + count

    def take_counts(self) -> dict[str, Any]:
        """Return the counts since the last call and start again at zero."""
        taken, self.counts = dict(self.counts), {}
        return taken


def text_columns(reader: ArtifactReader, wanted: Sequence[str], key: str) -> list[str]:
    """Return which of the configured text columns a table has.

    Raises:
        ConfigError: It has none of them.
    """
    found = [name for name in wanted if name in reader.columns]
    if not found:
        raise ConfigError(
            f"{reader.artifact.name} has none of the columns to encode: {', '.join(wanted)}",
            where=f"{reader.path} (columns: {', '.join(reader.columns)})",
            next_step=f"name some in {key}, or map them: data.columns.{reader.artifact.name}.text",
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


def require_same_encoder(reader: ArtifactReader, expected: str) -> None:
    """Refuse to mix vectors of two encoders.

    Raises:
        DataError: The artifact's vectors come from another encoder than `expected`.
    """
    found = reader.manifest.identity if reader.manifest else None
    if found is not None and found != expected:
        raise DataError(
            f"{reader.artifact.name} come from the encoder {found}, not {expected}: their vectors do not compare",
            where=str(reader.path),
            next_step="run: recpipe embed-items with the same encoder settings",
        )


def report_counts(counts: dict[str, Any], rows: str) -> None:
    """Log what was encoded, and warn of truncated texts."""
    log = logs.get()
    log.info(
        "%s: %d encoded, %d from the cache, %d without text",
        rows, counts.get("encoded", 0), counts.get("cached", 0), counts.get("empty", 0),
        extra=logs.fields(**counts),
    )  # fmt: skip
    if counts.get("truncated"):
        log.warning(
            "%d %s have a text longer than the encoder reads: only its beginning counts (encoder.max_length)",
            counts["truncated"], rows, extra=logs.fields(truncated=counts["truncated"]),
        )  # fmt: skip
