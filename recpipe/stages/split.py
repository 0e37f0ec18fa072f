"""split: hold interactions out, so that the evaluation view cannot learn from them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import NonNegativeInt, create_model

from recpipe.ingest.settings import SplitSettings
from recpipe.schemas import INTERACTIONS, TEST_INTERACTIONS, TRAIN_INTERACTIONS, VALIDATION_INTERACTIONS
from recpipe.stages.base import Input, Output, Stage
from recpipe.stages.tables import INTERACTION_SETTINGS, TableSettings
from recpipe.store.layout import View

if TYPE_CHECKING:
    from recpipe.ingest.splits.base import Splitter
    from recpipe.ingest.splits.tally import SplitTally
    from recpipe.stages.pipeline.context import StageContext

BATCH_ROWS = 65_536


class SplitStageSettings(TableSettings):
    """What decides the split; `data` because `split.files` are read like interactions."""

    split: SplitSettings
    seed: NonNegativeInt


def _settings() -> type[SplitStageSettings]:
    """Return the settings in which `data` holds what concerns interactions only."""
    data: Any = (INTERACTION_SETTINGS.model_fields["data"].annotation, ...)
    return create_model(SplitStageSettings.__name__, __base__=SplitStageSettings, __module__=__name__, data=data)


def _run(settings: SplitStageSettings, context: StageContext) -> None:
    from contextlib import ExitStack

    import pyarrow as pa

    from recpipe.ingest.splits.base import Part
    from recpipe.ingest.splits.choose import choose_splitter
    from recpipe.ingest.splits.tally import SplitTally
    from recpipe.ingest.splits.whole_users import whole_users

    interactions = context.read(INTERACTIONS)
    splitter = choose_splitter(
        settings.split,
        read=interactions.batches,
        columns=interactions.columns,
        n_rows=interactions.rows,
        seed=settings.seed,
        data=settings.data,
    )
    tally = SplitTally()
    outputs = {
        Part.TEST: TEST_INTERACTIONS,
        Part.VALIDATION: VALIDATION_INTERACTIONS,
        Part.TRAIN: TRAIN_INTERACTIONS,
    }
    with ExitStack() as stack:
        writers = {part: stack.enter_context(context.write(artifact)) for part, artifact in outputs.items()}
        for block in whole_users(interactions.batches(batch_rows=BATCH_ROWS)):
            parts = splitter.parts(block)
            tally.update(block, parts)
            for part, writer in writers.items():
                writer.write(block.table.filter(pa.array(parts == part)))
        splitter.finish()
        tally.require_parts(splitter)
        details = {
            "by": splitter.by,
            "asked_for": settings.split.by,
            "protocol": splitter.protocol(),
            "warnings": list(splitter.warnings),
            **splitter.details(),
            **tally.details(),
        }
        for writer in writers.values():
            writer.commit(**details)
    _report(splitter, tally, context)


def _report(splitter: Splitter, tally: SplitTally, context: StageContext) -> None:
    from recpipe.ingest.splits.base import Part

    for warning in splitter.warnings:
        context.log.warning("%s", warning)
    found = tally.details()
    context.log.info(
        "%s; %d interactions to train, %d to validate, %d to test",
        splitter.protocol(),
        tally.rows[Part.TRAIN],
        tally.rows[Part.VALIDATION],
        tally.rows[Part.TEST],
    )
    context.log.info(
        "test: %d users, %d of them cold; %d items, %d of them cold; %d repeats of training interactions",
        *(found[f"test_{name}"] for name in ("users", "users_cold", "items", "items_cold", "repeats")),
    )


def _files(settings: SplitStageSettings) -> list[Path]:
    from recpipe.ingest.splits.choose import part_files

    return [source.path for source in part_files(settings.split)]


STAGE = Stage(
    name="split",
    summary="Hold out interactions for the evaluation view.",
    description="Hold interactions out to validate and to test: the newest of all users, each user's last, a random "
    "share, all those of some items, or those of supplied files (`split.by`). Every other stage run with `--view "
    "evaluation` sees the training interactions only.",
    example="recpipe split -c config.yaml && recpipe embed-users -c config.yaml --view evaluation",
    version=2,
    settings=_settings(),
    reads=(Input(INTERACTIONS, view=View.PRODUCTION),),
    writes=(Output(TRAIN_INTERACTIONS), Output(VALIDATION_INTERACTIONS), Output(TEST_INTERACTIONS)),
    run=_run,
    files=_files,
    views=(View.EVALUATION,),
)
