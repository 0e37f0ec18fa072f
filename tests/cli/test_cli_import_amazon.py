"""recpipe import amazon-reviews: the pair of a category, and what is bad in it."""

from __future__ import annotations

import gzip
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recpipe.ingest.amazon_reviews import price

REVIEWS: list[dict[str, Any]] = [
    {
        "rating": 5.0, "title": "Such a lovely scent", "text": "This spray is\nreally nice.", "images": [],
        "asin": "B00YQ6X8EO", "parent_asin": "B00A", "user_id": "AGKH", "timestamp": 1588687728923,
        "helpful_vote": 7, "verified_purchase": True,
    },
    {
        "rating": 2.0, "title": "No", "text": "", "images": [{"small_image_url": "https://x/1.jpg"}],
        "asin": "B00B", "parent_asin": "B00B", "user_id": "AGKH", "timestamp": 1588615855070,
        "helpful_vote": 0, "verified_purchase": False,
    },
    {
        "rating": 4.0, "title": "Again", "text": "x", "images": [], "asin": "B00A", "parent_asin": "B00A",
        "user_id": "AGKH", "timestamp": 1588687728924, "helpful_vote": 0, "verified_purchase": True,
    },
    {
        "rating": 3.0, "title": "Unknown", "text": "x", "images": [], "asin": "B00Z", "parent_asin": "B00Z",
        "user_id": "BZZZ", "timestamp": 1588687728925, "helpful_vote": 0, "verified_purchase": True,
    },
]  # fmt: skip
PRODUCTS: list[dict[str, Any]] = [
    {
        "main_category": "All Beauty", "title": "Crème, 5 oz ", "average_rating": 4.8, "rating_number": 10,
        "features": ["Light", "Vegan. ", " "], "description": ["For the night!", "Rinse"], "price": 12.99,
        "images": [{"thumb": "https://x/t.jpg"}], "videos": [], "store": "Howard", "categories": ["Beauty", "Skin"],
        "details": {"Brand": "Howard", "Package": {"Weight": "5 oz"}}, "parent_asin": "B00A", "bought_together": None,
    },
    {
        "main_category": None, "title": "", "average_rating": 3.0, "rating_number": 1, "features": [],
        "description": [], "price": "—", "images": [], "videos": [], "store": None, "categories": [],
        "details": {}, "parent_asin": "B00B", "bought_together": None,
    },
    {
        "main_category": "All Beauty", "title": "Never reviewed", "average_rating": 4.0, "rating_number": 2,
        "features": [], "description": [], "price": "from 12.99", "images": [], "videos": [], "store": "Yes To",
        "categories": [], "details": {}, "parent_asin": "B00C", "bought_together": None,
    },
]  # fmt: skip
ITEMS: list[dict[str, Any]] = [
    {
        "item_id": "B00A", "title": "Crème, 5 oz", "text": "Light. Vegan. For the night! Rinse.", "store": "Howard",
        "main_category": "All Beauty", "categories": ["Beauty", "Skin"], "price": 12.99,
    },
    {
        "item_id": "B00B", "title": "B00B", "text": None, "store": None, "main_category": None, "categories": [],
        "price": None,
    },
    {
        "item_id": "B00C", "title": "Never reviewed", "text": None, "store": "Yes To", "main_category": "All Beauty",
        "categories": [], "price": None,
    },
    {
        "item_id": "B00Z", "title": "B00Z", "text": None, "store": None, "main_category": None, "categories": None,
        "price": None,
    },
]  # fmt: skip


