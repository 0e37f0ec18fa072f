"""Plans: what a stage would read and write, and whether there is anything to do.

A fingerprint follows from settings and inputs, not from content, so a whole chain can be
planned before its first stage has run: pass the plans made so far as `upstream`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from recpipe import __version__
from recpipe.config import Settings, identity_of
from recpipe.errors import ConfigError, DataError, MissingInputError
from recpipe.schemas import INTERACTIONS, TRAIN_INTERACTIONS, Artifact, Scope
from recpipe.stages.base import MEDIA_FILES, Given, Input, select
from recpipe.stages.pipeline.registry import AnyStage, producer
from recpipe.stages.settings import Config
from recpipe.stages.tables import TABLE_STAGES
from recpipe.store.fingerprint import FileDigests, fingerprint
from recpipe.store.layout import Layout, View
from recpipe.store.manifest import Manifest, read_manifest


class State(StrEnum):
    """Whether a stage has anything to do."""

    CURRENT = "up to date"
    STALE = "stale"
    BLOCKED = "blocked"


@dataclass(frozen=True)
class ResolvedInput:
    """One input: where it is and what it is made of.

    Attributes:
        fingerprint: None when it does not exist and nothing in the plan makes it.
        hint: The command that makes it.
    """

    artifact: Artifact
    path: Path
    fingerprint: str | None
    hint: str


@dataclass(frozen=True)
class Plan:
    """What running a stage now would mean.

    Attributes:
        tables: Plans of the source tables it needs first, in order.
        reasons: Why it is stale or blocked.
    """

    stage: AnyStage
    view: View
    settings: Settings
    given: Given
    inputs: dict[str, ResolvedInput]
    files: list[Path]
    outputs: dict[str, Path]
    manifest: Manifest
    state: State
    reasons: list[str]
    tables: tuple[Plan, ...] = field(default=())

    @property
    def fingerprint(self) -> str:
        return self.manifest.fingerprint

    def require_inputs(self) -> None:
        """Fail when an input is missing.

        Raises:
            MissingInputError: Which one, and the command that makes it.
        """
        for entry in self.inputs.values():
            if entry.fingerprint is None:
                raise MissingInputError(f"{entry.artifact.name} missing", where=str(entry.path), next_step=entry.hint)


class Planner:
    """Plans stages for one configuration.

    Args:
        config: The whole configuration; source paths given on the command line are in it.
        paths: Paths given on the command line, by artifact name, for inputs and outputs.
    """

    def __init__(
        self,
        config: Config,
        *,
        read_paths: Mapping[str, Path] | None = None,
        write_paths: Mapping[str, Path] | None = None,
    ) -> None:
        self.config = config
        self.layout = Layout(Path(config.workdir), config.train.kept_as)
        self.given: Given = frozenset(name for name in TABLE_STAGES if getattr(config.data, name, None) is not None)
        self.digests = FileDigests(self.layout.digests)
        self._read_paths = dict(read_paths or {})
        self._write_paths = dict(write_paths or {})

    @property
    def names_inputs(self) -> bool:
        """Whether the command line names inputs other than those of the work directory."""
        return bool(self._read_paths)

    def plan(self, stage: AnyStage, view: View, upstream: tuple[Plan, ...] = ()) -> Plan:
        """Plan one stage; `upstream` are plans of stages that will have run before it.

        Raises:
            ConfigError: The stage does not exist in this view.
            MissingInputError: A source table or file it needs is not given or not there.
        """
        if view not in stage.views:
            raise ConfigError(f"{stage.command} has no {view} view", next_step=f"run it with --view {stage.views[0]}")
        settings = select(stage.settings, self.config)
        tables: dict[str, Plan] = {plan.stage.name: plan for plan in upstream if plan.stage.name in TABLE_STAGES}
        needed: dict[str, Plan] = {}
        inputs: dict[str, ResolvedInput] = {}
        for entry in stage.inputs(settings, self.given, view):
            found = self._resolve(entry, view, upstream, {**tables, **needed}, needed)
            if not entry.optional or self._belongs(entry, found, settings, upstream):
                inputs[entry.artifact.name] = found
        files = stage.files(settings) if stage.files else []
        outputs = {
            artifact.name: self._output(artifact, view) for artifact in stage.outputs(settings, self.given, view)
        }
        made_of = self._made_of(stage, settings, inputs, files, outputs)
        manifest = self._manifest(stage, view, settings, made_of)
        state, reasons = self._state(manifest, inputs, outputs)
        return Plan(
            stage, view, settings, self.given, inputs, files, outputs, manifest, state, reasons, tuple(needed.values())
        )

    def _resolve(
        self, entry: Input, view: View, upstream: tuple[Plan, ...], tables: dict[str, Plan], needed: dict[str, Plan]
    ) -> ResolvedInput:
        artifact = entry.artifact
        view = entry.view or view
        if artifact is INTERACTIONS and view is View.EVALUATION:
            artifact = TRAIN_INTERACTIONS
        if artifact.scope is Scope.TABLE:
            table = tables.get(artifact.name) or self.plan(producer(artifact), View.PRODUCTION, tuple(tables.values()))
            for plan in (*table.tables, table):
                if all(plan.stage.name != earlier.stage.name for earlier in upstream):
                    needed.setdefault(plan.stage.name, plan)
            return ResolvedInput(entry.artifact, table.outputs[artifact.name], table.fingerprint, "")
        path = self._read_paths.get(artifact.name) or self.layout.path(artifact, view)
        maker = producer(artifact)
        hint = f"run: recpipe {command_for(maker, view)}{f' {entry.options}' if entry.options else ''}"
        for plan in upstream:
            if plan.outputs.get(artifact.name) == path:
                return ResolvedInput(entry.artifact, path, plan.fingerprint, hint)
        named = artifact.name in self._read_paths
        return ResolvedInput(entry.artifact, path, self._fingerprint_of(path, named=named), hint)

    def _fingerprint_of(self, path: Path, *, named: bool) -> str | None:
        if not path.exists():
            return None
        try:
            manifest = read_manifest(path)
        except DataError:
            if named:
                raise
            return None  # damaged: as good as missing, its own stage makes it again
        if manifest is not None:
            return manifest.fingerprint
        return None if path.is_dir() else self.digests.digest(path)

    def _belongs(self, entry: Input, found: ResolvedInput, settings: Settings, upstream: tuple[Plan, ...]) -> bool:
        """Say whether an optional input is there, or will be, and was made with the same settings."""
        if any(found.path in plan.outputs.values() for plan in upstream):
            return True
        if found.fingerprint is None:  # absent or damaged
            return False
        made = read_manifest(found.path)
        own = identity_of(settings)
        return made is not None and all(made.settings.get(name) == own[name] for name in entry.same)

    def _output(self, artifact: Artifact, view: View) -> Path:
        return self._write_paths.get(artifact.name) or self.layout.path(artifact, view)

    def _made_of(
        self,
        stage: AnyStage,
        settings: Settings,
        inputs: dict[str, ResolvedInput],
        files: list[Path],
        outputs: dict[str, Path],
    ) -> dict[str, str]:
        """Return the fingerprints of all that is read, by name."""
        made_of = {name: entry.fingerprint or "" for name, entry in inputs.items()}
        if files:
            made_of["files"] = self.digests.combined(files)
        if stage.changed_files:
            made = _readable_manifest(next(iter(outputs.values())))
            paths = {name: entry.path for name, entry in inputs.items()}
            if made and (changed := stage.changed_files(settings, paths, made)):
                made_of[MEDIA_FILES] = changed
        return made_of

    def _manifest(self, stage: AnyStage, view: View, settings: Settings, made_of: dict[str, str]) -> Manifest:
        identity = stage.identity(settings, self.digests) if stage.identity else None
        values = identity_of(settings)
        content = {
            "stage": stage.name,
            "version": stage.version,
            "settings": values,
            "inputs": made_of,
            "identity": identity,
            "schemas": {output.artifact.name: output.artifact.version for output in stage.writes},
        }
        return Manifest(
            artifact="",
            schema_version=0,
            stage=stage.name,
            stage_version=stage.version,
            view=view.value,
            settings=values,
            fingerprint=fingerprint(content),
            inputs=made_of,
            identity=identity,
            seed=self.config.seed,
            recpipe_version=__version__,
        )

    def _state(
        self, manifest: Manifest, inputs: dict[str, ResolvedInput], outputs: dict[str, Path]
    ) -> tuple[State, list[str]]:
        missing = [f"{name} missing" for name, entry in inputs.items() if entry.fingerprint is None]
        if missing:
            return State.BLOCKED, missing
        reasons: list[str] = []
        for name, path in outputs.items():
            try:
                old = read_manifest(path)
            except DataError:
                reasons.append(f"{name} cannot be read")
                continue
            if old is None:
                reasons.append(f"no {name} yet")
            elif old.fingerprint != manifest.fingerprint:
                reasons.extend(reason for reason in differences(old, manifest) if reason not in reasons)
        return (State.STALE, reasons) if reasons else (State.CURRENT, [])


def _readable_manifest(path: Path) -> Manifest | None:
    try:
        return read_manifest(path)
    except DataError:
        return None  # damaged: made again


def command_for(stage: AnyStage, view: View) -> str:
    """Return the command of a stage in a view, without `recpipe`."""
    return stage.command + (" --view evaluation" if view is View.EVALUATION and stage.views != (view,) else "")


def differences(old: Manifest, new: Manifest) -> list[str]:
    """Say what makes a new fingerprint differ from an old one."""
    reasons = [
        f"{key} {before!r} → {after!r}" for key, before, after in _changed_keys(old.settings, new.settings, prefix="")
    ]
    changed = sorted(name for name in {*old.inputs, *new.inputs} if old.inputs.get(name) != new.inputs.get(name))
    reasons += [f"{name} changed" for name in changed]
    if old.identity != new.identity:
        reasons.append(f"encoder {old.identity} → {new.identity}")
    if old.stage_version != new.stage_version:
        reasons.append(f"stage version {old.stage_version} → {new.stage_version}")
    return reasons or ["another schema version"]


def _changed_keys(old: Mapping[str, Any], new: Mapping[str, Any], *, prefix: str) -> list[tuple[str, Any, Any]]:
    changed: list[tuple[str, Any, Any]] = []
    for key in [*new, *(key for key in old if key not in new)]:
        before, after = old.get(key), new.get(key)
        if isinstance(before, dict) and isinstance(after, dict):
            changed += _changed_keys(before, after, prefix=f"{prefix}{key}.")
        elif before != after:
            changed.append((f"{prefix}{key}", before, after))
    return changed


def published(plan: Plan, artifact: Artifact) -> Manifest:
    """Return the manifest an artifact of this plan is published with."""
    return replace(plan.manifest, artifact=artifact.name, schema_version=artifact.version)
