from __future__ import annotations

import numpy as np
import pyarrow as pa

from recpipe.scoring.ties import tie_order


def test_is_a_permutation_that_does_not_change_between_versions() -> None:
    places = tie_order(pa.array([f"item{number}" for number in range(8)]))
    assert places.dtype == np.int32
    assert places.tolist() == [6, 5, 1, 4, 7, 0, 2, 3]


def test_depends_on_ids_not_on_their_order() -> None:
    ids = np.array([f"{number}" for number in range(500)])
    shuffled = np.random.default_rng(0).permutation(500)
    np.testing.assert_array_equal(tie_order(pa.array(ids[shuffled])), tie_order(pa.array(ids))[shuffled])


def test_does_not_follow_the_ids() -> None:
    places = tie_order(pa.array([f"{number:04}" for number in range(2000)]))
    assert abs(np.corrcoef(places, np.arange(2000))[0, 1]) < 0.1


def test_no_items() -> None:
    assert tie_order(pa.array([], pa.string())).shape == (0,)
