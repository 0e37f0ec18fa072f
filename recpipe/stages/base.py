"""What a stage is: a declaration from which command, plan, staleness and docs follow.

A stage lives in one file of this package and exports `STAGE`. Its engine is imported inside
`run`, so that `recpipe --help` and an up-to-date run load neither torch nor transformers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from recpipe.config import Settings
from recpipe.schemas import Artifact
from recpipe.store.layout import View

if TYPE_CHECKING:
    from pathlib import Path

    from recpipe.stages.pipeline.context import StageContext
    from recpipe.store.fingerprint import FileDigests
    from recpipe.store.manifest import Manifest

S = TypeVar("S", bound=Settings)

Given = frozenset[str]
"""Names of the source tables that the configuration or the command line names."""

MEDIA_FILES = "media_files"
"""What stands in a manifest's inputs for pictures and sounds that changed while the table that names them did not."""


def _always(settings: Any, given: Given) -> bool:
    return True


@dataclass(frozen=True, slots=True)
class Input:
    """An artifact a stage reads.

    Attributes:
        when: Says from the settings and the given source tables whether it is read.
        view: The view it is read from, where that is not the stage's own.
        options: What the command that makes it needs, where that is not what the reader was given.
        views: The views the stage reads it in.
        optional: Not read where it does not exist, or where the sections `same` of its settings
            are not the stage's own (a choice of hyper-parameters belongs to one model).
    """

    artifact: Artifact
    when: Callable[[Any, Given], bool] = _always
    view: View | None = None
    options: str = ""
    views: tuple[View, ...] = tuple(View)
    optional: bool = False
    same: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Output:
    """An artifact a stage writes, under which settings and in which views."""

    artifact: Artifact
    when: Callable[[Any, Given], bool] = _always
    views: tuple[View, ...] = tuple(View)


@dataclass(frozen=True, slots=True)
class Stage(Generic[S]):
    """One step of the pipeline.

    Attributes:
        name: In snake case; the command is the same with hyphens.
        summary: One line for `recpipe --help`.
        description: What the stage does, for its own help and the docs.
        example: An invocation, shown in the help.
        version: Raised whenever the same inputs and settings give another output.
        settings: A selection of the configuration's sections, by field name; what it holds
            (but for fields marked Execution) enters the fingerprint.
        reads: Artifacts read, and when.
        writes: Artifacts written, and when; the first is what `--output` means.
        run: Computes and publishes.
        files: Source files read directly; their contents enter the fingerprint.
        identity: The encoder that will be used, as a string that enters the fingerprint.
        changed_files: From the settings, the paths of the inputs and the manifest of its first output
            as made last: what enters the fingerprint for files that an input names; empty for none.
        views: The views it can run in.
    """

    name: str
    summary: str
    description: str
    example: str
    version: int
    settings: type[S]
    reads: tuple[Input, ...]
    writes: tuple[Output, ...]
    run: Callable[[S, StageContext], None]
    files: Callable[[S], list[Path]] | None = None
    identity: Callable[[S, FileDigests], str] | None = None
    changed_files: Callable[[S, Mapping[str, Path], Manifest], str] | None = None
    views: tuple[View, ...] = field(default=(View.PRODUCTION, View.EVALUATION))

    @property
    def command(self) -> str:
        return self.name.replace("_", "-")

    def inputs(self, settings: S, given: Given, view: View) -> list[Input]:
        """Return what is read under these settings in this view."""
        return [entry for entry in self.reads if view in entry.views and entry.when(settings, given)]

    def outputs(self, settings: S, given: Given, view: View) -> list[Artifact]:
        """Return what is written under these settings in this view."""
        return [entry.artifact for entry in self.writes if view in entry.views and entry.when(settings, given)]


def select(settings: type[S], config: Settings) -> S:
    """Build a stage's settings from the sections of the same names in the configuration.

    A stage may declare a section as a subclass that marks what it does not read as `Execution`:
    those fields then stay out of its fingerprint.
    """
    return settings.model_validate(
        {name: _as_declared(field.annotation, getattr(config, name)) for name, field in settings.model_fields.items()}
    )


def _as_declared(declared: Any, section: Any) -> Any:
    if isinstance(section, Settings) and isinstance(declared, type) and declared is not type(section):
        return section.model_dump() if issubclass(declared, type(section)) else section
    return section
