"""`recpipe tune`: trials that fail, and what ends a search before it begins."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from conftest import World
from runs import copy_of_finished, copy_world
from searches import CONTENT_SPACE, LEARNED, RunCli, fitted, space, trials

from recpipe.errors import DataError


@pytest.fixture
def finished(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return copy_of_finished(world, tmp_path)


# failures ----------------------------------------------------------------------------------------


def test_a_failed_trial_is_recorded_and_the_study_goes_on(
    finished: Path, world: World, run_cli: RunCli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from recpipe.stages.pipeline import trials as module

    original = module._measure
    calls: list[int] = []

    def sometimes(trial: Any, *, validation_users: int) -> Any:
        calls.append(1)
        if len(calls) == 2:
            raise DataError("the moon is full")
        return original(trial, validation_users=validation_users)

    monkeypatch.setattr(module, "_measure", sometimes)
    words = ("tune", "-c", world.config, *CONTENT_SPACE, "--set")
    result = run_cli(*words, "tune.n_trials=4")
    assert [row["state"] for row in trials(tmp_path)] == ["complete", "failed", "complete", "complete"]
    failed = trials(tmp_path)[1]
    assert (failed["value"], failed["metric"], failed["reason"]) == (None, None, "the moon is full")
    assert "warning: trial 2 of 4 failed: the moon is full" in result.stderr
    run_cli(*words, "tune.n_trials=5")
    assert len(calls) == 5  # a failed trial is not run again either


def test_settings_that_do_not_go_together_fail_a_trial_only(
    finished: Path, world: World, run_cli: RunCli, tmp_path: Path
) -> None:
    bounds = (*space("cluster.min_clusters", int=[2, 9]), *space("cluster.max_clusters", int=[2, 9]))
    words = (*bounds, "--set", "cluster.n_clusters=auto", "--set", "cluster.max_clusters=4")
    run_cli("tune", "-c", world.config, *words, *LEARNED, "--set", "tune.n_trials=8", "--set", "tune.startup_trials=8")
    rows = trials(tmp_path)
    for row in rows:
        values = json.loads(row["settings"])
        crossed = values["cluster.min_clusters"] > values["cluster.max_clusters"]
        assert (row["state"] == "failed") == crossed
        assert not crossed or "min_clusters is above max_clusters" in row["reason"]
    assert {row["state"] for row in rows} == {"complete", "failed"}


def test_where_nothing_can_be_finished(
    finished: Path, world: World, run_cli: RunCli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from recpipe.stages.pipeline import trials as module

    def never(trial: Any, *, validation_users: int) -> Any:
        raise DataError("the moon is full")

    monkeypatch.setattr(module, "_measure", never)
    result = run_cli("tune", "-c", world.config, *CONTENT_SPACE, "--set", "tune.n_trials=2", expect=3)
    assert "no trial could be finished; the last: the moon is full" in result.stderr and result.stdout == ""


def test_bad_data_end_the_search_before_the_first_trial(world: World, run_cli: RunCli, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    copy = copy_world(world, tmp_path / "world")
    copy.interactions.unlink()
    result = run_cli("tune", "-c", copy.config, *CONTENT_SPACE, expect=4)
    assert "interactions" in result.stderr
    assert not list(tmp_path.glob("work/tune/*/trials.parquet"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--set", "tune.n_trials=3"), "nothing to search"),
        (space("train.centered", choice=[True]), "did you mean 'centred'?"),
        (space("cluster.n_clusters", int=[0, 3]), "cluster.n_clusters: "),
        (space("cluster.n_clusters", int=[3, 1]), "is not below"),
    ],
)
def test_a_wrong_space_exits_2_before_anything_runs(
    words: tuple[str, ...], message: str, world: World, run_cli: RunCli, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run_cli("tune", "-c", world.config, *words, expect=2)
    assert message in result.stderr and not (tmp_path / "work").exists()


def test_an_encoder_that_is_not_here_ends_the_search_before_it_begins(
    finished: Path, world: World, run_cli: RunCli, tiny_encoder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran = fitted(monkeypatch)
    encoders = space("encoder.model_name", choice=[str(tiny_encoder), "./nowhere"])
    assert "nowhere" in run_cli("tune", "-c", world.config, *encoders, expect=5).stderr
    assert not ran


def test_without_optuna(world: World, run_cli: RunCli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    result = run_cli("tune", "-c", world.config, *CONTENT_SPACE, expect=5)
    assert "pip install 'recpipe[tune]'" in result.stderr and not (tmp_path / "work").exists()
