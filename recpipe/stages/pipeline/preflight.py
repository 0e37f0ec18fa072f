"""What can be known to fail is found before anything expensive starts."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from recpipe.errors import ConfigError, DataError, LockedError, RecpipeError, UnavailableError
from recpipe.schemas import ARTIFACTS, INTERACTIONS, TRAIN_INTERACTIONS, Artifact, Scope
from recpipe.stages.base import Input, select
from recpipe.stages.pipeline.plan import Plan, Planner, State, command_for
from recpipe.stages.pipeline.registry import AnyStage, producer
from recpipe.stages.settings import Config
from recpipe.store.layout import View
from recpipe.store.manifest import read_manifest


def check(config: Config, plans: Sequence[Plan], *, force: bool) -> None:
    """Check the work directory, the device, and inputs and outputs of every plan.

    Raises:
        ConfigError: A path cannot be written, or writing it would destroy an input or a
            file that is not recpipe's.
        MissingInputError: An input is missing and no plan makes it.
        UnavailableError: The device is not there.
    """
    _check_folder(config.workdir, "workdir")
    check_device(config.device)
    for plan in plans:
        plan.require_inputs()
        if len(set(plan.outputs.values())) < len(plan.outputs):
            raise ConfigError(
                f"{plan.stage.command} would write two artifacts to one file",
                where=", ".join(f"{name}: {path}" for name, path in plan.outputs.items()),
            )
        for name, path in plan.outputs.items():
            _check_output(plan, name, path, force=force)


def check_device(device: str) -> None:
    """Fail when a CUDA device is asked for by name and is not there.

    Raises:
        UnavailableError: Torch does not see it.
    """
    kind, _, index = device.partition(":")
    if kind != "cuda":
        return
    import torch

    if not torch.cuda.is_available() or int(index or 0) >= torch.cuda.device_count():
        raise UnavailableError(
            f"device {device} is not available",
            where=f"torch {torch.__version__} sees {torch.cuda.device_count()} CUDA devices",
            next_step="set device: cpu or auto, or install a CUDA build of torch",
        )


def _check_folder(folder: Path, key: str) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"no folder can be made there: {error.strerror}", where=f"{key}: {folder}") from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise ConfigError("the folder cannot be written", where=f"{key}: {folder}")


def _check_output(plan: Plan, name: str, path: Path, *, force: bool) -> None:
    _check_folder(path.parent, "output")
    sources = [*plan.files, *(entry.path for entry in plan.inputs.values())]
    sources += [file for table in plan.tables for file in table.files]
    if any(path.resolve() == source.resolve() for source in sources):
        raise ConfigError(
            f"{plan.stage.command} would overwrite its own input",
            where=str(path),
            next_step="name another file with --output",
        )
    folder_wanted = ARTIFACTS[name].folder
    if path.is_dir() and not folder_wanted:
        raise ConfigError("a folder stands where a file is to be written", where=str(path))
    if path.is_file() and folder_wanted:
        raise ConfigError("a file stands where a model folder is to be written", where=str(path))
    if path.is_file() and not force and not _is_earlier(path, name):
        raise ConfigError(
            f"what stands where the output goes is no earlier {name}",
            where=str(path),
            next_step="name another file with --output, or overwrite it with --force",
        )


def _is_earlier(path: Path, name: str) -> bool:
    try:
        manifest = read_manifest(path)
        return manifest is not None and manifest.artifact == name
    except DataError:
        return path.suffix == ".parquet"  # a damaged artifact may be replaced, a table of somebody's not


def check_unchanged(plan: Plan) -> None:
    """Fail when an input was replaced since the stage was planned; called under the locks.

    Raises:
        LockedError: Another run published another one.
    """
    for entry in plan.inputs.values():
        manifest = read_manifest(entry.path)
        if manifest is not None and manifest.fingerprint != entry.fingerprint:
            raise LockedError(
                f"{entry.artifact.name} was replaced by another run since this one was planned",
                where=str(entry.path),
                next_step="run again",
            )


def stale_inputs(planner: Planner, plan: Plan) -> list[str]:
    """Return the commands that would have to run first for the inputs to be up to date.

    Empty where inputs were named on the command line, or where it cannot be told.
    """
    if planner.names_inputs:
        return []
    plans: list[Plan] = []
    try:
        for stage, view in ancestors(planner, plan):
            plans.append(planner.plan(stage, view, tuple(plans)))
    except RecpipeError:
        return []  # only advice: what is really wrong, the stage itself will say
    return [command_for(entry.stage, entry.view) for entry in plans if entry.state is not State.CURRENT]


def ancestors(planner: Planner, plan: Plan) -> list[tuple[AnyStage, View]]:
    """Return the stages whose artifacts a plan reads, directly or not, each after those it reads."""
    found: dict[tuple[str, View], tuple[AnyStage, View]] = {}

    def visit(entries: Sequence[Input], view: View, reader: str) -> None:
        for entry in entries:
            there = entry.view or view
            artifact: Artifact = entry.artifact
            if artifact is INTERACTIONS and there is View.EVALUATION:
                artifact = TRAIN_INTERACTIONS
            if artifact.scope is Scope.TABLE or entry.optional:
                continue
            maker = producer(artifact)
            if artifact.scope is Scope.SHARED:
                there = View.PRODUCTION
            key = (maker.name, there)
            if maker.name != reader and key not in found:
                settings = select(maker.settings, planner.config)
                visit(maker.inputs(settings, planner.given, there), there, maker.name)
                found[key] = (maker, there)

    visit(plan.stage.inputs(plan.settings, plan.given, plan.view), plan.view, plan.stage.name)
    return list(found.values())
