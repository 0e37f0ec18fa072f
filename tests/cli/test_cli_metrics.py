"""`evaluate`, `metrics` and `compare`: the figures, and what is said of them."""

from __future__ import annotations

import json
import math
import re
from collections import defaultdict
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from conftest import World
from runs import copy_of_finished, copy_world, manifest_of

MODELS = ("popularity", "recent_popularity", "random", "content")
RANKING = ("ndcg", "recall", "hit_rate", "mrr", "map")
LINE = re.compile(r"^  (\w+(?:@\d+)?) +([+-]?[\d.]+) \[([+-]?[\d.]+), ([+-]?[\d.]+)\] +\d+(?:  (not real))?$")


@pytest.fixture
def finished(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return copy_of_finished(world, tmp_path)


def _rows(path: Path) -> list[dict[str, object]]:
    return pq.read_table(path).to_pylist()


# figures ---------------------------------------------------------------------------------------


def test_figures_are_means_over_users(finished: Path):
    """An independent computation of every ranking figure from user_metrics."""
    users = _rows(finished / "evaluation" / "user_metrics.parquet")
    wanted: dict[tuple[str, str, int], list[dict[str, object]]] = defaultdict(list)
    for row in users:
        model, item_slice, k = row["model"], row["slice"], row["k"]
        wanted[model, item_slice, k].append(row)
        if item_slice == "all":
            wanted[model, "warm_users" if row["warm"] else "cold_users", k].append(row)
            if row["segment"] >= 0:
                wanted[model, f"segment_{row['segment']}", k].append(row)
    compared = set()
    for row in _rows(finished / "evaluation" / "metrics.parquet"):
        if row["metric"] == "coverage" or row["k"] == 0:
            continue
        here = [entry[row["metric"]] for entry in wanted[row["model"], row["slice"], row["k"]]]
        values = [value for value in here if value is not None]
        assert row["n_users"] == len(values)
        assert row["value"] == pytest.approx(sum(values) / len(values), abs=1e-9)
        if row["low"] is not None:
            assert row["low"] <= row["value"] + 1e-9 and row["value"] <= row["high"] + 1e-9
        compared.add((row["model"], row["slice"], row["metric"], row["k"]))
    assert {(model, "all", metric, k) for model in MODELS for metric in RANKING for k in (10, 20)} <= compared


def test_differences_are_paired_means(finished: Path):
    users = {
        (row["model"], row["slice"], row["k"], row["user_id"]): row
        for row in _rows(finished / "evaluation" / "user_metrics.parquet")
    }
    rows = [row for row in _rows(finished / "evaluation" / "metric_differences.parquet") if row["slice"] == "all"]
    assert {row["model"] for row in rows} == set(MODELS) - {"popularity"}
    for row in rows:
        pairs = [
            (entry[row["metric"]], users["popularity", "all", row["k"], user][row["metric"]])
            for (model, item_slice, k, user), entry in users.items()
            if (model, item_slice, k) == (row["model"], "all", row["k"])
        ]
        expected = sum(ours - theirs for ours, theirs in pairs) / len(pairs)
        assert row["difference"] == pytest.approx(expected, abs=1e-9) and row["n_users"] == len(pairs)


def test_metrics_are_those_of_the_lists(finished: Path, world: World, run_cli):
    """An independent computation of NDCG, recall and MRR from whole rankings and the held-out rows."""
    evaluation = finished / "evaluation"
    run_cli("score", "-c", world.config, "--view", "evaluation", "--set", "score.top_n=60")
    lists: dict[str, list[str]] = defaultdict(list)
    for row in _rows(evaluation / "recommendations.parquet"):
        lists[row["user_id"]].append(row["item_id"])
    pairs = {
        name: {(row["user_id"], row["item_id"]) for row in _rows(evaluation / f"{name}_interactions.parquet")}
        for name in ("train", "validation", "test")
    }
    measured = {
        row["user_id"]: row
        for row in _rows(evaluation / "user_metrics.parquet")
        if (row["model"], row["slice"], row["k"]) == ("content", "all", 10)
    }
    later = pairs["test"] - pairs["train"] - pairs["validation"]
    assert measured.keys() == {user for user, _ in later}
    for user, row in measured.items():
        relevant = {item for someone, item in later if someone == user}
        ranking = [item for item in lists[user] if (user, item) not in pairs["validation"]][:10]
        hits = [place for place, item in enumerate(ranking) if item in relevant]
        ideal = sum(1 / math.log2(place + 2) for place in range(min(len(relevant), 10)))
        assert row["n_relevant"] == len(relevant)
        assert row["ndcg"] == pytest.approx(sum(1 / math.log2(place + 2) for place in hits) / ideal)
        assert row["recall"] == pytest.approx(len(hits) / len(relevant))
        assert row["mrr"] == pytest.approx(1 / (hits[0] + 1) if hits else 0)


def test_blocks_change_no_figure(finished: Path, world: World, run_cli):
    before = pq.read_table(finished / "evaluation" / "user_metrics.parquet")
    run_cli("evaluate", "-c", world.config, "--set", "evaluate.block_users=3", "--force")
    assert pq.read_table(finished / "evaluation" / "user_metrics.parquet").equals(before)


def test_ratings_are_measured_where_they_are_predicted(world: World, run_cli, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    learned = (
        "--set", "train.model=factorization", "--set", "train.target=rating", "--set", "train.n_epochs=2",
        "--set", "evaluate.n_bootstrap=100",
    )  # fmt: skip
    result = run_cli("run", "-c", world.config, *learned)
    rows = _rows(Path("work/evaluation/metrics.parquet"))
    errors = {row["metric"]: row["value"] for row in rows if row["slice"] == "all" and row["model"] == "factorization"}
    assert 0 < errors["mae"] <= errors["rmse"] < 4
    assert not {row["model"] for row in rows if row["metric"] == "rmse"} & {"random", "content"}
    assert "all: predicted ratings of" in result.stdout
    lists = pq.read_table("work/recommendations.parquet")
    assert lists.column("predicted_rating").null_count < lists.num_rows
    predicted = [value for value in lists.column("predicted_rating").to_pylist() if value is not None]
    assert min(predicted) >= 1 and max(predicted) <= 5


def test_models_without_ratings_predict_none(finished: Path):
    lists = pq.read_table(finished / "recommendations.parquet")
    assert lists.column("predicted_rating").null_count == lists.num_rows == 200


# metrics ---------------------------------------------------------------------------------------


@pytest.fixture
def with_cold_ones(world: World, tmp_path: Path) -> World:
    """A world whose last day brings a new user, and items that nobody had taken before."""
    grown = copy_world(world, tmp_path / "world")
    with grown.interactions.open("a", encoding="utf-8") as file:
        file.writelines(f"u38,i{item},5,1640000000\n" for item in (3, 4, 57))
        file.writelines(f"u{user:02d},i{57 + user % 3},4,{1640000001 + user}\n" for user in range(20))
    return grown


def test_metrics_shows_every_slice_and_model(with_cold_ones: World, run_cli, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = with_cold_ones.config
    run_cli("run", "-c", config)
    text = run_cli("metrics", "-c", config).stdout
    rows = _rows(Path("work/evaluation/metrics.parquet"))
    slices = {row["slice"] for row in rows}
    users = {"all", "warm_users", "cold_users", "segment_0", "segment_1", "segment_2"}
    assert slices == users | {"cold_items", "cold_items_only"}
    blocks = {block.split(":")[0]: block for block in text.split("\n\n") if ", the first 10 of each list" in block}
    assert blocks.keys() == slices
    for name, block in blocks.items():
        models = [line.split()[0] for line in block.splitlines()[2:]]
        assert models == list(MODELS), name
        ndcg = {row["model"]: row for row in rows if (row["slice"], row["metric"], row["k"]) == (name, "ndcg", 10)}
        for line in block.splitlines()[2:]:
            assert f"{ndcg[line.split()[0]]['value']:.4f}".removeprefix("0") in line
    details = manifest_of(Path("work/evaluation/metrics.parquet")).details
    assert details["cold_users"] == 1 and details["cold_items"] == 3
    protocol, counted = text.splitlines()[:2]
    assert protocol == f"split: {details['split']['protocol']}" and "global time" in protocol
    assert details["data"][:12] in counted and "1 of them new; 3 new items" in counted
    assert f"{details['users']} users with {details['test_items']} test items" in counted
    assert "95 % interval over users" in text


def test_metrics_of_another_length(finished: Path, world: World, run_cli):
    text = run_cli("metrics", "--k", "20", "-c", world.config).stdout
    assert "the first 20 of each list" in text and "the first 10" not in text
    result = run_cli("metrics", "--k", "7", "-c", world.config, expect=2)
    assert "k 7 was not measured; evaluate.k is 10, 20" in result.stderr and result.stdout == ""


def test_run_prints_the_metrics_without_segments(with_cold_ones: World, run_cli, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = with_cold_ones.config
    result = run_cli("run", "-c", config)
    assert "\nsplit: global time" in result.stdout and "\ndata " in result.stdout
    for name in ("all", "warm_users", "cold_users", "cold_items", "cold_items_only"):
        assert f"\n{name}: " in result.stdout
    assert "\nsegment_0: " not in result.stdout
    quiet = run_cli("run", "-c", config, "--set", "score.top_n=3")
    assert "split:" not in quiet.stdout, "old metrics are printed as if they were new"


# compare ---------------------------------------------------------------------------------------


def _verdicts(text: str) -> list[tuple[float, float, float, bool]]:
    found = [LINE.match(line) for line in text.splitlines()]
    return [(float(m[2]), float(m[3]), float(m[4]), m[5] is None) for m in found if m]


def test_a_difference_is_real_only_where_its_interval_excludes_0(finished: Path, world: World, run_cli):
    seen = set()
    for first, second in (("content", "popularity"), ("content", "random"), ("random", "recent_popularity")):
        text = run_cli("compare", first, second, "-c", world.config).stdout
        assert f"all: {first} minus {second}\n" in text
        verdicts = _verdicts(text)
        assert len(verdicts) > 20
        for difference, low, high, real in verdicts:
            assert low <= difference <= high
            assert real == (low > 0 or high < 0), (low, high)
            seen.add(real)
        assert "a difference is real when its interval excludes 0" in text
    assert seen == {True, False}, "both verdicts must occur for the test to mean anything"


def test_compare_repeats_what_evaluate_wrote(finished: Path, world: World, run_cli):
    text = run_cli("compare", "content", "popularity", "-c", world.config, "--slice", "all").stdout
    found = {m[1]: float(m[2]) for m in map(LINE.match, text.splitlines()) if m}
    rows = [
        row
        for row in _rows(finished / "evaluation" / "metric_differences.parquet")
        if (row["model"], row["slice"]) == ("content", "all")
    ]
    assert len(found) == len(rows)
    for row in rows:
        assert found[f"{row['metric']}@{row['k']}"] == pytest.approx(row["difference"], abs=6e-5)


def test_a_model_does_not_differ_from_itself(finished: Path, world: World, run_cli):
    for other in ("content", "work/evaluation/user_metrics.parquet:content"):
        text = run_cli("compare", "content", other, "-c", world.config).stdout
        verdicts = _verdicts(text)
        assert len(verdicts) > 20
        assert set(verdicts) == {(0.0, 0.0, 0.0, False)}


def test_compare_swapped_changes_the_sign(finished: Path, world: World, run_cli):
    ways = [run_cli("compare", *pair, "-c", world.config).stdout for pair in (MODELS[2:], MODELS[3:1:-1])]
    there, back = map(_verdicts, ways)
    assert [round(value + other, 6) for (value, *_), (other, *_) in zip(there, back, strict=True)] == [0.0] * len(there)


def test_compare_names_what_it_does_not_know(finished: Path, world: World, run_cli):
    result = run_cli("compare", "contnt", "popularity", "-c", world.config, expect=3)
    assert "no model 'contnt' was measured" in result.stderr and "did you mean 'content'?" in result.stderr
    assert "work/evaluation/user_metrics.parquet" in result.stderr and result.stdout == ""
    result = run_cli("compare", "content", "nowhere.parquet:content", "-c", world.config, expect=4)
    assert "nowhere.parquet" in result.stderr
    result = run_cli("compare", "content", "work/segments.parquet:content", "-c", world.config, expect=3)
    assert "work/segments.parquet" in result.stderr and "segments" in result.stderr
    result = run_cli("compare", "content", "random", "--slice", "warm", "-c", world.config, expect=2)
    assert "no slice 'warm'" in result.stderr and "warm_users" in result.stderr


def test_other_held_out_rows_are_not_compared(finished: Path, world: World, run_cli):
    run_cli("run", "-c", world.config, "--workdir", "other", "--set", "split.test_share=0.2")
    result = run_cli(
        "compare", "content", "other/evaluation/user_metrics.parquet:content", "-c", world.config, expect=3
    )
    assert "were not measured on the same held-out items" in result.stderr


def test_named_models_side_by_side(finished: Path, world: World, run_cli):
    """Two versions of one model, each with user_metrics of its own, compared afterwards."""
    quick = ("--set", "evaluate.n_bootstrap=200", "--set", "evaluate.baselines=[popularity]")
    before = (finished / "evaluation" / "user_metrics.parquet").read_bytes()
    for name, centred in (("ours", "true"), ("raw", "false")):
        settings = ("-c", world.config, *quick, "--set", f"train.name={name}", "--set", f"train.centred={centred}")
        run_cli("train", *settings, "--view", "evaluation")
        run_cli(
            "evaluate", *settings, "--output", f"{name}/metrics.parquet",
            "--metric-differences-out", f"{name}/differences.parquet", "--user-metrics-out", f"{name}/users.parquet",
        )  # fmt: skip
    assert (finished / "evaluation" / "user_metrics.parquet").read_bytes() == before
    kept = {path.name for path in (finished / "evaluation" / "models").iterdir()}
    assert kept == {"content", "ours", "raw"}
    assert set(pq.read_table("raw/metrics.parquet").column("model").to_pylist()) == {"popularity", "raw"}
    same = _verdicts(run_cli("compare", "ours/users.parquet:ours", "content", "-c", world.config).stdout)
    assert same and set(same) == {(0.0, 0.0, 0.0, False)}
    text = run_cli("compare", "raw/users.parquet:raw", "ours/users.parquet:ours", "-c", world.config).stdout
    assert "all: raw minus ours" in text
    assert any(difference for difference, *_ in _verdicts(text)), "centring changed nothing: the test proves nothing"


# evaluate --------------------------------------------------------------------------------------


def test_evaluate_is_of_the_evaluation_view_alone(finished: Path, world: World, run_cli):
    result = run_cli("evaluate", "-c", world.config, "--view", "production", expect=2)
    assert "evaluate has no production view" in result.stderr and "--view evaluation" in result.stderr
    shown = run_cli("evaluate", "-c", world.config, "--dry-run").stdout
    read = [line.split()[1] for line in shown.splitlines() if line.startswith("  reads")]
    assert [path for path in read if path.startswith("work/models")] == [], "a production model is read"
    assert "work/evaluation/models/content" in read


def test_a_baseline_nobody_knows_is_refused(finished: Path, world: World, run_cli):
    result = run_cli("evaluate", "-c", world.config, "--set", "evaluate.baselines=[popularty]", expect=2)
    assert "popularty" in result.stderr and "did you mean 'popularity'?" in result.stderr


def test_the_oracle_is_the_best_of_a_simulated_world(run_cli, tmp_path: Path, monkeypatch, tiny_encoder: Path):
    monkeypatch.chdir(tmp_path)
    run_cli("simulate", "--to", "w", "--set", "n_users=80", "--set", "n_items=120", "--set", "n_interactions=900")
    settings = [
        "data.users=w/users.csv", "data.items=w/items.jsonl", "data.interactions=w/interactions.csv",
        f"encoder.model_name={tiny_encoder}", "cluster.n_clusters=3", "device=cpu", "train.model=popularity",
        "evaluate.truth=w", "evaluate.n_bootstrap=100", "evaluate.baselines=[random]", "evaluate.reference=random",
    ]  # fmt: skip
    run_cli("run", *(word for setting in settings for word in ("--set", setting)))
    rows = _rows(Path("work/evaluation/metrics.parquet"))
    ndcg = {
        row["model"]: row["value"] for row in rows if (row["slice"], row["metric"], row["k"]) == ("all", "ndcg", 20)
    }
    assert set(ndcg) == {"random", "popularity", "oracle"} and max(ndcg, key=ndcg.get) == "oracle"
    assert "oracle" not in {path.name for path in Path("work/evaluation/models").iterdir()}


@pytest.mark.parametrize("by", ["time", "leave_one_out", "random", "cold_items", "files"])
def test_every_split_is_measured(by: str, world: World, run_cli, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    split: dict[str, object] = {"by": by}
    if by == "files":
        header, *lines = world.interactions.read_text(encoding="utf-8").splitlines()
        for name, part in (("validation", lines[::9]), ("test", lines[4::9])):
            Path(f"{name}.csv").write_text("\n".join([header, *part]) + "\n", encoding="utf-8")
        split["files"] = {"validation": "validation.csv", "test": "test.csv"}
    quick = {"baselines": ["popularity"], "n_bootstrap": 100}
    config = copy_world(world, tmp_path / "world", split=split, evaluate=quick).config
    result = run_cli("run", "-c", config)
    details = manifest_of(Path("work/evaluation/metrics.parquet")).details
    assert f"\nsplit: {details['split']['protocol']}\n" in result.stdout
    assert details["split"]["by"] == by and details["users"] > 5
    slices = {row["slice"] for row in _rows(Path("work/evaluation/metrics.parquet"))}
    if by == "cold_items":
        assert details["cold_items"] >= 6 and {"cold_items", "cold_items_only"} <= slices
        train = set(pq.read_table("work/evaluation/train_interactions.parquet").column("item_id").to_pylist())
        assert not train & set(pq.read_table("work/evaluation/test_interactions.parquet").column("item_id").to_pylist())
    assert run_cli("run", "-c", config).stdout == "up to date: work\n"


def test_slices_can_be_left_out(finished: Path, world: World, run_cli):
    run_cli("evaluate", "-c", world.config, "--set", "evaluate.slices=[]")
    assert {row["slice"] for row in _rows(finished / "evaluation" / "metrics.parquet")} == {"all"}
    lineage = json.loads(run_cli("inspect", "work/evaluation/metrics.parquet", "--json").stdout)
    assert lineage["view"] == "evaluation" and "ndcg" in lineage["details"]["definitions"]


def test_metrics_of_one_slice(finished: Path, world: World, run_cli):
    shown = run_cli("metrics", "-c", world.config, "--slice", "all").stdout
    assert "\nall: " in shown and "warm_users: " not in shown and "segment_" not in shown
    refused = run_cli("metrics", "-c", world.config, "--slice", "al", expect=2)
    assert "no slice 'al'" in refused.stderr and "all" in refused.stderr
