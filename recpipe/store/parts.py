"""Parts: the finished shards of a stage that has not published yet.

A part is published atomically under a name that holds the stage's fingerprint, so a part
that exists is whole and belongs to exactly these settings and inputs.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from recpipe.schemas import Artifact
from recpipe.store import publish
from recpipe.store.arrow import conform
from recpipe.store.artifacts import check, parquet_writer, require_free_space

_STATS = "recpipe.stats"


def write(path: Path, table: pa.Table, artifact: Artifact, stats: dict[str, Any]) -> None:
    """Publish one finished shard atomically; its statistics survive a kill in the footer."""
    require_free_space(path.parent)
    table = conform(table, artifact, str(path))
    check(table, artifact, str(path))
    with publish.replacing(path) as temporary:
        writer = parquet_writer(temporary, table.schema)
        writer.write_table(table)
        writer.add_key_value_metadata({_STATS: json.dumps(stats, sort_keys=True)})
        writer.close()


def finished(path: Path) -> dict[str, Any] | None:
    """Return the statistics of a finished part, or None where there is none."""
    if not path.exists():
        return None
    metadata = pq.read_metadata(path).metadata or {}
    return dict(json.loads(metadata[_STATS.encode()])) if _STATS.encode() in metadata else None


def tables(paths: Sequence[Path]) -> Iterator[pa.Table]:
    """Yield parts in order, one in memory at a time."""
    for path in paths:
        yield pq.read_table(path, memory_map=True, partitioning=None)


def prepare(folder: Path) -> None:
    """Create the folder of a stage's parts and clear what killed writers left half done."""
    folder.mkdir(parents=True, exist_ok=True)
    publish.sweep(folder)


def discard(folder: Path) -> None:
    """Remove the parts of a stage whose artifact is published."""
    shutil.rmtree(folder, ignore_errors=True)
