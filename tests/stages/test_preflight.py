"""What can be known to fail fails before anything expensive starts."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import World

from recpipe import logs
from recpipe.errors import ConfigError, MissingInputError, RecpipeError, UnavailableError
from recpipe.schemas import ITEM_EMBEDDINGS, ITEMS
from recpipe.stages.pipeline import preflight
from recpipe.stages.pipeline.chain import plan_chain, run_chain
from recpipe.stages.pipeline.plan import Plan, Planner, published
from recpipe.stages.pipeline.registry import stage_named
from recpipe.stages.pipeline.runner import run_stage
from recpipe.stages.settings import load
from recpipe.store.artifacts import ArtifactWriter
from recpipe.store.layout import View


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def planned(
    world: World, *overrides: str, stage: str = "embed_items", output: str | None = None
) -> tuple[Planner, Plan]:
    artifact = stage_named(stage).writes[0].artifact.name
    planner = Planner(load(world.config, overrides), write_paths={artifact: Path(output)} if output else None)
    return planner, planner.plan(stage_named(stage), View.PRODUCTION)


def check(planner: Planner, plan: Plan, *, force: bool = False) -> None:
    preflight.check(planner.config, [*plan.tables, plan], force=force)


def refused(
    found: tuple[Planner, Plan], kind: type[RecpipeError], message: str, *, force: bool = False
) -> RecpipeError:
    with pytest.raises(kind, match=message) as caught:
        check(*found, force=force)
    with pytest.raises(kind, match=message):
        run_stage(*found, force=force)
    assert not Path("work/tables").exists() or not any(Path("work/tables").iterdir())
    return caught.value


def test_nothing_is_wrong(world: World) -> None:
    check(*planned(world))


def test_a_missing_input_of_any_plan(world: World) -> None:
    planner = Planner(load(world.config))
    plans = [planner.plan(stage_named(name), View.PRODUCTION) for name in ("embed_items", "cluster")]
    with pytest.raises(MissingInputError, match="user_embeddings missing") as caught:
        preflight.check(planner.config, plans, force=True)
    assert caught.value.next_step == "run: recpipe embed-users"


@pytest.mark.parametrize("device", ["cuda:99", "cuda:7"])
def test_a_device_that_is_not_there(world: World, device: str) -> None:
    caught = refused(planned(world, f"device={device}"), UnavailableError, f"device {device} is not available")
    assert "set device: cpu or auto" in str(caught.next_step)


@pytest.mark.parametrize("device", ["cpu", "auto"])
def test_a_device_that_is_always_there(device: str) -> None:
    preflight.check_device(device)


def test_the_work_directory_is_a_file(world: World) -> None:
    Path("taken").touch()
    for workdir in ("taken", "taken/deeper"):
        caught = refused(planned(world, f"workdir={workdir}"), ConfigError, "no folder can be made there")
        assert caught.where == f"workdir: {workdir}"


def test_the_work_directory_cannot_be_written(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    # tests may run as root, who may write everywhere
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != Path("work") or not mode & os.W_OK)
    caught = refused(planned(world), ConfigError, "the folder cannot be written")
    assert caught.where == "workdir: work"


@pytest.mark.parametrize("force", [False, True])
def test_an_output_that_is_a_source_file(world: World, force: bool) -> None:
    before = world.items.read_bytes()
    found = planned(world, output=str(world.items.parent / ".." / world.folder.name / world.items.name))
    caught = refused(found, ConfigError, "embed-items would overwrite its own input", force=force)
    assert caught.next_step == "name another file with --output"
    assert world.items.read_bytes() == before


@pytest.mark.parametrize("force", [False, True])
def test_an_output_that_is_an_input(world: World, force: bool) -> None:
    refused(planned(world, output="work/tables/items.parquet"), ConfigError, "overwrite its own input", force=force)


@pytest.mark.parametrize("content", ["text", "parquet"])
def test_a_file_of_somebody_elses_in_the_way(world: World, content: str) -> None:
    path = Path("theirs.parquet" if content == "parquet" else "notes.md")
    if content == "parquet":
        pq.write_table(pa.table({"item_id": ["a"]}), path)
    else:
        path.write_text("years of work\n")
    before = path.read_bytes()
    found = planned(world, output=str(path))
    caught = refused(found, ConfigError, "is no earlier")
    assert "--force" in str(caught.next_step)
    assert path.read_bytes() == before
    check(*found, force=True)


def test_a_file_of_its_own_may_be_replaced_even_a_damaged_one(world: World) -> None:
    planner, plan = planned(world, output="mine.parquet")
    with ArtifactWriter(Path("mine.parquet"), ITEM_EMBEDDINGS, published(plan, ITEM_EMBEDDINGS)) as writer:
        writer.write(pa.table({"item_id": ["a"], "embedding": [[1.0]]}))
        writer.commit()
    check(planner, plan)
    Path("mine.parquet").write_bytes(b"PAR1 no more")
    check(planner, plan)


def test_a_folder_where_a_file_goes(world: World) -> None:
    Path("out").mkdir()
    refused(planned(world, output="out"), ConfigError, "a folder stands where a file is to be written", force=True)


def test_a_file_where_a_model_goes(world: World) -> None:
    planner, plan = planned(world, "train.model=popularity", stage="train", output="model")
    Path("model").touch()
    with pytest.raises(ConfigError, match="a file stands where a model folder is to be written"):
        check(planner, plan, force=True)
    Path("model").unlink()
    Path("model").mkdir()
    check(planner, plan)


def test_the_folder_of_the_output_is_a_file(world: World) -> None:
    Path("taken").touch()
    caught = refused(planned(world, output="taken/x.parquet"), ConfigError, "no folder can be made there")
    assert caught.where == "output: taken"


def test_the_chain_checks_its_last_stage_first(world: World) -> None:
    Path("work").mkdir()
    Path("work/recommendations.parquet").write_bytes(b"years of work")
    pq.write_table(pa.table({"a": [1]}), "work/recommendations.parquet")
    planner = Planner(load(world.config))
    with pytest.raises(ConfigError, match="is no earlier"):
        run_chain(planner)
    assert not Path("work/tables/items.parquet").exists()
    assert not Path("work/item_embeddings.parquet").exists()


# advice about inputs --------------------------------------------------------------------------


@pytest.fixture
def warned() -> Iterator[list[str]]:
    found: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: found.append(record.getMessage())  # type: ignore[method-assign]
    logs.get().addHandler(handler)
    yield found
    logs.get().removeHandler(handler)


def stale(world: World, *overrides: str, stage: str, view: View = View.PRODUCTION, **paths: Path) -> list[str]:
    planner = Planner(load(world.config, overrides), read_paths=paths)
    return preflight.stale_inputs(planner, planner.plan(stage_named(stage), view))


def test_a_stage_on_stale_inputs_says_what_to_run(world: World, warned: list[str]) -> None:
    run_chain(Planner(load(world.config)))
    assert [text for text in warned if "not up to date" in text] == []
    for stage in ("embed_users", "cluster", "train", "score"):
        assert stale(world, stage=stage) == []
    for stage in ("split", "embed_users", "cluster", "train", "evaluate"):
        assert stale(world, stage=stage, view=View.EVALUATION) == []

    changed = "users.profile_weight=0.9"
    assert stale(world, changed, stage="cluster") == ["embed-users"]
    assert stale(world, changed, stage="score") == ["embed-users", "cluster", "train"]
    assert stale(world, changed, stage="evaluate", view=View.EVALUATION) == [
        "embed-users --view evaluation",
        "cluster --view evaluation",
        "train --view evaluation",
    ]
    assert stale(world, "split.test_share=0.3", stage="evaluate", view=View.EVALUATION)[0] == "split"
    # what was named is taken as it is
    assert stale(world, changed, stage="cluster", user_embeddings=Path("work/user_embeddings.parquet")) == []

    planner, plan = planned(world, changed, stage="cluster")
    run_stage(planner, plan)
    assert [text for text in warned if "not up to date" in text] == [
        "cluster reads inputs that are not up to date; run: recpipe embed-users"
    ]


def test_what_a_model_does_not_read_is_no_concern(world: World) -> None:
    popularity = "train.model=popularity"
    planner = Planner(load(world.config, [popularity]))
    run_stage(planner, planner.plan(stage_named("train"), View.PRODUCTION))
    assert stale(world, popularity, stage="score") == []
    assert not Path("work/item_embeddings.parquet").exists()


def test_every_input_is_looked_at_under_the_locks(world: World) -> None:
    run_chain(Planner(load(world.config)), skip_evaluation=True)
    planner = Planner(load(world.config))
    plans = {plan.stage.name: plan for plan in plan_chain(planner, skip_evaluation=True)}
    for plan in plans.values():
        preflight.check_unchanged(plan)
    score = plans["score"]
    for name in score.inputs:
        other = replace(score.inputs[name], fingerprint="00")
        with pytest.raises(RecpipeError, match=f"{name} was replaced by another run"):
            preflight.check_unchanged(replace(score, inputs={**score.inputs, name: other}))
    assert {"model", ITEMS.name, "user_embeddings"} <= set(score.inputs)
