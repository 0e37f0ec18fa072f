"""Labels: what sets a segment apart, in a few words a reader agrees with.

Values and words are compared by the log-odds ratio with an informative Dirichlet prior
(Monroe, Colaresi & Quinn 2008, "Fightin' Words", eq. 16 and 22): how much more often
members meet a term than everybody else does, drawn to zero where there is little evidence.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from scipy import sparse

from recpipe.attributes import AttributeValue, ItemAttributes
from recpipe.segments.evidence import ItemEvidence, SegmentEvidence, TermCounts, read_items

MIN_Z = 3.0
"""Standard errors by which a term must be more frequent than elsewhere."""

MIN_RATIO = 1.15
"""Times by which it must be more frequent: significance alone is cheap with many users."""

MIN_MEMBER_SHARE = 0.02
"""Least share of a segment's members who met an item, or wrote a word, that stands for them."""

MIN_DOCUMENTS = 3
"""A word must occur in so many titles or users' texts, in effect: fewer are names, not themes."""

TELLING_DECADE = 0.25
"""Score from which the decade of the items belongs into the label."""

MIN_VALUE_SHARE = 0.05
"""Share of the members' items below which an attribute value comes after the words."""

PRIOR_WEIGHT = 100.0
"""Weight of the prior, in pseudo-counts spread like everybody's counts."""

MAX_PRIOR_SHARE = 0.5
"""Weight of the prior relative to the counts: a handful of users would vanish in the full one."""

WORD_PRIOR_SHARE = 0.1
"""The same for words users wrote. They are thousands: in PRIOR_WEIGHT each has next to nothing, and a word that nobody
else wrote could never be told from chance."""

WEAK_Z = 1.0
"""MIN_Z for a segment of which nothing passes that: the best guess is better than none."""

NO_LABEL = "mixed"
"""Label of a segment that nothing sets apart."""

MAX_TERMS = 10
"""Terms listed per segment, beside the few in the label."""


@dataclass(frozen=True, slots=True)
class SegmentDescription:
    """A segment in words.

    Attributes:
        label: Unique among the segments.
        terms: Values and words more frequent here, the most telling first.
        item_rows: Characteristic items: rows of the items table.
        titles: Their titles; "" for an item without one.
    """

    label: str
    terms: tuple[str, ...]
    item_rows: tuple[int, ...]
    titles: tuple[str, ...]


def log_odds(
    here: np.ndarray, total: np.ndarray, *, prior_weight: float = PRIOR_WEIGHT
) -> tuple[np.ndarray, np.ndarray]:
    """Compare the counts of one segment with those of all others.

    Args:
        here: (n_terms,) counts in the segment.
        total: (n_terms,) counts in all segments, this one included.
        prior_weight: Pseudo-counts, shared out like the totals.

    Returns:
        Log-odds ratios and their z-scores, both (n_terms,) float64; 0 for terms nobody met.
    """
    assert here.shape == total.shape
    prior = prior_weight * total / max(float(total.sum()), 1.0)
    inside, outside = here + prior, total - here + prior
    other_inside, other_outside = inside.sum() - inside, outside.sum() - outside
    tiny = 1e-9  # keeps a term that is all there is, or that nobody met, finite
    odds_inside = np.log((inside + tiny) / (other_inside + tiny))
    odds_outside = np.log((outside + tiny) / (other_outside + tiny))
    ratio = np.where(total > 0, odds_inside - odds_outside, 0.0)
    return ratio, ratio / np.sqrt(1 / (inside + tiny) + 1 / (outside + tiny))


def telling(
    here: np.ndarray, total: np.ndarray, *, min_z: float = MIN_Z, prior_weight: float | None = None
) -> np.ndarray:
    """Score terms: (n_terms,), 0 where a term is not clearly more frequent than elsewhere.

    The score is log-odds × sqrt(share): a rare curiosity and a term everybody uses are
    both poor labels. Without an elsewhere (one segment), the score is the share.
    """
    share = here / max(float(here.sum()), 1e-9)
    if np.allclose(here.sum(), total.sum()):
        return np.asarray(share)
    if prior_weight is None:
        prior_weight = min(PRIOR_WEIGHT, MAX_PRIOR_SHARE * float(total.sum()))
    ratio, z = log_odds(here, total, prior_weight=prior_weight)
    return np.where((z >= min_z) & (ratio >= np.log(MIN_RATIO)), ratio * np.sqrt(share), 0.0)


