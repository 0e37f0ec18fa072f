"""Night after night: what the next run does with what the last one left, and what is kept of it."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from conftest import World
from runs import (
    CHAIN,
    assert_same_artifact,
    copy_of_finished,
    copy_world,
    digests,
    finish,
    manifest_of,
    snapshot,
    start,
)

TABLES = ("metrics", "metric_differences", "user_metrics", "segments", "recommendations")
KEPT = {"run.json", *(f"{name}.parquet" for name in TABLES)}
AUTO = (
    "--set", "train.model=factorization", "--set", "train.max_epochs=4", "--set", "train.patience=2",
    "--set", "train.hidden_dim=8", "--set", "evaluate.baselines=[popularity]", "--set", "evaluate.n_bootstrap=100",
)  # fmt: skip


@pytest.fixture
def finished(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return copy_of_finished(world, tmp_path)


def _add(table: Path, *lines: str) -> None:
    with table.open("a", encoding="utf-8") as file:
        file.writelines(f"{line}\n" for line in lines)


def _nights(work: Path) -> list[Path]:
    return sorted((work / "runs").iterdir())


def _choice(work: Path, model: str) -> dict[str, object]:
    rows = pq.read_table(work / "evaluation" / "models" / model / "model_choice.parquet").to_pylist()
    return {row["setting"]: json.loads(row["value"]) for row in rows}


# what a night is made of -----------------------------------------------------------------------


def test_a_run_keeps_its_results(finished: Path, world: World):
    (night,) = _nights(finished)
    assert {path.name for path in night.iterdir()} == KEPT
    assert_same_artifact(night / "metrics.parquet", finished / "evaluation" / "metrics.parquet")
    assert_same_artifact(night / "segments.parquet", finished / "segments.parquet")
    assert_same_artifact(night / "recommendations.parquet", finished / "recommendations.parquet")
    kept = json.loads((night / "run.json").read_text(encoding="utf-8"))
    assert kept["run_id"] == night.name and kept["config"]["score"]["top_n"] == 5
    ran = [(entry["stage"], entry["view"]) for entry in kept["stages"]]
    assert ran[-4:] == [(stage, "production") for stage in CHAIN[1:]] and ("evaluate", "evaluation") in ran
    assert len(ran) == len(set(ran)) and all(entry["ran"] for entry in kept["stages"])
    for path, manifest in kept["manifests"].items():
        assert manifest == manifest_of(finished / path).to_json()
    assert {"tables/items.parquet", "models/content", "evaluation/models/content"} <= kept["manifests"].keys()


def test_nights_beyond_keep_runs_and_their_models_go(finished: Path, world: World, run_cli):
    (first,) = _nights(finished)
    settings = ("-c", world.config, "--set", "keep_runs=2", "--set", "evaluate.n_bootstrap=100")
    fingerprints = [manifest_of(finished / "models" / "content").fingerprint]
    for rating in (3, 4):
        run_cli("run", *settings, "--set", f"train.positive_from={rating}", "--set", f"score.top_n={rating}")
        fingerprints.append(manifest_of(finished / "models" / "content").fingerprint)
    nights = _nights(finished)
    assert len(nights) == 2 and first not in nights
    # the lists of the night before are as they were, whatever replaced them since
    assert [pq.read_metadata(night / "recommendations.parquet").num_rows for night in nights] == [40 * 3, 40 * 4]
    kept = {path.name for path in (finished / "models" / "content").iterdir() if path.is_dir()}
    assert kept == set(fingerprints[1:])


def test_a_night_with_nothing_to_do_is_not_kept(finished: Path, world: World, run_cli):
    before = snapshot(finished / "runs")
    assert run_cli("run", "-c", world.config).stdout == "up to date: work\n"
    assert snapshot(finished / "runs") == before


def test_a_night_costs_no_second_copy(finished: Path, world: World, run_cli):
    run_cli("run", "-c", world.config, "--set", "score.top_n=3")
    night = _nights(finished)[-1]
    for name in ("recommendations.parquet", "segments.parquet", "evaluation/metrics.parquet"):
        assert (finished / name).samefile(night / Path(name).name)


# the next night --------------------------------------------------------------------------------


def test_skip_evaluation_uses_what_validation_chose_last(world: World, run_cli, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    grown = copy_world(world, tmp_path / "world")
    run_cli("run", "-c", grown.config, *AUTO)
    work = Path("work")
    choice = _choice(work, "factorization")
    assert choice["model"] == "factorization" and 1 <= choice["n_epochs"] <= 4
    before = digests(work, "evaluation/**/*.*")
    first = manifest_of(work / "models" / "factorization")
    assert first.inputs["model_choice"]

    _add(grown.interactions, *(f"u{user:02d},i58,5,1609000000" for user in range(6)))
    result = run_cli("run", "-c", grown.config, *AUTO, "--skip-evaluation")
    assert digests(work, "evaluation/**/*.*") == before
    assert f"as validation chose: model factorization, n_epochs {choice['n_epochs']}" in result.stderr
    assert "evaluate" not in result.stdout and "evaluation" not in result.stdout
    second = manifest_of(work / "models" / "factorization")
    assert second.fingerprint != first.fingerprint
    assert second.inputs["model_choice"] == first.inputs["model_choice"]
    history = pq.read_table(work / "models" / "factorization" / second.fingerprint / "training_history.parquet")
    assert history.num_rows == choice["n_epochs"]
    assert history.column("validation").null_count == history.num_rows, "production was stopped by something"
    assert run_cli("run", "-c", grown.config, *AUTO, "--skip-evaluation").stdout == "up to date: work\n"
    text = run_cli("recommend", "u00", "-c", grown.config, "--top", "2").stdout
    assert text.startswith("user u00\n") and "(factorization, " in text


def test_a_choice_made_with_other_settings_is_not_used(world: World, run_cli, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run_cli("run", "-c", world.config, *AUTO)
    result = run_cli("train", "-c", world.config, *AUTO, "--set", "train.hidden_dim=4")
    assert "as validation chose" not in result.stderr
    assert "train.n_epochs is auto: choosing on 10% of the interactions" in result.stderr
    assert "model_choice" not in manifest_of(Path("work/models/factorization")).inputs


def test_skip_evaluation_on_the_first_night(world: World, run_cli, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = run_cli("run", "-c", world.config, *AUTO, "--skip-evaluation")
    assert "train.n_epochs is auto: choosing on 10% of the interactions" in result.stderr
    assert not Path("work/evaluation").exists()
    assert pq.read_metadata("work/recommendations.parquet").num_rows == 200
    (night,) = _nights(Path("work"))
    assert {path.name for path in night.iterdir()} == {"run.json", "segments.parquet", "recommendations.parquet"}


def test_new_interactions_encode_nothing(finished: Path, world: World, run_cli, tmp_path: Path):
    """One per cent more: vectors of items and of texts are those of the night before."""
    grown = copy_world(world, tmp_path / "world")
    _add(grown.interactions, *(f"u{user:02d},i57,4,{1609000000 + user}" for user in range(6)))
    items = digests(finished, "item_embeddings.parquet")
    run_cli("run", "-c", grown.config)
    assert digests(finished, "item_embeddings.parquet") == items
    for folder in (finished, finished / "evaluation"):
        details = manifest_of(folder / "user_embeddings.parquet").details
        assert (details["encoded"], details["cached"]) == (0, 38)
    lists = pq.read_table(finished / "recommendations.parquet").to_pylist()
    assert not {("u00", "i57"), ("u05", "i57")} & {(row["user_id"], row["item_id"]) for row in lists}


def test_new_items_and_users_are_all_that_is_encoded(finished: Path, world: World, run_cli, tmp_path: Path):
    grown = copy_world(world, tmp_path / "world")
    _add(grown.items, "i60,Late,a late robot story,Robot", "i61,Later,a later robot story,Robot")
    _add(grown.users, "u40,war and robot night")
    _add(grown.interactions, "u40,i60,5,1609000000")
    run_cli("run", "-c", grown.config)
    details = manifest_of(finished / "item_embeddings.parquet").details
    assert (details["encoded"], details["cached"]) == (2, 60)
    # evaluation comes first: it encodes the new text, production finds it in the cache
    details = manifest_of(finished / "evaluation" / "user_embeddings.parquet").details
    assert (details["encoded"], details["cached"]) == (1, 38)
    details = manifest_of(finished / "user_embeddings.parquet").details
    assert (details["encoded"], details["cached"]) == (0, 39)
    assert "u40" in pq.read_table(finished / "recommendations.parquet").column("user_id").to_pylist()


@pytest.mark.slow
def test_nothing_new_takes_less_than_2_s(world: World, tmp_path: Path):
    copy_of_finished(world, tmp_path)
    for words in ((), ("--skip-evaluation",)):
        seconds = []
        for _ in range(5):
            begun = time.perf_counter()
            code, stdout, log = finish(start("run", "-c", world.config, *words, cwd=tmp_path))
            seconds.append(time.perf_counter() - begun)
            assert (code, stdout) == (0, "up to date: work\n"), log
        assert min(seconds) < 2, (words, seconds, os.getloadavg())
