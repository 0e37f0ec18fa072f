"""Labels of planted segments."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from scipy import sparse

from recpipe.attributes import AttributeValue, ItemAttributes, item_attributes
from recpipe.segments import evidence as evidence_module
from recpipe.segments.behaviour import Histories
from recpipe.segments.evidence import SegmentEvidence, TermCounts, read_items
from recpipe.segments.labels import _unique_labels, _without_repeats, describe_segments, log_odds, telling

N_ITEMS = 60
GENRES = ("Sci-Fi", "Romance", "Western")
TITLES = [f"{('Star Trek', 'Ghost Story', 'Desert Rider')[i % 3]} {chr(65 + i)}x" for i in range(N_ITEMS)]
ITEMS = pa.table(
    {
        "item_id": [str(i) for i in range(N_ITEMS)],
        "title": [f"{title} ({1980 + 10 * (i % 3)})" for i, title in enumerate(TITLES)],
        "genres": pa.array([[GENRES[i % 3], "Drama"] for i in range(N_ITEMS)], pa.list_(pa.string())),
    }
)
VALUES = tuple(AttributeValue("genres", value) for value in ("Drama", *GENRES))


def planted(n_segments: int = 3, n_users: int = 120, *, text: bool = True) -> tuple[np.ndarray, pa.Table, Histories]:
    """Users of segment s take nine items of genre s and one of each other."""
    rng = np.random.default_rng(4)
    segments = np.arange(n_users, dtype=np.int32) % n_segments
    rows = []
    for segment in segments:
        own = rng.choice(20, 9, replace=False) * 3 + segment % 3
        rows.append(np.concatenate([own, rng.choice(N_ITEMS, 2, replace=False)]))
    hobbies = ("I bake sourdough bread", "I like mountain hiking", "I repair vintage radios")
    users = {"user_id": [str(i) for i in range(n_users)], "gender": [("F", "M", "M")[s % 3] for s in segments]}
    if text:
        users["text"] = [hobbies[s % 3] for s in segments]
    items = np.concatenate(rows)
    return segments, pa.table(users), Histories(np.arange(n_users + 1) * 11, items)


def gather(segments: np.ndarray, users: pa.Table, histories: Histories, n_segments: int) -> SegmentEvidence:
    evidence = SegmentEvidence.empty(
        n_segments=n_segments, n_items=N_ITEMS, user_values=[AttributeValue("gender", v) for v in "FM"]
    )
    evidence.update(segments, users, histories)
    return evidence


def attributes(*values: AttributeValue) -> ItemAttributes:
    return item_attributes(values, [ITEMS])


def test_log_odds_by_hand() -> None:
    # Prior 10 × (8, 12)/20 = (4, 6); here (6+4, 4+6), there (2+4, 8+6).
    ratio, z = log_odds(np.array([6.0, 4.0]), np.array([8.0, 12.0]), prior_weight=10)
    expected = np.log(10 / 10) - np.log(6 / 14)
    np.testing.assert_allclose(ratio, [expected, -expected], rtol=1e-6)
    np.testing.assert_allclose(z[0], expected / np.sqrt(1 / 10 + 1 / 6), rtol=1e-6)


def test_what_nobody_met_tells_nothing() -> None:
    assert telling(np.array([50.0, 0.0, 5.0]), np.array([60.0, 0.0, 100.0]))[1] == 0


def test_values_come_first_then_words_and_items() -> None:
    found = describe_segments(gather(*planted(), 3), attributes(*VALUES), [ITEMS], n_terms=2, n_items=3)
    assert [text.label for text in found] == ["Sci-Fi, 1980s", "Romance, 1990s", "Western, 2000s"]
    assert "sourdough" in " / ".join(found[0].terms)
    assert "gender F (100%)" in found[0].terms
    assert all("Drama" not in text.terms for text in found)
    for segment, text in enumerate(found):
        assert len(text.item_rows) == 3
        assert {row % 3 for row in text.item_rows} == {segment}
        assert text.titles == tuple(ITEMS.column("title")[row].as_py() for row in text.item_rows)


def test_users_with_text_alone_are_labelled_by_their_words() -> None:
    segments, users, _ = planted()
    nothing = Histories(np.zeros(len(segments) + 1, np.int64), np.empty(0, np.int64))
    found = describe_segments(gather(segments, users, nothing, 3), attributes(), [ITEMS.select(["item_id"])])
    assert "sourdough" in found[0].label
    assert "hiking" in found[1].label
    assert "radio" in found[2].label
    assert all(text.item_rows == () for text in found)


def test_titles_label_where_nothing_else_does() -> None:
    found = describe_segments(gather(*planted(text=False), 3), attributes(), [ITEMS.select(["title"])], n_terms=2)
    assert [text.label.split(", ")[0] for text in found] == ["star trek", "ghost story", "desert rider"]


@pytest.mark.parametrize("n_segments", [1, 6])
def test_labels_are_unique_and_never_empty(n_segments: int) -> None:
    found = describe_segments(gather(*planted(n_segments), n_segments), attributes(*VALUES), [ITEMS])
    labels = [text.label for text in found]
    assert all(labels)
    assert len(set(labels)) == n_segments


def test_nothing_known_at_all() -> None:
    evidence = SegmentEvidence.empty(n_segments=2, n_items=N_ITEMS)
    assert [text.label for text in describe_segments(evidence, attributes(*VALUES), [ITEMS])] == ["mixed", "mixed, 2"]


def test_batches_change_nothing() -> None:
    segments, users, histories = planted()
    whole = gather(segments, users, histories, 3)
    parts = []
    for chosen in (slice(50, 120), slice(0, 50)):
        offsets = histories.offsets[chosen.start : chosen.stop + 1]
        part = Histories(offsets - offsets[0], histories.items[offsets[0] : offsets[-1]])
        users_part = users.slice(chosen.start, chosen.stop - chosen.start)
        parts.append(gather(segments[chosen], users_part, part, 3))
    parts[0].merge(parts[1])
    one = describe_segments(whole, attributes(*VALUES), [ITEMS])
    assert describe_segments(parts[0], attributes(*VALUES), [ITEMS.slice(0, 7), ITEMS.slice(7)]) == one


def test_segment_minus_one_says_nothing() -> None:
    segments, users, histories = planted()
    segments[:60] = -1
    assert gather(segments, users, histories, 3).sizes.sum() == 60


def test_a_heavy_user_speaks_with_one_voice() -> None:
    n_items = 1000
    histories = Histories(np.array([0, n_items]), np.arange(n_items))
    evidence = SegmentEvidence.empty(n_segments=1, n_items=n_items)
    evidence.update(np.array([0]), pa.table({"user_id": ["u"]}), histories)
    assert evidence.item_weights.sum() == pytest.approx(evidence_module.FULL_VOICE_ITEMS)


def test_variants_of_a_title_are_shown_once() -> None:
    same = ITEMS.set_column(1, "title", [["Same"] * N_ITEMS])
    found = describe_segments(gather(*planted(), 3), attributes(*VALUES), [same], n_items=5)
    assert all(text.titles == ("Same",) for text in found)


def test_years_of_a_column_and_of_titles() -> None:
    evidence = gather(*planted(), 3)
    assert set(read_items(evidence, [ITEMS], titles_of=[]).decades.vocabulary) == {"1980s", "1990s", "2000s"}
    years = pa.table({"year": [1931] * N_ITEMS})
    assert set(read_items(evidence, [years], titles_of=[]).decades.vocabulary) == {"1930s"}


def test_rare_terms_are_forgotten_beyond_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evidence_module, "MAX_TERMS", 2)
    counts = TermCounts(1)
    weights = sparse.csr_matrix(np.ones((1, 3)))
    counts.add([{"a", "b"}, {"a", "b"}, {"a"}], weights)
    counts.add([{"c"}, {"d"}, {"e"}], weights)
    assert list(counts.vocabulary) == ["a", "b"]
    assert counts.weights.tolist() == [[3, 2]]
    np.testing.assert_allclose(counts.n_effective, [3, 2])


def test_equal_labels_get_another_term_then_a_title_then_a_number() -> None:
    ranked = [["a", "b", "c"], ["b", "a", "d"], ["a", "b"], ["a", "b"], [], ["a", "b"]]
    titles: list[tuple[str, ...]] = [("T",), ("T",), ("", "T"), (), ("T",), ()]
    assert _unique_labels(ranked, titles, n_terms=2) == ["a, b", "b, d", "a, b, like T", "a, b, 2", "like T", "a, b, 3"]


def test_a_phrase_takes_the_place_of_its_words() -> None:
    assert _without_repeats(["baking", "jazz", "bread baking", "breads"]) == ["bread baking", "jazz"]


def _written(*texts: str) -> tuple[pa.Table, Histories]:
    users = pa.table({"user_id": [str(number) for number in range(len(texts))], "text": list(texts)})
    return users, Histories(np.zeros(len(texts) + 1, np.int64), np.empty(0, np.int64))


def test_a_word_that_nobody_else_wrote_is_found_among_many_words() -> None:
    """Each user writes 20 words of 2,000; the members of segment 0 write one more, like nobody else."""
    rng = np.random.default_rng(8)
    names = [f"{chr(97 + i // 400)}{chr(97 + i // 20 % 20)}{chr(97 + i % 20)}x" for i in range(2000)]
    texts = [" of ".join(rng.choice(names, 20)) for _ in range(120)]
    texts = [f"{text} of kimchi" if user < 12 else text for user, text in enumerate(texts)]
    segments = (np.arange(120) >= 40).astype(np.int32)
    found = describe_segments(gather(segments, *_written(*texts), 2), attributes(), [ITEMS.select(["item_id"])])
    assert found[0].label == "kimchi"
    assert "kimchi" not in found[1].terms


def test_a_word_of_few_members_does_not_stand_for_them() -> None:
    texts = ["kimchi of bread"] * 19 + ["bread"] * 981 + ["radios"] * 3000
    segments = (np.arange(4000) >= 1000).astype(np.int32)
    found = describe_segments(gather(segments, *_written(*texts), 2), attributes(), [ITEMS.select(["item_id"])])
    assert found[0].terms == ("bread",)
    assert found[1].terms == ("radios",)


def test_a_handful_of_users_is_labelled_by_what_they_took_or_wrote() -> None:
    titles = pa.table({"item_id": ["a", "b", "c"], "title": ["Bread Book", "Bike Book", "Dune"]})
    users = pa.table({"user_id": ["1", "2", "3"], "text": [None, None, None]})
    evidence = SegmentEvidence.empty(n_segments=2, n_items=3)
    evidence.update(np.array([0, 1, 0], np.int32), users, Histories(np.array([0, 1, 2, 3]), np.array([0, 1, 2])))
    none = item_attributes((), [titles])
    assert [text.label for text in describe_segments(evidence, none, [titles])] == ["like Bread Book", "like Bike Book"]
    texts = ["sourdough bread", "sourdough cakes", "sourdough", "bikes", "mountain bikes", "bikes"]
    segments = np.array([0, 0, 0, 1, 1, 1], np.int32)
    found = describe_segments(gather(segments, *_written(*texts), 2), attributes(), [ITEMS.select(["item_id"])])
    assert [text.label for text in found] == ["sourdough", "bikes"]
