"""Write docs/commands.md, docs/configuration.md and docs/artifacts.md from the declarations.

Run by `make docs`; a test fails when the pages are not what this writes.
"""

from __future__ import annotations

import ast
import inspect
import json
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_origin

import click

from recpipe.cli import registry as commands
from recpipe.cli.app import main as root
from recpipe.config import Execution, Settings
from recpipe.ingest.simulate.settings import SimulateSettings
from recpipe.models.base import ModelSpec
from recpipe.models.registry import find_model, model_names
from recpipe.models.settings import ModelSettings
from recpipe.schemas import ARTIFACTS, ITEM_EMBEDDINGS, MODEL, USER_EMBEDDINGS, USER_PROFILES, Artifact, Scope
from recpipe.stages.pipeline.registry import producer, stages
from recpipe.stages.settings import Config
from recpipe.stages.tables import TABLE_STAGES
from recpipe.store.layout import Layout, View
from recpipe.training.settings import Dimension, TuneSettings

DOCS = Path(__file__).parent
NOTE = "<!-- Written by docs/generate.py (make docs). Edit the declarations, not this page. -->\n"

EXIT_CODES = {
    0: "done, or up to date",
    1: "unexpected: a bug, a full disk, a dead worker",
    2: "wrong usage or configuration",
    3: "bad data: which file, line and column",
    4: "an input is missing: which command makes it",
    5: "a device, model or package is not available: how to get it",
    6: "locked: another run holds the work directory or the output",
    7: "refused by a quality gate",
    130: "interrupted (SIGINT)",
    143: "terminated (SIGTERM)",
}


def pages() -> dict[str, str]:
    """Return the generated pages by file name."""
    return {
        "commands.md": commands_page(),
        "configuration.md": configuration_page(),
        "artifacts.md": artifacts_page(),
    }


def commands_page() -> str:
    lines = [NOTE, "# Commands\n", "| command | what it does |", "|---|---|"]
    found = [(name, command) for name in commands.names() if (command := commands.command(name))]
    lines += [f"| [{name}](#recpipe-{name}) | {command.get_short_help_str(200)} |" for name, command in found]
    lines += ["\n## Exit codes\n", "| code | meaning |", "|---|---|"]
    lines += [f"| {code} | {meaning} |" for code, meaning in EXIT_CODES.items()]
    lines.append("\nErrors go to stderr and say what, where and the next step; `--debug` adds the traceback.\n")
    for name, command in found:
        lines += _command(name, command)
    return "\n".join(lines) + "\n"


def _command(name: str, command: click.Command) -> Iterator[str]:
    context = click.Context(
        command,
        info_name=f"recpipe {name}",
        terminal_width=96,
        max_content_width=96,
        help_option_names=list(root.context_settings["help_option_names"]),
    )
    yield f"## recpipe {name}\n"
    yield f"```text\n{command.get_help(context).rstrip()}\n```\n"
    if isinstance(command, click.Group):
        for child in command.list_commands(context):
            found = command.get_command(context, child)
            if found is not None:
                yield from _command(f"{name} {child}", found)


def configuration_page() -> str:
    lines = [
        NOTE,
        "# Configuration\n",
        "A YAML file given with `-c`; every key has a default, and `--set section.key=value` "
        "overrides one. Unknown keys are refused. `recpipe config` prints the whole configuration as it will be used. "
        "Keys marked ○ change how something is computed, not what comes out: changing them makes nothing stale.\n",
        *_table("", Config),
    ]
    for name, field in Config.model_fields.items():
        section = _settings_of(field.annotation)
        if section is not None and name != "train":
            lines += [f"\n## {name}\n", inspect.cleandoc(section.__doc__ or "") + "\n", *_table(f"{name}.", section)]
            if section is TuneSettings:
                lines += [
                    "\nKeys of a setting in `tune.space`, one of int, float and choice:\n",
                    *_table("", Dimension),
                ]
    lines += ["\n## train\n", inspect.cleandoc(ModelSettings.__doc__ or "") + "\n"]
    for name in model_names():
        spec = find_model(name)
        lines += [f"\n### train.model: {name}\n", _described(spec), *_table("train.", spec.settings)]
    lines += ["\n## simulate\n", "Keys of `recpipe simulate --set`.\n", *_table("", SimulateSettings)]
    return "\n".join(lines) + "\n"


def _described(spec: ModelSpec[ModelSettings]) -> str:
    """Return what a model is and what it reads."""
    vectors = {
        ITEM_EMBEDDINGS.name: "item embeddings",
        USER_EMBEDDINGS.name: "user embeddings",
        USER_PROFILES.name: "user profiles",
    }
    reads = ["items", "interactions", *(vectors[name] for name in spec.reads)]
    if spec.attributes:
        reads.append("attributes of items and users")
    told = f"{spec.summary} It reads {', '.join(reads[:-1])} and {reads[-1]}"
    if spec.blocks:
        told += "; of items also the vectors of text fields, pictures and sounds encoded apart"
    return f"{told}.\n"


