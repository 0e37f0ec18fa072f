"""What must not be imported before it is needed: seconds at every start of the command."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import World

HEAVY = ("torch", "transformers", "sentence_transformers", "sklearn", "scipy", "ray", "pandas")
PROBE = f"""
import sys
from recpipe.cli.app import main
try:
    main(sys.argv[1:])
except SystemExit as end:
    assert end.code == 0, end.code
found = [name for name in {HEAVY!r} if name in sys.modules]
assert not found, found
"""


def probe(*words: object, cwd: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-c", PROBE, *map(str, words)],
        cwd=cwd, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("words", [["--help"], ["config"], ["--version"], ["score", "--help"]])
def test_without_tables(words: list[str], tmp_path: Path) -> None:
    probe(*words, cwd=tmp_path)


def test_with_tables(world: World, run_cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.chdir(tmp_path)
    run_cli("run", "-c", world.config)
    probe("run", "-c", world.config, cwd=tmp_path)
    probe("status", "-c", world.config, cwd=tmp_path)
    probe("score", "-c", world.config, "--dry-run", cwd=tmp_path)


def test_the_core_is_light(tmp_path: Path) -> None:
    code = (
        "import sys, recpipe.errors, recpipe.config, recpipe.schemas, recpipe.seeding, recpipe.logs\n"
        "found = {'numpy', 'pyarrow', 'torch', 'click', 'tqdm'} & set(sys.modules)\nassert not found, found"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
