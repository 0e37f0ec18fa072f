"""What can be known to fail is found before anything expensive starts, and nothing of anybody's is overwritten."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import World
from runs import copy_of_finished, copy_world, digests, manifest_of, snapshot


@pytest.fixture
def finished(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return copy_of_finished(world, tmp_path)


def _tables() -> list[Path]:
    return list(Path("work").rglob("*.parquet"))


@pytest.mark.parametrize(
    ("words", "file"),
    [
        (("embed-items", "--output", "{items}"), "{items}"),
        (("embed-users", "--output", "work/item_embeddings.parquet"), "work/item_embeddings.parquet"),
        (("score", "--output", "work/./user_profiles.parquet"), "work/user_profiles.parquet"),
        (("evaluate", "--user-metrics-out", "work/evaluation/test_interactions.parquet"), "test_interactions.parquet"),
    ],
)
def test_an_output_that_is_an_input_is_refused(
    words: tuple[str, ...], file: str, finished: Path, world: World, run_cli, tmp_path: Path
):
    own = copy_world(world, tmp_path / "world")
    before = digests(tmp_path, "w*/**/*.[cp]*")
    filled = [word.format(items=own.items) for word in words]
    result = run_cli(*filled, "-c", own.config, "--force", expect=2)
    assert f"{words[0]} would overwrite its own input" in result.stderr
    assert file.format(items=own.items) in result.stderr and "--output" in result.stderr.split("next:")[1]
    assert digests(tmp_path, "w*/**/*.[cp]*") == before


def test_a_foreign_file_in_the_way_is_kept_until_forced(finished: Path, world: World, run_cli):
    foreign = Path("lists.parquet")
    pq.write_table(pa.table({"mine": [1]}), foreign)
    Path("notes.txt").write_text("mine", encoding="utf-8")
    for path in (foreign, Path("notes.txt")):
        before = path.read_bytes()
        result = run_cli("score", "-c", world.config, "--output", path, expect=2)
        assert "is no earlier" in result.stderr and str(path) in result.stderr and "--force" in result.stderr
        assert path.read_bytes() == before
    run_cli("score", "-c", world.config, "--output", foreign, "--force")
    assert manifest_of(foreign).rows == 200
    run_cli("score", "-c", world.config, "--output", foreign, "--set", "score.top_n=3")  # ours now
    assert manifest_of(foreign).rows == 120


def test_run_finds_a_foreign_file_before_its_first_stage(world: World, run_cli, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("work").mkdir()
    pq.write_table(pa.table({"mine": [1]}), "work/recommendations.parquet")
    result = run_cli("run", "-c", world.config, expect=2)
    assert "work/recommendations.parquet" in result.stderr
    assert _tables() == [Path("work/recommendations.parquet")]


@pytest.mark.parametrize(
    ("make", "words", "part"),
    [
        ("file", ("--workdir", "there/work"), "workdir: there/work"),
        ("folder", ("--output", "there"), "a folder stands where a file is to be written"),
        ("file", ("--output", "there/vectors.parquet"), "no folder can be made there"),
    ],
)
def test_a_place_that_cannot_be_written_is_refused_first(
    make: str, words: tuple[str, ...], part: str, world: World, run_cli, tmp_path: Path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    there = Path("there")
    there.mkdir() if make == "folder" else there.write_text("in the way", encoding="utf-8")
    result = run_cli("embed-items", "-c", world.config, *words, expect=2)
    assert part in result.stderr and "there" in result.stderr and "Traceback" not in result.stderr
    assert _tables() == [], "work was done before"


def test_a_folder_nobody_may_write_is_refused_first(world: World, run_cli, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("os.access", lambda path, mode: Path(path).name != "work")  # root may write anywhere
    result = run_cli("run", "-c", world.config, expect=2)
    assert "the folder cannot be written" in result.stderr and "workdir: work" in result.stderr
    assert _tables() == []


def test_a_missing_table_ends_a_run_before_its_first_stage(world: World, run_cli, tmp_path: Path, monkeypatch):
    own = copy_world(world, tmp_path / "world")
    own.interactions.unlink()
    monkeypatch.chdir(tmp_path)
    result = run_cli("run", "-c", own.config, expect=4)
    assert str(own.interactions) in result.stderr
    assert _tables() == []


@pytest.mark.parametrize(
    "setting",
    [
        "train.model=conten",
        "train.candidates=[conten]",
        "evaluate.reference=popularty",
        "evaluate.baselines=[popularty]",
    ],
)
def test_a_misspelt_model_ends_a_run_before_its_first_stage(
    setting: str, world: World, run_cli, tmp_path: Path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    auto = ("--set", "train.model=auto") if "candidates" in setting else ()
    result = run_cli("run", "-c", world.config, *auto, "--set", setting, expect=2)
    assert "did you mean" in result.stderr
    assert _tables() == []


def test_a_device_that_is_not_here_ends_a_run_before_its_first_stage(
    world: World, run_cli, tmp_path: Path, monkeypatch
):
    import torch

    monkeypatch.chdir(tmp_path)
    result = run_cli("run", "-c", world.config, "--set", f"device=cuda:{torch.cuda.device_count()}", expect=5)
    assert "set device: cpu or auto" in result.stderr
    assert _tables() == []


# inputs that are not up to date ------------------------------------------------------------------


def test_a_stage_on_stale_inputs_warns(finished: Path, world: World, run_cli):
    settings = ("-c", world.config, "--set", "cluster.n_clusters=4")
    result = run_cli("score", *settings, "--force")
    warned = [line for line in result.stderr.splitlines() if "not up to date" in line]
    assert any(line.endswith("run: recpipe cluster") for line in warned)
    assert any(line.endswith("run: recpipe train") for line in warned)
    assert not any("embed" in line for line in warned)
    assert "score: done" in result.stderr, "a warning is no error"
    result = run_cli("score", "-c", world.config, "--set", "score.top_n=4")
    assert "not up to date" not in result.stderr


def test_stale_inputs_of_the_evaluation_are_named_with_their_view(finished: Path, world: World, run_cli):
    result = run_cli("evaluate", "-c", world.config, "--set", "cluster.n_clusters=4", "--force")
    warned = [line for line in result.stderr.splitlines() if "not up to date" in line]
    assert any(line.endswith("run: recpipe cluster --view evaluation") for line in warned), warned


def test_inputs_named_on_the_command_line_are_nobodys_business(finished: Path, world: World, run_cli):
    words = ("--user-profiles", "work/user_profiles.parquet", "--set", "cluster.n_clusters=4")
    result = run_cli("train", "-c", world.config, *words)
    assert "not up to date" not in result.stderr


def test_refusals_leave_the_work_directory_as_it_was(finished: Path, world: World, run_cli, tmp_path: Path):
    before = snapshot(finished)
    run_cli("embed-users", "-c", world.config, "--output", "work/item_embeddings.parquet", expect=2)
    run_cli("score", "-c", world.config, "--model", "nowhere", expect=4)
    assert snapshot(finished) == before


def test_interactions_named_in_the_evaluation_view_are_no_training_interactions(world: World, run_cli):
    words = ("-c", world.config, "--view", "evaluation", "--interactions", world.interactions)
    result = run_cli("embed-users", *words, expect=2)
    assert "training interactions" in result.stderr and "recpipe split" in result.stderr
