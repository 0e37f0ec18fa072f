"""A study of `recpipe tune`: its trials on disk, one file for each space, data and configuration."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
from pydantic import JsonValue

from recpipe.schemas import (
    TRIAL,
    TRIAL_METRIC,
    TRIAL_REASON,
    TRIAL_SECONDS,
    TRIAL_SETTINGS,
    TRIAL_STATE,
    TRIAL_VALUE,
    TRIALS,
)
from recpipe.store.artifacts import ArtifactReader, ArtifactWriter
from recpipe.store.layout import Layout
from recpipe.store.manifest import Manifest, read_manifest

COMPLETE = "complete"
FAILED = "failed"

LOWER_IS_BETTER = ("rmse",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """A trial that is over.

    Attributes:
        number: 1 is the configuration as it is.
        values: The settings searched.
        metric: What was measured; None where it failed, like `value`.
        reason: Why it failed; None where it did not.
    """

    number: int
    values: Mapping[str, JsonValue]
    seconds: float
    metric: str | None = None
    value: float | None = None
    reason: str | None = None

    @property
    def score(self) -> float | None:
        """The value with its sign turned where lower is better; None where the trial failed."""
        if self.value is None:
            return None
        return -self.value if self.metric in LOWER_IS_BETTER else self.value


class Study:
    """The trials of one search, kept as they finish.

    Args:
        path: The file.
        manifest: What the study is made of; its fingerprint names it.
    """

    def __init__(self, path: Path, manifest: Manifest) -> None:
        self.path = path
        self.manifest = manifest
        self.trials: list[Trial] = _read(path) if path.exists() else []

    @classmethod
    def of(cls, layout: Layout, manifest: Manifest) -> Study:
        """Open the study of this fingerprint, which may have no trial yet.

        Raises:
            DataError: Its file is damaged.
        """
        return cls(layout.studies / manifest.fingerprint / f"{TRIALS.name}.parquet", manifest)

    @property
    def metric(self) -> str | None:
        """What its trials are measured by; None before the first that did not fail."""
        return next((trial.metric for trial in self.trials if trial.metric is not None), None)

    @property
    def best(self) -> Trial | None:
        """The best trial, the earliest of equals; None where none is complete."""
        done = [(trial.score, -trial.number, trial) for trial in self.trials if trial.score is not None]
        return max(done, key=lambda entry: entry[:2])[2] if done else None

    @property
    def seconds(self) -> float:
        """Time its trials took."""
        return sum(trial.seconds for trial in self.trials)

    def add(self, trial: Trial) -> None:
        """Publish the file with one more trial."""
        self.trials.append(trial)
        best = self.best
        manifest = dataclasses.replace(self.manifest, artifact=TRIALS.name, schema_version=TRIALS.version)
        with ArtifactWriter(self.path, TRIALS, manifest) as writer:
            writer.write(_table(self.trials))
            writer.commit(metric=self.metric, best_trial=None if best is None else best.number)


def latest_other(layout: Layout, fingerprint: str) -> tuple[Path, Manifest] | None:
    """Return the file and the manifest of the study that was worked on last, this one left out."""
    found = [path for path in layout.studies.glob(f"*/{TRIALS.name}.parquet") if path.parent.name != fingerprint]
    for path in sorted(found, key=lambda path: path.stat().st_mtime_ns, reverse=True):
        manifest = read_manifest(path)
        if manifest is not None:
            return path, manifest
    return None


def _table(trials: list[Trial]) -> pa.Table:
    return pa.table(
        {
            TRIAL.name: pa.array([trial.number for trial in trials], pa.int32()),
            TRIAL_STATE.name: pa.array([COMPLETE if trial.value is not None else FAILED for trial in trials]),
            TRIAL_METRIC.name: pa.array([trial.metric for trial in trials], pa.string()),
            TRIAL_VALUE.name: pa.array([trial.value for trial in trials], pa.float64()),
            TRIAL_SETTINGS.name: pa.array([json.dumps(dict(trial.values), ensure_ascii=False) for trial in trials]),
            TRIAL_SECONDS.name: pa.array([trial.seconds for trial in trials], pa.float64()),
            TRIAL_REASON.name: pa.array([trial.reason for trial in trials], pa.string()),
        }
    )


def _read(path: Path) -> list[Trial]:
    return [
        Trial(
            number=row[TRIAL.name],
            values=json.loads(row[TRIAL_SETTINGS.name]),
            seconds=row[TRIAL_SECONDS.name],
            metric=row[TRIAL_METRIC.name],
            value=row[TRIAL_VALUE.name],
            reason=row[TRIAL_REASON.name],
        )
        for row in ArtifactReader(path, TRIALS).table().to_pylist()
    ]