@pytest.fixture(autouse=True)
def _inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def _lines(rows: list[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def _write(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def _pair(folder: str = "raw", *, category: str = "All_Beauty", suffix: str = ".jsonl.gz") -> Path:
    _write(Path(folder) / f"meta_{category}{suffix}", _lines(PRODUCTS))
    return _write(Path(folder) / f"{category}{suffix}", _lines(REVIEWS))


def _rows(name: str, folder: str = "out") -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(f"{folder}/{name}.parquet").to_pylist()
    return rows


def _shown(folder: str = "out") -> set[str]:
    return {path.name for path in Path(folder).iterdir() if not path.name.startswith(".")}


def _moment(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds // 1000, UTC).replace(microsecond=milliseconds % 1000 * 1000)


@pytest.mark.parametrize("suffix", [".jsonl.gz", ".jsonl"])
@pytest.mark.parametrize("named", ["folder", "reviews", "products"])
def test_tables(named: str, suffix: str, run_cli):
    reviews = _pair(suffix=suffix)
    source = {"folder": reviews.parent, "reviews": reviews, "products": reviews.with_name(f"meta_{reviews.name}")}
    result = run_cli("import", "amazon-reviews", source[named], "--to", "out")
    assert result.stdout == ""
    assert "1 reviewed items are not in raw/meta_All_Beauty" in result.stderr
    assert "category All_Beauty: 4 items, 1 of them without metadata, 4 interactions" in result.stderr
    assert _shown() == {"items.parquet", "interactions.parquet"}
    assert _rows("items") == ITEMS
    interactions = pq.read_table("out/interactions.parquet")
    assert interactions.schema.field("rating").type == pa.float32()
    assert sorted(interactions.to_pylist(), key=lambda row: row["timestamp"]) == [
        {"user_id": "AGKH", "item_id": "B00B", "rating": 2.0, "timestamp": _moment(1588615855070)},
        {"user_id": "AGKH", "item_id": "B00A", "rating": 5.0, "timestamp": _moment(1588687728923)},
        {"user_id": "AGKH", "item_id": "B00A", "rating": 4.0, "timestamp": _moment(1588687728924)},
        {"user_id": "BZZZ", "item_id": "B00Z", "rating": 3.0, "timestamp": _moment(1588687728925)},
    ]
    mine = [row["item_id"] for row in interactions.to_pylist() if row["user_id"] == "AGKH"]
    assert mine == ["B00B", "B00A", "B00A"]


def test_the_tables_can_be_read_by_a_run(run_cli, tiny_encoder: Path):
    _pair()
    run_cli("import", "amazon-reviews", "raw", "--to", "out")
    tables = ("--set", "data.items=out/items.parquet", "--set", "data.interactions=out/interactions.parquet")
    encoder = ("--set", f"encoder.model_name={tiny_encoder}", "--set", "device=cpu")
    run_cli("embed-items", *tables, *encoder)
    run_cli("embed-users", *tables, *encoder, "--set", "data.max_bad_rows=0")
    assert pq.read_metadata("work/tables/interactions.parquet").num_rows == 4
    assert pq.read_metadata("work/tables/items.parquet").num_rows == 4


def test_chunks_give_the_same_as_one(run_cli, monkeypatch: pytest.MonkeyPatch):
    _pair()
    run_cli("import", "amazon-reviews", "raw", "--to", "whole")
    monkeypatch.setattr("recpipe.ingest.readers._CHUNK_RECORDS", 1)
    monkeypatch.setattr("recpipe.ingest.tables.BATCH_ROWS", 1)
    run_cli("import", "amazon-reviews", "raw", "--to", "pieces")
    for name in ("items", "interactions"):
        assert _rows(name, "pieces") == _rows(name, "whole")


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (None, None), (12.99, 12.99), (5, 5.0), (-1.0, None), (float("nan"), None), (float("inf"), None), (True, None),
        ("12.99", 12.99), (" $12.99 ", 12.99), ("$1,299.00", 1299.0), ("1,2", None), ("—", None), ("", None),
        ("from 12.99", None), ("12.99 - 15.99", None), ("nan", None), ("-3", None), (".5", 0.5),
    ],
)  # fmt: skip
def test_prices(value: Any, number: float | None):
    assert price(value) == number


def test_prices_of_a_file_in_which_all_are_text(run_cli):
    _write(Path("raw/A.jsonl"), _lines(REVIEWS))
    _write(Path("raw/meta_A.jsonl"), _lines([{**product, "price": "3"} for product in PRODUCTS]))
    run_cli("import", "amazon-reviews", "raw", "--to", "out")
    assert [row["price"] for row in _rows("items")] == [3.0, 3.0, 3.0, None]


def test_several_categories(run_cli):
    _pair(category="All_Beauty")
    _pair(category="Video_Games")
    _write(Path("raw/notes.jsonl"), b"{}\n")  # a file of something else
    result = run_cli("import", "amazon-reviews", "raw", "--to", "out", expect=2)
    assert "the folder holds 2 categories; found: All_Beauty, Video_Games" in result.stderr
    assert "--category All_Beauty" in result.stderr
    assert not Path("out").exists()
    result = run_cli("import", "amazon-reviews", "raw", "--category", "Video_Games", "--to", "out")
    assert "category Video_Games" in result.stderr
    result = run_cli("import", "amazon-reviews", "raw", "--category", "Books", "--to", "out", expect=4)
    assert "no file of the category Books; found: All_Beauty, Video_Games" in result.stderr
    result = run_cli(
        "import", "amazon-reviews", "raw/All_Beauty.jsonl.gz", "--category", "Video_Games", "--to", "out", expect=2
    )
    assert "the file is of the category All_Beauty, not Video_Games" in result.stderr


def test_what_is_missing(run_cli):
    result = run_cli("import", "amazon-reviews", "nowhere", "--to", "out", expect=4)
    assert "no such file or folder" in result.stderr and "meta_<Category>.jsonl.gz" in result.stderr
    Path("empty").mkdir()
    result = run_cli("import", "amazon-reviews", "empty", "--to", "out", expect=4)
    assert "no .jsonl.gz or .jsonl file is there" in result.stderr
    reviews = _pair()
    reviews.with_name("meta_All_Beauty.jsonl.gz").unlink()
    for source in (reviews, reviews.parent):
        result = run_cli("import", "amazon-reviews", source, "--to", "out", expect=4)
        assert "no products (meta_All_Beauty.jsonl.gz) beside All_Beauty.jsonl.gz" in result.stderr
        assert "download it from the same release" in result.stderr
    products = _pair().with_name("meta_All_Beauty.jsonl.gz")
    reviews.unlink()
    result = run_cli("import", "amazon-reviews", products, "--to", "out", expect=4)
    assert "no reviews (All_Beauty.jsonl.gz) beside meta_All_Beauty.jsonl.gz" in result.stderr
    Path("table.csv").write_text("a\n", encoding="utf-8")
    assert "no JSONL" in run_cli("import", "amazon-reviews", "table.csv", "--to", "out", expect=3).stderr
    assert not Path("out").exists()


@pytest.mark.parametrize("name", ["All_Beauty.jsonl.gz", "meta_All_Beauty.jsonl.gz"])
@pytest.mark.parametrize("share", [0.05, 0.5, 0.99])
def test_a_gzip_that_is_cut_off(name: str, share: float, run_cli):
    _pair()
    path = Path("raw") / name
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    result = run_cli("import", "amazon-reviews", "raw", "--to", "out", expect=3)
    assert "the gzip file is damaged or cut off" in result.stderr and f"raw/{name}" in result.stderr
    assert f"download it again; gzip -t {name} tells whether it is whole" in result.stderr
    assert not Path("out").exists() or not _shown()


def test_a_file_that_is_no_gzip_or_is_empty(run_cli):
    _pair()
    Path("raw/All_Beauty.jsonl.gz").write_bytes(_lines(REVIEWS))
    assert "damaged" in run_cli("import", "amazon-reviews", "raw", "--to", "out", expect=3).stderr
    _write(Path("raw/All_Beauty.jsonl.gz"), b"")
    assert "the file is empty" in run_cli("import", "amazon-reviews", "raw", "--to", "out", expect=3).stderr


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b"{broken", "bad_json"),
        (b'["a", "list"]', "bad_json: not an object in braces"),
        (b'{"parent_asin": "B00A", "rating": "five", "user_id": "A", "timestamp": 1588687728923}', "bad_rating"),
        (b'{"parent_asin": "B00A", "rating": 5, "user_id": "A", "timestamp": "soon"}', "bad_timestamp"),
        (b'{"parent_asin": "", "rating": 5, "user_id": "A", "timestamp": 1588687728923}', "missing_id"),
        (b'{"parent_asin": "B\xff", "rating": 5, "user_id": "A", "timestamp": 1588687728923}', "bad_encoding"),
    ],
)
def test_bad_reviews_are_told_by_line_and_kept(line: bytes, words: str, run_cli):
    _pair()
    _write(Path("raw/All_Beauty.jsonl.gz"), _lines(REVIEWS[:2]) + line + b"\n" + _lines(REVIEWS[2:]))
    result = run_cli("import", "amazon-reviews", "raw", "--to", "out", expect=3)
    assert "interactions: 1 of 5 rows are bad (--max-bad-rows is 0)" in result.stderr
    assert f"raw/All_Beauty.jsonl.gz, line 3: {words}" in result.stderr
    assert "leave them out with --max-bad-rows 1" in result.stderr and "data." not in result.stderr
    assert _shown() == {"bad_interactions.parquet"}
    result = run_cli("import", "amazon-reviews", "raw", "--to", "out", "--max-bad-rows", 1)
    assert "interactions: 1 bad rows left out" in result.stderr
    assert len(_rows("interactions")) == 4
    assert [(row["file"], row["line"]) for row in _rows("bad_interactions")] == [("raw/All_Beauty.jsonl.gz", 3)]


