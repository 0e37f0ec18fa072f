"""What every command says alike: error lines, options, dry runs, and the work directory it is given."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import click
import pytest
import yaml
from conftest import World
from runs import copy_of_finished

from recpipe.cli import registry

SHARED = ("config_path", "overrides", "workdir", "view", "force", "dry_run", "log_format", "debug")


@pytest.fixture(autouse=True)
def _inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


# errors in JSON ------------------------------------------------------------------------------


def _last_entry(result) -> dict[str, object]:
    entry = json.loads(result.stderr.splitlines()[-1])
    assert isinstance(entry, dict)
    return entry


@pytest.mark.parametrize(
    ("words", "stage"),
    [
        (("embed-itms",), None),
        (("embed-items", "--colour", "red"), None),
        (("run", "--set", "scoer=1"), None),
        (("embed-items",), "embed-items"),
        (("cluster", "--set", "cluster.n_clusters=0"), "cluster"),
        (("import", "movielens", "nowhere", "--to", "x"), "import"),
        (("segments",), None),
    ],
)
def test_error_lines_have_the_keys_of_other_lines(words: tuple[str, ...], stage: str | None, run_cli):
    result = run_cli(*words, "--log-format", "json", expect=None)
    entry = _last_entry(result)
    assert set(entry) == {"time", "level", "message", "stage", "where", "next", "exit_code"}
    assert entry["stage"] == stage and entry["exit_code"] == result.exit_code != 0
    moment = datetime.fromisoformat(str(entry["time"]))
    assert abs((datetime.now(UTC) - moment).total_seconds()) < 60


def test_an_error_inside_a_run_names_its_stage(world: World, run_cli, monkeypatch):
    def fail(*columns: object) -> None:
        raise ValueError("the moon is full")

    monkeypatch.setattr("recpipe.encoders.fields.join_fields", fail)
    result = run_cli("run", "-c", world.config, "--log-format", "json", "--debug", expect=1)
    lines = [json.loads(line) for line in result.stderr.splitlines()]  # the traceback is JSON as well
    assert lines[-1]["stage"] == "embed-items"
    assert "ValueError: the moon is full" in lines[-1]["traceback"]
    plain = run_cli("run", "-c", world.config, "--log-format", "json", expect=1)
    assert "traceback" not in _last_entry(plain)


# options -------------------------------------------------------------------------------------


def _commands() -> list[click.Command]:
    found = [command for name in registry.names() if (command := registry.command(name)) is not None]
    children = [child for command in found if isinstance(command, click.Group) for child in command.commands.values()]
    return [*(command for command in found if not isinstance(command, click.Group)), *children]


def test_shared_options_stand_in_one_order_everywhere():
    for command in _commands():
        names = [option.name for option in command.params if isinstance(option, click.Option)]
        shared = [name for name in names if name in SHARED]
        assert shared == [name for name in SHARED if name in shared], command.name
        own = [index for index, name in enumerate(names) if name not in SHARED]
        first = [index for index, name in enumerate(names) if name in SHARED[:4]]
        last = [index for index, name in enumerate(names) if name in SHARED[4:]]
        assert max(first, default=-1) < min(own, default=99), command.name
        assert max(own, default=-1) < min(last, default=99), command.name


def test_help_of_a_stage_begins_with_the_configuration(run_cli):
    lines = [line.split()[0] for line in run_cli("cluster", "--help").stdout.splitlines() if line.startswith("  -")]
    assert lines[0] == "-c," and lines[-2:] == ["--debug", "-h,"]


@pytest.mark.parametrize("name", ['a"b', "a\\b", "it's", "#1", "yes", "3", "a: b", "grün ☂"])
def test_workdir_is_a_path_whatever_its_signs(name: str, run_cli):
    shown = yaml.safe_load(run_cli("config", "--workdir", name).stdout)
    assert shown["workdir"] == name
    # it wins over the file and over --set
    Path("own.yaml").write_text("workdir: elsewhere\n", encoding="utf-8")
    shown = run_cli("config", "-c", "own.yaml", "--set", "workdir=third", "--workdir", name).stdout
    assert yaml.safe_load(shown)["workdir"] == name


def test_a_stage_writes_below_such_a_workdir(world: World, run_cli):
    words = ("train", "-c", world.config, "--set", "train.model=popularity", "--workdir", 'a"b\\c')
    run_cli(*words)
    assert Path('a"b\\c/models/popularity/current.json').exists()
    assert "up to date" in run_cli(*words).stderr


# dry runs, quiet nights ----------------------------------------------------------------------


def test_dry_run_shows_settings_that_were_changed(world: World, run_cli):
    lines = run_cli("run", "--dry-run", "-c", world.config, "--set", "as_of=2024-05-01", "--set", "seed=7").stdout
    shown = [line.split(None, 1)[1] for line in lines.splitlines() if line.startswith("  with")]
    cluster = next(line for line in shown if "cluster." in line)
    assert cluster.split()[:3] == ["cluster.n_clusters=3", "cluster.pca_dim=4", "cluster.n_init=2"]
    assert "as_of=2024-05-01T00:00:00" in cluster.replace(" ", "T") and "seed=7" in cluster
    assert "None" not in lines and "null" not in lines
    assert any(line.split()[0] == "score.top_n=5" for line in shown)
    assert any('data.list_columns.items={"genres":"|"}' in line for line in shown)


def test_dry_run_shows_no_defaults(run_cli):
    Path("items.csv").write_text("item_id,title\ni1,One\n", encoding="utf-8")
    text = run_cli("embed-items", "--items", "items.csv", "--dry-run").stdout
    assert "  with" not in text
    Path("log.csv").write_text("user_id,item_id\nu1,i1\n", encoding="utf-8")
    tables = ("--items", "items.csv", "--interactions", "log.csv")
    text = run_cli("train", *tables, "--set", "train.model=popularity", "--dry-run").stdout
    assert "train.model=popularity" in text


def test_an_up_to_date_run_logs_nothing_and_debug_shows_it(world: World, run_cli, tmp_path: Path):
    copy_of_finished(world, tmp_path)
    assert run_cli("run", "-c", world.config).stderr == ""
    assert "score: up to date" in run_cli("run", "-c", world.config, "--debug").stderr
    assert "score: up to date" in run_cli("score", "-c", world.config).stderr
    # what did run is still told
    log = run_cli("run", "-c", world.config, "--set", "score.top_n=3").stderr
    assert "score: done" in log and "up to date" not in log
