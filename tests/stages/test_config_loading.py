from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from recpipe.config import identity_of
from recpipe.errors import ConfigError
from recpipe.stages.settings import Config, load


def write(folder: Path, text: str) -> Path:
    path = folder / "config.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_defaults_need_no_file() -> None:
    config = load(None)
    assert isinstance(config, Config)
    assert config.cache_folder == Path("work/cache")
    assert load(None, ["cache.dir=/kept"]).cache_folder == Path("/kept")
    assert load(None, ["workdir=w"]).cache_folder == Path("w/cache")


def test_a_section_without_content_is_its_defaults(tmp_path: Path) -> None:
    assert load(write(tmp_path, "data:\ntrain:\ncluster:\n")).model_dump() == load(None).model_dump()


def test_tables_of_the_command_line_win(tmp_path: Path) -> None:
    path = write(tmp_path, "data: {items: a.csv, users: b.csv, max_bad_rows: 3}\n")
    data = load(path, ["data.items=c.csv"], sources={"items": Path("d.csv")}).data
    assert (data.items, data.users, data.max_bad_rows) == ("d.csv", "b.csv", 3)
    assert load(None, sources={"items": Path("d.csv")}).data.items == "d.csv"


@pytest.mark.parametrize("data", ["items.csv", "[items.csv]", "3"])
def test_a_section_that_is_none_is_named(tmp_path: Path, data: str) -> None:
    with pytest.raises(ConfigError, match=r"data \(line 1\): "):
        load(write(tmp_path, f"data: {data}\n"), sources={"items": Path("d.csv")})
    with pytest.raises(ConfigError, match=r"train \(line 1\): "):
        load(write(tmp_path, f"train: {data}\n"))


def test_the_keys_of_train_are_those_of_its_model(tmp_path: Path) -> None:
    path = write(tmp_path, "train:\n  model: popularity\n  nonsense: 1\n")
    with pytest.raises(ConfigError, match=r"unknown key 'train\.nonsense' \(line 3\)"):
        load(path)
    with pytest.raises(ConfigError, match="unknown model 'popularty'") as caught:
        load(None, ["train.model=popularty"])
    assert str(caught.value.next_step).startswith("did you mean 'popularity'?")


def test_now_is_utc_where_no_zone_is_given() -> None:
    assert load(None, ["as_of=2020-01-01 12:00"]).as_of == datetime(2020, 1, 1, 12, tzinfo=UTC)
    assert load(None, ["as_of=2020-01-01T12:00+02:00"]).as_of == datetime(2020, 1, 1, 10, tzinfo=UTC)


@pytest.mark.parametrize("device", ["gpu", "cuda:", "cuda:x", "cpu:0", ""])
def test_unknown_devices(device: str) -> None:
    with pytest.raises(ConfigError, match=r"device \(--set\): "):
        load(None, [f'device="{device}"'])


def test_what_only_changes_execution_is_not_in_the_identity() -> None:
    execution = [
        "device=cuda",
        "executor.workers=3",
        "workdir=x",
        "cache.dir=y",
        "encoder.batch_tokens=5",
        "data.items=z",
    ]
    assert identity_of(load(None, execution)) == identity_of(load(None))
    assert identity_of(load(None, ["seed=1"])) != identity_of(load(None))
