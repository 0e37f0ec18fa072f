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


@pytest.mark.parametrize("noise", ["heard", "gets", "answer", "weakness", "brought", "don't", "I'm", "they've"])
def test_what_anybody_does_is_no_term_and_ends_a_phrase(noise: str) -> None:
    assert terms([f"choir {noise} banjo"]) == {"choir", "banjo"}


def test_qualifiers_begin_phrases_but_stand_for_nothing_alone() -> None:
    assert terms(["the big bang"]) == {"bang", "big bang"}
    assert terms(["good old trains"]) == {"trains", "old trains"}
    assert terms(["it is big"]) == set()


def test_pastimes_named_by_verbs_stay() -> None:
    assert {"reading", "running", "cooking", "drawing", "walking"} <= terms(
        ["reading, running, cooking, drawing, walking"]
    )
