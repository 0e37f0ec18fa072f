"""Model folders: `<name>/<fingerprint>/` and the `current.json` that points at one.

A folder is filled under a temporary name, renamed whole, and only then does current.json
name it: readers see the old model or the new one. Several versions live side by side.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from recpipe.errors import DataError, MissingInputError
from recpipe.store import publish
from recpipe.store.manifest import CURRENT, Manifest, read_manifest


def publish_model(root: Path, manifest: Manifest, save: Callable[[Path], None]) -> Path:
    """Save a model below `root` and make it the current one.

    Args:
        root: Folder of the model name.
        manifest: Its lineage, written into current.json.
        save: Writes the model's files into the folder it is given.

    Returns:
        The published folder.
    """
    root.mkdir(parents=True, exist_ok=True)
    final = root / manifest.fingerprint
    temporary = root / f"{publish.TEMPORARY}{os.getpid()}-{manifest.fingerprint}"
    for leftover in root.glob(f"{publish.TEMPORARY}*"):
        shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
    temporary.mkdir()
    try:
        save(temporary)
    except BaseException:
        shutil.rmtree(temporary)
        raise
    for written in temporary.rglob("*"):
        if written.is_file():
            with written.open("rb") as content:
                os.fsync(content.fileno())
    publish.sync_folder(temporary)
    replaced = temporary.with_name(f"{temporary.name}-replaced")
    if final.exists():
        final.rename(replaced)  # two renames: the folder is away for an instant, not while files are deleted
    temporary.rename(final)
    publish.sync_folder(root)
    shutil.rmtree(replaced, ignore_errors=True)
    stamped = dataclasses.replace(manifest, created_at=datetime.now(UTC).isoformat(timespec="seconds"))
    publish.write_json(root / CURRENT, {"folder": final.name, "manifest": stamped.to_json()})
    return final


def current_model(root: Path) -> tuple[Path, Manifest]:
    """Return the current model's folder and manifest.

    Raises:
        MissingInputError: There is none.
        DataError: current.json names a folder that is gone.
    """
    manifest = read_manifest(root)
    if manifest is None:
        raise MissingInputError("model missing", where=str(root), next_step="run: recpipe train")
    folder = root / str(json.loads((root / CURRENT).read_text(encoding="utf-8"))["folder"])
    if not folder.is_dir():
        raise DataError(
            "current.json names a model folder that is gone", where=str(folder), next_step="run: recpipe train --force"
        )
    return folder, manifest


def remove_unnamed(root: Path, named: set[str]) -> list[Path]:
    """Remove the model folders below `root` that neither current.json nor `named` names.

    The caller holds the work directory alone.

    Args:
        named: Names of folders (fingerprints) to keep besides the current one.
    """
    try:
        current = json.loads((root / CURRENT).read_text(encoding="utf-8"))["folder"]
    except (OSError, ValueError, KeyError, TypeError):
        return []  # none, or damaged: then nobody can say which is the current one
    removed = [path for path in root.iterdir() if path.is_dir() and path.name not in {current, *named}]
    for path in removed:
        shutil.rmtree(path)
    return removed
