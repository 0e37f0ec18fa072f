from __future__ import annotations

import pytest

from recpipe.schemas import ARTIFACTS, EMBEDDING, USERS, Scope
from recpipe.stages.pipeline.registry import producer, stage_named, stages
from recpipe.stages.tables import TABLE_STAGES
from recpipe.store.layout import View


def test_every_stage_comes_after_those_it_reads_from() -> None:
    position = {output.artifact.name: number for number, stage in enumerate(stages()) for output in stage.writes}
    for number, stage in enumerate(stages()):
        own = {output.artifact.name for output in stage.writes}
        for entry in stage.reads:
            if entry.artifact.name in position and entry.artifact.name not in own:
                assert position[entry.artifact.name] < number, f"{stage.name} reads {entry.artifact.name}"


def test_the_stages_are_found_in_order() -> None:
    names = [stage.name for stage in stages()]
    assert len(set(names)) == len(names)
    chains = (
        ("embed_items", "embed_users", "cluster", "train", "score"),
        ("split", "embed_users", "train", "evaluate"),
    )
    for chain in chains:
        assert sorted(chain, key=names.index) == list(chain)


def test_a_view_that_is_read_or_written_is_one_the_stage_has() -> None:
    for stage in stages():
        for entry in (*stage.reads, *stage.writes):
            assert set(entry.views) & set(stage.views), f"{stage.name}: {entry.artifact.name}"


def test_every_artifact_has_one_producer() -> None:
    writers: dict[str, list[str]] = {name: [] for name in ARTIFACTS}
    for stage in (*TABLE_STAGES.values(), *stages()):
        for output in stage.writes:
            writers[output.artifact.name].append(stage.name)
    # tags are only imported, trials are tune's, a model's folder is written by whoever writes the model
    inside = {artifact.name for artifact in ARTIFACTS.values() if artifact.scope is Scope.MODEL}
    assert inside == {"item_vectors", "training_history"}
    assert {name for name, found in writers.items() if len(found) != 1} == {"tags", "trials", *inside}
    assert producer(ARTIFACTS["segments"]) is stage_named("cluster")
    assert producer(USERS) is TABLE_STAGES["users"]


def test_declarations_are_sound() -> None:
    for stage in stages():
        assert stage.summary.endswith(".")
        assert stage.example.startswith(f"recpipe {stage.command}")
        assert stage.version >= 1
        for view in stage.views:
            assert isinstance(view, View)
    for artifact in ARTIFACTS.values():
        assert artifact.folder or artifact.columns
        assert set(artifact.key) <= {column.name for column in artifact.columns}
        assert isinstance(artifact.scope, Scope)
        assert not any(artifact.column(name).nullable for name in artifact.key)


def test_unknown_names() -> None:
    with pytest.raises(KeyError):
        stage_named("nothing")
    with pytest.raises(KeyError, match="no stage writes tags"):
        producer(ARTIFACTS["tags"])
    assert EMBEDDING.nullable
