"""split: hold interactions out, so that the evaluation view cannot learn from them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from recpipe.config import Settings
from recpipe.errors import DataError
from recpipe.ingest.settings import SplitSettings
from recpipe.schemas import (
    INTERACTIONS,
    TEST_INTERACTIONS,
    TIMESTAMP,
    TRAIN_INTERACTIONS,
    VALIDATION_INTERACTIONS,
)
from recpipe.stages.base import Input, Output, Stage
from recpipe.store.layout import View

if TYPE_CHECKING:
    from recpipe.stages.pipeline.context import StageContext


class SplitStageSettings(Settings):
    """What decides the split."""

    split: SplitSettings


def _run(settings: SplitStageSettings, context: StageContext) -> None:
    from contextlib import ExitStack
    from datetime import UTC, datetime

    import numpy as np
    import pyarrow as pa

    from recpipe.ingest.splits import Part, assign, time_boundaries

    interactions = context.read(INTERACTIONS)
    if not interactions.has(TIMESTAMP):
        raise DataError(
            "a split by time needs timestamps, and the interactions have none",
            where=str(interactions.path),
            next_step="map them: data.columns.interactions.timestamp",
        )

    def times(table: pa.Table) -> np.ndarray:
        return np.asarray(table.column(TIMESTAMP.name).cast(pa.int64()).to_numpy())

    boundaries = time_boundaries(
        np.concatenate([times(batch) for batch in interactions.batches([TIMESTAMP.name])]),
        test_share=settings.split.test_share,
        validation_share=settings.split.validation_share,
    )
    outputs = {
        Part.TEST: TEST_INTERACTIONS,
        Part.VALIDATION: VALIDATION_INTERACTIONS,
        Part.TRAIN: TRAIN_INTERACTIONS,
    }
    since = {
        part: datetime.fromtimestamp(moment / 1e6, UTC).isoformat(sep=" ", timespec="seconds")
        for part, moment in ((Part.VALIDATION, boundaries.validation_from), (Part.TEST, boundaries.test_from))
    }
    counts = dict.fromkeys(outputs, 0)
    with ExitStack() as stack:
        writers = {part: stack.enter_context(context.write(artifact)) for part, artifact in outputs.items()}
        for batch in interactions.batches():
            parts = assign(times(batch), boundaries)
            for part, writer in writers.items():
                kept = batch.filter(pa.array(parts == part))
                counts[part] += kept.num_rows
                writer.write(kept)
        for writer in writers.values():
            writer.commit(by="time", validation_from=since[Part.VALIDATION], test_from=since[Part.TEST])
    context.log.info(
        "split by time: %d to train, %d to validate from %s, %d to test from %s",
        counts[Part.TRAIN],
        counts[Part.VALIDATION],
        since[Part.VALIDATION],
        counts[Part.TEST],
        since[Part.TEST],
    )


STAGE = Stage(
    name="split",
    summary="Hold out interactions for the evaluation view.",
    description="Cut the interactions by time: the newest are held out to test, those before to validate. Every other "
    "stage run with `--view evaluation` sees the training interactions only.",
    example="recpipe split -c config.yaml && recpipe embed-users -c config.yaml --view evaluation",
    version=1,
    settings=SplitStageSettings,
    reads=(Input(INTERACTIONS, view=View.PRODUCTION),),
    writes=(Output(TRAIN_INTERACTIONS), Output(VALIDATION_INTERACTIONS), Output(TEST_INTERACTIONS)),
    run=_run,
    views=(View.EVALUATION,),
)
