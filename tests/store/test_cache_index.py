from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from recpipe.store.cache_index import KeyIndex


def keys_of(numbers: list[int]) -> np.ndarray:
    # few distinct first halves: equal ones of different keys are a miss at worst, so here they are unique too
    return np.array([[number * 7 % 101, number] for number in numbers], np.uint64).reshape(-1, 2)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.lists(st.integers(0, 100), max_size=6, unique=True)),
        st.tuples(st.just("forget"), st.integers(0, 8)),
        st.tuples(st.just("forget rows"), st.tuples(st.integers(0, 8), st.lists(st.integers(0, 5)))),
    ),
    max_size=9,
)


@given(STEPS)
def test_it_finds_one_of_the_places_of_a_key(steps: list[tuple[str, object]]) -> None:
    index = KeyIndex()
    places: dict[int, set[tuple[int, int]]] = {number: set() for number in range(101)}
    for segment, (action, what) in enumerate(steps):
        if action == "add":
            assert isinstance(what, list)
            index.add(keys_of(what), np.array([number % 3 == 0 for number in what], bool), segment=segment)
            for row, number in enumerate(what):
                places[number].add((segment, row))
        elif action == "forget":
            assert isinstance(what, int)
            index.forget(what)
            places = {number: {place for place in there if place[0] != what} for number, there in places.items()}
        else:
            assert isinstance(what, tuple)
            gone = {(what[0], row) for row in what[1]}
            index.forget(what[0], np.array(what[1], np.int64))
            places = {number: there - gone for number, there in places.items()}
    assert len(index) == sum(map(len, places.values()))
    found = index.find(keys_of(list(range(101))))
    for number in range(101):
        assert found.found[number] == bool(places[number])
        if places[number]:
            assert (found.segment[number], found.row[number]) in places[number]
            assert found.truncated[number] == (number % 3 == 0)


def test_tiers_stay_few() -> None:
    index = KeyIndex()
    rng = np.random.default_rng(0)
    keys = rng.integers(0, 2**63, (1000, 10, 2)).astype(np.uint64)
    for segment in range(1000):
        index.add(keys[segment], np.zeros(10, bool), segment=segment)
    assert len(index) == 10_000
    assert len(index._tiers) <= 11
    found = index.find(keys.reshape(-1, 2))
    assert found.found.all()
    assert np.array_equal(found.segment, np.repeat(np.arange(1000), 10))
    assert np.array_equal(found.row, np.tile(np.arange(10), 1000))
    assert not index.find(keys.reshape(-1, 2) + np.uint64(1)).found.any()


def test_24_bytes_a_row() -> None:
    index = KeyIndex()
    index.add(np.zeros((100, 2), np.uint64), np.zeros(100, bool), segment=0)
    (tier,) = index._tiers
    assert tier.keys.nbytes + tier.segment.nbytes + tier.row.nbytes == 2400
