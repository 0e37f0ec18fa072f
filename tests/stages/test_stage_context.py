from __future__ import annotations

import hashlib
import threading
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import World
from row_tasks import Numbers

from recpipe.errors import DataError, LockedError, RecpipeError
from recpipe.executors.local import LocalExecutor
from recpipe.schemas import INTERACTIONS, ITEM_EMBEDDINGS, ITEMS, MODEL, SEGMENTS, USERS
from recpipe.stages.pipeline import preflight
from recpipe.stages.pipeline.context import StageContext
from recpipe.stages.pipeline.plan import Plan, Planner
from recpipe.stages.pipeline.registry import stage_named
from recpipe.stages.pipeline.runner import Outcome, run_plan, run_stage
from recpipe.stages.settings import load
from recpipe.stages.tables import TABLE_STAGES
from recpipe.store import locks, parts
from recpipe.store.artifacts import ArtifactReader
from recpipe.store.layout import View


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def context_of(world: World, stage: str, *overrides: str, workers: int = 1, device: str = "cpu") -> StageContext:
    planner = Planner(load(world.config, overrides))
    plan = planner.plan(stage_named(stage), View.PRODUCTION)
    return StageContext(
        plan,
        planner.layout,
        executor=LocalExecutor(workers),
        device=device,
        digests=planner.digests,
        cache=planner.config.cache_folder,
    )


def items_plan(world: World, *overrides: str) -> tuple[Planner, Plan]:
    planner = Planner(load(world.config, overrides))
    return planner, planner.plan(TABLE_STAGES["items"], View.PRODUCTION)


class TestDeclarations:
    def test_undeclared_artifacts_are_refused(self, world: World) -> None:
        context = context_of(world, "embed_items")
        for artifact in (USERS, ITEM_EMBEDDINGS):
            with pytest.raises(RecpipeError, match=f"embed_items reads {artifact.name} without declaring it"):
                context.read(artifact)
        for artifact in (ITEMS, SEGMENTS):
            with pytest.raises(RecpipeError, match=f"embed_items writes {artifact.name} without declaring it"):
                context.write(artifact)
        with pytest.raises(RecpipeError, match="writes model without declaring it"):
            context.write_model(MODEL, lambda folder: None)

    def test_an_input_that_these_settings_do_not_need_is_refused_too(self, world: World) -> None:
        assert context_of(world, "embed_users").has(INTERACTIONS)
        context = context_of(world, "embed_users", "users.history=none")
        assert not context.has(INTERACTIONS)
        with pytest.raises(RecpipeError, match="reads interactions without declaring it"):
            context.path(INTERACTIONS)

    def test_what_it_knows_comes_from_the_plan(self, world: World) -> None:
        context = context_of(world, "embed_items", "seed=7")
        assert context.view is View.PRODUCTION
        assert context.seed == 7
        assert context.given == {"users", "items", "interactions"}
        assert context.path(ITEMS) == Path("work/tables/items.parquet")

    def test_a_device_named_is_the_device(self, world: World) -> None:
        assert context_of(world, "embed_items").device() == "cpu"
        assert context_of(world, "embed_items", device="auto").device() in ("cpu", "cuda")

    def test_what_a_stage_shows_is_kept_for_the_command(self, world: World) -> None:
        context = context_of(world, "embed_items")
        context.show("a table")
        assert context.shown == ["a table"]


def map_numbers(world: World, *, log: str, n_rows: int = 10, workers: int = 1, fails_at: int = -1) -> dict[str, int]:
    context = context_of(world, "embed_items", workers=workers)
    return context.map_rows(
        ITEM_EMBEDDINGS, Numbers(Path(log), fails_at), n_rows=n_rows, shard_rows=3, unit="items", made_by="a test"
    )


