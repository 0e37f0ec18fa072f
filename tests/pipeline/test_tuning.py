"""`recpipe tune`: what it measures, what it runs again and what it leaves alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import World
from runs import copy_of_finished, leftovers, manifest_of, snapshot
from searches import CONTENT_SPACE, LEARNED, RunCli, fitted, space, trials

from recpipe.store.artifacts import ArtifactReader


@pytest.fixture
def finished(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return copy_of_finished(world, tmp_path)


# what is measured ----------------------------------------------------------------------------


def test_the_value_is_what_training_validates_by(finished: Path, world: World, run_cli: RunCli, tmp_path: Path) -> None:
    words = ("-c", world.config, *LEARNED)
    run_cli("tune", *words, *space("train.hidden_dim", int=[4, 16]), "--set", "tune.n_trials=1")
    run_cli("train", *words, "--view", "evaluation")
    details = manifest_of(finished / "evaluation/models/factorization/model_choice.parquet").details
    (trial,) = trials(tmp_path)
    assert (trial["metric"], trial["state"]) == (details["metric"], "complete")
    assert trial["value"] == pytest.approx(details["validation"], abs=1e-9)


def test_ratings_are_measured_by_rmse_and_the_lowest_is_best(
    finished: Path, world: World, run_cli: RunCli, tmp_path: Path
) -> None:
    words = (*LEARNED, "--set", "train.target=rating", "--set", "tune.n_trials=4")
    result = run_cli("tune", "-c", world.config, *words, *space("train.learning_rate", float=[0.0001, 0.05], log=True))
    rows = trials(tmp_path)
    assert {row["metric"] for row in rows} == {"rmse"} and len({row["value"] for row in rows}) == 4
    best = min(rows, key=lambda row: row["value"])
    assert result.stdout.startswith(f"# trial {best['trial']} of 4: rmse {best['value']:.4f} on validation")
    assert yaml.safe_load(result.stdout)["train"] == {
        "learning_rate": json.loads(best["settings"])["train.learning_rate"]
    }


def test_test_interactions_are_not_read(
    finished: Path, world: World, run_cli: RunCli, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: set[str] = set()
    original = ArtifactReader.__init__

    def remember(self: ArtifactReader, path: Path, artifact: Any) -> None:
        read.add(path.name)
        original(self, path, artifact)

    monkeypatch.setattr(ArtifactReader, "__init__", remember)
    run_cli("tune", "-c", world.config, *CONTENT_SPACE, "--set", "tune.n_trials=2")
    assert "validation_interactions.parquet" in read
    assert not {"test_interactions.parquet", "interactions.parquet"} & read


def test_models_without_a_validation_value_of_their_own_are_compared(
    finished: Path, world: World, run_cli: RunCli, tmp_path: Path
) -> None:
    models = ["popularity", "content", "random"]
    result = run_cli("tune", "-c", world.config, *space("train.model", choice=models), "--set", "tune.n_trials=10")
    rows = trials(tmp_path)
    assert {json.loads(row["settings"])["train.model"] for row in rows} == set(models) and len(rows) == 3
    assert {row["metric"] for row in rows} == {"ndcg"} and all(0 < row["value"] < 1 for row in rows)
    assert "every setting of the space was tried" in result.stderr


def test_models_that_learn_different_targets_are_refused_before_the_first_fit(
    finished: Path, world: World, run_cli: RunCli, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran = fitted(monkeypatch)
    models = space("train.model", choice=["content", "factorization"])
    result = run_cli("tune", "-c", world.config, *models, expect=2)
    assert "(content: implicit, factorization: rating), so their trials cannot be compared" in result.stderr
    assert "set train.target" in result.stderr and not ran
    run_cli("tune", "-c", world.config, *models, "--set", "train.target=implicit", "--set", "tune.n_trials=2")


def test_a_trial_of_another_metric_ends_the_study(
    finished: Path, world: World, run_cli: RunCli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from recpipe.stages.pipeline import trials as module

    metrics = iter(["ndcg", "rmse"])
    monkeypatch.setattr(module, "_measure", lambda trial, **how: module.Measured(next(metrics), 0.5))
    result = run_cli("tune", "-c", world.config, *CONTENT_SPACE, expect=2)
    assert "is measured by rmse, those before by ndcg: they cannot be compared" in result.stderr
    assert len(trials(tmp_path)) == 1


# what runs again, and what is left alone --------------------------------------------------------


def test_only_what_is_stale_runs_and_nothing_of_the_work_directory_changes(
    finished: Path, world: World, run_cli: RunCli, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = ("tune", ".locks", ".digests.json", "cache", ".parts")

    def state() -> dict[str, tuple[int, int]]:
        return {name: stat for name, stat in snapshot(finished).items() if Path(name).parts[0] not in kept}

    before = state()
    ran = fitted(monkeypatch)
    words = ("-c", world.config, "--set", "tune.n_trials=3")
    run_cli("tune", *words, *space("train.centred", choice=[True, False]))
    assert ran == ["train"]  # the first trial is the model that was there
    ran.clear()
    run_cli("tune", *words, *space("cluster.n_clusters", int=[2, 6]), *LEARNED)
    assert ran == ["train", "cluster", "train", "cluster", "train"]
    ran.clear()
    run_cli("tune", *words, *CONTENT_SPACE)
    assert ran == ["embed_users", "cluster", "train"] * 2
    assert state() == before
    assert {path.name for path in (finished / "tune").glob("*/*")} == {"trials.parquet"}
    assert not leftovers(finished) and not list((finished / ".parts").glob("*/*"))
    assert run_cli("run", "-c", world.config).stdout == "up to date: work\n"


def test_in_an_empty_work_directory(world: World, run_cli: RunCli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    ran = fitted(monkeypatch)
    words = ("-c", world.config, *space("train.recent_share", float=[0.05, 0.9]))
    run_cli("tune", *words, "--set", "train.model=recent_popularity", "--set", "tune.n_trials=3")
    assert ran == ["users", "items", "interactions", "split", "train", "train", "train"]
    assert len(trials(tmp_path)) == 3
    assert {path.name for path in (tmp_path / "work").iterdir()} <= {
        "tables", "tune", ".locks", ".digests.json", ".parts", "quarantine", "cache",
    }  # fmt: skip


def test_what_is_written_can_be_run(finished: Path, world: World, run_cli: RunCli, tmp_path: Path) -> None:
    words = ("tune", "-c", world.config, *CONTENT_SPACE, "--output", "best.yaml")
    run_cli(*words, "--set", "tune.n_trials=3", "--set", "score.top_n=4")
    best = max(trials(tmp_path), key=lambda row: row["value"])
    written = yaml.safe_load((tmp_path / "best.yaml").read_text(encoding="utf-8"))
    half_life = json.loads(best["settings"])["users.half_life_days"]
    assert written["users"] == {"half_life_days": half_life} and written["score"] == {"top_n": 4}
    shown = yaml.safe_load(run_cli("config", "-c", "best.yaml").stdout)
    assert shown["users"]["half_life_days"] == half_life and shown["train"]["model"] == "content"
    run_cli(*words, "--set", "tune.n_trials=4")  # its own file it may replace
    (tmp_path / "best.yaml").write_text("mine: true\n")
    result = run_cli(*words, expect=2)
    assert "did not write" in result.stderr and (tmp_path / "best.yaml").read_text() == "mine: true\n"
    assert "no such folder" in run_cli(*words[:-1], "nowhere/best.yaml", expect=2).stderr
    run_cli(*words, "--set", "tune.n_trials=4", "--force")
    assert (tmp_path / "best.yaml").read_text().startswith("# Written by recpipe tune")


def test_a_dry_run_does_nothing(finished: Path, world: World, run_cli: RunCli) -> None:
    before = snapshot(finished)
    result = run_cli("tune", "-c", world.config, *CONTENT_SPACE, "--dry-run")
    assert "0 of 30 trials are done" in result.stdout and "users.half_life_days" in result.stdout
    assert snapshot(finished) == before
