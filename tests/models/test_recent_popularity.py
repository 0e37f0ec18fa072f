from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from recpipe.models.base import FitContext, Histories, Items, Profiles, TrainingData
from recpipe.models.recent_popularity import RecentPopularityModel, RecentPopularitySettings

ITEMS = Items.bare(pa.array(["old-hit", "new-hit", "new", "never"]))
DAY = 86_400_000_000
# ten users took the old hit long ago; then three took the new hit and one of them "new"
HISTORIES = Histories(
    items=ITEMS,
    offsets=np.append(np.arange(11), [12, 13, 15]),
    item_rows=np.array([0] * 10 + [1, 1, 1, 2, 1], np.int32),
    timestamps_us=np.array([DAY] * 10 + [100 * DAY] * 5),
    as_of_us=101 * DAY,
)
PROFILES = Profiles.bare(pa.array([f"u{row}" for row in range(13)]))


def scores(histories: Histories = HISTORIES, **settings: Any) -> np.ndarray:
    model = RecentPopularityModel(RecentPopularitySettings(**settings))
    data = TrainingData(
        items=ITEMS, open_blocks=lambda: iter([(PROFILES, histories)]), n_users=13, as_of_us=histories.as_of_us
    )
    model.fit(data, FitContext())
    return model.item_vectors(ITEMS)[:, 0]


@pytest.mark.parametrize("settings", [{"recent_share": 0.3}, {"recent_days": 5.0}])
def test_recent_users_decide_then_all(settings: dict[str, float]) -> None:
    found = scores(**settings)
    assert np.argsort(-found).tolist() == [1, 2, 0, 3]
    # three users took it lately (one of them twice in a row), three ever; ten is the most ever
    assert found[1] == pytest.approx(np.log1p(3) + 0.3 * np.log1p(3) / np.log1p(10))
    assert found[3] == 0


def test_everything_recent_is_popularity() -> None:
    assert np.argsort(-scores(recent_share=1.0)).tolist() == [0, 1, 2, 3]
    assert np.argsort(-scores(recent_days=1000.0)).tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("settings", [{}, {"recent_days": 5.0}])
def test_without_times_it_is_popularity(settings: dict[str, float]) -> None:
    timeless = Histories(items=ITEMS, offsets=HISTORIES.offsets, item_rows=HISTORIES.item_rows)
    assert np.argsort(-scores(timeless, **settings)).tolist() == [0, 1, 2, 3]


def test_what_happened_before_never_outweighs_one_recent_user() -> None:
    found = scores(recent_days=5.0)
    assert found[0] < found[2]
