"""The five commands, each alone, as a Makefile or a cron job calls them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from conftest import World
from runs import CHAIN, EVALUATION_CHAIN, assert_same_artifact, copy_of_finished, manifest_of

RESULTS = (
    "item_embeddings.parquet",
    "user_embeddings.parquet",
    "user_profiles.parquet",
    "segments.parquet",
    "recommendations.parquet",
)


def test_five_commands_on_three_csv_files_give_what_run_gives(world: World, run_cli, tmp_path: Path, monkeypatch):
    expected = copy_of_finished(world, tmp_path)
    folder = tmp_path / "empty"
    folder.mkdir()
    for table in (world.users, world.items, world.interactions):
        shutil.copy(table, folder)
    text = world.config.read_text(encoding="utf-8").replace(f"{world.folder}/", "")
    (folder / "config.yaml").write_text(text, encoding="utf-8")
    monkeypatch.chdir(folder)
    for command in CHAIN:
        run_cli(command, "-c", "config.yaml")
    for name in RESULTS:
        assert_same_artifact(folder / "work" / name, expected / name)
    made = {path.name for path in folder.iterdir()}
    assert made == {"users.csv", "items.csv", "interactions.csv", "config.yaml", "work"}


def test_five_commands_with_every_path_given(world: World, run_cli, tmp_path: Path, monkeypatch):
    """Outputs lie outside the work directory, inputs have names of their own."""
    expected = copy_of_finished(world, tmp_path / "run")
    monkeypatch.chdir(tmp_path)
    for source, name in ((world.users, "people.csv"), (world.items, "things.csv"), (world.interactions, "log.csv")):
        shutil.copy(source, tmp_path / name)
    text = world.config.read_text(encoding="utf-8")
    nowhere = text.replace(str(world.folder), "nowhere")  # the tables come from the command line
    (tmp_path / "config.yaml").write_text(nowhere, encoding="utf-8")
    tables = ("--users", "people.csv", "--items", "things.csv", "--interactions", "log.csv")
    common = ("-c", "config.yaml")
    run_cli("embed-items", *common, "--items", "things.csv", "--output", "a/vectors.parquet")
    run_cli(
        "embed-users", *common, *tables,
        "--item-embeddings", "a/vectors.parquet", "--user-embeddings-out", "b/users.parquet",
    )  # fmt: skip
    run_cli(
        "cluster", *common, *tables, "--user-embeddings", "b/users.parquet", "--output", "c/profiles.parquet",
        "--segments-out", "c/segments.parquet", "--segment-space-out", "c/space.parquet",
        "--profile-features-out", "c/features.parquet",
    )  # fmt: skip
    inputs = (
        "--item-embeddings", "a/vectors.parquet", "--user-embeddings", "b/users.parquet",
        "--user-profiles", "c/profiles.parquet",
    )  # fmt: skip
    run_cli("train", *common, *tables, *inputs, "--model-out", "d/model")
    run_cli("score", *common, *tables, *inputs, "--model", "d/model", "--output", "lists.parquet")

    assert_same_artifact(Path("a/vectors.parquet"), expected / "item_embeddings.parquet")
    assert_same_artifact(Path("b/users.parquet"), expected / "user_embeddings.parquet")
    assert_same_artifact(Path("c/profiles.parquet"), expected / "user_profiles.parquet")
    assert_same_artifact(Path("c/segments.parquet"), expected / "segments.parquet")
    assert_same_artifact(Path("lists.parquet"), expected / "recommendations.parquet")
    assert (Path("d/model") / "current.json").exists()
    assert not list(Path("work").glob("*.parquet")), "an output went to its default place"
    assert not Path("work/models").exists()


@pytest.mark.parametrize(
    ("command", "missing", "step"),
    [
        ("embed-users", "item_embeddings", "run: recpipe embed-items"),
        ("cluster", "user_embeddings", "run: recpipe embed-users"),
        ("train", "item_embeddings", "run: recpipe embed-items"),
        ("score", "model", "run: recpipe train"),
    ],
)
def test_out_of_order_names_the_command_to_run(
    command: str, missing: str, step: str, world: World, run_cli, tmp_path: Path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    result = run_cli(command, "-c", world.config, expect=4)
    assert f"error: {missing} missing" in result.stderr
    assert step in result.stderr
    assert result.stdout == ""
    assert not list(tmp_path.glob("work/*.parquet"))


def test_evaluation_view_out_of_order_names_split(world: World, run_cli, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run_cli("run", "-c", world.config, "--skip-evaluation")
    steps = []
    for command in (*EVALUATION_CHAIN[1:], "score"):
        words = () if command == "evaluate" else ("--view", "evaluation")
        result = run_cli(command, "-c", world.config, *words, expect=4)
        assert " missing" in result.stderr and result.stdout == ""
        steps.append(result.stderr.split("next:  run: recpipe ")[1].strip())
    made = ["split", *(f"{command} --view evaluation" for command in ("embed-users", "train"))]
    assert set(steps) <= {*made, "split"} and steps[0] == "split" and steps[-1] == "train --view evaluation"
    assert not Path("work/evaluation/metrics.parquet").exists()


def test_relative_paths_start_at_dash_c(world: World, run_cli, tmp_path: Path, monkeypatch, tiny_encoder: Path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "night").mkdir()
    shutil.copy(world.items, tmp_path / "night" / "items.csv")
    run_cli(
        "-C", "night", "embed-items", "--items", "items.csv", "--set", "device=cpu",
        "--set", f"encoder.model_name={tiny_encoder}",
    )  # fmt: skip
    assert pq.read_metadata(tmp_path / "night" / "work" / "item_embeddings.parquet").num_rows == 60


def test_one_command_needs_only_its_own_table(world: World, run_cli, tmp_path: Path, monkeypatch, tiny_encoder: Path):
    monkeypatch.chdir(tmp_path)
    encoder = ("--set", f"encoder.model_name={tiny_encoder}")
    run_cli("embed-items", "--items", world.items, *encoder, "--output", "v.parquet")
    assert manifest_of(Path("v.parquet")).rows == 60
    run_cli("embed-users", "--users", world.users, *encoder, "--output", "z.parquet")
    assert manifest_of(Path("z.parquet")).details["history"] == "none"


def test_popularity_needs_no_encoder(world: World, run_cli, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tables = ("--users", world.users, "--items", world.items, "--interactions", world.interactions)
    for command in ("train", "score"):
        run_cli(command, *tables, "--set", "train.model=popularity", "--set", "encoder.model_name=/nowhere")
    lists = pq.read_table("work/recommendations.parquet")
    assert set(lists.column("source").to_pylist()) == {"popularity"}
    assert len(set(lists.column("user_id").to_pylist())) == 40
