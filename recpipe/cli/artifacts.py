"""Opens artifacts for commands that show them."""

from __future__ import annotations

from recpipe.errors import MissingInputError
from recpipe.schemas import Artifact, Scope
from recpipe.stages.settings import Config
from recpipe.store.artifacts import ArtifactReader
from recpipe.store.layout import Layout, View


def open_artifact(config: Config, artifact: Artifact, view: View) -> ArtifactReader:
    """Open an artifact at its place in the work directory.

    Raises:
        MissingInputError: It is not there, and the command that makes it.
    """
    from recpipe.stages.pipeline.registry import producer

    path = Layout(config.workdir).path(artifact, view)
    if not path.exists():
        maker = producer(artifact)
        flag = " --view evaluation" if view is View.EVALUATION and maker.views != (View.EVALUATION,) else ""
        step = "run: recpipe run" if artifact.scope is Scope.TABLE else f"run: recpipe {maker.command}{flag}"
        raise MissingInputError(f"{artifact.name} missing", where=str(path), next_step=step)
    return ArtifactReader(path, artifact)


def open_if_there(config: Config, artifact: Artifact, view: View) -> ArtifactReader | None:
    """Open an artifact at its place in the work directory; None when it is not there."""
    path = Layout(config.workdir).path(artifact, view)
    return ArtifactReader(path, artifact) if path.exists() else None