class TestRows:
    OUTPUT = Path("work/item_embeddings.parquet")

    @pytest.mark.parametrize("workers", [1, 2])
    def test_shards_are_joined_in_order(self, world: World, workers: int) -> None:
        assert map_numbers(world, log="log", workers=workers) == {"computed": 10}
        reader = ArtifactReader(self.OUTPUT, ITEM_EMBEDDINGS)
        assert reader.table().to_pylist() == [{"item_id": f"i{i}", "embedding": [i, i**2]} for i in range(10)]
        assert reader.manifest is not None
        assert reader.manifest.details == {"computed": 10, "made_by": "a test"}
        assert reader.manifest.rows == 10
        assert sorted(Path("log").read_text().split()) == ["0-3", "3-6", "6-9", "9-10"]

    def test_workers_change_no_byte_of_the_parts(self, world: World) -> None:
        digests = []
        for workers in (1, 2):
            map_numbers(world, log="log", workers=workers)
            found = {
                path.name: hashlib.sha256(path.read_bytes()).hexdigest()
                for path in Path("work/.parts").rglob("*.parquet")
            }
            assert len(found) == 4
            digests.append(found)
            parts.discard(next(Path("work/.parts").iterdir()))
        assert digests[0] == digests[1]

    def test_finished_parts_are_used_again(self, world: World) -> None:
        with pytest.raises(DataError, match="no number"):
            map_numbers(world, log="first", fails_at=7)
        assert not self.OUTPUT.exists()
        assert Path("first").read_text().split() == ["0-3", "3-6"]
        kept = {path: path.read_bytes() for path in Path("work/.parts").rglob("*.parquet")}
        half = next(iter(kept)).with_name(".tmp-99-0123abcd-half.parquet")
        half.touch()
        # what was counted before the failure counts still
        assert map_numbers(world, log="second") == {"computed": 10}
        assert Path("second").read_text().split() == ["6-9", "9-10"]
        assert all(path.read_bytes() == content for path, content in kept.items())
        assert not half.exists()
        assert ArtifactReader(self.OUTPUT, ITEM_EMBEDDINGS).rows == 10

    def test_parts_cut_otherwise_are_not_used(self, world: World) -> None:
        """A part belongs to its rows: a run that cuts otherwise must not take rows 3-6 for rows 4-8."""
        with pytest.raises(DataError, match="no number"):
            map_numbers(world, log="first", fails_at=7)
        context = context_of(world, "embed_items")
        context.map_rows(ITEM_EMBEDDINGS, Numbers(Path("second")), n_rows=10, shard_rows=4, unit="items")
        assert Path("second").read_text().split() == ["0-4", "4-8", "8-10"]
        ids = ArtifactReader(self.OUTPUT, ITEM_EMBEDDINGS).table().column("item_id").to_pylist()
        assert ids == [f"i{row}" for row in range(10)]

    def test_parts_can_be_forgotten(self, world: World) -> None:
        with pytest.raises(DataError, match="no number"):
            map_numbers(world, log="first", fails_at=7)
        context_of(world, "embed_items").forget_parts()
        assert map_numbers(world, log="second") == {"computed": 10}
        assert Path("second").read_text().split() == ["0-3", "3-6", "6-9", "9-10"]


