"""What runs again and what does not: by content, never by the clock."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from conftest import World
from runs import (
    CHAIN,
    EVALUATION_CHAIN,
    assert_same_artifact,
    copy_of_finished,
    copy_world,
    digests,
    manifest_of,
    snapshot,
    vectors_of,
)

OUTPUTS = (
    "item_embeddings.parquet",
    "user_embeddings.parquet",
    "user_profiles.parquet",
    "profile_features.parquet",
    "segments.parquet",
    "segment_space.parquet",
    "models/content/current.json",
    "recommendations.parquet",
)


@pytest.fixture
def finished(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return copy_of_finished(world, tmp_path)


def _stale(run_cli, view: str, *words: object) -> list[str]:
    """Names of the stages of a view that `status` calls anything but up to date, source tables included."""
    rows = json.loads(run_cli("status", "--json", *words).stdout)
    return [row["stage"] for row in rows if row["state"] != "up to date" and row["view"] == view]


def test_second_run_is_up_to_date_and_outputs_get_a_new_time(finished: Path, world: World, run_cli):
    for name in OUTPUTS:
        os.utime(finished / name, (1, 1))
    before = digests(finished, "**/*.parquet")
    result = run_cli("run", "-c", world.config)
    assert result.stdout == "up to date: work\n"
    assert digests(finished, "**/*.parquet") == before
    for name in OUTPUTS:
        assert (finished / name).stat().st_mtime > 1_000_000_000, name


@pytest.mark.parametrize("command", CHAIN)
def test_every_command_says_up_to_date(command: str, finished: Path, world: World, run_cli):
    result = run_cli(command, "-c", world.config)
    assert f"{command}: up to date" in result.stderr
    assert result.stdout == ""


@pytest.mark.parametrize(
    ("setting", "stale", "evaluation"),
    [
        ("score.top_n=3", ["score"], []),
        ("score.exclude_seen=false", ["score"], []),
        ("train.positive_from=4", ["train", "score"], ["train", "evaluate"]),
        ("cluster.n_clusters=4", ["cluster", "train", "score"], ["cluster", "train", "evaluate"]),
        ("cluster.label_terms=2", ["cluster", "train", "score"], ["cluster", "train", "evaluate"]),
        ("users.profile_weight=0.9", list(CHAIN[1:]), list(EVALUATION_CHAIN[1:])),
        ("encoder.item_text=[title]", list(CHAIN), list(EVALUATION_CHAIN[1:])),
        ("evaluate.k=[5]", [], ["evaluate"]),
        ("evaluate.n_bootstrap=200", [], ["evaluate"]),
        # held-out interactions say which model or how many epochs, so production depends on them through train
        ("split.test_share=0.2", ["train", "score"], list(EVALUATION_CHAIN)),
        # execution, not content
        ("encoder.batch_tokens=64", [], []),
        ("score.block_users=7", [], []),
        ("evaluate.block_users=7", [], []),
        ("executor.workers=2", [], []),
        ("device=auto", [], []),
        ("keep_runs=2", [], []),
    ],
)
def test_a_setting_makes_stale_what_depends_on_it(
    setting: str, stale: list[str], evaluation: list[str], finished: Path, world: World, run_cli
):
    words = ("-c", world.config, "--set", setting)
    assert _stale(run_cli, "production", *words) == stale
    assert _stale(run_cli, "evaluation", *words) == evaluation


def test_a_changed_setting_runs_its_stages_and_no_other(finished: Path, world: World, run_cli):
    patterns = ("*.parquet", "evaluation/**/*.parquet")
    before = {name: digest for pattern in patterns for name, digest in digests(finished, pattern).items()}
    result = run_cli("run", "-c", world.config, "--set", "score.top_n=3")
    after = {name: digest for pattern in patterns for name, digest in digests(finished, pattern).items()}
    assert {name for name in after if after[name] != before[name]} == {"recommendations.parquet"}
    assert "score: done" in result.stderr and "up to date" not in result.stderr
    assert pq.read_metadata(finished / "recommendations.parquet").num_rows == 40 * 3
    table = {tuple(line.split()[:2]): line for line in result.stdout.splitlines()}
    assert "up to date" in table["cluster", "production"] and "up to date" in table["cluster", "evaluation"]
    assert "up to date" not in table["score", "production"]
    assert len(table) == len(result.stdout.splitlines()), "a stage is listed twice"


def test_status_says_why(finished: Path, world: World, run_cli):
    text = run_cli("status", "-c", world.config, "--set", "cluster.n_clusters=4").stdout
    rows = {line.split()[0]: line for line in text.splitlines()}
    assert "stale" in rows["cluster"] and "cluster.n_clusters 3 → 4" in rows["cluster"]
    assert "user_profiles changed" in rows["score"]
    assert "up to date" in rows["embed-users"]
    (finished / "recommendations.parquet").unlink()
    rows = {row["stage"]: row for row in json.loads(run_cli("status", "-c", world.config, "--json").stdout)}
    assert rows["score"]["state"] == "stale" and rows["score"]["reasons"] == ["no recommendations yet"]
    assert rows["score"]["rows"] is None
    assert rows["embed-items"]["rows"] == 60 and rows["embed-items"]["outputs"] == ["work/item_embeddings.parquet"]


def test_one_changed_text_is_encoded_and_no_other(finished: Path, world: World, run_cli, tmp_path: Path):
    changed = copy_world(world, tmp_path / "world")
    text = changed.items.read_text(encoding="utf-8").splitlines()
    identifier, title, _, genres = text[8].split(",")
    text[8] = ",".join([identifier, title, "a robot nobody has met", genres])
    changed.items.write_text("\n".join(text) + "\n", encoding="utf-8")
    old = vectors_of(finished / "item_embeddings.parquet")
    run_cli("embed-items", "-c", changed.config)
    details = manifest_of(finished / "item_embeddings.parquet").details
    assert (details["encoded"], details["cached"], details["empty"]) == (1, 59, 0)
    new = vectors_of(finished / "item_embeddings.parquet")
    assert [name for name in old if (old[name] != new[name]).any()] == [identifier]


def test_another_encoder_encodes_everything(finished: Path, world: World, run_cli, tmp_path: Path):
    from tiny_encoder import build_tiny_bert

    other = build_tiny_bert(tmp_path / "other", seed=1)
    run_cli("embed-items", "-c", world.config, "--set", f"encoder.model_name={other}")
    assert manifest_of(finished / "item_embeddings.parquet").details["encoded"] == 60
    # users by the old encoder and items by the new one must not meet
    result = run_cli("embed-users", "-c", world.config, expect=3)
    assert "encoder" in result.stderr


def test_the_same_tables_elsewhere_change_nothing(finished: Path, world: World, run_cli, tmp_path: Path):
    moved = copy_world(world, tmp_path / "elsewhere")
    for table in (moved.users, moved.items, moved.interactions):
        os.utime(table, (1, 1))
    assert run_cli("run", "-c", moved.config).stdout == "up to date: work\n"


def test_a_moved_work_directory_is_up_to_date(finished: Path, world: World, run_cli, tmp_path: Path):
    shutil.move(finished, tmp_path / "archive")
    result = run_cli("run", "-c", world.config, "--workdir", "archive")
    assert result.stdout == "up to date: archive\n"


def test_a_touched_table_with_other_content_is_noticed(finished: Path, world: World, run_cli, tmp_path: Path):
    changed = copy_world(world, tmp_path / "world")
    with changed.interactions.open("a", encoding="utf-8") as file:
        file.write("u00,i59,5.0,1577836801\n")
    run_cli("run", "-c", changed.config)
    lists = pq.read_table(finished / "recommendations.parquet").to_pylist()
    assert ("u00", "i59") not in {(row["user_id"], row["item_id"]) for row in lists}
    assert manifest_of(finished / "item_embeddings.parquet").details["encoded"] == 60, "the items were touched"


def test_force_runs_and_gives_the_same(finished: Path, world: World, run_cli, tmp_path: Path):
    shutil.copytree(finished, tmp_path / "before")
    for command in CHAIN:
        result = run_cli(command, "-c", world.config, "--force")
        assert f"{command}: done" in result.stderr
    for name in OUTPUTS:
        if name.endswith(".parquet"):
            assert_same_artifact(tmp_path / "before" / name, finished / name)
    assert run_cli("run", "-c", world.config, "--force").stdout.count("up to date") == 0


@pytest.mark.parametrize("words", [("run",), *((command,) for command in CHAIN), ("split",)])
def test_dry_run_in_an_empty_folder_writes_nothing(
    words: tuple[str, ...], world: World, run_cli, tmp_path: Path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    result = run_cli(*words, "-c", world.config, "--dry-run")
    assert list(tmp_path.iterdir()) == []
    assert "writes  work/" in result.stdout


def test_dry_run_and_status_change_nothing(finished: Path, world: World, run_cli, tmp_path: Path):
    changed = copy_world(world, tmp_path.with_name(f"{tmp_path.name}-world"))
    with changed.items.open("a", encoding="utf-8") as file:
        file.write("i60,New,a new story,War\n")
    before = snapshot(tmp_path)
    result = run_cli("run", "-c", changed.config, "--dry-run")
    assert "embed-items (production) is stale: items changed" in result.stdout
    assert "score (production) is stale" in result.stdout
    run_cli("embed-items", "-c", changed.config, "--dry-run")
    run_cli("status", "-c", changed.config)
    assert snapshot(tmp_path) == before


def test_dry_run_says_what_is_missing(world: World, run_cli, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = run_cli("score", "-c", world.config, "--dry-run").stdout
    assert "score (production) is blocked" in text
    assert "work/models/content  missing; run: recpipe train" in text


def test_two_models_side_by_side(finished: Path, world: World, run_cli):
    content = digests(finished, "models/content/**/*.*")
    popular = ("--set", "train.model=popularity", "--set", "train.name=everybody")
    run_cli("train", "-c", world.config, *popular)
    run_cli("score", "-c", world.config, *popular, "--output", "work/everybody.parquet")
    assert digests(finished, "models/content/**/*.*") == content
    assert {path.name for path in (finished / "models").iterdir()} == {"content", "everybody"}
    assert set(pq.read_table(finished / "everybody.parquet").column("source").to_pylist()) == {"popularity"}
    assert run_cli("run", "-c", world.config).stdout == "up to date: work\n"
    result = run_cli("score", "-c", world.config, *popular, "--output", "work/everybody.parquet")
    assert "score: up to date" in result.stderr


def test_two_versions_of_one_model_side_by_side(finished: Path, world: World, run_cli):
    raw = ("--set", "train.name=raw", "--set", "train.centred=false")
    run_cli("train", "-c", world.config, *raw)
    run_cli("score", "-c", world.config, *raw, "--output", "work/raw.parquet")
    first, second = (pq.read_table(finished / name) for name in ("recommendations.parquet", "raw.parquet"))
    assert first.column("item_id") != second.column("item_id")
    assert manifest_of(finished / "models" / "raw").settings["train"]["centred"] is False
    assert manifest_of(finished / "models" / "content").settings["train"]["centred"] is True
