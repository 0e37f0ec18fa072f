"""Commands that show and convert: what they print, and that stdout holds nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml
from conftest import World
from runs import CHAIN, EVALUATION_CHAIN, copy_of_finished, copy_world, digests, write_csv


@pytest.fixture
def finished(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return copy_of_finished(world, tmp_path)


# inspect -------------------------------------------------------------------------------------


def test_inspect_shows_lineage_columns_and_rows(finished: Path, run_cli):
    text = run_cli("inspect", "work/user_embeddings.parquet").stdout
    assert text.startswith("work/user_embeddings.parquet: user_embeddings (schema version 1)\n")
    for part in ("stage            embed_users", "rows             40", "with_history: 38", "without_embedding: 1"):
        assert part in text, part
    assert "embedding            fixed_size_list<float>[32]" in text
    assert "first 3 of 40 rows" in text and "user_id=u00" in text and "… 32 numbers]" in text
    assert len(run_cli("inspect", "work/user_embeddings.parquet", "--rows", "0").stdout.splitlines()) < len(
        text.splitlines()
    )


def test_inspect_json_is_the_manifest(finished: Path, run_cli, world: World):
    lineage = json.loads(run_cli("inspect", "work/recommendations.parquet", "--json").stdout)
    assert lineage["stage"] == "score" and lineage["rows"] == 200 and lineage["settings"]["score"]["top_n"] == 5
    made = json.loads(run_cli("inspect", "work/models/content", "--json").stdout)
    assert made["fingerprint"] == lineage["inputs"]["model"]
    embedded = json.loads(run_cli("inspect", "work/item_embeddings.parquet", "--json").stdout)
    assert embedded["details"]["encoded"] == 60 and "tiny-bert@" in embedded["identity"]
    assert made["inputs"]["item_embeddings"] == embedded["fingerprint"]


def test_inspect_shows_files_of_others_and_model_folders(finished: Path, run_cli):
    import pyarrow as pa

    pq.write_table(pa.table({"a": [1, 2]}), "foreign.parquet")
    text = run_cli("inspect", "foreign.parquet").stdout
    assert "foreign.parquet: Parquet, not written by recpipe" in text and "a=1" in text
    assert run_cli("inspect", "foreign.parquet", "--json").stdout == "null\n"
    assert "model (schema version 1)" in run_cli("inspect", "work/models/content").stdout
    Path("notes.txt").write_text("no table", encoding="utf-8")
    assert "notes.txt" in run_cli("inspect", "notes.txt", expect=3).stderr


# config --------------------------------------------------------------------------------------


def test_config_prints_a_configuration_that_means_the_same(world: World, run_cli, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    changes = ("--set", "cluster.n_clusters=7", "--set", "as_of=2024-05-01", "--set", "train.name=ours")
    first = run_cli("config", "-c", world.config, *changes, "--workdir", "elsewhere").stdout
    Path("whole.yaml").write_text(first, encoding="utf-8")
    assert run_cli("config", "-c", "whole.yaml").stdout == first
    values = yaml.safe_load(first)
    assert values["cluster"]["n_clusters"] == 7 and values["workdir"] == "elsewhere"
    assert values["data"]["items"] == str(world.items) and values["train"]["name"] == "ours"
    assert values["executor"] == {"kind": "local", "workers": "auto"}, "a default is missing"


def test_defaults_are_a_configuration(run_cli, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first = run_cli("config").stdout
    Path("defaults.yaml").write_text(first, encoding="utf-8")
    assert run_cli("config", "-c", "defaults.yaml").stdout == first
    Path("empty.yaml").write_text("# nothing\ncluster:\n", encoding="utf-8")
    assert run_cli("config", "-c", "empty.yaml").stdout == first


def test_the_printed_configuration_makes_nothing_stale(finished: Path, world: World, run_cli):
    Path("whole.yaml").write_text(run_cli("config", "-c", world.config).stdout, encoding="utf-8")
    assert run_cli("run", "-c", "whole.yaml").stdout == "up to date: work\n"


# segments, recommend -------------------------------------------------------------------------


def test_segments_prints_all_of_them(finished: Path, world: World, run_cli):
    rows = json.loads(run_cli("segments", "-c", world.config, "--json").stdout)
    assert [row["segment"] for row in rows if row["segment"] >= 0] == [0, 1, 2]
    assert sum(row["size"] for row in rows) == 40
    assert sum(row["share"] for row in rows) == pytest.approx(1, abs=1e-6)
    sizes = [row["size"] for row in rows if row["segment"] >= 0]
    assert sizes == sorted(sizes, reverse=True)
    text = run_cli("segments", "-c", world.config).stdout
    for row in rows:
        assert row["label"] and row["label"] in text
    assert len({row["label"] for row in rows}) == len(rows), "two segments have one label"
    evaluated = json.loads(run_cli("segments", "-c", world.config, "--view", "evaluation", "--json").stdout)
    assert sum(row["size"] for row in evaluated) == 40
    assert evaluated != rows


def test_recommend_prints_profile_history_and_titles(finished: Path, world: World, run_cli):
    text = run_cli("recommend", "u03", "u39", "-c", world.config, "--top", "4").stdout
    rows = [row for row in pq.read_table("work/recommendations.parquet").to_pylist() if row["user_id"] == "u03"]
    for row in rows[:4]:
        assert f"{row['rank']}      {row['title']}  (content, {row['score']:.3f})" in text
    assert f"{rows[4]['title']}  (content, {rows[4]['score']:.3f})" not in text
    assert "user u39" in text and "(popularity, " in text and "segment   -1" in text
    portraits = json.loads(run_cli("recommend", "u03", "-c", world.config, "--json").stdout)
    taken = [row["item_id"] for row in portraits[0]["history"]]
    times = [row["timestamp"] for row in portraits[0]["history"]]
    assert times == sorted(times, reverse=True) and len(taken) == 10
    assert [row["item_id"] for row in portraits[0]["recommended"]] == [row["item_id"] for row in rows]


def test_recommend_of_an_unknown_user_is_an_error(finished: Path, world: World, run_cli):
    result = run_cli("recommend", "nobody", "-c", world.config, expect=3)
    assert "unknown user 'nobody'" in result.stderr and "check the id" in result.stderr
    assert result.stdout == ""


@pytest.mark.parametrize("count", [1, 2, 3])
def test_recommend_sample_prints_that_many_users(count: int, finished: Path, world: World, run_cli):
    portraits = json.loads(run_cli("recommend", "--sample", count, "-c", world.config, "--json").stdout)
    assert len({portrait["user"] for portrait in portraits}) == count
    assert all(portrait["attributes"]["text"] for portrait in portraits)


# import, simulate ----------------------------------------------------------------------------


def _movielens(folder: Path) -> Path:
    folder.mkdir()
    write_csv(
        folder / "movies.csv", "movieId,title,genres",
        '1,"Matrix, The (1999)",Action|Sci-Fi', "2,Heat (1995),Action|Crime", "3,Untitled,(no genres listed)",
        '4,"Love Story, A (1970)",Romance',
    )  # fmt: skip
    ratings = [
        f"{user},{1 + (user + step) % 4},{3.5 + step / 2},{1_000_000_000 + 1000 * user + step}"
        for user in range(1, 7)
        for step in range(2)
    ]
    write_csv(folder / "ratings.csv", "userId,movieId,rating,timestamp", *ratings)
    write_csv(folder / "tags.csv", "userId,movieId,tag,timestamp", "1,1,simulation,1000000000")
    return folder


def test_import_movielens_then_run(run_cli, tmp_path: Path, monkeypatch, tiny_encoder: Path):
    monkeypatch.chdir(tmp_path)
    _movielens(tmp_path / "ml")
    result = run_cli("import", "movielens", "ml", "--to", "tables")
    assert "done → tables" in result.stderr and result.stdout == ""
    shown = {path.name for path in Path("tables").iterdir() if not path.name.startswith(".")}
    assert shown == {"items.parquet", "interactions.parquet", "tags.parquet"}
    items = pq.read_table("tables/items.parquet").to_pylist()
    assert [(row["item_id"], row["title"], row["year"]) for row in items][:2] == [
        ("1", "The Matrix", 1999), ("2", "Heat", 1995),
    ]  # fmt: skip
    assert pq.read_metadata("tables/interactions.parquet").num_rows == 12
    assert pq.read_table("tables/tags.parquet").column("tag").to_pylist() == ["simulation"]
    run_cli(
        "run", "--set", "data.items=tables/items.parquet", "--set", "data.interactions=tables/interactions.parquet",
        "--set", f"encoder.model_name={tiny_encoder}", "--set", "cluster.n_clusters=2", "--set", "device=cpu",
    )  # fmt: skip
    lists = pq.read_table("work/recommendations.parquet")
    assert set(lists.column("user_id").to_pylist()) == {str(user) for user in range(1, 7)}
    assert set(lists.column("title").to_pylist()) <= {"The Matrix", "Heat", "Untitled", "A Love Story"}


def test_import_of_another_layout_writes_nothing(run_cli, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ml-1m").mkdir()
    (tmp_path / "ml-1m" / "ratings.dat").write_text("1::1::5::978300760\n", encoding="utf-8")
    result = run_cli("import", "movielens", "ml-1m", "--to", "out", expect=4)
    assert "this looks like ml-1m" in result.stderr
    assert not Path("out").exists()


def test_simulate_is_seeded_and_can_be_run(run_cli, tmp_path: Path, monkeypatch, tiny_encoder: Path):
    monkeypatch.chdir(tmp_path)
    size = ("--set", "n_users=60", "--set", "n_items=80", "--set", "n_interactions=400")
    for folder, seed in (("a", 1), ("b", 1), ("c", 2)):
        result = run_cli("simulate", "--to", folder, *size, "--set", f"seed={seed}")
        assert result.stdout == ""
    first, again, other = (digests(Path(folder), "*.*") for folder in "abc")
    assert first == again and first != other
    assert {"users.csv", "items.jsonl", "interactions.csv"} <= set(first)
    run_cli(
        "run", "--set", "data.users=a/users.csv", "--set", "data.items=a/items.jsonl",
        "--set", "data.interactions=a/interactions.csv", "--set", f"encoder.model_name={tiny_encoder}",
        "--set", "cluster.n_clusters=3", "--set", "device=cpu", "--set", "data.max_bad_rows=0",
    )  # fmt: skip
    assert pq.read_metadata("work/recommendations.parquet").num_rows == 60 * 20
    assert pq.read_metadata("work/tables/interactions.parquet").num_rows == 400


# logs ----------------------------------------------------------------------------------------


def test_json_log_lines_parse_and_stdout_has_none(world: World, run_cli, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    spoilt = copy_world(world, tmp_path / "world")
    with spoilt.items.open("a", encoding="utf-8") as file:
        file.write("i00,Again,twice,War\n")
    result = run_cli("run", "-c", spoilt.config, "--log-format", "json")
    entries = [json.loads(line) for line in result.stderr.splitlines()]
    assert all({"time", "level", "message", "stage"} <= set(entry) for entry in entries)
    done = {entry["stage"]: entry for entry in entries if entry["message"].startswith("done")}
    assert [name for name in done if name in CHAIN] == list(CHAIN)
    assert done["score"]["rows"] == 200 and done["score"]["seconds"] >= 0 and done["score"]["peak_mib"] > 0
    warnings = [entry for entry in entries if entry["level"] == "warning"]
    assert any("1 bad rows left out of items (duplicate_id: 1)" in entry["message"] for entry in warnings)
    table = result.stdout.splitlines()
    assert table[0].split() == ["stage", "view", "seconds", "peak", "MiB", "rows"]
    ran = [tuple(line.split()[:2]) for line in table[1 : table.index("")]]
    assert [stage for stage, view in ran if view == "evaluation"] == list(EVALUATION_CHAIN)
    assert [stage for stage, view in ran if view == "production" and stage in CHAIN] == list(CHAIN)
    assert not any("{" in line or "done" in line for line in table)


def test_a_quiet_night_says_little(finished: Path, world: World, run_cli):
    result = run_cli("run", "-c", world.config)
    assert result.stderr == ""
    assert len(result.stdout.splitlines()) == 1


def test_shown_results_come_without_log(finished: Path, world: World, run_cli):
    shown = (("status",), ("segments",), ("recommend", "u01"), ("config",), ("run", "--dry-run"), ("metrics",))
    for words in (*shown, ("compare", "content", "popularity")):
        result = run_cli(*words, "-c", world.config)
        assert result.stdout and result.stderr == "", words
