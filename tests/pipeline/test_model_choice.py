"""What validation chooses, and what production makes of it."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from conftest import World
from runs import copy_world, manifest_of

SMALL = {"max_epochs": 4, "patience": 2, "hidden_dim": 8}
QUICK = {"baselines": ["popularity"], "n_bootstrap": 100}
VALIDATED = {"rating": "rmse", "implicit": "ndcg"}


def _config(world: World, folder: Path, **train: object) -> Path:
    return copy_world(world, folder / "world", train=train, evaluate=QUICK).config


def _choice(model: str) -> dict[str, object]:
    rows = pq.read_table(f"work/evaluation/models/{model}/model_choice.parquet").to_pylist()
    return {row["setting"]: json.loads(row["value"]) for row in rows}


def _history(view: str, model: str) -> list[dict[str, object]]:
    root = Path("work") / view / "models" / model
    folder = root / json.loads((root / "current.json").read_text(encoding="utf-8"))["folder"]
    return pq.read_table(folder / "training_history.parquet").to_pylist()


@pytest.mark.parametrize(
    ("model", "target"), [("factorization", "implicit"), ("factorization", "rating"), ("deep", "rating")]
)
def test_production_trains_as_long_as_validation_did_best(
    model: str, target: str, world: World, run_cli, tmp_path: Path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    config = _config(world, tmp_path, model=model, target=target, **SMALL)
    run_cli("run", "-c", config)
    evaluated, produced = _history("evaluation", model), _history("", model)
    values = [row["validation"] for row in evaluated]
    assert [row["epoch"] for row in evaluated] == list(range(1, len(values) + 1)) and 1 <= len(values) <= 4
    best = (min if target == "rating" else max)(values)
    assert _choice(model) == {"model": model, "n_epochs": values.index(best) + 1}
    assert len(produced) == values.index(best) + 1
    assert all(row["train_loss"] > 0 and row["seconds"] >= 0 for row in (*evaluated, *produced))
    details = manifest_of(Path(f"work/evaluation/models/{model}/model_choice.parquet")).details
    assert VALIDATED[target] in details["metric"] and details["validation"] == pytest.approx(best)
    lists = pq.read_table("work/recommendations.parquet")
    predicts = lists.column("predicted_rating").null_count < lists.num_rows
    assert predicts == (target == "rating")
    assert run_cli("run", "-c", config).stdout == "up to date: work\n"


def test_auto_takes_what_ranks_validation_best(world: World, run_cli, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = _config(world, tmp_path, model="auto", candidates=["random", "popularity", "content"])
    result = run_cli("run", "-c", config)
    choice = _choice("auto")
    values = manifest_of(Path("work/evaluation/models/auto/model_choice.parquet")).details["candidates"]
    assert values.keys() == {"random", "popularity", "content"}
    assert choice == {"model": max(values, key=values.get)}
    for name, value in values.items():
        assert f"{name}: validation ndcg {value:.4f}" in result.stderr
    assert f"as validation chose: model {choice['model']}" in result.stderr
    sources = set(pq.read_table("work/recommendations.parquet").column("source").to_pylist())
    assert choice["model"] in sources
    measured = set(pq.read_table("work/evaluation/metrics.parquet").column("model").to_pylist())
    assert measured == {"auto", "popularity"}
    text = run_cli("metrics", "-c", config).stdout
    assert f"auto is {choice['model']}" in text


def test_auto_reads_what_its_candidates_need_and_no_more(world: World, run_cli, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = _config(world, tmp_path, model="auto", candidates=["popularity", "recent_popularity"])
    run_cli("train", "-c", config)
    assert not Path("work/item_embeddings.parquet").exists()
    assert set(manifest_of(Path("work/models/auto")).inputs) == {"users", "items", "interactions"}


@pytest.mark.parametrize("settings", [{"model": "factorization", **SMALL}, {"model": "auto"}], ids=["epochs", "model"])
def test_train_alone_says_on_what_it_chose(
    settings: dict[str, object], world: World, run_cli, tmp_path: Path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    if settings["model"] == "auto":
        settings = {**settings, "candidates": ["popularity", "content"]}
    config = _config(world, tmp_path, target="implicit", **settings)
    for command in ("embed-items", "embed-users", "cluster"):
        run_cli(command, "-c", config)
    result = run_cli("train", "-c", config)
    key = "model" if settings["model"] == "auto" else "n_epochs"
    assert f"train.{key} is auto: choosing on 10% of the interactions" in result.stderr
    assert not Path("work/evaluation").exists()
    if key == "n_epochs":
        assert "fitting again to everything" in result.stderr
    # a choice that comes from the evaluation makes it stale, the same one again does not
    run_cli("run", "-c", config)
    assert "as validation chose" in run_cli("train", "-c", config, "--force").stderr


def test_a_number_of_epochs_is_taken_as_it_is(world: World, run_cli, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = _config(world, tmp_path, model="factorization", target="implicit", n_epochs=3, hidden_dim=8)
    result = run_cli("run", "-c", config)
    assert "is auto" not in result.stderr
    assert len(_history("", "factorization")) == len(_history("evaluation", "factorization")) == 3
    assert _choice("factorization") == {"model": "factorization", "n_epochs": 3}


def test_a_choice_that_is_no_candidate_any_more_is_made_anew(world: World, run_cli, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = _config(world, tmp_path, model="auto", candidates=["popularity", "content"])
    run_cli("run", "-c", config)
    other = ("--set", "train.candidates=[random, recent_popularity]")
    result = run_cli("train", "-c", config, *other)
    assert "train.model is auto: choosing on 10% of the interactions held out" in result.stderr
    run_cli("run", "-c", config, *other)
    assert _choice("auto")["model"] in {"random", "recent_popularity"}


def test_a_damaged_choice_is_made_again(world: World, run_cli, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = _config(world, tmp_path, model="content")
    run_cli("run", "-c", config)
    path = Path("work/evaluation/models/content/model_choice.parquet")
    path.write_bytes(path.read_bytes()[:100])
    run_cli("train", "-c", config)  # as if there were none
    run_cli("run", "-c", config)
    assert _choice("content") == {"model": "content"}
    assert run_cli("run", "-c", config).stdout == "up to date: work\n"
