"""Recent popularity: everybody is recommended what most users took lately.

Score = log(1 + users with a positive interaction among the newest ones), then, for items
nobody took lately, log(1 + users ever) scaled to stay below. Newest are the last
`train.recent_share` of all interactions by time: a share, not days, so that a slow catalogue
and a fast one both keep enough of them. Without times it is popularity.

Under a global time split this is hard to beat, and it is what a user without history gets.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, PositiveFloat

from recpipe.models.base import (
    FactoredModel,
    FitContext,
    FitReport,
    Histories,
    Items,
    ModelSpec,
    ModelState,
    Profiles,
    TrainingData,
    UserVectors,
)
from recpipe.models.popularity import POPULARITY, ItemCounts
from recpipe.models.settings import ModelSettings

if TYPE_CHECKING:
    from recpipe.models.tables import Float32, Int64

_DAY_US = 86_400_000_000


class RecentPopularitySettings(ModelSettings):
    """`train` for the model recent_popularity."""

    model: Literal["recent_popularity"] = "recent_popularity"
    """Name of the model."""

    recent_share: Annotated[float, Field(gt=0.0, le=1.0)] = 0.1
    """Share of the interactions, the newest, that count as recent."""

    recent_days: PositiveFloat | None = None
    """Interactions of so many days before now count as recent, instead of a share."""


class RecentPopularityModel(FactoredModel):
    """The user vector is [1], the item vector the item's score."""

    def __init__(self, settings: RecentPopularitySettings) -> None:
        self.settings: RecentPopularitySettings = settings
        self._recent: ItemCounts | None = None
        self._ever: ItemCounts | None = None

    def fit(self, data: TrainingData, context: FitContext) -> FitReport:
        from dataclasses import replace

        target = MODEL.target_for(self.settings, data)
        self._ever = ItemCounts.of(data, self.settings.positive_from)
        since = self._start(data)
        if since is None:
            context.report("no times: recent popularity is popularity")
            recent = data
        else:
            recent = replace(data, open_blocks=lambda: ((p, _newer(h, since)) for p, h in data.blocks()))
        self._recent = ItemCounts.of(recent, self.settings.positive_from)
        counts = {"users": data.n_users, "recent_positives": int(self._recent.n_users.sum())}
        return FitReport(target=target, counts=counts)

    def user_vectors(self, profiles: Profiles, histories: Histories) -> UserVectors:
        import numpy as np

        return UserVectors(np.ones((len(profiles), 1), dtype=np.float32), np.full(len(profiles), POPULARITY))

    def item_vectors(self, items: Items) -> Float32:
        import numpy as np

        recent, ever = self._fitted()
        older = ever.scores(items)
        # one recent user scores log 2: whatever happened before stays below half of that
        below = older / max(ever.highest, 1.0) * np.float32(0.3)
        return (recent.scores(items) + below)[:, None]

    def state(self) -> ModelState:
        recent, ever = self._fitted()
        return ModelState(weights={"recent": recent.n_users, "ever": ever.n_users}, item_ids=ever.item_ids)

    def restore(self, state: ModelState) -> None:
        if state.item_ids is None:
            raise KeyError("item ids")
        self._recent = ItemCounts(state.item_ids, state.weights["recent"].astype("int64"))
        self._ever = ItemCounts(state.item_ids, state.weights["ever"].astype("int64"))

    def _fitted(self) -> tuple[ItemCounts, ItemCounts]:
        if self._recent is None or self._ever is None:
            raise RuntimeError("fit or load the model first")
        return self._recent, self._ever

    def _start(self, data: TrainingData) -> int | None:
        """Time of the oldest interaction that counts as recent, microseconds; None without times."""
        import numpy as np

        if self.settings.recent_days is not None and data.as_of_us is not None:
            return data.as_of_us - int(self.settings.recent_days * _DAY_US)
        times: list[Int64] = []
        for _, histories in data.blocks():
            if histories.timestamps_us is None:
                return None
            times.append(histories.timestamps_us[histories.events()])
        everything = np.concatenate(times) if times else np.zeros(0, np.int64)
        if len(everything) == 0:
            return None
        place = len(everything) - max(round(len(everything) * self.settings.recent_share), 1)
        return int(np.partition(everything, place)[place])


def _newer(histories: Histories, since_us: int) -> Histories:
    """Return the same users with their events from `since_us` on."""
    from dataclasses import replace

    import numpy as np

    events = histories.events()
    if histories.timestamps_us is None:
        return histories
    kept = histories.timestamps_us[events] >= since_us
    before = np.append(0, np.cumsum(kept)).astype(np.int64)
    return replace(
        histories,
        offsets=before[histories.offsets - histories.offsets[0]],
        item_rows=histories.item_rows[events][kept],
        ratings=None if histories.ratings is None else histories.ratings[events][kept],
        timestamps_us=histories.timestamps_us[events][kept],
    )


MODEL = ModelSpec(
    name="recent_popularity",
    summary="What most users took lately, the same for everybody.",
    settings=RecentPopularitySettings,
    factory=RecentPopularityModel,
    targets=("implicit",),
)
