from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest
from conftest import World

from recpipe.errors import ConfigError, DataError, MissingInputError
from recpipe.schemas import INTERACTIONS, MODEL_CHOICE
from recpipe.stages.pipeline.chain import evaluation_stages, plan_chain
from recpipe.stages.pipeline.plan import Plan, Planner, State, differences, published
from recpipe.stages.pipeline.registry import stage_named
from recpipe.stages.settings import load
from recpipe.store.artifacts import ArtifactWriter
from recpipe.store.layout import View
from recpipe.store.manifest import Manifest
from recpipe.store.model_folders import publish_model

TABLES = {"users", "items", "interactions"}
PRODUCTION = TABLES | {"embed_items", "embed_users", "cluster", "train", "score"}
EVALUATION = {f"evaluation/{name}" for name in ("split", "embed_users", "cluster", "train", "evaluate")}
ALL = PRODUCTION | EVALUATION


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def planner(config: Path, *overrides: str) -> Planner:
    return Planner(load(config, overrides))


def chain(config: Path, *overrides: str) -> dict[str, Plan]:
    """The plans of the whole chain, by stage; those of the evaluation view as `evaluation/train`."""
    return {
        plan.stage.name if plan.view is View.PRODUCTION else f"evaluation/{plan.stage.name}": plan
        for plan in plan_chain(planner(config, *overrides))
    }


def in_both_views(*stages: str) -> set[str]:
    return {*stages, *(f"evaluation/{stage}" for stage in stages)}


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
            ("keep_runs=2", set()),
            ("cache.max_gb=null", set()),
            ("evaluate.block_users=7", set()),
            ("score.top_n=3", {"score"}),
            ("evaluate.k=[5]", {"evaluation/evaluate"}),
            # the production model is fitted as validation chose
            ("split.test_share=0.3", EVALUATION | {"train", "score"}),
            ("cluster.n_clusters=2", in_both_views("cluster", "train") | {"score", "evaluation/evaluate"}),
            ("encoder.max_length=16", ALL - TABLES - {"evaluation/split"}),
            (
                "users.profile_weight=0.9",
                in_both_views("embed_users", "cluster", "train") | {"score", "evaluation/evaluate"},
            ),
            ("encoder.item_text=[title]", ALL - TABLES - {"evaluation/split"}),
            ("encoder.document_prompt=x", ALL - TABLES - {"evaluation/split"}),
            *(
                (override, in_both_views("embed_users", "cluster", "train") | {"score", "evaluation/evaluate"})
                for override in ("encoder.user_text=[bio]", "encoder.query_prompt=x", "users.positive_from=3")
            ),
            ("data.max_bad_rows=7", set()),
            ("data.max_bad_share=1", set()),
            ("data.timestamp_unit=s", ALL - {"users", "items", "embed_items"}),
            ("data.rating_min=0", ALL - {"users", "items", "embed_items"}),
            ("data.keep={interactions: []}", ALL - {"users", "items", "embed_items"}),
            # interactions are checked against users and items
            ("data.columns={users: {text: bio}}", ALL - {"items", "embed_items"}),
            ("data.text_columns={items: [code]}", ALL - {"users"}),
            ("data.media_root=pictures", ALL),
            ("media.max_bad_share=1", set()),
            ("image_encoder.batch_size=3", set()),
            ("audio_encoder.window_seconds=3", ALL - TABLES - {"evaluation/split"}),
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
        assert changed(before, chain(world.config, model)) == ALL - TABLES - {"evaluation/split"}

    @pytest.mark.parametrize("change", ["version", "schema"])
    def test_change_with_the_version_of_stage_and_schema(self, world: World, change: str) -> None:
        stage = stage_named("embed_items")
        output = stage.writes[0]
        newer = replace(output.artifact, version=output.artifact.version + 1)
        other = {
            "version": replace(stage, version=stage.version + 1),
            "schema": replace(stage, writes=(replace(output, artifact=newer), *stage.writes[1:])),
        }
        plans = [planner(world.config).plan(each, View.PRODUCTION) for each in (stage, other[change])]
        assert plans[0].fingerprint != plans[1].fingerprint


class TestChain:
    def test_plans_everything_before_anything_has_run(self, world: World) -> None:
        plans = chain(world.config)
        assert {plan.state for plan in plans.values()} == {State.STALE}
        assert plans["score"].reasons == ["no recommendations yet"]
        assert plans["train"].inputs["model_choice"].fingerprint == plans["evaluation/train"].fingerprint
        assert not Path("work", "tables").exists()

    def test_item_embeddings_then_evaluation_then_production(self, world: World) -> None:
        order = [name for name in chain(world.config) if name not in TABLES]
        assert order[0] == "embed_items"
        assert set(order[1:6]) == EVALUATION
        assert order[1] == "evaluation/split"
        assert order[5] == "evaluation/evaluate"
        assert order[6:] == ["embed_users", "cluster", "train", "score"]

    def test_what_evaluation_needs_and_nothing_else(self) -> None:
        names = [stage.name for stage in evaluation_stages()]
        assert names == ["split", "embed_users", "cluster", "train", "evaluate"]

    def test_without_evaluation(self, world: World) -> None:
        plans = plan_chain(planner(world.config), skip_evaluation=True)
        assert {plan.stage.name for plan in plans} == PRODUCTION
        assert {plan.view for plan in plans} == {View.PRODUCTION}
        (train,) = [plan for plan in plans if plan.stage.name == "train"]
        assert "model_choice" not in train.inputs

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


