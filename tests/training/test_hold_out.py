from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_world import small_world

from recpipe.models.base import Histories, TrainingData
from recpipe.training.hold_out import hold_out


def data_of(sizes: list[int], block: int) -> TrainingData:
    world = small_world(n_users=max(len(sizes), 4))
    offsets = np.append(0, np.cumsum(sizes)).astype(np.int64)
    n_events = int(offsets[-1])
    histories = Histories(
        items=world.items,
        offsets=offsets,
        item_rows=(np.arange(n_events) % 30).astype(np.int32),
        timestamps_us=np.arange(n_events, dtype=np.int64),
    )
    profiles = world.profiles.rows(0, len(sizes))
    return TrainingData(
        items=world.items,
        open_blocks=lambda: (
            (profiles.rows(start, start + block), histories.rows(start, min(start + block, len(sizes))))
            for start in range(0, len(sizes), block)
        ),
        n_users=len(sizes),
    )


def events(data: TrainingData) -> list[list[int]]:
    """Times of each user's events; in `data_of` they tell events apart."""
    found: list[list[int]] = []
    for _, histories in data.blocks():
        assert histories.timestamps_us is not None
        for start, stop in zip(histories.offsets[:-1], histories.offsets[1:], strict=True):
            found.append(histories.timestamps_us[start:stop].tolist())
    return found


@given(
    sizes=st.lists(st.integers(0, 12), min_size=1, max_size=12),
    share=st.floats(0.05, 0.9),
    last=st.booleans(),
    block=st.integers(1, 5),
)
def test_parts_are_disjoint_complete_and_independent_of_blocks(
    sizes: list[int], share: float, last: bool, block: int
) -> None:
    kept, held = hold_out(data_of(sizes, block), share=share, seed=3, last=last)
    for user, (stays, goes, whole) in enumerate(
        zip(events(kept), events(held), events(data_of(sizes, 99)), strict=True)
    ):
        assert sorted(stays + goes) == whole, user
        assert stays or not whole
        if last and stays and goes:
            assert max(stays) < min(goes)
            assert len(goes) == min(int(np.ceil(len(whole) * share)), len(whole) - 1)
    again = hold_out(data_of(sizes, 99), share=share, seed=3, last=last)[1]
    assert events(again) == events(held)


def test_random_share_is_about_right_and_depends_on_the_seed() -> None:
    data = data_of([200] * 10, 3)
    one, two = (events(hold_out(data, share=0.1, seed=seed, last=False)[1]) for seed in (1, 2))
    assert 150 < sum(map(len, one)) < 250
    assert one != two


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_share_has_bounds(share: float) -> None:
    with pytest.raises(ValueError, match="share"):
        hold_out(data_of([3], 1), share=share, seed=0, last=True)
