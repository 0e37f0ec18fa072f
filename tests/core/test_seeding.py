from __future__ import annotations

import numpy as np

from recpipe.seeding import derive_seed, generator


def test_seeds_never_change_between_versions() -> None:
    assert derive_seed(42, "kmeans", 0) == 3165119702371808425
    assert 0 <= derive_seed(42) < 2**63


def test_every_purpose_has_its_own_stream() -> None:
    purposes = [(42, "kmeans", 0), (42, "kmeans", 1), (42, "sampling"), (43, "kmeans", 0), (42, "km", "eans", 0), (42,)]
    assert len({derive_seed(*purpose) for purpose in purposes}) == len(purposes)


def test_generators_repeat_and_leave_global_state_alone() -> None:
    before = np.random.get_state()[1].copy()
    assert np.array_equal(generator(1, "a").random(5), generator(1, "a").random(5))
    assert not np.array_equal(generator(1, "a").random(5), generator(1, "b").random(5))
    assert np.array_equal(before, np.random.get_state()[1])
