"""Nothing in the package runs what it reads: no pickle, no torch.load, no eval."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "recpipe"
SOURCES = sorted(PACKAGE.rglob("*.py"))

MODULES = {"pickle", "cPickle", "_pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"}
BUILTINS = {"eval", "exec", "compile", "__import__"}
SWITCHES = {"allow_pickle", "trust_remote_code"}
CALLS = {("torch", "load"), ("torch", "save"), ("torch.jit", "load"), ("yaml", "load"), ("yaml", "unsafe_load")}


def forbidden(tree: ast.AST) -> Iterator[str]:
    """Yield what a module may not do, with its line."""
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module]
            names += [f"{node.module}.{a.name}" for a in node.names if (node.module, a.name) in CALLS]
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in BUILTINS:
            yield f"line {node.lineno}: {node.func.id}()"
        elif isinstance(node, ast.Attribute) and (ast.unparse(node.value), node.attr) in CALLS:
            yield f"line {node.lineno}: {ast.unparse(node)}"
        elif isinstance(node, ast.keyword) and node.arg in SWITCHES and ast.unparse(node.value) != "False":
            yield f"line {node.value.lineno}: {node.arg}"
        for name in names:
            if name.partition(".")[0] in MODULES or tuple(name.rpartition(".")[::2]) in CALLS:
                yield f"import of {name}"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_code_comes_out_of_files(path: Path):
    assert list(forbidden(ast.parse(path.read_text(encoding="utf-8")))) == []


@pytest.mark.parametrize(
    "source",
    [
        "import pickle", "from joblib import load", "import torch\ntorch.load('x')", "from torch import load",
        "eval('1')", "import numpy\nnumpy.load('x', allow_pickle=True)", "import yaml\nyaml.load('x')",
        "f(trust_remote_code=True)", "import xml, dill.source",
    ],
)  # fmt: skip
def test_the_scan_finds(source: str):
    assert list(forbidden(ast.parse(source)))


def test_the_scan_reads_the_package():
    assert len(SOURCES) > 100 and PACKAGE / "training" / "checkpoint.py" in SOURCES
