from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from recpipe.errors import DataError
from recpipe.models.base import FitContext, Histories, Items, Profiles, TrainingData
from recpipe.models.popularity import PopularityModel, PopularitySettings

ITEMS = Items.bare(pa.array(["a", "b", "c", "d"]))


def fit(histories: Histories, **settings: float) -> tuple[PopularityModel, dict[str, int]]:
    profiles = Profiles.bare(pa.array([f"u{row}" for row in range(len(histories))]))
    data = TrainingData(items=histories.items, open_blocks=lambda: iter([(profiles, histories)]), n_users=len(profiles))
    model = PopularityModel(PopularitySettings.model_validate(settings))
    report = model.fit(data, FitContext())
    return model, dict(report.counts)


def histories(ratings: list[float] | None = None) -> Histories:
    """u0: a a a b; u1: a c; u2: nothing."""
    return Histories(
        items=ITEMS,
        offsets=np.array([0, 4, 6, 6]),
        item_rows=np.array([0, 0, 0, 1, 0, 2], dtype=np.int32),
        ratings=None if ratings is None else np.array(ratings, dtype=np.float32),
    )


def test_a_user_counts_once_per_item() -> None:
    model, counts = fit(histories())
    np.testing.assert_allclose(model.item_vectors(ITEMS)[:, 0], np.log([3, 2, 2, 1]), rtol=1e-6)
    assert counts == {"users": 3, "positives": 4}


def test_only_positive_interactions_count_and_unrated_ones_are_positive() -> None:
    model, _ = fit(histories([5, 1, 1, 1, 2, np.nan]), positive_from=4)
    np.testing.assert_allclose(model.item_vectors(ITEMS)[:, 0], np.log([2, 1, 2, 1]), rtol=1e-6)


def test_positive_from_without_ratings_is_a_data_error() -> None:
    with pytest.raises(DataError, match="positive_from"):
        fit(histories(), positive_from=4)


def test_a_block_in_the_middle_counts_its_own_events() -> None:
    model, _ = fit(histories().rows(1, 3))
    np.testing.assert_allclose(model.item_vectors(ITEMS)[:, 0], np.log([2, 1, 2, 1]), rtol=1e-6)


def test_unseen_items_score_zero() -> None:
    model, _ = fit(histories())
    catalogue = Items.bare(pa.array(["new", "a"]))
    np.testing.assert_allclose(model.item_vectors(catalogue)[:, 0], [0, np.log(3)], rtol=1e-6)
