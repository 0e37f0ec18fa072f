"""What a running stage sees: its declared inputs and outputs, the executor, the device."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa

from recpipe import logs
from recpipe.errors import RecpipeError
from recpipe.executors.base import Executor, Shard, shards_of
from recpipe.schemas import Artifact
from recpipe.stages.base import Given
from recpipe.stages.pipeline.plan import Plan, published
from recpipe.store import model_folders, parts
from recpipe.store.artifacts import ArtifactReader, ArtifactWriter
from recpipe.store.fingerprint import FileDigests
from recpipe.store.layout import Layout, View


class RowTask(Protocol):
    """Computes rows of an artifact from a range of input rows.

    Small to send to a worker process: paths and settings; inputs are opened in `setup`.
    """

    def setup(self) -> None:
        """Open inputs and load models; once a worker."""

    def compute(self, start: int, stop: int) -> tuple[pa.Table, dict[str, Any]]:
        """Return the result for rows `start` to `stop` and counts to be summed."""


@dataclass
class _PartTask:
    """Publishes what a `RowTask` computes as the part of its shard."""

    task: RowTask
    artifact: Artifact

    def setup(self) -> None:
        self.task.setup()

    def __call__(self, shard: Shard) -> dict[str, Any]:
        table, counts = self.task.compute(shard.start, shard.stop)
        parts.write(shard.output, table, self.artifact, counts)
        return counts


class StageContext:
    """Handed to `Stage.run`; refuses artifacts the stage did not declare."""

    def __init__(
        self, plan: Plan, layout: Layout, *, executor: Executor, device: str, digests: FileDigests, cache: Path
    ) -> None:
        self._plan = plan
        self._layout = layout
        self._executor = executor
        self._device = device
        self.digests = digests
        self.cache = cache
        self.log = logs.get()
        self.shown: list[str] = []

    @property
    def view(self) -> View:
        return self._plan.view

    @property
    def seed(self) -> int:
        return self._plan.manifest.seed

    @property
    def given(self) -> Given:
        """The source tables that are configured."""
        return self._plan.given

    @property
    def files(self) -> list[Path]:
        """The source files of a table stage."""
        return self._plan.files

    @property
    def scratch(self) -> Path:
        """A folder for intermediate files, removed when the stage is done."""
        folder = self._layout.parts(self._plan.fingerprint)
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def forget_parts(self) -> None:
        """Drop the parts of a killed run, where they belong to a fit that is made anew."""
        parts.discard(self.scratch)

    def quarantine(self, table: str) -> Path:
        """Return where the bad rows of a source table go."""
        return self._layout.quarantine(table)

    def has(self, artifact: Artifact) -> bool:
        """Say whether a conditional input is read under these settings."""
        return artifact.name in self._plan.inputs

    def path(self, artifact: Artifact) -> Path:
        """Return the path of a declared input.

        Raises:
            RecpipeError: The stage does not declare it, or not under these settings.
        """
        if artifact.name not in self._plan.inputs:
            raise RecpipeError(f"{self._plan.stage.name} reads {artifact.name} without declaring it")
        return self._plan.inputs[artifact.name].path

    def read(self, artifact: Artifact) -> ArtifactReader:
        """Open a declared input."""
        return ArtifactReader(self.path(artifact), artifact)

    def write(self, artifact: Artifact) -> ArtifactWriter:
        """Open a declared output; use as a context manager and `commit`."""
        return ArtifactWriter(self.output(artifact), artifact, published(self._plan, artifact))

    def output(self, artifact: Artifact) -> Path:
        """Return the path of a declared output.

        Raises:
            RecpipeError: The stage does not declare it, or not under these settings.
        """
        if artifact.name not in self._plan.outputs:
            raise RecpipeError(f"{self._plan.stage.name} writes {artifact.name} without declaring it")
        return self._plan.outputs[artifact.name]

    def write_model(self, artifact: Artifact, save: Callable[[Path], None]) -> Path:
        """Publish a model folder and make it the current one."""
        return model_folders.publish_model(self.output(artifact), published(self._plan, artifact), save)

    def write_inside(self, folder: Path, artifact: Artifact) -> ArtifactWriter:
        """Open an artifact inside a model folder that is being written."""
        return ArtifactWriter(folder / f"{artifact.name}.parquet", artifact, published(self._plan, artifact))

    def device(self) -> str:
        """Return the torch device to compute on, `auto` resolved."""
        if self._device == "cpu":
            return self._device  # importing torch takes a second, and not every model needs it
        if self._device != "auto":
            return self._device  # checked before the first stage started
        import torch

        return "cuda" if torch.cuda.is_available() else "cpu"

    def show(self, text: str) -> None:
        """Give a text for people; the command prints it to stdout when the stage is done."""
        self.shown.append(text)

    def map_rows(
        self, artifact: Artifact, task: RowTask, *, n_rows: int, shard_rows: int, unit: str, **details: object
    ) -> dict[str, Any]:
        """Compute an artifact shard by shard, join the parts and publish it.

        Parts a killed run finished are reused. The cut into shards and the batches within
        a shard do not depend on workers, so neither does the result.

        Args:
            n_rows: Number of input rows.
            shard_rows: Rows a shard.
            unit: What a row is, for progress.
            details: Entries for the manifest beside the counts.

        Returns:
            The counts of all shards, summed.
        """
        folder = self._layout.parts(self._plan.fingerprint)
        parts.prepare(folder)
        shards = shards_of(n_rows, shard_rows, folder, artifact.name)
        counts: dict[str, Any] = {}
        waiting: list[Shard] = []
        done = 0
        for shard in shards:
            known = parts.finished(shard.output)
            if known is None:
                waiting.append(shard)
            else:
                _add(counts, known)
                done += shard.rows
        if done:
            self.log.info("resuming: %d of %d %s are done", done, n_rows, unit, extra=logs.fields(reused=done))
        with logs.progress(n_rows, self._plan.stage.command, unit, done=done) as progress:
            for shard, shard_counts in self._executor.map_shards(_PartTask(task, artifact), waiting):
                _add(counts, shard_counts)
                progress.advance(shard.rows)
        with self.write(artifact) as writer:
            for table in parts.tables([shard.output for shard in shards]):
                writer.write(table)
            writer.commit(**counts, **details)
        return counts


def _add(total: dict[str, Any], counts: dict[str, Any]) -> None:
    for name, value in counts.items():
        total[name] = total.get(name, 0) + value