def describe_segments(
    evidence: SegmentEvidence,
    attributes: ItemAttributes,
    item_batches: Iterable[pa.Table],
    *,
    n_terms: int = 3,
    n_items: int = 5,
) -> list[SegmentDescription]:
    """Describe the segments, number 0 first.

    A label takes item attribute values first, then in turn words of the items' titles and
    words the users wrote, then rarer values and values of the users' columns; its last place goes to the
    decade of the items where that is telling.

    Args:
        item_batches: The items table, read in batches in its order.
        n_terms: Terms in a label.
        n_items: Characteristic items.
    """
    n_segments = len(evidence.sizes)
    likely_items = [_top_items(evidence, segment)[: 4 * n_items] for segment in range(n_segments)]
    items = read_items(evidence, item_batches, titles_of=(row for rows in likely_items for row in rows))
    shown = [_first_of_each_title(rows, items.titles)[:n_items] for rows in likely_items]
    titles = [tuple(items.titles.get(row, "") for row in rows) for rows in shown]
    ranked = _ranked_terms(evidence, attributes, items, n_terms=n_terms)
    labels = _unique_labels(ranked, titles, n_terms=n_terms)
    return [
        SegmentDescription(labels[segment], tuple(ranked[segment][:MAX_TERMS]), tuple(shown[segment]), titles[segment])
        for segment in range(n_segments)
    ]


def _ranked_terms(
    evidence: SegmentEvidence, attributes: ItemAttributes, items: ItemEvidence, *, n_terms: int
) -> list[list[str]]:
    """Return the terms of each segment in the order in which a label takes them."""
    values = _scored_values(evidence.item_weights @ attributes.matrix, attributes.values)
    user_values = _scored_values(sparse.csr_matrix(evidence.value_counts), evidence.user_values)
    user_words = _ranked_words(evidence.user_terms, sizes=evidence.sizes)
    likely_words = _ranked_words(evidence.user_terms, sizes=evidence.sizes, min_z=WEAK_Z)
    title_words = _ranked_words(items.terms)
    decades = _ranked_words(items.decades, min_score=TELLING_DECADE)
    covered = _values_describe_items(attributes)
    ranked = []
    for segment in range(len(evidence.sizes)):
        heads = [_value_term(scored.value) for scored in values[segment] if scored.share >= MIN_VALUE_SHARE]
        tails = [_value_term(scored.value) for scored in values[segment] if scored.share < MIN_VALUE_SHARE]
        words = title_words[segment]
        if covered:
            # Where values describe the items, single words of titles only add noise; phrases are names.
            words = [word for word in words if " " in word]
        said = set().union(*(_stems(term) for term in heads))
        words = _without_repeats([word for word in _in_turn(words, user_words[segment]) if not _stems(word) & said])
        members = [f"{s.value.column} {s.value.value} ({s.share:.0%})" for s in user_values[segment]]
        terms = [*heads[:MAX_TERMS], *words[:MAX_TERMS], *tails, *members] or likely_words[segment][:MAX_TERMS]
        place = max(n_terms - 1, 1)  # last in the label: a decade qualifies, it does not name
        ranked.append(list(dict.fromkeys([*terms[:place], *decades[segment][:1], *terms[place:]])))
    return ranked


def _in_turn(first: Sequence[str], second: Sequence[str]) -> list[str]:
    """Take one of each list, in turn."""
    return [word for pair in itertools.zip_longest(first, second) for word in pair if word]


def _values_describe_items(attributes: ItemAttributes) -> bool:
    """Say whether the kept values of some column reach most of the items that have any."""
    total = np.asarray(attributes.matrix.sum(axis=0)).ravel()
    names = np.array([value.column for value in attributes.values])
    n_values = len(attributes.values)
    reach = [total[:n_values][names == name].sum() for name in attributes.columns]
    return any(part >= 0.5 * max(known, 1.0) for part, known in zip(reach, total[n_values:], strict=True))


def _top_items(evidence: SegmentEvidence, segment: int) -> list[int]:
    """Rows of the items that set a segment apart, best first."""
    total = np.asarray(evidence.item_weights.sum(axis=0)).ravel()
    here = evidence.item_weights[[segment]].toarray().ravel()
    rows: dict[int, None] = {}
    # A lower bar where few pass the first: items are many and each is met by few.
    for min_z in (MIN_Z, 1.0, 0.0):
        score = telling(here, total, min_z=min_z)
        score[here < MIN_MEMBER_SHARE * evidence.sizes[segment]] = 0
        rows.update(dict.fromkeys(int(row) for row in _best(score)))
    return list(rows)


def _first_of_each_title(rows: Sequence[int], titles: dict[int, str]) -> list[int]:
    """Leave out variants of an item that a reader could not tell apart."""
    first: dict[str | int, int] = {}
    for row in rows:
        first.setdefault(titles.get(row) or row, row)
    return list(first.values())


