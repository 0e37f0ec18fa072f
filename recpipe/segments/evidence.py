"""What the members of each segment took and wrote, counted batch by batch for the labels."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from scipy import sparse

from recpipe import schemas
from recpipe.attributes import AttributeValue, indicator_matrix
from recpipe.segments.behaviour import Histories
from recpipe.segments.words import terms

FULL_VOICE_ITEMS = 50
"""A user with more items than this counts as one with so many, lest a few heavy users speak for a segment."""

MAX_TERMS = 200_000
"""Terms kept; when twice as many have been met, the rarer half is forgotten."""

ROWS_PER_STEP = 2_000

_YEAR_IN_TITLE = re.compile(r"\((1[89]\d\d|20\d\d)\)\s*$")


class TermCounts:
    """Weights of words and phrases per segment, with a vocabulary that grows up to a bound."""

    def __init__(self, n_segments: int) -> None:
        self.vocabulary: dict[str, int] = {}
        self._weights = np.zeros((n_segments, 1024))
        self._squares = np.zeros(1024)

    @property
    def weights(self) -> np.ndarray:
        """(n_segments, n_terms) float64, terms in the order of the vocabulary."""
        return self._weights[:, : len(self.vocabulary)]

    @property
    def n_effective(self) -> np.ndarray:
        """(n_terms,) float64, Kish's effective number of documents, (Σw)² / Σw².

        A word of one famous title and two unknown ones has hardly more than one.
        """
        squares = self._squares[: len(self.vocabulary)]
        return np.asarray(self.weights.sum(axis=0) ** 2 / np.maximum(squares, 1e-12))

    def add(self, documents: Sequence[set[str]], weights: sparse.csr_matrix) -> None:
        """Add documents: their terms and their weight per segment (n_segments, n_documents)."""
        for start in range(0, len(documents), ROWS_PER_STEP):
            self._add_step(documents[start : start + ROWS_PER_STEP], weights[:, start : start + ROWS_PER_STEP])

    def _add_step(self, documents: Sequence[set[str]], weights: sparse.csr_matrix) -> None:
        local = {term: index for index, term in enumerate(sorted(set().union(*documents)))}
        rows = np.repeat(np.arange(len(documents)), [len(document) for document in documents])
        columns = np.fromiter((local[term] for document in documents for term in document), np.int64, len(rows))
        shape = (len(documents), len(local))
        occurrence = sparse.csr_matrix((np.ones(len(rows)), (rows, columns)), shape=shape)
        squares = np.asarray(weights.sum(axis=0)).ravel() ** 2 @ occurrence
        self._add_weights(list(local), (weights @ occurrence).toarray(), squares)

    def merge(self, other: TermCounts) -> None:
        """Add the weights of other documents."""
        self._add_weights(list(other.vocabulary), other.weights, other._squares[: len(other.vocabulary)])

    def _add_weights(self, names: Sequence[str], weights: np.ndarray, squares: np.ndarray) -> None:
        positions = np.array([self.vocabulary.setdefault(name, len(self.vocabulary)) for name in names], np.int64)
        missing = len(self.vocabulary) - self._weights.shape[1]
        if missing > 0:
            room = np.zeros((len(self._weights), max(missing, self._weights.shape[1])))
            self._weights = np.concatenate([self._weights, room], axis=1)
            self._squares = np.concatenate([self._squares, np.zeros(room.shape[1])])
        self._weights[:, positions] += weights
        self._squares[positions] += squares
        if len(self.vocabulary) > 2 * MAX_TERMS:
            self._forget()

    def _forget(self) -> None:
        names = list(self.vocabulary)
        total = self.weights.sum(axis=0)
        kept = sorted(range(len(names)), key=lambda index: (-total[index], names[index]))[:MAX_TERMS]
        self._weights, self._squares = self._weights[:, kept], self._squares[kept]
        self.vocabulary = {names[index]: position for position, index in enumerate(kept)}


@dataclass(slots=True)
class SegmentEvidence:
    """Counts that labels are made from. Memory: segments × (items met + values + terms).

    Attributes:
        sizes: (n_segments,) int64, members.
        item_weights: (n_segments, n_items) sparse float64: members who met the item; a
            member with more than FULL_VOICE_ITEMS items counts in part.
        user_values: Values of the users table's columns that are counted.
        value_counts: (n_segments, n_values + n_columns), members with the value, and with
            any value in the column; as in `indicator_matrix`.
        user_terms: Members whose text has the word or phrase.
    """

    sizes: np.ndarray
    item_weights: sparse.csr_matrix
    user_values: tuple[AttributeValue, ...]
    value_counts: np.ndarray
    user_terms: TermCounts
    separator: str = "|"

    @classmethod
    def empty(
        cls, *, n_segments: int, n_items: int, user_values: Sequence[AttributeValue] = (), separator: str = "|"
    ) -> SegmentEvidence:
        """Return the counts of no users."""
        n_columns = len({value.column for value in user_values})
        return cls(
            sizes=np.zeros(n_segments, np.int64),
            item_weights=sparse.csr_matrix((n_segments, n_items)),
            user_values=tuple(user_values),
            value_counts=np.zeros((n_segments, len(user_values) + n_columns)),
            user_terms=TermCounts(n_segments),
            separator=separator,
        )

    def update(self, segments: np.ndarray, users: pa.Table, histories: Histories) -> None:
        """Add users.

        Args:
            segments: (n_users,) int32; users in segment -1 are left out.
            users: Their rows of the users table.
        """
        assert len(segments) == users.num_rows == histories.n_users
        inside = np.flatnonzero(segments >= 0)
        shape = (len(self.sizes), len(segments))
        members = sparse.csr_matrix((np.ones(len(inside)), (segments[inside], inside)), shape=shape)
        self.sizes += np.bincount(segments[inside], minlength=len(self.sizes))
        met = histories.item_counts(self.item_weights.shape[1])
        met.data[:] = 1.0  # a repeated interaction is one item
        n_met = np.diff(met.indptr)
        voice = sparse.diags_array(np.minimum(1.0, FULL_VOICE_ITEMS / np.maximum(n_met, 1)))
        self.item_weights = self.item_weights + sparse.csr_matrix(members @ voice @ met)
        self.value_counts += (members @ indicator_matrix(users, self.user_values, separator=self.separator)).toarray()
        if schemas.TEXT.name in users.column_names:
            documents = [terms([text]) for text in users.column(schemas.TEXT.name).to_pylist()]
            self.user_terms.add(documents, members)

    def merge(self, other: SegmentEvidence) -> None:
        """Add the counts of other users."""
        self.sizes += other.sizes
        self.item_weights = self.item_weights + other.item_weights
        self.value_counts += other.value_counts
        self.user_terms.merge(other.user_terms)


@dataclass(frozen=True, slots=True)
class ItemEvidence:
    """What one pass over the items table adds.

    Attributes:
        terms: Words and phrases of the items' titles (of their texts without titles),
            weighed as the members met the items.
        decades: Decades of the items whose title ends in a year, as in "Heat (1995)",
            or that have a column `year`.
        titles: Titles of the items asked for, by row.
    """

    terms: TermCounts
    decades: TermCounts
    titles: dict[int, str]


def read_items(evidence: SegmentEvidence, batches: Iterable[pa.Table], *, titles_of: Iterable[int]) -> ItemEvidence:
    """Weigh the words of the items.

    Args:
        batches: The items table in its order.
        titles_of: Rows whose titles are wanted.
    """
    n_segments = len(evidence.sizes)
    found = ItemEvidence(TermCounts(n_segments), TermCounts(n_segments), {})
    wanted = sorted(set(titles_of))
    start = 0
    for batch in batches:
        titles = _column(batch, schemas.TITLE.name)
        texts = _column(batch, schemas.TEXT.name) if schemas.TITLE.name not in batch.column_names else titles
        years = _column(batch, "year")
        weights = evidence.item_weights[:, start : start + batch.num_rows]
        found.terms.add([terms([text]) for text in texts], weights)
        found.decades.add([_decade(title, year) for title, year in zip(titles, years, strict=True)], weights)
        found.titles.update({row: titles[row - start] or "" for row in wanted if start <= row < start + batch.num_rows})
        start += batch.num_rows
    return found


def _column(batch: pa.Table, name: str) -> list[str | None]:
    return list(batch.column(name).to_pylist()) if name in batch.column_names else [None] * batch.num_rows


def _decade(title: str | None, year: object) -> set[str]:
    if isinstance(year, int | float) and 1000 <= year < 3000:
        return {f"{int(year) // 10}0s"}
    match = _YEAR_IN_TITLE.search(title or "")
    return {f"{match.group(1)[:3]}0s"} if match else set()
