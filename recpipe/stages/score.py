"""score: the best items for every user."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import SerializeAsAny

from recpipe.config import Settings
from recpipe.errors import ConfigError
from recpipe.models.selection import candidates_of
from recpipe.models.settings import ModelSettings
from recpipe.schemas import (
    INTERACTIONS,
    ITEM_EMBEDDINGS,
    ITEMS,
    MODEL,
    RECOMMENDATIONS,
    USER_EMBEDDINGS,
    USER_PROFILES,
    USERS,
)
from recpipe.scoring.settings import ScoreSettings
from recpipe.stages.base import Input, Output, Stage
from recpipe.stages.train import model_reads, population_paths

if TYPE_CHECKING:
    import pyarrow as pa

    from recpipe.stages.pipeline.context import StageContext
    from recpipe.stages.pipeline.population import PopulationPaths

SHARD_ROWS = 4096


class ScoreStageSettings(Settings):
    """What decides the lists."""

    score: ScoreSettings
    train: SerializeAsAny[ModelSettings]
    as_of: datetime | None


@dataclass
class _Score:
    """Scores a range of the users table."""

    model: Path
    paths: PopulationPaths
    settings: ScoreSettings
    device: str

    def setup(self) -> None:
        from recpipe.models.registry import load_model
        from recpipe.scoring.recommendations import Recommender
        from recpipe.stages.pipeline.population import Population

        self._population = Population(self.paths)
        model = load_model(self.model)
        self._recommender = Recommender(model, self._population.items, self.settings, device=self.device)

    def compute(self, start: int, stop: int) -> tuple[pa.Table, dict[str, Any]]:
        import pyarrow.compute as pc

        from recpipe.schemas import SOURCE, USER_ID

        table = self._recommender.recommend(*self._population.block(start, stop))
        served = pc.count_distinct(table.column(USER_ID.name)).as_py()
        sources = pc.value_counts(table.column(SOURCE.name)).to_pylist()
        counts = {f"source_{entry['values']}": entry["counts"] for entry in sources}
        return table, {"users": served, "users_without_items": stop - start - served, **counts}


def _run(settings: ScoreStageSettings, context: StageContext) -> None:
    from recpipe.models.storage import read_header
    from recpipe.store.model_folders import current_model

    folder, _ = current_model(context.path(MODEL))
    kept = read_header(folder).model
    if kept not in {candidate.model for candidate in candidates_of(settings.train)}:
        raise ConfigError(
            f"the model is {kept}, the configuration says {settings.train.model}",
            where=str(folder),
            next_step=f"--set train.model={kept}, or name another folder with --model",
        )
    users = context.read(USERS)
    paths = population_paths(context, settings.as_of, settings.train)
    task = _Score(folder, paths, settings.score, context.device())
    counts = context.map_rows(
        RECOMMENDATIONS, task, n_rows=users.rows, shard_rows=SHARD_ROWS, unit="users", model=str(folder)
    )
    sources = ", ".join(
        f"{name.removeprefix('source_')} {count:,}" for name, count in counts.items() if name.startswith("source_")
    )
    context.log.info("%d users, recommendations by %s", counts["users"], sources)
    if counts["users_without_items"]:
        context.log.warning("%d users have no item left to recommend", counts["users_without_items"])


STAGE = Stage(
    name="score",
    summary="Write the best items for every user.",
    description="Rank the items for every user with the fitted model and write the best `score.top_n`, items already "
    "taken left out. New users and new items are included; the column `source` says which path made a row.",
    example="recpipe score -c config.yaml --output recommendations.parquet",
    version=2,
    settings=ScoreStageSettings,
    reads=(
        Input(MODEL),
        Input(USERS),
        Input(ITEMS),
        Input(INTERACTIONS),
        Input(ITEM_EMBEDDINGS, when=model_reads(ITEM_EMBEDDINGS)),
        Input(USER_EMBEDDINGS, when=model_reads(USER_EMBEDDINGS)),
        Input(USER_PROFILES, when=model_reads(USER_PROFILES)),
    ),
    writes=(Output(RECOMMENDATIONS),),
    run=_run,
)
