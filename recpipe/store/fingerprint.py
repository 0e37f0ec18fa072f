"""Fingerprints: what an artifact was made of, in 32 hexadecimal digits."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from recpipe.store import publish


def fingerprint(content: Mapping[str, Any]) -> str:
    """Hash a mapping of plain JSON values; key order does not matter."""
    text = json.dumps(content, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


class FileDigests:
    """SHA-256 of files, remembered by path, size and modification time in ns.

    A table of 100 GB is hashed once, not every night.
    """

    def __init__(self, memory: Path) -> None:
        self._memory = memory
        self._known: dict[str, list[Any]] = _load(memory)
        self._changed = False

    def digest(self, path: Path) -> str:
        """Return the SHA-256 of a file in hexadecimal."""
        resolved = path.resolve()
        state = resolved.stat()
        entry = self._known.get(str(resolved))
        if entry and entry[:2] == [state.st_size, state.st_mtime_ns]:
            return str(entry[2])
        with resolved.open("rb") as content:
            digest = hashlib.file_digest(content, "sha256").hexdigest()
        self._known[str(resolved)] = [state.st_size, state.st_mtime_ns, digest]
        self._changed = True
        return digest

    def combined(self, paths: Iterable[Path]) -> str:
        """Return one digest over several files' names and contents, in the order given."""
        return fingerprint({"files": [[path.name, self.digest(path)] for path in paths]})

    def forget_missing(self) -> int:
        """Forget files that are gone, and write the memory; return how many there were."""
        kept = {path: entry for path, entry in self._known.items() if Path(path).exists()}
        n_gone = len(self._known) - len(kept)
        if n_gone:
            self._known = kept
            publish.write_json(self._memory, kept)
        return n_gone

    def save(self) -> None:
        """Write the memory; entries other processes added meanwhile are kept."""
        if self._changed:
            publish.write_json(self._memory, {**_load(self._memory), **self._known})
            self._changed = False


def _load(memory: Path) -> dict[str, list[Any]]:
    try:
        content = json.loads(memory.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        content = None  # only a cache: without it the files are hashed again
    if not isinstance(content, dict):
        return {}
    return {path: entry for path, entry in content.items() if isinstance(entry, list) and len(entry) == 3}