class TestRunner:
    def test_an_output_in_use_is_refused_at_once(self, world: World, run_cli) -> None:  # type: ignore[no-untyped-def]
        lock = locks.output_lock(Path("work/.locks"), Path("work/item_embeddings.parquet"))
        with locks.hold(lock, what="x", exclusive=True):
            result = run_cli("embed-items", "-c", world.config, expect=6)
        assert "item_embeddings.parquet is in use by another run" in result.stderr
        assert "(taken by pid" in result.stderr

    def test_an_input_that_is_being_written_is_refused_at_once(self, world: World, run_cli) -> None:  # type: ignore[no-untyped-def]
        run_cli("embed-items", "-c", world.config)
        lock = locks.output_lock(Path("work/.locks"), Path("work/item_embeddings.parquet"))
        with locks.hold(lock, what="x", exclusive=True):
            result = run_cli("embed-users", "-c", world.config, expect=6)
        assert "item_embeddings.parquet is in use by another run" in result.stderr
        with locks.hold(lock, what="x", exclusive=False):
            run_cli("embed-users", "-c", world.config)

    def test_an_output_that_somebody_reads_is_not_replaced(self, world: World, run_cli) -> None:  # type: ignore[no-untyped-def]
        lock = locks.output_lock(Path("work/.locks"), Path("work/item_embeddings.parquet"))
        with locks.hold(lock, what="x", exclusive=False):
            run_cli("embed-items", "-c", world.config, expect=6)

    def test_a_table_in_use_that_is_up_to_date_is_not_waited_for(self, world: World) -> None:
        """Another stage may read it for hours."""
        run_stage(*items_plan(world))
        planner = Planner(load(world.config))
        plan = planner.plan(stage_named("embed_items"), View.PRODUCTION)
        lock = locks.output_lock(Path("work/.locks"), Path("work/tables/items.parquet"))
        outcomes: list[Outcome] = []
        with locks.hold(lock, what="x", exclusive=False):
            thread = threading.Thread(target=lambda: outcomes.extend(run_stage(planner, plan)), daemon=True)
            thread.start()
            thread.join(30)
            assert not thread.is_alive()
        assert [outcome.ran for outcome in outcomes] == [False, True]

    def test_an_input_replaced_since_the_plan_is_refused(self, world: World) -> None:
        run_stage(*items_plan(world))
        planner = Planner(load(world.config))
        plan = planner.plan(stage_named("embed_items"), View.PRODUCTION)
        preflight.check_unchanged(plan)
        run_stage(*items_plan(world, "data.keep.items=[]"))
        with pytest.raises(LockedError, match="items was replaced by another run") as caught:
            run_plan(planner, replace(plan, tables=()))
        assert caught.value.where == "work/tables/items.parquet"
        assert caught.value.next_step == "run again"
        assert not Path("work/item_embeddings.parquet").exists()

    def test_what_a_stage_shows_is_in_its_outcome(self, world: World) -> None:
        def run(settings: object, context: StageContext) -> None:
            with context.write(ITEMS) as writer:
                writer.write(pa.table({"item_id": ["a"], "title": ["A"]}))
                writer.commit()
            context.show("one item")
            context.show("and no more")

        planner, plan = items_plan(world)
        (outcome,) = run_stage(planner, replace(plan, stage=replace(plan.stage, run=run)))
        assert outcome.shown == "one item\nand no more"
        assert outcome.rows == 1

    def test_stages_share_the_work_directory_and_run_does_not(self, world: World, run_cli) -> None:  # type: ignore[no-untyped-def]
        lock = locks.workdir_lock(Path("work/.locks"))
        with locks.hold(lock, what="x", exclusive=True):
            run_cli("embed-items", "-c", world.config, expect=6)
            run_cli("run", "-c", world.config, expect=6)
        with locks.hold(lock, what="x", exclusive=False):
            run_cli("run", "-c", world.config, expect=6)
            run_cli("embed-items", "-c", world.config)

    def test_what_a_killed_writer_left_beside_an_output_is_cleared(self, world: World, tmp_path: Path) -> None:
        tables = Path("work/tables")
        tables.mkdir(parents=True)
        (tables / ".tmp-99-0123abcd-items.parquet").touch()
        (tables / ".tmp-99-0123abcd-users.parquet").touch()
        (outcome,) = run_stage(*items_plan(world))
        assert (outcome.ran, outcome.rows, outcome.output) == (True, 60, tables / "items.parquet")
        assert sorted(path.name for path in tables.iterdir()) == [".tmp-99-0123abcd-users.parquet", "items.parquet"]
        assert not any(Path("work/.parts").iterdir())

    def test_a_run_clears_the_parts_of_settings_given_up(self, world: World, run_cli) -> None:  # type: ignore[no-untyped-def]
        abandoned = Path("work/.parts/ab12/items-000000-0-9.parquet")
        abandoned.parent.mkdir(parents=True)
        abandoned.touch()
        run_cli("run", "-c", world.config, "--set", "train.model=popularity")
        assert not Path("work/.parts").exists()

    def test_a_second_time_there_is_nothing_to_do_unless_forced(self, world: World) -> None:
        assert [outcome.ran for outcome in run_stage(*items_plan(world))] == [True]
        before = Path("work/tables/items.parquet").stat().st_mtime_ns
        assert [outcome.ran for outcome in run_stage(*items_plan(world))] == [False]
        assert Path("work/tables/items.parquet").stat().st_mtime_ns == before
        planner, plan = items_plan(world)
        assert [outcome.ran for outcome in run_stage(planner, plan, force=True)] == [True]

    def test_a_plan_made_before_somebody_else_ran_it_is_looked_at_again(self, world: World) -> None:
        planner = Planner(load(world.config))
        plan = planner.plan(stage_named("embed_items"), View.PRODUCTION)
        run_stage(*items_plan(world))
        assert [outcome.ran for outcome in run_stage(planner, plan)] == [False, True]


def test_a_file_written_by_another_program_can_be_an_input(world: World, run_cli, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    ids = [f"u{user:02d}" for user in range(40)]
    vectors = [[float(user % 3), 1.0, float(user % 5)] for user in range(40)]
    pq.write_table(pa.table({"embedding": vectors, "user_id": ids}), tmp_path / "theirs.parquet")
    run_cli(
        "cluster", "-c", world.config, "--set", "cluster.pca_dim=2",
        "--user-embeddings", tmp_path / "theirs.parquet", "--output", tmp_path / "mine.parquet",
    )  # fmt: skip
    assert pq.read_table(tmp_path / "mine.parquet").column("user_id").to_pylist() == ids
    assert not Path("work/user_profiles.parquet").exists()
