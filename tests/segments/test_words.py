"""Words of texts in several scripts."""

from __future__ import annotations

import pytest

from recpipe.segments.words import terms, tokens


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("I love bread baking and sourdough.", {"bread", "baking", "sourdough", "bread baking"}),
        ("Rock'n'roll, Schrödinger's café", {"rock'n'roll", "schrödinger", "café", "schrödinger café"}),
        ("12 oz, 3 packs &amp; 4K", set()),
        ("sci-fi", {"sci-fi"}),
        ("हिन्दी फिल्में", {"हिन्दी", "फिल्में", "हिन्दी फिल्में"}),
        ("כדורגל", {"כדורגל"}),
        ("科幻、动作片", {"科幻", "动作片"}),
        ("我喜欢在周末和朋友们一起看科幻电影", set()),
        ("ＡＢＣ ｊａｚｚ", {"abc", "jazz", "abc jazz"}),
        ("🎬🎬", set()),
        (None, set()),
        ("", set()),
    ],
)
def test_terms(text: str | None, expected: set[str]) -> None:
    assert terms([text]) == expected


def test_phrases_end_at_punctuation_and_function_words() -> None:
    assert tokens("jazz, piano of night") == ["jazz", None, "piano", None, "night"]
    assert not {"jazz piano", "piano night"} & terms(["jazz, piano of night"])


def test_phrases_do_not_cross_texts() -> None:
    assert terms(["jazz", "piano"]) == {"jazz", "piano"}