def test_a_product_twice(run_cli):
    _pair()
    _write(Path("raw/meta_All_Beauty.jsonl.gz"), _lines([*PRODUCTS, PRODUCTS[0]]))
    result = run_cli("import", "amazon-reviews", "raw", "--to", "out", expect=3)
    place = "raw/meta_All_Beauty.jsonl.gz"
    assert f"{place}, line 4: duplicate_id: 'B00A' is already in {place}, line 1" in result.stderr
    run_cli("import", "amazon-reviews", "raw", "--to", "out", "--max-bad-rows", 1)
    assert _rows("items") == ITEMS


def test_an_earlier_release(run_cli):
    _pair()
    old = {"overall": 5.0, "reviewerID": "A1", "asin": "B00A", "unixReviewTime": 1588687728}
    _write(Path("raw/All_Beauty.jsonl.gz"), _lines([old]))
    result = run_cli("import", "amazon-reviews", "raw", "--to", "out", expect=3)
    assert "these are no reviews of Amazon Reviews 2023: no user_id, parent_asin, rating, timestamp" in result.stderr
    assert "All_Beauty.jsonl.gz, line 1" in result.stderr and "take the release of 2023" in result.stderr


def test_tables_of_somebody_else_stay(run_cli):
    _pair()
    Path("out").mkdir()
    Path("out/items.parquet").write_bytes(b"mine")
    result = run_cli("import", "amazon-reviews", "raw", "--to", "out", expect=2)
    assert "would overwrite items.parquet" in result.stderr and Path("out/items.parquet").read_bytes() == b"mine"
    run_cli("import", "amazon-reviews", "raw", "--to", "out", "--force")
    run_cli("import", "amazon-reviews", "raw", "--to", "out")
    assert _rows("items") == ITEMS
