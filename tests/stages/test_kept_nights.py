"""What is kept of past nights, and what is cleared away."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from conftest import World

from recpipe.stages.pipeline.chain import run_chain
from recpipe.stages.pipeline.nights import keep_night, prune
from recpipe.stages.pipeline.plan import Planner
from recpipe.stages.settings import load
from recpipe.store.layout import Layout
from recpipe.store.manifest import read_manifest

TABLES = ("metric_differences", "metrics", "recommendations", "segments", "user_metrics")
KEPT = sorted(["run.json", *(f"{name}.parquet" for name in TABLES)])


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def night(world: World, *overrides: str, force: bool = False, skip_evaluation: bool = False) -> Path | None:
    """Run the chain; return the folder it kept, None where there was nothing to do."""
    before = set(nights())
    planner = Planner(load(world.config, ["train.model=popularity", *overrides]))
    run_chain(planner, force=force, skip_evaluation=skip_evaluation)
    new = set(nights()) - before
    assert len(new) <= 1
    return new.pop() if new else None


def nights() -> list[Path]:
    return sorted(Path("work/runs").glob("*"))


def models(root: str = "work") -> set[str]:
    return {path.name for path in Path(root, "models/popularity").iterdir() if path.is_dir()}


def fingerprints(run: Path) -> set[str]:
    content = json.loads((run / "run.json").read_text(encoding="utf-8"))
    return {manifest["fingerprint"] for manifest in content["manifests"].values()}


class TestKeeping:
    def test_results_live_on_when_the_next_night_replaces_them(self, world: World) -> None:
        first = night(world)
        assert first is not None
        assert sorted(path.name for path in first.iterdir()) == KEPT
        recommendations = Path("work/recommendations.parquet")
        assert recommendations.samefile(first / recommendations.name)
        before = (first / recommendations.name).read_bytes()
        assert pq.read_metadata(recommendations).num_rows == 200

        second = night(world, "score.top_n=3")
        assert second is not None
        assert (first / recommendations.name).read_bytes() == before
        assert pq.read_metadata(first / recommendations.name).num_rows == 200
        assert pq.read_metadata(second / recommendations.name).num_rows == 120
        assert (second / "segments.parquet").samefile(first / "segments.parquet")

    def test_it_says_what_ran_and_what_came_of_it(self, world: World) -> None:
        run = night(world, "seed=7")
        assert run is not None
        content = json.loads((run / "run.json").read_text(encoding="utf-8"))
        assert content["run_id"] == run.name
        assert content["config"]["seed"] == 7
        assert {(entry["stage"], entry["view"]) for entry in content["stages"]} >= {
            ("split", "evaluation"), ("train", "evaluation"), ("train", "production"), ("score", "production")
        }  # fmt: skip
        for path, manifest in content["manifests"].items():
            found = read_manifest(Path("work", path))
            assert found is not None
            assert manifest == found.to_json()
        assert {"evaluation/metrics.parquet", "recommendations.parquet", "models/popularity"} <= set(
            content["manifests"]
        )

    def test_a_night_with_nothing_to_do_is_not_kept(self, world: World) -> None:
        assert night(world) is not None
        assert night(world) is None

    def test_metrics_of_an_earlier_night_are_not_this_ones(self, world: World) -> None:
        night(world)
        run = night(world, "score.top_n=3", skip_evaluation=True)
        assert run is not None
        assert sorted(path.name for path in run.iterdir()) == [
            "recommendations.parquet", "run.json", "segments.parquet"
        ]  # fmt: skip

    def test_where_no_links_can_be_made_files_are_copied(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(*paths: object) -> None:
            raise OSError(95, "not supported")

        monkeypatch.setattr(os, "link", refuse)
        run = night(world)
        assert run is not None
        assert sorted(path.name for path in run.iterdir()) == KEPT
        copied, original = run / "recommendations.parquet", Path("work/recommendations.parquet")
        assert not copied.samefile(original)
        assert copied.read_bytes() == original.read_bytes()


class TestPruning:
    def test_models_of_kept_nights_and_the_current_ones_stay(self, world: World) -> None:
        runs = [night(world, "keep_runs=2", f"seed={seed}") for seed in (1, 2, 3)]
        oldest, *kept = [run for run in runs if run is not None]
        assert nights() == kept
        assert not oldest.exists()
        named = set.union(*map(fingerprints, kept))
        for root in ("work", "work/evaluation"):
            assert len(models(root)) == 2
            assert models(root) <= named
            current = json.loads(Path(root, "models/popularity/current.json").read_text())["folder"]
            assert current in models(root)
            assert current in fingerprints(kept[-1])

    def test_the_current_model_stays_though_no_night_names_it(self, world: World) -> None:
        night(world)
        shutil.rmtree("work/runs")
        before = models()
        config = load(world.config, ["train.model=popularity"])
        (Path("work/models/popularity") / "ab12").mkdir()
        (Path("work/models/by_hand") / "cd34").mkdir(parents=True)
        prune(Layout(Path("work"), "popularity"), config)
        assert models() == before
        assert Path("work/models/by_hand/cd34").exists()  # without a current.json it is not ours to judge

    def test_a_night_killed_while_it_was_kept_names_nothing(self, world: World) -> None:
        night(world)
        Path("work/runs/20990101T000000.000000Z").mkdir()
        prune(Layout(Path("work"), "popularity"), load(world.config))
        assert len(nights()) == 2
        assert len(models()) == 1

    def test_the_cache_is_shrunk_to_its_size(self, world: World) -> None:
        night(world)
        assert any(Path("work/cache").rglob("*.parquet"))
        night(world, "cache.max_gb=null", "seed=2")
        assert any(Path("work/cache").rglob("*.parquet"))
        night(world, "cache.max_gb=0", "seed=3")
        assert not any(Path("work/cache").rglob("*.parquet"))


def test_two_nights_at_once_have_two_names(world: World) -> None:
    layout, config = Layout(Path("work")), load(world.config)
    names = {keep_night(layout, config, [], []).name for _ in range(3)}
    assert len(names) == 3
    assert all(not (layout.runs / name / "metrics.parquet").exists() for name in names)
