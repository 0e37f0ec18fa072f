"""Where every artifact lives below the work directory."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from recpipe.schemas import INTERACTIONS, TRAIN_INTERACTIONS, Artifact, Scope


class View(StrEnum):
    """Which world a stage works in: everything, or what evaluation may learn from."""

    PRODUCTION = "production"
    EVALUATION = "evaluation"


@dataclass(frozen=True, slots=True)
class Layout:
    """Paths below one work directory.

    Attributes:
        workdir: The work directory.
        model_name: Name of the model that `model` means (setting `train.name`).
    """

    workdir: Path
    model_name: str = "model"

    def path(self, artifact: Artifact, view: View) -> Path:
        """Return the default path of an artifact in a view.

        In the evaluation view `interactions` are the training interactions: nothing
        downstream of the split can see a held-out row by accident.
        """
        if view is View.EVALUATION and artifact is INTERACTIONS:
            artifact = TRAIN_INTERACTIONS
        if artifact.scope is Scope.TABLE:
            return self.workdir / "tables" / f"{artifact.name}.parquet"
        if artifact.scope is Scope.MODEL:
            raise ValueError(f"{artifact.name} lies in a model's folder: ask for that")
        if artifact.scope is Scope.STUDY:
            raise ValueError(f"{artifact.name} lies in a study's folder: ask for that")
        in_evaluation = artifact.scope is Scope.EVALUATION or (artifact.scope is Scope.VIEW and view is View.EVALUATION)
        folder = self.workdir / "evaluation" if in_evaluation else self.workdir
        if artifact.folder:
            return folder / "models" / self.model_name
        if artifact.per_model:
            return folder / "models" / self.model_name / f"{artifact.name}.parquet"
        return folder / f"{artifact.name}.parquet"

    def parts(self, fingerprint: str) -> Path:
        """Return the folder of unfinished and finished parts of one stage run."""
        return self.all_parts / fingerprint

    @property
    def all_parts(self) -> Path:
        return self.workdir / ".parts"

    @property
    def runs(self) -> Path:
        """The folder of past runs."""
        return self.workdir / "runs"

    @property
    def studies(self) -> Path:
        """The folder of the studies of `recpipe tune`."""
        return self.workdir / "tune"

    @property
    def locks(self) -> Path:
        return self.workdir / ".locks"

    @property
    def digests(self) -> Path:
        """The file that remembers file digests by path, size and modification time."""
        return self.workdir / ".digests.json"

    def quarantine(self, table: str) -> Path:
        """Return the file that holds the bad rows of a source table."""
        return self.workdir / "quarantine" / f"{table}.parquet"
