"""Every command shows an example and is in the docs; the generated pages are not stale."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import click
import pytest

from recpipe.cli import registry
from recpipe.cli.app import main

DOCS = Path(__file__).parents[2] / "docs"


def _commands() -> list[tuple[str, ...]]:
    found: list[tuple[str, ...]] = []
    for name in registry.names():
        command = registry.command(name)
        assert command is not None
        found.append((name,))
        if isinstance(command, click.Group):
            found += [(name, child) for child in command.commands]
    return found


def _generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate_docs", DOCS / "generate.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("words", _commands(), ids=" ".join)
def test_help_shows_an_example_that_parses(words: tuple[str, ...], run_cli):
    text = run_cli(*words, "--help").stdout
    if words == ("import",):
        assert "movielens" in text
        return
    examples = re.findall(r"^ +recpipe (.+)$", text, re.MULTILINE)
    assert examples, "no example"
    assert any(example.startswith(" ".join(words)) for example in examples)
    for option in re.findall(r"--[a-z][a-z-]*", " ".join(examples)):
        assert option in text.split("Options:")[1], f"the example uses {option}, which the command does not have"


@pytest.mark.parametrize("words", _commands(), ids=" ".join)
def test_every_option_says_what_it_does(words: tuple[str, ...]):
    command: click.Command = main
    for word in words:
        assert isinstance(command, click.Group)
        found = command.get_command(click.Context(command), word)
        assert found is not None
        command = found
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, f"{parameter.name} has no help"
    assert command.short_help or command.help


def test_every_command_is_in_the_docs_and_in_the_main_help(run_cli):
    text = (DOCS / "commands.md").read_text(encoding="utf-8")
    overview = run_cli("--help").stdout
    for words in _commands():
        assert f"\n## recpipe {' '.join(words)}\n" in text
        assert re.search(rf"^  {words[0]} +\S", overview, re.MULTILINE)


@pytest.mark.parametrize("page", ["commands.md", "configuration.md", "artifacts.md"])
def test_generated_pages_are_not_stale(page: str):
    assert (DOCS / page).read_text(encoding="utf-8") == _generator().pages()[page], "run: make docs"


def test_every_exit_code_is_documented():
    from recpipe import errors

    codes = {
        entry.exit_code
        for entry in vars(errors).values()
        if isinstance(entry, type) and issubclass(entry, errors.RecpipeError)
    }
    documented = set(_generator().EXIT_CODES)
    assert codes | {0, 130, 143} == documented