class TestDamage:
    """What recpipe wrote itself and cannot read any more is made again."""

    def test_an_output_is_stale(self, world: World) -> None:
        damaged(Path("work/item_embeddings.parquet"))
        plan = planner(world.config).plan(stage_named("embed_items"), View.PRODUCTION)
        assert (plan.state, plan.reasons) == (State.STALE, ["item_embeddings cannot be read"])

    def test_an_input_is_missing(self, world: World) -> None:
        damaged(Path("work/user_embeddings.parquet"))
        plan = planner(world.config).plan(stage_named("cluster"), View.PRODUCTION)
        assert (plan.state, plan.reasons) == (State.BLOCKED, ["user_embeddings missing"])

    def test_an_optional_input_is_not_read(self, world: World) -> None:
        damaged(Path("work/evaluation/models/content/model_choice.parquet"))
        plan = planner(world.config).plan(stage_named("train"), View.PRODUCTION)
        assert "model_choice" not in plan.inputs

    def test_an_input_that_was_named_is_an_error(self, world: World, tmp_path: Path) -> None:
        theirs = damaged(tmp_path / "theirs.parquet")
        found = Planner(load(world.config), read_paths={"user_embeddings": theirs})
        with pytest.raises(DataError, match="not a readable artifact"):
            found.plan(stage_named("cluster"), View.PRODUCTION)

    def test_a_model_whose_folder_is_gone_is_no_model(self, world: World) -> None:
        root = Path("work/models/content")
        found = planner(world.config)
        plan = found.plan(stage_named("train"), View.PRODUCTION)
        folder = publish_model(root, replace(plan.manifest, artifact="model"), lambda folder: None)
        assert found.plan(stage_named("score"), View.PRODUCTION).inputs["model"].fingerprint == plan.fingerprint
        folder.rmdir()
        assert found.plan(stage_named("score"), View.PRODUCTION).inputs["model"].fingerprint is None


def damaged(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"PAR1 no more")
    return path


class TestOptionalInput:
    """A choice of hyper-parameters belongs to the search it came from."""

    @pytest.fixture
    def choice(self, world: World) -> str:
        found = planner(world.config)
        plan = found.plan(stage_named("train"), View.EVALUATION)
        with ArtifactWriter(plan.outputs["model_choice"], MODEL_CHOICE, published(plan, MODEL_CHOICE)) as writer:
            writer.write(pa.table({"setting": ["n_epochs"], "value": ["3"]}))
            return writer.commit().fingerprint

    def test_belongs_where_the_settings_are_equal(self, world: World, choice: str) -> None:
        plan = planner(world.config, "score.top_n=3").plan(stage_named("train"), View.PRODUCTION)
        assert plan.inputs["model_choice"].fingerprint == choice
        assert plan.manifest.inputs["model_choice"] == choice

    @pytest.mark.parametrize("override", ["seed=7", "as_of=2021-01-01"])
    def test_serves_the_nights_in_between(self, world: World, choice: str, override: str) -> None:
        plan = planner(world.config, override).plan(stage_named("train"), View.PRODUCTION)
        assert plan.inputs["model_choice"].fingerprint == choice

    @pytest.mark.parametrize("override", ["train.positive_from=4", "train.target=implicit"])
    def test_belongs_to_no_other_search(self, world: World, choice: str, override: str) -> None:
        plan = planner(world.config, override).plan(stage_named("train"), View.PRODUCTION)
        assert "model_choice" not in plan.inputs
        assert "model_choice" not in plan.manifest.inputs

    def test_absent_it_blocks_nothing(self, world: World) -> None:
        plan = planner(world.config).plan(stage_named("train"), View.PRODUCTION)
        assert not any("model_choice" in reason for reason in plan.reasons)

    def test_the_view_that_makes_it_does_not_read_it(self, world: World, choice: str) -> None:
        plan = planner(world.config).plan(stage_named("train"), View.EVALUATION)
        assert set(plan.outputs) == {"model", "model_choice"}
        assert "model_choice" not in plan.inputs
        assert "validation_interactions" in plan.inputs
        production = planner(world.config).plan(stage_named("train"), View.PRODUCTION)
        assert set(production.outputs) == {"model"}
        assert "validation_interactions" not in production.inputs


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