def _best(score: np.ndarray) -> np.ndarray:
    """Positions with a score, best first, equal ones in their order."""
    order = np.argsort(-score, kind="stable")
    return np.asarray(order[: int((score > 0).sum())])


@dataclass(frozen=True, slots=True)
class _ScoredValue:
    """A value that is more frequent in a segment, with its share of what is known there."""

    value: AttributeValue
    score: float
    share: float


def _scored_values(counts: sparse.csr_matrix, values: Sequence[AttributeValue]) -> list[list[_ScoredValue]]:
    """Score the values per segment, best first; a value competes within its column.

    Args:
        counts: (n_segments, n_values + n_columns), as in `indicator_matrix`.
    """
    dense = counts.toarray()
    total = dense.sum(axis=0)
    columns = list(dict.fromkeys(value.column for value in values))
    ranked = []
    for row in dense:
        scored: list[_ScoredValue] = []
        for position, column in enumerate(columns):
            block = np.array([index for index, value in enumerate(values) if value.column == column])
            known = max(float(row[len(values) + position]), 1e-9)
            score = telling(row[block], total[block])
            if not score.any():
                score = telling(row[block], total[block], min_z=WEAK_Z)
            scored += [
                _ScoredValue(values[block[i]], float(score[i]), float(row[block[i]]) / known) for i in _best(score)
            ]
        ranked.append(sorted(scored, key=lambda found: (-found.score, found.value)))
    return ranked


def _value_term(value: AttributeValue) -> str:
    """Return a value as a term that stands alone."""
    if value.value in ("true", "false"):
        return value.column if value.value == "true" else f"not {value.column}"
    return value.value if any(c.isalpha() for c in value.value) else f"{value.column} {value.value}"


def _ranked_words(
    counts: TermCounts, *, sizes: np.ndarray | None = None, min_z: float = MIN_Z, min_score: float = 0.0
) -> list[list[str]]:
    """Words and phrases per segment, best first.

    Args:
        sizes: (n_segments,) members, where the counts are members who wrote the term: then enough
            of the segment's own have to.
    """
    names = np.array(list(counts.vocabulary), dtype=object)
    total = counts.weights.sum(axis=0)
    ranked = []
    for segment, here in enumerate(counts.weights):
        prior_weight = None if sizes is None else WORD_PRIOR_SHARE * float(total.sum())
        score = telling(here, total, min_z=min_z, prior_weight=prior_weight)
        score[(counts.n_effective < MIN_DOCUMENTS) | (score < min_score)] = 0
        if sizes is not None:
            score[here < max(MIN_DOCUMENTS, MIN_MEMBER_SHARE * sizes[segment])] = 0
        chosen = sorted(_best(score), key=lambda index: (-score[index], names[index]))
        ranked.append(_without_repeats([names[index] for index in chosen[: 5 * MAX_TERMS]]))
    return ranked


def _without_repeats(words: Sequence[str]) -> list[str]:
    """Drop words that say nothing new; a phrase takes the place of the first of its words.

    "baking", "bread baking", "bread" become "bread baking".
    """
    kept: list[str] = []
    for word in words:
        parts = _stems(word)
        inside = [place for place, other in enumerate(kept) if _stems(other) < parts]
        if inside:
            kept[inside[0]] = word
            kept = [other for place, other in enumerate(kept) if place == inside[0] or place not in inside]
        elif not any(parts & _stems(other) for other in kept):
            kept.append(word)
    return kept


def _stems(term: str) -> set[str]:
    """The words of a term without their plural s."""
    return {word.removesuffix("s") for word in term.lower().split()}


def _unique_labels(ranked: Sequence[list[str]], titles: Sequence[tuple[str, ...]], *, n_terms: int) -> list[str]:
    """Join the first terms of each segment.

    Where an earlier, larger segment has the same terms in any order, a later term takes
    the last place; failing that an item's title is added, and failing that a number.
    """
    taken: set[frozenset[str]] = set()
    labels: list[str] = []
    for terms, likes in zip(ranked, titles, strict=True):
        named = [title for title in likes if title]
        chosen = terms[:n_terms] or [f"like {named[0]}" if named else NO_LABEL]
        others = [[*chosen[:-1], term] for term in terms[n_terms:]]
        others += [[*chosen, f"like {title}"] for title in named]
        for candidate in [chosen, *others]:
            if frozenset(candidate) not in taken:
                chosen = candidate
                break
        number = 2
        while frozenset(chosen) in taken:
            chosen = [*(terms[:n_terms] or [NO_LABEL]), str(number)]
            number += 1
        taken.add(frozenset(chosen))
        labels.append(", ".join(chosen))
    return labels
