"""Pictures and sounds that arrive, are mended or replaced under their old names while the table that names them stays.

Stages that read such files sum up what they saw of them: stamps (size and time) and contents, once when the files are
encoded and once when the vectors are taken from the cache. Planning sums again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from recpipe import logs
from recpipe.encoders.fields import is_blank
from recpipe.errors import DataError
from recpipe.schemas import Artifact
from recpipe.stages.base import MEDIA_FILES
from recpipe.stages.pipeline.cached_files import FileVectors, file_digests, find_files, stamp_of
from recpipe.stages.pipeline.media_sections import MediaSections
from recpipe.store.artifacts import ArtifactReader
from recpipe.store.fingerprint import FileDigests, fingerprint
from recpipe.store.manifest import Manifest, read_manifest

Seen = dict[str, dict[str, int]]
"""By column of paths, sums over its files: `stamps` and `contents`."""

SEEN = "media_seen"
"""The entry of a manifest that holds what the files were when they were encoded."""


def sums(column: str, found: FileVectors) -> dict[str, int]:
    """Return the sums of a column of paths as counts."""
    return {f"{column}_stamps": found.stamps, f"{column}_contents": found.contents}


def seen(counts: Mapping[str, Any], columns: Sequence[str]) -> Seen:
    """Return what counts of `sums` add up to."""
    return {column: {name: counts.get(f"{column}_{name}", 0) for name in ("stamps", "contents")} for column in columns}


def since(made: Manifest, settings: MediaSections, cache_folder: Path, table: Path, artifact: Artifact) -> str:
    """Return what enters the fingerprint for the files that a table names: what `made` has where none changed.

    A file whose time alone changed is hashed, and is none that changed.

    Args:
        made: Manifest of the embeddings made last.
        table: The table as it is now, an artifact of kind `artifact`.
    """
    before = made.inputs.get(MEDIA_FILES, "")
    encoded: Seen = made.details.get(SEEN, {})
    if not encoded or not _is_made_of(made, table, artifact):
        return before  # another table makes the embeddings stale by itself
    taken = seen(made.details, list(encoded))
    reader = ArtifactReader(table, artifact)
    if encoded == taken and all(_stamps(reader, column) == entry["stamps"] for column, entry in encoded.items()):
        return before
    digests = file_digests(cache_folder)
    contents = {column: _contents(reader, column, settings, digests) for column in encoded}
    digests.save()
    if all(encoded[column]["contents"] == taken[column]["contents"] == found for column, found in contents.items()):
        return before
    return fingerprint({"before": before, "contents": contents})


def _is_made_of(made: Manifest, table: Path, artifact: Artifact) -> bool:
    try:
        manifest = read_manifest(table)
    except DataError:
        return False
    return manifest is not None and manifest.fingerprint == made.inputs.get(artifact.name)


def _stamps(reader: ArtifactReader, column: str) -> int:
    named = (path for paths in _paths(reader, column) for path in paths if path is not None)
    return sum(stamp_of(path) for path in named if not is_blank(path))


def _contents(reader: ArtifactReader, column: str, settings: MediaSections, digests: FileDigests) -> int:
    root = Path(settings.data.media_root or ".").resolve()
    return sum(find_files(paths, root, settings.media, digests).contents for paths in _paths(reader, column))


def _paths(reader: ArtifactReader, column: str) -> Iterator[list[str | None]]:
    for batch in reader.batches([column]):
        yield batch.column(column).to_pylist()


def report(counts: Mapping[str, Any], encoded: Seen) -> None:
    """Warn where files were others when their vectors were taken than when they were encoded."""
    for column, taken in seen(counts, list(encoded)).items():
        if taken["contents"] != encoded[column]["contents"]:
            logs.get().warning(
                "files in column %s changed while they were read; the next run takes them as they are then", column
            )
