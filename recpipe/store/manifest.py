"""The manifest in a Parquet footer: where an artifact comes from."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from recpipe.errors import DataError

KEY = b"recpipe"
CURRENT = "current.json"


@dataclass(frozen=True, slots=True)
class Manifest:
    """Lineage of one artifact.

    Attributes:
        artifact: Name of the artifact.
        schema_version: Version of its schema.
        stage: Stage that wrote it, with `stage_version`.
        view: production or evaluation.
        settings: The settings that determine the result, as plain JSON values.
        fingerprint: Hash of stage, settings, inputs and identity.
        inputs: Fingerprints of the artifacts or files read, by name.
        identity: The encoder or model that made it, where there is one.
        rows: Number of rows.
        details: What the stage counted (truncated texts, empty rows, ...).
        created_at: UTC time of publication, ISO 8601.
    """

    artifact: str
    schema_version: int
    stage: str
    stage_version: int
    view: str
    settings: dict[str, Any]
    fingerprint: str
    inputs: dict[str, str]
    identity: str | None
    seed: int
    recpipe_version: str
    rows: int = 0
    details: dict[str, Any] = field(default_factory=dict)
    created_at: str = ""

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Manifest:
        known = {entry.name for entry in dataclasses.fields(cls)}
        return cls(**{name: value for name, value in content.items() if name in known})

    def footer(self) -> dict[str, str]:
        """Return the key-value metadata that carries this manifest."""
        return {KEY.decode(): json.dumps(self.to_json(), sort_keys=True, ensure_ascii=False)}


def read_manifest(path: Path) -> Manifest | None:
    """Read the manifest of an artifact: a Parquet file, or a model folder's current.json.

    Returns:
        None where `path` does not exist, was not written by recpipe, or is a model folder
        whose current model is gone.

    Raises:
        DataError: The file is not Parquet, or its manifest cannot be read.
    """
    if path.is_dir():
        path = path / CURRENT
    if not path.exists():
        return None
    try:
        if path.name == CURRENT:
            current = json.loads(path.read_text(encoding="utf-8"))
            if not (path.parent / current["folder"]).is_dir():
                return None  # killed while the folder was exchanged: as good as no model
            content = current["manifest"]
        else:
            metadata = pq.read_metadata(path).metadata or {}
            if KEY not in metadata:
                return None
            content = json.loads(metadata[KEY])
        return Manifest.from_json(content)
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"not a readable artifact: {error}", where=str(path), next_step="delete the file and run its stage again"
        ) from error
