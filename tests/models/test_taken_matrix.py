from __future__ import annotations

import numpy as np
import pyarrow as pa
from small_catalogue import DATA, HISTORIES, ITEMS

from recpipe.models.base import Histories, Items
from recpipe.models.examples import gather_examples
from recpipe.models.taken_matrix import KnownItems, taken_matrix


def test_training_matrix_holds_the_items_somebody_took() -> None:
    taken, seen = taken_matrix(gather_examples(DATA, "implicit", positive_from=None))
    assert seen.tolist() == [0, 1, 2, 4]
    assert taken.toarray().tolist() == [[1, 1, 0, 1], [0, 0, 1, 0], [1, 0, 1, 0], [0, 0, 0, 0]]


def test_an_item_taken_twice_counts_once_and_the_examples_stay_as_they_are() -> None:
    histories = Histories(items=ITEMS, offsets=np.array([0, 4]), item_rows=np.array([2, 0, 2, 2], np.int32))
    known = KnownItems(ITEMS.ids)
    assert known.taken(histories, None).toarray().tolist() == [[1, 0, 1, 0, 0]]
    assert histories.item_rows.tolist() == [2, 0, 2, 2]


def test_known_items_are_found_by_id_in_the_catalogue_at_hand() -> None:
    known = KnownItems(pa.array(["c", "a"]))
    assert known.rows(ITEMS).tolist() == [1, -1, 0, -1, -1]
    assert known.taken(HISTORIES, None).toarray().tolist() == [[0, 1], [1, 0], [1, 1], [0, 0]]
    other = Items.bare(pa.array(["new", "c"]))
    assert known.rows(other).tolist() == [-1, 0]
    assert known.rows(ITEMS).tolist() == [1, -1, 0, -1, -1]


def test_only_positive_events_of_the_block_count() -> None:
    known = KnownItems(ITEMS.ids)
    block = HISTORIES.rows(1, 4)
    assert known.taken(block, 3.0).toarray().tolist() == [[0, 0, 1, 0, 0], [0, 0, 1, 0, 0], [0, 0, 0, 0, 0]]
