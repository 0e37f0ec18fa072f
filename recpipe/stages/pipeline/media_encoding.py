"""Files of pictures and sounds to vectors through the cache: what embed-items and embed-users share.

A stage goes over its table twice. First every file is encoded into the cache, and those that fail
are listed; when too many do, the stage ends there, with the list written. Then the vectors are
taken from the cache into the embeddings.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from recpipe import logs
from recpipe.encoders.media_files import BadFileError, Code
from recpipe.encoders.media_spec import (
    MediaEncoderSettings,
    MediaModel,
    Modality,
    deciding_files,
    find_folder,
    media_model,
    require_decoder,
    section,
)
from recpipe.errors import DataError
from recpipe.schemas import (
    BLOCK_PREFIX,
    FAILURE_CODE,
    FAILURE_MESSAGE,
    ITEMS,
    MEDIA_COLUMN,
    MEDIA_PATH,
    Artifact,
)
from recpipe.stages.pipeline import media_changes
from recpipe.stages.pipeline.cached_files import COLUMNS, CachedFiles
from recpipe.stages.pipeline.media_sections import MediaSections
from recpipe.store.arrow import empty_table, vector_array
from recpipe.store.artifacts import ArtifactReader
from recpipe.store.fingerprint import FileDigests

if TYPE_CHECKING:
    from recpipe.stages.pipeline.context import StageContext

# Pictures are slower than texts: a killed run loses what lies between two of these.
_SHARD_ROWS = 256
_SHOWN_EXAMPLES = 5


def _switched_on(settings: MediaSections) -> dict[Modality, MediaEncoderSettings]:
    found: dict[Modality, MediaEncoderSettings] = {"image": settings.image_encoder, "audio": settings.audio_encoder}
    return {modality: encoder for modality, encoder in found.items() if encoder.model_name is not None}


def _models(settings: MediaSections, digests: FileDigests) -> dict[Modality, MediaModel]:
    """Find the configured models; UnavailableError where one is not here."""
    return {
        modality: media_model(
            modality,
            encoder,
            settings.media,
            weights_digest=digests.combined(deciding_files(find_folder(modality, encoder)[0])),
        )
        for modality, encoder in _switched_on(settings).items()
    }


def with_media(identity: str, settings: MediaSections, digests: FileDigests) -> str:
    """Return the identity of the encoder of texts with those of pictures and sounds behind it.

    Raises:
        UnavailableError: A model is not here.
    """
    models = _models(settings, digests)
    return identity + "".join(f" + {modality} {model.identity}" for modality, model in models.items())


@dataclass(frozen=True)
class MediaBlocks:
    """The media columns of a table, encoded.

    Attributes:
        files: One entry for each column of paths.
        details: Counts for the manifest of the embeddings, by column.
        seen: What the files were when they were encoded.
    """

    files: tuple[CachedFiles, ...] = ()
    details: dict[str, Any] = field(default_factory=dict)
    seen: media_changes.Seen = field(default_factory=dict)

    @property
    def manifest(self) -> dict[str, Any]:
        """Entries for the manifest of the embeddings: encoders and counts."""
        encoders = {f"{files.column}_encoder": files.model.key for files in self.files}
        return {**encoders, "media": self.details, media_changes.SEEN: self.seen} if self.files else {}

    @property
    def columns(self) -> list[str]:
        """The columns of paths."""
        return [files.column for files in self.files]

    def arrays(self, table: pa.Table) -> tuple[dict[str, pa.Array], dict[str, int]]:
        """Return the vector columns of rows of the table, from the cache, and counts of the files they are of."""
        arrays: dict[str, pa.Array] = {}
        counts: dict[str, int] = {}
        for files in self.files:
            found = files.read(table.column(files.column).to_pylist())
            arrays[f"{BLOCK_PREFIX}{files.model.modality}"] = vector_array(found.vectors, found.present)
            counts |= media_changes.sums(files.column, found)
        return arrays, counts


@dataclass
class _EncodeFiles:
    """Encodes the files of a range of rows into the cache and lists those that failed."""

    table: Path
    source: Artifact
    errors: Artifact
    files: tuple[CachedFiles, ...]

    def setup(self) -> None:
        self._reader = ArtifactReader(self.table, self.source)

    def compute(self, start: int, stop: int) -> tuple[pa.Table, dict[str, Any]]:
        id_name = self.source.key[0]
        table = self._reader.row_range(start, stop, [id_name, *(files.column for files in self.files)])
        ids = table.column(id_name).to_pylist()
        counts: dict[str, Any] = {}
        lines: list[dict[str, str]] = []
        for files in self.files:
            paths = table.column(files.column).to_pylist()
            found = files.read(paths, last=stop == self._reader.rows)
            n_encoded = int(found.present.sum()) - found.n_cached
            own = {"named": found.n_named, "cached": found.n_cached, "encoded": n_encoded}
            for row, error in found.failed.items():
                own[error.code] = own.get(error.code, 0) + 1
                lines.append(_line(id_name, ids[row], files.column, paths[row], error))
            counts |= {f"{files.column}_{name}": count for name, count in own.items()}
            counts |= media_changes.sums(files.column, found)
        schema = empty_table(self.errors, dim=0).schema
        return pa.Table.from_pylist(lines, schema=schema), counts


def _line(id_name: str, entity: str, column: str, path: str, error: BadFileError) -> dict[str, str]:
    return {
        id_name: entity,
        MEDIA_COLUMN.name: column,
        MEDIA_PATH.name: path,
        FAILURE_CODE.name: error.code.value,
        FAILURE_MESSAGE.name: error.message,
    }


def media_files(settings: MediaSections, context: StageContext, table: ArtifactReader) -> tuple[CachedFiles, ...]:
    """Return the columns of files a table has and the settings encode.

    Raises:
        UnavailableError: A model, or the package that decodes the files, is not here.
    """
    found = []
    for modality, model in _models(settings, context.digests).items():
        if not table.has(COLUMNS[modality]):
            # items without pictures are a slip where an encoder is named; users have them rarely
            say = logs.get().info if table.artifact is ITEMS else logs.get().debug
            say(
                "%s have no column %s: nothing for %s to encode",
                table.artifact.name, COLUMNS[modality].name, section(modality),
            )  # fmt: skip
            continue
        require_decoder(modality)
        root = Path(settings.data.media_root or ".").resolve()
        encoder = _switched_on(settings)[modality]
        found.append(CachedFiles(model, encoder, settings.media, root, context.device(), context.cache))
    return tuple(found)


def encode_files(
    files: tuple[CachedFiles, ...], context: StageContext, table: ArtifactReader, errors: Artifact, *, unit: str
) -> MediaBlocks:
    """Encode the files of a whole table into the cache; publish the list of those that failed.

    Args:
        files: What `media_files` returned.
        errors: The list's artifact; a declared output of the stage.
        unit: What a row is, for progress.

    Raises:
        DataError: A larger share failed than media.max_bad_share; the list is published all the same.
    """
    if not files:
        with context.write(errors) as writer:
            writer.write(empty_table(errors, dim=0))
            writer.commit()
        return MediaBlocks()
    task = _EncodeFiles(table.path, table.artifact, errors, files)
    counts = context.map_rows(errors, task, n_rows=table.rows, shard_rows=_SHARD_ROWS, unit=f"{unit}, files")
    details = {entry.column: _details(counts, entry.column) for entry in files}
    for entry in files:
        _report(entry, details[entry.column], table, errors)
    too_many = [entry for entry in files if _share(details[entry.column]) > entry.media.max_bad_share]
    if too_many:
        context.forget_parts()  # the files may be mended before the next run
        raise _refusal(too_many, details, context, errors)
    return MediaBlocks(files, details, media_changes.seen(counts, [entry.column for entry in files]))


def _details(counts: dict[str, Any], column: str) -> dict[str, Any]:
    failed = {code.value: counts.get(f"{column}_{code}", 0) for code in Code}
    own = {name: counts.get(f"{column}_{name}", 0) for name in ("named", "encoded", "cached")}
    return {**own, "failed": {code: count for code, count in failed.items() if count}}


def _share(details: dict[str, Any]) -> float:
    named = int(details["named"])
    return sum(details["failed"].values()) / named if named else 0.0


def _codes(details: dict[str, Any]) -> str:
    return ", ".join(f"{code}: {count:,}" for code, count in details["failed"].items())


def _report(files: CachedFiles, details: dict[str, Any], table: ArtifactReader, errors: Artifact) -> None:
    log, name = logs.get(), f"{table.artifact.name}, {files.column}"
    log.info(
        "%s: %d files encoded, %d from the cache, %d rows name none",
        name, details["encoded"], details["cached"], table.rows - details["named"],
        extra=logs.fields(column=files.column, **details),
    )  # fmt: skip
    if details["failed"]:
        log.warning(
            "%s: %d of %d files give no vector (%s); see %s; the next run sees what was mended",
            name, sum(details["failed"].values()), details["named"], _codes(details), errors.name,
        )  # fmt: skip


def _refusal(
    too_many: list[CachedFiles], details: dict[str, Any], context: StageContext, errors: Artifact
) -> DataError:
    path = context.output(errors)
    listed = ArtifactReader(path, errors).table().to_pylist()
    told = [_refused(files, details[files.column], listed, errors) for files in too_many]
    return DataError(
        " ".join(told),
        where=f"all of them: {path}",
        next_step="mend the files or the paths (data.media_root), or allow more: --set media.max_bad_share=...",
    )


def _refused(files: CachedFiles, details: dict[str, Any], listed: list[dict[str, Any]], errors: Artifact) -> str:
    mine = [line for line in listed if line[MEDIA_COLUMN.name] == files.column]
    # one of each kind first: a hundred missing files must not hide what else is wrong
    firsts = list({line[FAILURE_CODE.name]: line for line in reversed(mine)}.values())[::-1]
    shown = [*firsts, *(line for line in mine if line not in firsts)][:_SHOWN_EXAMPLES]
    examples = "; ".join(
        f"{line[errors.key[0]]}: {line[MEDIA_PATH.name]!r} {line[FAILURE_CODE.name]} ({line[FAILURE_MESSAGE.name]})"
        for line in shown
    )
    n_failed = sum(details["failed"].values())
    return (
        f"{n_failed:,} of {details['named']:,} files in column {files.column} give no vector "
        f"({_share(details):.1%}; media.max_bad_share is {files.media.max_bad_share:.1%}): {_codes(details)}. "
        f"Such as {examples}"
    )
