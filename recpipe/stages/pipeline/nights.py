"""What is kept of past nights, and what is cleared away."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from recpipe import __version__, logs
from recpipe.schemas import METRIC_DIFFERENCES, METRICS, RECOMMENDATIONS, SEGMENTS, USER_METRICS
from recpipe.stages.pipeline.plan import Plan
from recpipe.stages.pipeline.runner import Outcome
from recpipe.stages.settings import Config
from recpipe.store import cache, model_folders, publish
from recpipe.store.layout import Layout, View
from recpipe.store.manifest import read_manifest

RUN_FILE = "run.json"
KEPT = (
    (METRICS, View.EVALUATION),
    (METRIC_DIFFERENCES, View.EVALUATION),
    (USER_METRICS, View.EVALUATION),
    (SEGMENTS, View.PRODUCTION),
    (RECOMMENDATIONS, View.PRODUCTION),
)


def keep_night(layout: Layout, config: Config, plans: Sequence[Plan], outcomes: Sequence[Outcome]) -> Path:
    """Keep manifests, metrics, segments and recommendations of a run under `runs/<run_id>/`.

    Files are hard links where the file system allows: an artifact is replaced, never changed,
    so the old one lives on under its second name at no cost.
    """
    run_id = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
    folder = layout.runs / run_id
    folder.mkdir(parents=True)
    manifests = {
        os.path.relpath(path, layout.workdir): manifest.to_json()
        for plan in plans
        for path in plan.outputs.values()
        if (manifest := read_manifest(path)) is not None
    }
    made = {path for plan in plans for path in plan.outputs.values()}
    for artifact, view in KEPT:
        path = layout.path(artifact, view)
        if path in made:  # metrics of an earlier night are not those of one that skipped the evaluation
            _link(path, folder)
    publish.write_json(
        folder / RUN_FILE,
        {
            "run_id": run_id,
            "recpipe_version": __version__,
            "config": config.model_dump(mode="json"),
            "manifests": manifests,
            "stages": [
                {
                    "stage": outcome.stage,
                    "view": outcome.view.value,
                    "ran": outcome.ran,
                    "seconds": round(outcome.seconds, 3),
                    "peak_mib": round(outcome.peak_mib),
                    "rows": outcome.rows,
                }
                for outcome in outcomes
            ],
        },
    )
    return folder


def _link(path: Path, folder: Path) -> None:
    if not path.exists():
        return
    target = folder / path.name
    try:
        os.link(path, target)
    except OSError:
        shutil.copy2(path, target)


def prune(layout: Layout, config: Config) -> None:
    """Remove nights beyond `keep_runs`, models nobody names and cache beyond its size.

    The caller holds the work directory alone.
    """
    nights = sorted(path for path in layout.runs.glob("*") if path.is_dir())
    for night in nights[: -config.keep_runs]:
        shutil.rmtree(night)
    kept = nights[-config.keep_runs :]
    named = {fingerprint for night in kept for fingerprint in _fingerprints(night)}
    for root in (layout.workdir / "models", layout.workdir / "evaluation" / "models"):
        for name in root.glob("*"):
            model_folders.remove_unnamed(name, named)
    if config.cache.max_gb is not None:
        removed = cache.shrink(config.cache_folder, max_bytes=int(config.cache.max_gb * 1e9))
        if removed:
            logs.get().info("embedding cache: %d least recently used segments removed (cache.max_gb)", removed)


def _fingerprints(night: Path) -> list[str]:
    try:
        content = json.loads((night / RUN_FILE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return []  # killed while it was being kept
    return [str(manifest["fingerprint"]) for manifest in content["manifests"].values()]
