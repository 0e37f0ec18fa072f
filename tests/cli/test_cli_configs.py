"""Every file in configs/ loads, and runs with its tables, encoder and work directory replaced."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml
from conftest import World

SMALL = ("evaluate.n_bootstrap=100",)  # the world has 40 users
CONFIGS = sorted((Path(__file__).parents[2] / "configs").glob("*.yaml"))


def test_there_are_configurations():
    names = {"sample.yaml", "movielens.yaml", "implicit.yaml", "classic.yaml", "gpu.yaml"}
    assert names <= {path.name for path in CONFIGS}


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.name)
def test_a_shipped_configuration_runs(
    config: Path, world: World, run_cli, tiny_encoder: Path, tmp_path: Path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    given = yaml.safe_load(config.read_text(encoding="utf-8"))
    shown = yaml.safe_load(run_cli("config", "-c", config).stdout)
    for section in given.keys() - {"data", "workdir", "device"}:
        assert {name: shown[section][name] for name in given[section]} == given[section]
    replaced = [f"data.{name}={getattr(world, name)}" for name in given["data"] if hasattr(world, name)]
    settings = [*replaced, f"encoder.model_name={tiny_encoder}", "device=cpu", "workdir=out", *SMALL]
    if given.get("encoder", {}).get("precision") == "float16":
        settings.append("encoder.precision=float32")  # half precision is for GPUs
    if "truth" in given.get("evaluate", {}):
        settings.append("evaluate.truth=null")  # these tables are not those of that simulated world
    words = [word for setting in settings for word in ("--set", setting)]
    run_cli("run", "-c", config, *words)
    lists = pq.read_table("out/recommendations.parquet")
    assert len(set(lists.column("user_id").to_pylist())) == (40 if "users" in given["data"] else 38)
    assert pq.read_metadata("out/segments.parquet").num_rows > 1
    measured = set(pq.read_table("out/evaluation/metrics.parquet").column("model").to_pylist())
    assert {shown["train"]["model"], "popularity", "random"} <= measured
    assert run_cli("run", "-c", config, *words).stdout == "up to date: out\n"
    assert not Path("work").exists()
