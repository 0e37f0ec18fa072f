from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import World

from recpipe.errors import ConfigError, MissingInputError
from recpipe.schemas import INTERACTIONS
from recpipe.stages.pipeline.chain import plan_chain
from recpipe.stages.pipeline.plan import Plan, Planner, State, differences
from recpipe.stages.pipeline.registry import stage_named
from recpipe.stages.settings import load
from recpipe.store.layout import View
from recpipe.store.manifest import Manifest

TABLES = {"users", "items", "interactions"}
ALL = TABLES | {"embed_items", "embed_users", "cluster", "train", "score"}


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def planner(config: Path, *overrides: str) -> Planner:
    return Planner(load(config, overrides))


def chain(config: Path, *overrides: str) -> dict[str, Plan]:
    return {plan.stage.name: plan for plan in plan_chain(planner(config, *overrides))}


def changed(before: dict[str, Plan], after: dict[str, Plan]) -> set[str]:
    assert before.keys() == after.keys() == ALL
    return {name for name in before if before[name].fingerprint != after[name].fingerprint}


class TestFingerprints:
    @pytest.mark.parametrize(
        ("override", "expected"),
        [
            ("workdir=elsewhere", set()),
            ("executor.workers=2", set()),
            ("encoder.batch_tokens=99", set()),
            ("cache.dir=kept", set()),
            ("score.top_n=3", {"score"}),
            ("cluster.n_clusters=2", {"cluster", "train", "score"}),
            ("encoder.max_length=16", ALL - TABLES),
            ("users.profile_weight=0.9", {"embed_users", "cluster", "train", "score"}),
            ("encoder.item_text=[title]", ALL - TABLES),
            ("encoder.document_prompt=x", ALL - TABLES),
            ("encoder.user_text=[bio]", {"embed_users", "cluster", "train", "score"}),
            ("encoder.query_prompt=x", {"embed_users", "cluster", "train", "score"}),
            ("users.positive_from=3", {"embed_users", "cluster", "train", "score"}),
            ("data.max_bad_rows=7", set()),
            ("data.max_bad_share=1", set()),
            ("data.timestamp_unit=s", ALL - {"users", "items", "embed_items"}),
            ("data.rating_min=0", ALL - {"users", "items", "embed_items"}),
            ("data.keep={interactions: []}", ALL - {"users", "items", "embed_items"}),
            # interactions are checked against users and items
            ("data.columns={users: {text: bio}}", ALL - {"items", "embed_items"}),
            ("data.text_columns={items: [code]}", ALL - {"users"}),
            ("data.media_root=pictures", ALL - {"users"}),
            ("data.encoding=utf-8", ALL),
            ("data.decimal=.", ALL),
        ],
    )
    def test_change_with_what_decides_the_result(self, world: World, override: str, expected: set[str]) -> None:
        assert changed(chain(world.config), chain(world.config, override)) == expected

    def test_of_a_table_follow_its_content(self, world: World, tmp_path: Path) -> None:
        folder = tmp_path / "copied" / "elsewhere"
        shutil.copytree(world.folder, folder)
        items = f"data.items={folder / world.items.name}"
        before = chain(world.config)
        assert changed(before, chain(world.config, items)) == set()
        os.utime(folder / world.items.name)
        assert changed(before, chain(world.config, items)) == set()
        with (folder / world.items.name).open("a") as file:
            file.write("i99,one more,,War\n")
        # users are checked without the items
        assert changed(before, chain(world.config, items)) == ALL - {"users"}

    def test_change_with_the_weights_of_the_encoder(self, world: World, tiny_encoder: Path, tmp_path: Path) -> None:
        copy = tmp_path / tiny_encoder.name
        shutil.copytree(tiny_encoder, copy)
        model = f"encoder.model_name={copy}"
        before = chain(world.config, model)
        weights = bytearray((copy / "model.safetensors").read_bytes())
        weights[-1] ^= 1
        (copy / "model.safetensors").write_bytes(weights)
        assert changed(before, chain(world.config, model)) == ALL - TABLES

    @pytest.mark.parametrize("change", ["version", "schema"])
    def test_change_with_the_version_of_stage_and_schema(self, world: World, change: str) -> None:
        stage = stage_named("embed_items")
        (output,) = stage.writes
        newer = replace(output.artifact, version=output.artifact.version + 1)
        other = {
            "version": replace(stage, version=stage.version + 1),
            "schema": replace(stage, writes=(replace(output, artifact=newer),)),
        }
        plans = [planner(world.config).plan(each, View.PRODUCTION) for each in (stage, other[change])]
        assert plans[0].fingerprint != plans[1].fingerprint


class TestChain:
    def test_plans_everything_before_anything_has_run(self, world: World) -> None:
        plans = chain(world.config)
        assert {plan.state for plan in plans.values()} == {State.STALE}
        assert plans["score"].reasons == ["no recommendations yet"]
        assert list(plans)[-1] == "score"
        assert not Path("work", "tables").exists()

    def test_a_missing_source_file_ends_it(self, world: World) -> None:
        with pytest.raises(MissingInputError, match=r"none\.csv"):
            chain(world.config, "data.items=none.csv")

    def test_a_table_that_is_not_configured(self) -> None:
        with pytest.raises(MissingInputError, match="no items table is given") as caught:
            planner_for_nothing().plan(stage_named("embed_items"), View.PRODUCTION)
        assert "--items PATH" in str(caught.value.next_step)
        assert "to run: --set data.items=PATH" in str(caught.value.next_step)


def planner_for_nothing() -> Planner:
    return Planner(load(None))


