from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recpipe.encoders.fields import is_blank, join_fields


@pytest.mark.parametrize("text", [None, "", " ", "\n\t\r", "\u200b\u200d", "\ufeff \u2060", "\u00a0\u3000", "\x00"])
def test_nothing_to_read_is_blank(text: str | None) -> None:
    assert is_blank(text)


@pytest.mark.parametrize("text", ["a", ".", "世", "🎬", "\u200bא", "0", "\ufeffa"])
def test_a_single_character_is_not_blank(text: str) -> None:
    assert not is_blank(text)


@pytest.mark.parametrize(
    ("fields", "joined"),
    [
        (["Heat", "A heist."], "Heat. A heist."),
        (["What?", "Yes!", "No"], "What? Yes! No"),
        (["七人の侍。", "映画"], "七人の侍。 映画"),
        ([" Heat ", None, "\u200b", "Crime"], "Heat. Crime"),
        ([None, ""], None),
        ([None, "only text "], "only text"),
    ],
)
def test_fields_are_joined_by_one_full_stop(fields: list[str | None], joined: str | None) -> None:
    assert join_fields([[field] for field in fields]) == [joined]


def test_columns_of_different_length_are_refused() -> None:
    with pytest.raises(ValueError, match="shorter"):
        join_fields([["a", "b"], ["c"]])


@given(st.lists(st.tuples(st.none() | st.text(), st.none() | st.text()), max_size=20))
def test_a_row_is_none_exactly_when_all_its_fields_are_blank(rows: list[tuple[str | None, str | None]]) -> None:
    joined = join_fields([[row[0] for row in rows], [row[1] for row in rows]])
    assert [text is None for text in joined] == [all(is_blank(field) for field in row) for row in rows]
    assert not any(is_blank(text) for text in joined if text is not None)
