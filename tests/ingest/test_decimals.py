"""Decimal commas in ratings and attributes; how many bad rows are too many."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recpipe.errors import DataError
from recpipe.ingest import sources
from recpipe.ingest.entities import canonical_items
from recpipe.ingest.interactions import canonical_interactions
from recpipe.ingest.settings import DataSettings
from recpipe.ingest.sources import find_sources
from recpipe.ingest.tables import CanonicalTable


def interactions(path: Path, **options: object) -> CanonicalTable:
    folder = path if path.is_dir() else path.parent
    return canonical_interactions(
        find_sources(path, table="interactions"),
        DataSettings.model_validate(options),
        user_ids=None,
        item_ids=None,
        scratch=folder / ".scratch",
        quarantine=folder / ".bad.parquet",
    )


def items(path: Path, **options: object) -> CanonicalTable:
    folder = path if path.is_dir() else path.parent
    return canonical_items(
        find_sources(path, table="items"),
        DataSettings.model_validate(options),
        scratch=folder / ".scratch",
        quarantine=folder / ".bad.parquet",
    )


def values(table: CanonicalTable, name: str) -> list[object]:
    found: list[object] = pa.concat_tables(table.batches()).column(name).to_pylist()
    return found


def ratings_file(path: Path, ratings: list[str], *, delimiter: str = ";") -> Path:
    rows = [["user_id", "item_id", "rating"], *(["a", str(i), rating] for i, rating in enumerate(ratings))]
    path.write_text("".join(delimiter.join(row) + "\n" for row in rows))
    return path


def items_file(path: Path, prices: list[str], *, delimiter: str = ";") -> Path:
    rows = [["item_id", "title", "price"], *([str(i), "t", price] for i, price in enumerate(prices))]
    path.write_text("".join(delimiter.join(row) + "\n" for row in rows))
    return path


def bad_details(folder: Path) -> list[str]:
    return [row["detail"] for row in pq.read_table(folder / ".bad.parquet").to_pylist()]


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["4,5", "3", "", "-0,25", "1,5e1"], [4.5, 3.0, None, -0.25, 15.0]),
        (["4.5", "3"], [4.5, 3.0]),
        # 4,5 makes clear what the comma of 3,667 is
        (["4,5", "3,667"], [4.5, pytest.approx(3.667)]),
        (["0,125", "0,250"], [0.125, 0.25]),
    ],
)
@pytest.mark.parametrize("delimiter", [";", "\t", "|"])
def test_auto_reads_the_comma_where_the_values_say_so(
    tmp_path: Path, texts: list[str], expected: list[object], delimiter: str
) -> None:
    table = interactions(ratings_file(tmp_path / "x.csv", texts, delimiter=delimiter))
    assert (values(table, "rating"), table.n_bad) == (expected, 0)
    as_items = items(items_file(tmp_path / "i.csv", texts, delimiter=delimiter))
    assert (values(as_items, "price"), as_items.notes) == (expected, ())


def test_ratings_that_are_text_in_jsonl(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text('{"user_id": "a", "item_id": "1", "rating": "4,5"}\n')
    assert values(interactions(path), "rating") == [4.5]


def test_thousands_are_no_decimals_unless_it_is_said(tmp_path: Path) -> None:
    path = ratings_file(tmp_path / "x.csv", ["12", "1,234"])
    table = interactions(path)
    assert (values(table, "rating"), table.counts) == ([12.0], {"bad_rating": 1})
    assert "set data.decimal" in bad_details(tmp_path)[0]
    assert values(interactions(path, decimal=","), "rating") == [12.0, pytest.approx(1.234)]
    path = items_file(tmp_path / "i.csv", ["12", "1,234"])
    table = items(path)
    assert values(table, "price") == ["12", "1,234"]
    assert table.notes == (
        f"items: column price stays text: its commas in {path} may mark thousands; "
        "set data.decimal if they are numbers",
    )
    assert values(items(path, decimal=","), "price") == [12.0, 1.234]


def test_a_column_with_both_signs(tmp_path: Path) -> None:
    table = interactions(ratings_file(tmp_path / "x.csv", ["4,5", "3,5", "2.5"]))
    assert (values(table, "rating"), table.counts) == ([4.5, 3.5], {"bad_rating": 1})
    assert bad_details(tmp_path) == [
        "'2.5' is no number with a decimal comma: if the point is the decimal sign, set data.decimal"
    ]
    table = items(items_file(tmp_path / "i.csv", ["4,5", "3,5", "2.5"]))
    assert values(table, "price") == ["4,5", "3,5", "2.5"]
    assert "with a point and with a comma" in table.notes[0]


def test_each_file_has_its_own_sign(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    ratings_file(folder / "a.csv", ["4,5"])
    ratings_file(folder / "b.csv", ["2.5"], delimiter=",")
    ratings_file(folder / "c.csv", ["1.5"])
    assert sorted(map(str, values(interactions(folder), "rating"))) == ["1.5", "2.5", "4.5"]
    for file in folder.glob("*.csv"):
        file.unlink()
    items_file(folder / "a.csv", ["4,5"])
    items_file(folder / "c.csv", ["1.5"]).write_text("item_id;title;price\nx;t;1.5\n")
    assert values(items(folder), "price") == [4.5, 1.5]


def test_the_sign_told_once_holds_for_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "BLOCK_BYTES", 64)
    texts = ["4,5", *["3"] * 20, "3,667", *["2"] * 20]
    table = interactions(ratings_file(tmp_path / "x.csv", texts))
    assert table.n_bad == 0
    assert values(table, "rating")[21] == pytest.approx(3.667)


@pytest.mark.parametrize("decimal", ["auto", ".", ","])
def test_quoted_commas_between_commas_are_decimals_only_if_it_is_said(tmp_path: Path, decimal: str) -> None:
    table = interactions(ratings_file(tmp_path / "x.csv", ["5", '"4,5"'], delimiter=","), decimal=decimal)
    assert values(table, "rating") == ([5.0, 4.5] if decimal == "," else [5.0])
    priced = items(items_file(tmp_path / "i.csv", ['"3,5"', '"4,5"'], delimiter=","), decimal=decimal)
    assert values(priced, "price") == ([3.5, 4.5] if decimal == "," else ["3,5", "4,5"])
    hinted = any("has '3,5'; if that is a decimal comma, set data.decimal" in note for note in priced.notes)
    assert hinted == (decimal == "auto")


def test_a_decimal_comma_makes_points_no_numbers(tmp_path: Path) -> None:
    table = interactions(ratings_file(tmp_path / "x.csv", ["5", "1.234", "1.234,5"]), decimal=",")
    assert (values(table, "rating"), table.n_bad) == ([5.0], 2)
    assert values(items(items_file(tmp_path / "i.csv", ["5", "1.234"]), decimal=","), "price") == ["5", "1.234"]


def test_text_with_commas_stays_as_it_is_without_a_note(tmp_path: Path) -> None:
    table = items(items_file(tmp_path / "i.csv", ["red, green", "1,234 pieces", "7,5", "blue", "x"]))
    assert values(table, "price") == ["red, green", "1,234 pieces", "7,5", "blue", "x"]
    assert table.notes == ()


@pytest.mark.parametrize(
    ("n_bad", "n_rows", "options", "limits"),
    [
        (1, 12, {}, []),
        (4, 12, {}, []),
        (5, 100, {}, []),
        (6, 100, {}, ["data.max_bad_share is 0.05"]),
        (7, 12, {}, ["data.max_bad_share is 0.05"]),
        (7, 12, {"max_bad_share": 0.59}, []),
        (7, 12, {"max_bad_share": 1, "max_bad_rows": 6}, ["data.max_bad_rows is 6"]),
        (7, 12, {"max_bad_rows": 6}, ["data.max_bad_rows is 6", "data.max_bad_share is 0.05"]),
        (101, 4000, {}, ["data.max_bad_rows is 100"]),
    ],
)
def test_too_many_bad_rows(
    tmp_path: Path, n_bad: int, n_rows: int, options: dict[str, object], limits: list[str]
) -> None:
    path = ratings_file(tmp_path / "x.csv", ["bad"] * n_bad + ["5"] * (n_rows - n_bad))
    if not limits:
        assert interactions(path, **options).n_bad == n_bad
        return
    with pytest.raises(DataError) as caught:
        interactions(path, **options)
    assert f"{n_bad} of {n_rows:,} rows are bad ({', '.join(limits)})" in str(caught.value)
    # what the message says to do is enough
    words = str(caught.value.next_step).rpartition("accept them with ")[2].split()
    accepted = {key: float(value) for key, _, value in (word.partition("=") for word in words if "=" in word)}
    assert sorted(accepted) == [limit.split()[0] for limit in limits]
    table = interactions(path, **options | {key.removeprefix("data."): value for key, value in accepted.items()})
    assert table.n_bad == n_bad


def test_a_german_export_loses_nothing(tmp_path: Path) -> None:
    texts = ["4,5", "3,5", "5", "4,5", "2,5", "1,5", "4", "3", "0,5", "2", "1", "3,5"]
    table = interactions(ratings_file(tmp_path / "x.csv", texts))
    assert values(table, "rating") == [float(text.replace(",", ".")) for text in texts]
    # where commas delimit, the run fails and says which key helps
    path = ratings_file(tmp_path / "y.csv", [f'"{text}"' for text in texts], delimiter=",")
    with pytest.raises(DataError) as caught:
        interactions(path)
    assert "7 of 12 rows are bad" in str(caught.value)
    assert "data.decimal" in str(caught.value.next_step)
    assert interactions(path, decimal=",").n_bad == 0