class TestOneStage:
    def test_a_missing_input_blocks_it_and_names_the_command(self, world: World) -> None:
        plan = planner(world.config).plan(stage_named("cluster"), View.PRODUCTION)
        assert (plan.state, plan.reasons) == (State.BLOCKED, ["user_embeddings missing"])
        with pytest.raises(MissingInputError, match="user_embeddings missing") as caught:
            plan.require_inputs()
        assert caught.value.where == "work/user_embeddings.parquet"
        assert caught.value.next_step == "run: recpipe embed-users"

    def test_it_brings_the_tables_it_needs(self, world: World) -> None:
        plan = planner(world.config).plan(stage_named("train"), View.PRODUCTION)
        assert [table.stage.name for table in plan.tables] == ["users", "items", "interactions"]

    def test_files_of_another_program_count_by_their_content(self, world: World, tmp_path: Path) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        path = tmp_path / "theirs.parquet"

        def planned(value: float) -> Plan:
            pq.write_table(pa.table({"user_id": ["a"], "embedding": [[value]]}), path)
            found = Planner(load(world.config), read_paths={"user_embeddings": path})
            return found.plan(stage_named("cluster"), View.PRODUCTION)

        first, again, other = planned(1), planned(1), planned(2)
        assert first.state is State.STALE
        assert first.inputs["user_embeddings"].path == path
        assert first.fingerprint == again.fingerprint != other.fingerprint

    def test_outputs_go_where_they_are_sent(self, world: World, tmp_path: Path) -> None:
        found = Planner(load(world.config), write_paths={"item_embeddings": tmp_path / "x.parquet"})
        plan = found.plan(stage_named("embed_items"), View.PRODUCTION)
        assert plan.outputs == {"item_embeddings": tmp_path / "x.parquet"}

    def test_assigning_reads_what_fitting_writes(self, world: World) -> None:
        fit = planner(world.config).plan(stage_named("cluster"), View.PRODUCTION)
        assign = planner(world.config, "cluster.fit=false").plan(stage_named("cluster"), View.PRODUCTION)
        written = {"segments", "segment_space", "profile_features"}
        assert set(fit.outputs) - set(assign.outputs) == written
        assert set(assign.inputs) - set(fit.inputs) == written


class TestEvaluationView:
    def test_interactions_are_the_training_interactions(self, world: World) -> None:
        plan = planner(world.config).plan(stage_named("embed_users"), View.EVALUATION)
        entry = plan.inputs[INTERACTIONS.name]
        assert entry.path == Path("work/evaluation/train_interactions.parquet")
        assert plan.state is State.BLOCKED
        assert entry.hint == "run: recpipe split"
        assert plan.outputs == {"user_embeddings": Path("work/evaluation/user_embeddings.parquet")}
        assert plan.inputs["item_embeddings"].path == Path("work/item_embeddings.parquet")

    def test_a_stage_after_another_reads_the_evaluation_view(self, world: World) -> None:
        plan = planner(world.config).plan(stage_named("cluster"), View.EVALUATION)
        entry = plan.inputs["user_embeddings"]
        assert entry.path == Path("work/evaluation/user_embeddings.parquet")
        assert entry.hint == "run: recpipe embed-users --view evaluation"

    def test_the_split_itself_reads_everything_and_has_no_other_view(self, world: World) -> None:
        found = planner(world.config)
        plan = found.plan(stage_named("split"), View.EVALUATION)
        assert plan.inputs[INTERACTIONS.name].path == Path("work/tables/interactions.parquet")
        with pytest.raises(ConfigError, match="split has no production view") as caught:
            found.plan(stage_named("split"), View.PRODUCTION)
        assert caught.value.next_step == "run it with --view evaluation"

    def test_models_of_two_views_and_names_live_apart(self, world: World) -> None:
        train = stage_named("train")
        paths = {
            str(planner(world.config, *overrides).plan(train, view).outputs["model"])
            for view in View
            for overrides in ((), ("train.name=other",))
        }
        assert paths == {
            "work/models/content",
            "work/models/other",
            "work/evaluation/models/content",
            "work/evaluation/models/other",
        }


class TestDifferences:
    OLD = Manifest(
        "segments", 1, "cluster", 1, "production",
        {"cluster": {"n_clusters": 10, "features": {"max_values": 50}}, "seed": 42},
        "ab", {"users": "u1", "items": "i1"}, "tiny@1", 42, "0",
    )  # fmt: skip

    @pytest.mark.parametrize(
        ("changes", "expected"),
        [
            ({"settings": {"cluster": {"n_clusters": 8, "features": {"max_values": 50}}, "seed": 42}},
             ["cluster.n_clusters 10 → 8"]),
            ({"settings": {"cluster": {"n_clusters": 10, "features": {"max_values": 9}}, "seed": 1}},
             ["cluster.features.max_values 50 → 9", "seed 42 → 1"]),
            ({"settings": {"cluster": {"n_clusters": 10, "features": {"max_values": 50}}}}, ["seed 42 → None"]),
            ({"inputs": {"users": "u2", "items": "i1"}}, ["users changed"]),
            ({"inputs": {"users": "u1", "interactions": "x"}}, ["interactions changed", "items changed"]),
            ({"identity": "tiny@2"}, ["encoder tiny@1 → tiny@2"]),
            ({"stage_version": 2}, ["stage version 1 → 2"]),
            ({}, ["another schema version"]),
        ],
    )  # fmt: skip
    def test_say_what_is_not_the_same(self, changes: dict[str, object], expected: list[str]) -> None:
        assert differences(self.OLD, replace(self.OLD, **changes)) == expected  # type: ignore[arg-type]
