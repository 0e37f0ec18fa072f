"""What is written as JSON holds any path the file system has."""

from __future__ import annotations

import json
import os
from pathlib import Path

from recpipe.store.publish import write_json


def test_a_path_with_bytes_that_are_no_utf8(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.jpg")
    write_json(tmp_path / "a.json", {name: "ü"})
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == {name: "ü"}