def _settings_of(annotation: Any) -> type[Settings] | None:
    return annotation if inspect.isclass(annotation) and issubclass(annotation, Settings) else None


def _table(prefix: str, settings: type[Settings]) -> Iterator[str]:
    yield "| key | default | meaning |"
    yield "|---|---|---|"
    yield from _rows(prefix, settings)


def _rows(prefix: str, settings: type[Settings]) -> Iterator[str]:
    meanings = _docstrings(settings)
    for name, field in settings.model_fields.items():
        nested = _settings_of(field.annotation)
        if nested is not None and not prefix:
            yield f"| `{name}` | see [{name}](#{name}) | {meanings.get(name, '')} |"
        elif nested is not None:
            yield from _rows(f"{prefix}{name}.", nested)
        else:
            mark = " ○" if any(isinstance(entry, Execution) for entry in field.metadata) else ""
            choices = " \\| ".join(_choices(field.annotation))
            meaning = meanings.get(name, "").replace("|", "\\|")
            if not meaning:
                raise ValueError(f"{settings.__name__}.{name} has no docstring")
            default = _default(field.get_default(call_default_factory=True))
            yield f"| `{prefix}{name}`{mark} | `{default}` | {meaning}{f' ({choices})' if choices else ''} |"


def _docstrings(settings: type[Settings]) -> dict[str, str]:
    """The docstring below each field, inherited ones included."""
    found: dict[str, str] = {}
    for base in reversed(settings.__mro__):
        if not (inspect.isclass(base) and issubclass(base, Settings)) or base is Settings:
            continue
        body = ast.parse(textwrap.dedent(inspect.getsource(base))).body[0]
        assert isinstance(body, ast.ClassDef)
        for statement, following in zip(body.body, body.body[1:], strict=False):
            documented = isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant)
            if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name) and documented:
                found[statement.target.id] = " ".join(str(following.value.value).split())
    return found


def _choices(annotation: Any) -> list[str]:
    if get_origin(annotation) is None:
        return []
    if str(get_origin(annotation)) == "typing.Literal":
        return [str(choice) for choice in get_args(annotation)]
    return []


def _default(value: Any) -> str:
    if isinstance(value, Settings):
        return json.dumps(value.model_dump(mode="json"))
    if isinstance(value, Path):
        return str(value)
    return json.dumps(list(value) if isinstance(value, tuple) else value, default=str, ensure_ascii=False)


def artifacts_page() -> str:
    lines = [
        NOTE,
        "# Artifacts\n",
        "One artifact is one Parquet file that pandas, DuckDB, polars and Spark read as it is. Its manifest (stage, "
        "version, settings, inputs, fingerprint, counts) is key-value metadata in the footer, under the key `recpipe`; "
        "`recpipe inspect FILE` shows it. Vectors are `fixed_size_list<float32>`.\n",
        "| artifact | file | written by | meaning |",
        "|---|---|---|---|",
    ]
    lines += [_artifact_row(artifact) for artifact in ARTIFACTS.values()]
    for artifact in ARTIFACTS.values():
        if artifact.folder:
            continue
        lines += [f"\n## {artifact.name}\n", f"{artifact.meaning} Key: {', '.join(artifact.key)}.\n"]
        if artifact.extra:
            lines.append("Further columns are kept as they are.\n")
        lines += ["| column | type | may be absent | may be null | meaning |", "|---|---|---|---|---|"]
        lines += [
            f"| `{column.name}` | {column.type} | {_yes(column.optional)} | {_yes(column.nullable)} "
            f"| {column.meaning} |"
            for column in artifact.columns
        ]
    return "\n".join(lines) + "\n"


def _artifact_row(artifact: Artifact) -> str:
    view = View.EVALUATION if artifact.scope is Scope.EVALUATION else View.PRODUCTION
    layout = Layout(Path("work"), "NAME")
    if artifact.scope is Scope.MODEL:
        file = layout.path(MODEL, view) / "FINGERPRINT" / f"{artifact.name}.parquet"
        return f"| {artifact.name} | `{file}` | `recpipe train` | {artifact.meaning} |"
    if artifact.scope is Scope.STUDY:
        file = layout.studies / "FINGERPRINT" / f"{artifact.name}.parquet"
        return f"| {artifact.name} | `{file}` | `recpipe tune` | {artifact.meaning} |"
    path = layout.path(artifact, view)
    every_stage = (*stages(), *TABLE_STAGES.values())
    written = any(output.artifact is artifact for stage in every_stage for output in stage.writes)
    maker = "recpipe import" if not written else "the first stage that needs it"
    if written and artifact.scope is not Scope.TABLE:
        maker = f"`recpipe {producer(artifact).command}`"
    return f"| {artifact.name} | `{path}` | {maker} | {artifact.meaning} |"


def _yes(value: bool) -> str:
    return "yes" if value else ""


if __name__ == "__main__":
    assert isinstance(root, click.Group)
    for name, text in pages().items():
        (DOCS / name).write_text(text, encoding="utf-8")
