"""The split by global time."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recpipe.config import validate
from recpipe.errors import ConfigError, DataError
from recpipe.ingest.settings import SplitSettings
from recpipe.ingest.splits.base import Part
from recpipe.ingest.splits.by_time import TimeBoundaries, assign, time_boundaries


def test_shares_without_ties() -> None:
    times = np.random.default_rng(0).permutation(100).astype(np.int64)
    boundaries = time_boundaries(times, test_share=0.1, validation_share=0.2)
    assert boundaries == TimeBoundaries(validation_from=70, test_from=90)
    parts = assign(times, boundaries)
    assert np.bincount(parts).tolist() == [70, 20, 10]
    assert parts.dtype == np.int8
    assert parts[times == 69] == Part.TRAIN
    assert parts[times == 70] == Part.VALIDATION
    assert parts[times == 90] == Part.TEST


def test_ties_go_where_the_share_is_nearer() -> None:
    times = np.array([1] * 50 + [2] * 30 + [3] * 12 + [4] * 8)
    assert time_boundaries(times, test_share=0.1, validation_share=0.1) == TimeBoundaries(3, 4)
    assert time_boundaries(times, test_share=0.18, validation_share=0.2) == TimeBoundaries(2, 3)


def test_early_ties_leave_room_for_training_and_validation() -> None:
    assert time_boundaries(np.array([1, 2, 3]), test_share=0.9, validation_share=0.05) == TimeBoundaries(2, 3)
    assert time_boundaries(np.array([1, 2] + [3] * 100), test_share=0.1, validation_share=0.1) == TimeBoundaries(2, 3)


@pytest.mark.parametrize("times", [[], [5], [5, 5, 5], [1, 2], [1, 1, 2, 2]])
def test_too_few_times(times: list[int]) -> None:
    with pytest.raises(DataError) as caught:
        time_boundaries(np.array(times, np.int64), test_share=0.1, validation_share=0.1)
    assert "data.columns.interactions.timestamp" in str(caught.value)


@given(
    st.lists(st.integers(0, 30), min_size=3, max_size=60).filter(lambda times: len(set(times)) >= 3),
    st.floats(0.01, 0.45),
    st.floats(0.01, 0.45),
)
def test_parts_are_disjoint_complete_and_in_order(times: list[int], test_share: float, validation_share: float) -> None:
    array = np.array(times, np.int64)
    boundaries = time_boundaries(array, test_share=test_share, validation_share=validation_share)
    parts = assign(array, boundaries)
    train, validation, test = (array[parts == part] for part in Part)
    assert len(train) + len(validation) + len(test) == len(array)
    assert len(train) and len(validation) and len(test)
    assert train.max() < validation.min()
    assert validation.max() < test.min()
    shuffled = np.random.default_rng(1).permutation(len(array))
    assert time_boundaries(array[shuffled], test_share=test_share, validation_share=validation_share) == boundaries


@given(st.lists(st.integers(0, 12), min_size=3, max_size=40), st.floats(0.01, 0.6), st.floats(0.01, 0.39))
def test_boundaries_are_the_nearest_of_all(times: list[int], test_share: float, validation_share: float) -> None:
    array, n_rows = np.array(times, np.int64), len(times)
    distinct = sorted(set(times))
    if len(distinct) < 3:
        return

    def nearest(candidates: list[int], wanted: float) -> int:
        return min(candidates, key=lambda value: (abs((array < value).sum() - wanted), value))

    test_from = nearest(distinct[2:], n_rows * (1 - test_share))
    older = [value for value in distinct[1:] if value < test_from]
    validation_from = nearest(older, n_rows * (1 - test_share - validation_share))
    boundaries = time_boundaries(array, test_share=test_share, validation_share=validation_share)
    assert boundaries == TimeBoundaries(validation_from, test_from)


def test_settings() -> None:
    with pytest.raises(ConfigError, match="leave nothing to train on"):
        validate(SplitSettings, {"test_share": 0.5, "validation_share": 0.5})
    for raw in ({"test_share": 0}, {"validation_share": 1}, {"by": "moon"}):
        with pytest.raises(ConfigError):
            validate(SplitSettings, raw)
    with pytest.raises(ConfigError, match=r"by: files needs files\.validation and files\.test"):
        validate(SplitSettings, {"by": "files"})
    with pytest.raises(ConfigError, match=r"files\.test is given, but by is auto"):
        validate(SplitSettings, {"files": {"test": "test.csv"}})
