from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pytest

from recpipe.errors import DataError
from recpipe.models.base import Histories, Items, Profiles, TrainingData
from recpipe.models.profile_space import gather_profiles

CENTRES = np.array([[1, 0], [0, 1], [0.25, 0.25]], dtype=np.float32)  # the last: of users without segment
SEGMENTS = np.array([0, 1, -1, 1], dtype=np.int32)
FEATURES = np.array([[1, 5, 2], [3, 5, 2], [1, 5, 6], [3, 5, 2]], dtype=np.float32)
PROFILES = Profiles(
    user_ids=pa.array(["a", "b", "c", "d"]),
    embeddings=np.zeros((4, 2), np.float32),
    embedded=SEGMENTS >= 0,
    features=FEATURES,
    segments=SEGMENTS,
    centres=CENTRES[SEGMENTS],
)
ITEMS = Items.bare(pa.array(["x"]))


def data(size: int) -> TrainingData:
    def blocks() -> Iterator[tuple[Profiles, Histories]]:
        for start in range(0, 4, size):
            rows = PROFILES.rows(start, min(start + size, 4))
            yield rows, Histories.empty(len(rows), ITEMS)

    return TrainingData(items=ITEMS, open_blocks=blocks, n_users=4)


def test_profile_is_features_segment_centre_and_flag() -> None:
    table = gather_profiles(data(4))
    encoded = table.space.encode(PROFILES)
    # means 2, 5, 3; deviations 1, (constant) 1, sqrt(3); three features
    features = np.array([[-1, 0, -1 / 3**0.5], [1, 0, -1 / 3**0.5], [-1, 0, 3**0.5], [1, 0, -1 / 3**0.5]]) / 3**0.5
    np.testing.assert_allclose(encoded[:, :3], features, atol=1e-6)
    np.testing.assert_array_equal(encoded[:, 3:5], [[1, 0], [0, 1], [0, 0], [0, 1]])
    np.testing.assert_allclose(encoded[:, 5:7], CENTRES[SEGMENTS] - CENTRES[SEGMENTS].mean(axis=0), atol=1e-6)
    np.testing.assert_array_equal(encoded[:, 7], [0, 0, 1, 0])


@pytest.mark.parametrize("size", [1, 3, 4])
def test_table_in_parts_is_the_whole(size: int) -> None:
    table = gather_profiles(data(size))
    whole = np.concatenate([table.features, table.segment_parts[table.segment_rows]], axis=1)
    np.testing.assert_allclose(whole, table.space.encode(PROFILES), atol=1e-6)


def test_training_features_are_left_as_they_were() -> None:
    before = PROFILES.features.copy()
    gather_profiles(data(4)).space.encode(PROFILES)
    np.testing.assert_array_equal(PROFILES.features, before)


def test_extremes_are_cut_and_new_segments_have_no_coordinate() -> None:
    space = gather_profiles(data(4)).space
    strange = Profiles(
        user_ids=pa.array(["z"]),
        embeddings=np.zeros((1, 2), np.float32),
        embedded=np.array([True]),
        features=np.array([[1e9, 5, 3]], np.float32),
        segments=np.array([7], np.int32),
        centres=np.array([[1, 1]], np.float32),
    )
    encoded = space.encode(strange)[0]
    assert encoded[0] == pytest.approx(10 / 3**0.5)
    assert encoded[3:5].tolist() == [0, 0] and encoded[7] == 0


def test_other_widths_are_refused() -> None:
    space = gather_profiles(data(4)).space
    with pytest.raises(DataError, match="behaviour features"):
        space.encode(Profiles.bare(pa.array(["a"])))


def test_nothing_known_is_the_flag_alone() -> None:
    bare = Profiles.bare(pa.array(["a", "b"]))
    empty = TrainingData(items=ITEMS, open_blocks=lambda: iter([(bare, Histories.empty(2, ITEMS))]), n_users=2)
    assert gather_profiles(empty).space.encode(bare).tolist() == [[1.0], [1.0]]
