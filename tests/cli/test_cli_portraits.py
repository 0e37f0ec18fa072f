"""recommend and segments where something is missing, small or newer than the rest."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from conftest import World
from runs import copy_of_finished, copy_world, write_csv

SMALL = ("--set", "train.model=popularity")


@pytest.fixture(autouse=True)
def _inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def _popularity(run_cli, *users: str, taken: tuple[str, ...] = ("u1,i1",)) -> tuple[str, ...]:
    """Score popularity alone, without embeddings or segments; return the options."""
    write_csv(Path("users.csv"), "user_id,text", *users)
    write_csv(Path("items.csv"), "item_id,title", "i1,One", "i2,Two")
    write_csv(Path("log.csv"), "user_id,item_id", *taken)
    tables = ("data.users=users.csv", "data.items=items.csv", "data.interactions=log.csv")
    options = [*SMALL, *(word for table in tables for word in ("--set", table))]
    for command in ("train", "score"):
        run_cli(command, *options)
    assert not Path("work/user_profiles.parquet").exists()
    return tuple(options)


def test_recommend_needs_no_segments(run_cli):
    options = _popularity(run_cli, "u1,bread", "u2,cake")
    text = run_cli("recommend", "u1", *options).stdout
    assert "user u1" in text and "says      bread" in text and "Two  (popularity" in text
    assert "segment" not in text
    assert json.loads(run_cli("recommend", "u2", "--json", *options).stdout)[0]["segment"] is None


def test_nothing_left_is_not_an_unknown_user(run_cli):
    options = _popularity(run_cli, "u1,bread", "u2,cake", taken=("u1,i1", "u1,i2"))
    result = run_cli("recommend", "u1", "u2", *options)
    portraits = result.stdout.split("\n\n")
    assert "nothing left to recommend" in portraits[0] and "took      Two" in portraits[0]
    assert "nothing left" not in portraits[1]
    result = run_cli("recommend", "u9", *options, expect=3)
    assert "unknown user 'u9'" in result.stderr and "nothing left" not in result.stderr


def test_a_user_newer_than_the_lists_has_none_yet(run_cli, world: World, tmp_path: Path):
    copy_of_finished(world, tmp_path)
    grown = copy_world(world, tmp_path / "world")
    with grown.users.open("a", encoding="utf-8") as file:
        file.write("u77,a new one\n")
    run_cli("embed-users", "-c", grown.config)
    text = run_cli("recommend", "u77", "-c", grown.config).stdout
    assert "run: recpipe score" in text and "nothing left" not in text


@pytest.mark.parametrize(("asked", "shown"), [(1, 1), (2, 2), (3, 3), (99, 3)])
def test_sample_shows_all_users_where_there_are_fewer(asked: int, shown: int, run_cli):
    options = _popularity(run_cli, "u1,bread", "u2,", "u3,tea")
    portraits = json.loads(run_cli("recommend", "--sample", asked, "--json", *options).stdout)
    assert len({portrait["user"] for portrait in portraits}) == len(portraits) == shown
    if asked <= 2:
        assert all(portrait["attributes"]["text"] for portrait in portraits)


def test_sample_of_a_single_user(run_cli):
    options = _popularity(run_cli, "u1,bread")
    assert run_cli("recommend", "--sample", 1, *options).stdout.startswith("user u1\n")


def test_sample_leaves_out_users_without_a_list(run_cli):
    options = _popularity(run_cli, "u1,bread", "u2,cake", "u3,tea", taken=("u1,i1", "u1,i2"))
    portraits = json.loads(run_cli("recommend", "--sample", 9, "--json", *options).stdout)
    assert [portrait["user"] for portrait in portraits] == ["u2", "u3"]


@pytest.mark.parametrize(
    "words", [("--sample", "-1"), ("--sample", "0"), ("--sample", "1", "--top", "0"), ("u1", "--sample", "2")]
)
def test_counts_are_positive(words: tuple[str, ...], run_cli):
    result = run_cli("recommend", *words, expect=2)
    assert "--sample" in result.stderr or "--top" in result.stderr


# segments ------------------------------------------------------------------------------------


def test_segments_count_users_assigned_since_the_fit(run_cli, world: World, tmp_path: Path):
    work = copy_of_finished(world, tmp_path)
    fitted = run_cli("segments", "-c", world.config)
    assert "assigned" not in fitted.stdout
    grown = copy_world(world, tmp_path / "world")
    with grown.users.open("a", encoding="utf-8") as file:
        file.writelines(f"v{number:02d},space robot\n" for number in range(9))
        file.write("v99,\n")
    keep = ("-c", grown.config, "--set", "cluster.fit=false")
    for command in ("embed-users", "cluster"):
        run_cli(command, *keep)
    members = pq.read_table(work / "user_profiles.parquet").column("segment").to_pylist()
    rows = json.loads(run_cli("segments", *keep, "--json").stdout)
    assert {row["segment"]: row["size"] for row in rows} == {number: members.count(number) for number in set(members)}
    assert sum(row["size"] for row in rows) == 50 and sum(row["share"] for row in rows) == pytest.approx(1)
    text = run_cli("segments", *keep).stdout
    assert text.startswith("users assigned 20") and "to the segments fitted 20" in text.splitlines()[0]
    labels = [row["label"] for row in json.loads(run_cli("segments", *keep, "--json").stdout)]
    assert all(label in fitted.stdout for label in labels)


def test_users_without_a_segment_appear_although_the_fit_had_none(run_cli, world: World, tmp_path: Path):
    full = copy_world(world, tmp_path / "full")
    # everybody wrote something, so nobody is without a segment when it is fitted
    lines = full.users.read_text(encoding="utf-8").splitlines()
    written = [f"{line}love" if line.endswith(",") else line for line in lines]
    full.users.write_text("\n".join(written) + "\n", encoding="utf-8")
    for command in ("embed-items", "embed-users", "cluster"):
        run_cli(command, "-c", full.config)
    assert all(row["segment"] >= 0 for row in json.loads(run_cli("segments", "-c", full.config, "--json").stdout))
    full.users.write_text("\n".join(lines) + "\n", encoding="utf-8")
    keep = ("-c", full.config, "--set", "cluster.fit=false")
    for command in ("embed-users", "cluster"):
        run_cli(command, *keep)
    rows = {row["segment"]: row for row in json.loads(run_cli("segments", *keep, "--json").stdout)}
    assert rows[-1]["size"] == 1 and rows[-1]["label"] == "nothing known yet" and rows[-1]["terms"] == []
    assert "nothing known yet" in run_cli("segments", *keep).stdout


def test_profiles_of_another_fit_are_not_counted(run_cli, world: World, tmp_path: Path):
    copy_of_finished(world, tmp_path)
    before = run_cli("segments", "-c", world.config, "--json").stdout
    run_cli("cluster", "-c", world.config, "--set", "cluster.n_clusters=2", "--segments-out", "other.parquet")
    assert run_cli("segments", "-c", world.config, "--json").stdout == before
