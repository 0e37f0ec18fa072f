"""The oracle of a simulated world: ranks by what users truly prefer, as the best any model could do."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recpipe.errors import DataError
from recpipe.ingest.simulate.truth import iterate_user_truth, load_truth, taste_at
from recpipe.metrics.settings import ORACLE
from recpipe.models.base import FitContext, FitReport, ModelState, PairwiseModel, ScoreBlock
from recpipe.models.settings import ModelSettings
from recpipe.models.tables import Histories, Items, Profiles, TrainingData
from recpipe.stages.pipeline.events import UserEvents

if TYPE_CHECKING:
    from numpy.typing import NDArray

MICROSECONDS_A_DAY = 86_400_000_000


class Oracle(PairwiseModel):
    """Knows `truth_users.parquet` and `truth_items.parquet` of the simulator; not a model anybody can train.

    Args:
        folder: Where the truth files are.
        held_out: The test interactions: a user's taste is that of the day of the first one.
    """

    def __init__(self, folder: Path, held_out: UserEvents) -> None:
        self.settings = ModelSettings(model=ORACLE)
        self._truth = load_truth(folder)
        self._held_out = held_out
        users = list(iterate_user_truth(folder))
        self._user_ids = pa.array([user_id for block in users for user_id in block.user_ids], pa.string())
        self._start = np.concatenate([block.taste_start for block in users])
        self._end = np.concatenate([block.taste_end for block in users])

    def fit(self, data: TrainingData, context: FitContext) -> FitReport:
        """Learn nothing: everything is known."""
        return FitReport(target="implicit")

    def state(self) -> ModelState:
        """Raise TypeError: an oracle is not kept."""
        raise TypeError("the oracle is no model to be kept")

    def restore(self, state: ModelState) -> None:
        """Raise TypeError: an oracle is not kept."""
        raise TypeError("the oracle is no model to be kept")

    def score_block(self, profiles: Profiles, histories: Histories, items: Items) -> ScoreBlock:
        """Return in what proportion the users would take each item on that day."""
        rows = self._rows(profiles.user_ids, self._user_ids, "truth_users.parquet")
        days = self._days(profiles.user_ids)
        tastes = taste_at(self._start[rows], self._end[rows], days, days=self._truth.settings.days)
        item_rows = self._rows(items.ids, pa.array(self._truth.item_ids, pa.string()), "truth_items.parquet")
        scores = self._truth.choice(tastes, days)[:, item_rows].astype(np.float32)
        return ScoreBlock(scores, np.full(len(profiles), ORACLE))

    def _days(self, user_ids: pa.Array) -> NDArray[np.float64]:
        events = self._held_out.of(user_ids)
        if events.timestamps_us is None:
            raise DataError("the oracle needs times, and the interactions have none", where="evaluate.truth")
        first = np.minimum(events.offsets[:-1], max(len(events.timestamps_us) - 1, 0))
        start_us = np.datetime64(self._truth.settings.start, "us").astype(np.int64)
        return np.asarray((events.timestamps_us[first] - start_us) // MICROSECONDS_A_DAY, np.float64)

    @staticmethod
    def _rows(ids: pa.Array, known: pa.Array, file: str) -> NDArray[np.int64]:
        rows = pc.index_in(ids, known)
        if rows.null_count:
            raise DataError(
                "the truth is that of another world: ids are missing in it",
                where=f"evaluate.truth, {file}",
                next_step="name the folder that `recpipe simulate` wrote these tables to",
            )
        return np.asarray(rows.to_numpy(zero_copy_only=False), np.int64)
