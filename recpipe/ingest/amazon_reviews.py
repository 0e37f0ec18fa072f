"""Importing a category of Amazon Reviews 2023.

Y. Hou, J. Li, Z. He, A. Yan, X. Chen and J. McAuley, "Bridging Language and Items for Retrieval and
Recommendation", arXiv:2403.03952, 2024.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from recpipe import schemas
from recpipe.ingest.amazon_pair import Pair, find_pair
from recpipe.ingest.attributes import STRINGS, to_text
from recpipe.ingest.entities import canonical_items
from recpipe.ingest.ids import IdIndex
from recpipe.ingest.imports import bad_rows, publish_canonical
from recpipe.ingest.interactions import canonical_interactions
from recpipe.ingest.settings import ColumnMaps, DataSettings, KeptColumns
from recpipe.ingest.tables import CanonicalTable

logger = logging.getLogger(__name__)

STORE, MAIN_CATEGORY, CATEGORIES, PRICE = "store", "main_category", "categories", "price"
_FEATURES, _DESCRIPTION = "features", "description"
# average_rating and rating_number are left out: they count reviews up to the day of the crawl, also
# those that are to be predicted. So does helpful_vote of a review.
_READ = (_FEATURES, _DESCRIPTION, STORE, MAIN_CATEGORY, CATEGORIES, PRICE)
_ITEM_ID, _TITLE, _TEXT = schemas.ITEM_ID.name, schemas.TITLE.name, schemas.TEXT.name
_ITEM_SCHEMA = pa.schema(
    [
        pa.field(_ITEM_ID, pa.string(), nullable=False),
        pa.field(_TITLE, pa.string()),
        pa.field(_TEXT, pa.string()),
        pa.field(STORE, pa.string()),
        pa.field(MAIN_CATEGORY, pa.string()),
        pa.field(CATEGORIES, STRINGS),
        pa.field(PRICE, pa.float64()),
    ]
)
_PRICE = re.compile(r"^\$?\s*(?P<number>\d{1,3}(,\d{3})+(\.\d+)?|\d+(\.\d+)?|\.\d+)$")
_SENTENCE_ENDS = (".", "!", "?", ":", ";", ",")


@dataclass(frozen=True, slots=True)
class Imported:
    """What `import_amazon_reviews` wrote.

    Attributes:
        n_items: Rows of items.parquet, those without metadata included.
        n_without_metadata: Reviewed items that the products do not have.
    """

    category: str
    items: Path
    interactions: Path
    n_items: int
    n_interactions: int
    n_without_metadata: int


def import_amazon_reviews(
    source: Path, target: Path, *, category: str | None = None, max_bad_rows: int = 0
) -> Imported:
    """Convert <Category>.jsonl.gz and meta_<Category>.jsonl.gz to interactions.parquet and items.parquet.

    An item is a parent_asin: variants of one product (colours, sizes) are one item. Its text is
    its features and description. Repeated reviews of an item by a user all stay, as everywhere
    in recpipe. A reviewed item without metadata, or with neither title nor text, has its id for a
    title: without a row its reviews could not be used. Each file is published whole or not at all.

    Args:
        source: Folder with the two files, or one of them; also without .gz.
        target: Folder to write to; made where it is absent.
        category: Which one, where the folder holds several.
        max_bad_rows: More bad rows than this in one of the files fail the import.

    Raises:
        MissingInputError: The source, or one of the two files, is absent.
        ConfigError: The folder holds several categories and none is named.
        DataError: A file is damaged or of another release, or too many rows are bad.
    """
    pair = find_pair(source, category=category)
    target.mkdir(parents=True, exist_ok=True)
    items_path, interactions_path = target / "items.parquet", target / "interactions.parquet"
    scratch = target / f".import-{os.getpid()}"
    settings = _settings(max_bad_rows)
    try:
        with bad_rows(pair.products, scratch=scratch, target=target / "bad_items.parquet") as quarantine:
            products = canonical_items([pair.products.source], settings, scratch=scratch, quarantine=quarantine)
        reviews = _reviews(pair, settings, scratch=scratch, target=target)
        unknown = _Unknown(products.ids())
        n_interactions = publish_canonical(interactions_path, reviews, unknown.watch(reviews.batches()))
        n_items = publish_canonical(items_path, products, _items(products, unknown))
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    if unknown.ids:
        logger.warning(
            "%d reviewed items are not in %s: their id stands for a title", len(unknown.ids), pair.products.label
        )
    return Imported(pair.category, items_path, interactions_path, n_items, n_interactions, len(unknown.ids))


class _Unknown:
    """Collects the ids that are in no row of the items, while tables stream by."""

    def __init__(self, item_ids: pa.Array) -> None:
        self._known = IdIndex(item_ids)
        self.ids: set[str] = set()

    def watch(self, tables: Iterator[pa.Table]) -> Iterator[pa.Table]:
        for table in tables:
            met = table.column(_ITEM_ID).combine_chunks().unique()
            self.ids.update(met.filter(pa.array(self._known.rows_of(met) < 0)).to_pylist())
            yield table


def _settings(max_bad_rows: int) -> DataSettings:
    return DataSettings(
        columns=ColumnMaps(
            # the id stands in for the text, which is made from two lists afterwards: so no product has nothing to show
            items={_ITEM_ID: "parent_asin", _TEXT: "parent_asin"},
            interactions={_ITEM_ID: "parent_asin"},
        ),
        keep=KeptColumns(items=list(_READ), interactions=[]),
        timestamp_unit="ms",
        max_bad_rows=max_bad_rows,
        max_bad_share=1.0,
    )


def _reviews(pair: Pair, settings: DataSettings, *, scratch: Path, target: Path) -> CanonicalTable:
    with bad_rows(pair.reviews, scratch=scratch, target=target / "bad_interactions.parquet") as quarantine:
        return canonical_interactions(
            [pair.reviews.source], settings, user_ids=None, item_ids=None, scratch=scratch, quarantine=quarantine
        )


def _items(products: CanonicalTable, unknown: _Unknown) -> Iterator[pa.Table]:
    yield from map(_describe, products.batches())
    if unknown.ids:
        ids = pa.array(sorted(unknown.ids), pa.string())
        columns = {_ITEM_ID: ids, _TITLE: ids}
        yield pa.table(
            [columns.get(field.name, pa.nulls(len(ids), field.type)) for field in _ITEM_SCHEMA], schema=_ITEM_SCHEMA
        )


def _describe(products: pa.Table) -> pa.Table:
    ids = products.column(_ITEM_ID).to_pylist()
    titles = [(title or "").strip() for title in _values(products, _TITLE)]
    parts = zip(_lists(products, _FEATURES), _lists(products, _DESCRIPTION), strict=True)
    texts = [_prose([*features, *description]) for features, description in parts]
    columns = {
        _ITEM_ID: ids,
        _TITLE: [title or (None if text else id_) for id_, title, text in zip(ids, titles, texts, strict=True)],
        _TEXT: texts,
        STORE: _texts(products, STORE),
        MAIN_CATEGORY: _texts(products, MAIN_CATEGORY),
        CATEGORIES: _lists(products, CATEGORIES),
        PRICE: [price(value) for value in _values(products, PRICE)],
    }
    return pa.table(columns, schema=_ITEM_SCHEMA)


def price(value: Any) -> float | None:
    """Return a price as a number: "$1,299.00" gives 1299.0; "—", "from 12.99" and what is below 0 give None."""
    if isinstance(value, str):
        match = _PRICE.match(value.strip())
        return float(match["number"].replace(",", "")) if match else None
    if isinstance(value, bool) or value is None:
        return None
    return float(value) if 0 <= value < float("inf") else None


def _values(products: pa.Table, name: str) -> list[Any]:
    """Return the values of a column; it is absent where no product has it."""
    return products.column(name).to_pylist() if name in products.column_names else [None] * products.num_rows


def _texts(products: pa.Table, name: str) -> list[str | None]:
    if name not in products.column_names:
        return [None] * products.num_rows
    texts: list[str | None] = to_text(products.column(name).combine_chunks()).to_pylist()
    return texts


def _lists(products: pa.Table, name: str) -> list[list[str]]:
    """Return a column of lists without blank entries; a text is a list of one."""
    rows = [[row] if isinstance(row, str) else row or [] for row in _values(products, name)]
    return [[entry.strip() for entry in row if entry.strip()] for row in rows]


def _prose(parts: list[str]) -> str | None:
    """Join parts into one text, each ended as a sentence, so that the encoder sees where one ends."""
    return " ".join(part if part.endswith(_SENTENCE_ENDS) else f"{part}." for part in parts) or None
