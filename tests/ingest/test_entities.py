"""Users and items: mapping, attribute types, duplicates, quarantine."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recpipe.config import validate
from recpipe.errors import ConfigError, DataError
from recpipe.ingest import sources
from recpipe.ingest.entities import canonical_items, canonical_users
from recpipe.ingest.settings import ColumnMaps, DataSettings, KeptColumns, ListColumns, TextColumns
from recpipe.ingest.sources import find_sources
from recpipe.ingest.tables import CanonicalTable


def load(name: str, path: Path, options: DataSettings | None = None) -> CanonicalTable:
    function = canonical_users if name == "users" else canonical_items
    folder = path if path.is_dir() else path.parent
    return function(
        find_sources(path, table=name),
        options or DataSettings(),
        scratch=folder / ".scratch",
        quarantine=folder / "quarantine" / f"{name}.parquet",
    )


def table_of(result: CanonicalTable) -> pa.Table:
    return pa.concat_tables(result.batches())


def write(path: Path, text: str) -> Path:
    path.write_bytes(text.encode())
    return path


def quarantined(folder: Path, name: str) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = pq.read_table(folder / "quarantine" / f"{name}.parquet").to_pylist()
    return rows


def test_ids_that_look_like_numbers_stay_text(tmp_path: Path) -> None:
    csv = write(tmp_path / "u.csv", "user_id,age\n007,30\n7,\n1e3,41\n")
    assert table_of(load("users", csv)).to_pylist() == [
        {"user_id": "007", "age": 30},
        {"user_id": "7", "age": None},
        {"user_id": "1e3", "age": 41},
    ]
    for values in ([1.0, 20.0], [1, 20]):
        pq.write_table(pa.table({"user_id": values}), tmp_path / "u.parquet")
        assert table_of(load("users", tmp_path / "u.parquet")).column("user_id").to_pylist() == ["1", "20"]
    jsonl = write(tmp_path / "u.jsonl", '{"user_id": 1}\n{"user_id": "01"}\n{"user_id": 2.0}\n')
    assert table_of(load("users", jsonl)).column("user_id").to_pylist() == ["1", "01", "2"]


def test_mapping_renames_joins_and_keeps(tmp_path: Path) -> None:
    path = write(tmp_path / "u.csv", 'uid,bio,hobbies,town\na,I read,"chess|go",Rome\nb,,chess,Oslo\nc,,,Bonn\n')
    columns = ColumnMaps(users={"user_id": "uid", "text": ["bio", "hobbies"], "city": "town"})
    options = DataSettings(columns=columns, list_columns=ListColumns(users={"hobbies": "|"}))
    assert table_of(load("users", path, options)).to_pylist() == [
        {"user_id": "a", "text": "I read. chess|go", "city": "Rome", "bio": "I read", "hobbies": ["chess", "go"]},
        {"user_id": "b", "text": "chess", "city": "Oslo", "bio": None, "hobbies": ["chess"]},
        {"user_id": "c", "text": None, "city": "Bonn", "bio": None, "hobbies": None},
    ]
    kept = options.model_copy(update={"keep": KeptColumns(users=["hobbies"])})
    assert load("users", path, kept).schema.names == ["user_id", "text", "hobbies"]


def test_a_column_is_numeric_only_if_every_value_is(tmp_path: Path) -> None:
    path = write(
        tmp_path / "i.csv", "item_id,title,price,zip,n,share\n1,A,3.5,01234,1,1\n2,B,-,99999,,.5\n3,C,4,10000,-3,2e1\n"
    )
    result = load("items", path)
    assert {field.name: str(field.type) for field in result.schema} == {
        "item_id": "string", "title": "string", "price": "string", "zip": "string", "n": "int64", "share": "double",
    }  # fmt: skip
    assert result.notes == (
        f"items: column price stays text: {path}, line 3 has '-' among 2 numbers",
        f"items: column zip stays text: {path}, line 2 has '01234' among 2 numbers",
    )
    assert table_of(result).column("share").to_pylist() == [1.0, 0.5, 20.0]


def test_attribute_type_does_not_depend_on_where_the_odd_value_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "BLOCK_BYTES", 256)
    lines = [f"{i},t,{i}" for i in range(300)]
    lines[-1] = "299,t,1.5"
    path = write(tmp_path / "i.csv", "item_id,title,price\n" + "\n".join(lines) + "\n")
    prices = table_of(load("items", path)).column("price")
    assert prices.type == pa.float64()
    assert prices.to_pylist() == [*map(float, range(299)), 1.5]
    lines[-1] = "299,t,free"
    write(path, "item_id,title,price\n" + "\n".join(lines) + "\n")
    assert table_of(load("items", path)).column("price").to_pylist() == [*map(str, range(299)), "free"]


def test_files_of_several_formats_make_one_table(tmp_path: Path) -> None:
    folder = tmp_path / "items"
    folder.mkdir()
    write(folder / "a.csv", "item_id,title,price,genres\n1,A,2,x\n")
    write(folder / "b.jsonl", '{"item_id": 2, "title": "B", "price": 2.5, "genres": ["x", "y"], "new": true}\n')
    pq.write_table(pa.table({"item_id": [3], "title": ["C"], "price": [4]}), folder / "c.parquet")
    assert table_of(load("items", folder)).to_pylist() == [
        {"item_id": "1", "title": "A", "price": 2.0, "genres": ["x"], "new": None},
        {"item_id": "2", "title": "B", "price": 2.5, "genres": ["x", "y"], "new": True},
        {"item_id": "3", "title": "C", "price": 4.0, "genres": None, "new": None},
    ]


def test_numbers_that_are_none_become_missing(tmp_path: Path) -> None:
    path = write(tmp_path / "i.jsonl", '{"item_id": 1, "title": "A", "x": NaN, "y": Infinity}\n')
    result = load("items", path)
    assert table_of(result).to_pylist() == [{"item_id": "1", "title": "A", "x": None, "y": None}]
    assert result.notes == (f"items: column y: infinite values are taken as missing ({path})",)


def test_text_columns_and_media_root(tmp_path: Path) -> None:
    path = write(tmp_path / "i.csv", "item_id,image,code\n1,a.jpg,5\n2,/x/b.jpg,6\n3,https://h/c.jpg,7\n")
    options = DataSettings(text_columns=TextColumns(items=["code"]), media_root="media")
    table = table_of(load("items", path, options))
    assert table.column("code").to_pylist() == ["5", "6", "7"]
    assert table.column("image").to_pylist() == ["media/a.jpg", "/x/b.jpg", "https://h/c.jpg"]


def test_users_have_pictures_and_sounds_too(tmp_path: Path) -> None:
    path = write(tmp_path / "u.csv", "user_id,image,voice\n1,a.jpg,a.wav\n2,,\n")
    options = DataSettings(columns=ColumnMaps(users={"audio": "voice"}), media_root="media")
    table = table_of(load("users", path, options))
    assert table.column("image").to_pylist() == ["media/a.jpg", None]
    assert table.column("audio").to_pylist() == ["media/a.wav", None]


def test_duplicates_name_the_first_row(tmp_path: Path) -> None:
    folder = tmp_path / "items"
    folder.mkdir()
    write(folder / "a.csv", 'item_id,title\n1,"A\nB"\n2,B\n1,C\n')
    pq.write_table(pa.table({"item_id": ["9", "2"], "title": ["x", "y"]}), folder / "b.parquet")
    result = load("items", folder)
    assert table_of(result).column("title").to_pylist() == ["A\nB", "B", "x"]
    assert result.ids().to_pylist() == ["1", "2", "9"]
    assert (result.n_rows, result.n_bad, result.counts) == (3, 2, {"duplicate_id": 2})
    rows = quarantined(folder, "items")
    assert [(row["line"], row["detail"]) for row in rows] == [
        (5, f"'1' is already in {folder / 'a.csv'}, line 2"),
        (2, f"'2' is already in {folder / 'a.csv'}, line 4"),
    ]
    assert json.loads(str(rows[0]["raw"])) == {"item_id": "1", "title": "C"}


def test_bad_rows_are_counted_written_and_tolerated_up_to_the_limit(tmp_path: Path) -> None:
    path = write(tmp_path / "i.csv", "item_id,title\n1,A\n,B\n  ,C\n2,\n3\n4,D\n")
    result = load("items", path)
    assert table_of(result).column("item_id").to_pylist() == ["1", "4"]
    assert result.counts == {"missing_id": 2, "nothing_to_show": 1, "wrong_column_count": 1}
    rows = quarantined(tmp_path, "items")
    assert {(row["line"], row["reason"], row["raw"]) for row in rows} == {
        (3, "missing_id", ",B"),
        (4, "missing_id", "  ,C"),
        (5, "nothing_to_show", "2,"),
        (6, "wrong_column_count", "3"),
    }
    assert {row["file"] for row in rows} == {str(path)}
    load("items", path, DataSettings(max_bad_rows=4))
    with pytest.raises(DataError) as caught:
        load("items", path, DataSettings(max_bad_rows=3))
    message = str(caught.value)
    assert "items: 4 of 6 rows are bad (data.max_bad_rows is 3): 2 missing_id" in message
    assert f"{path}, line 6: wrong_column_count: 1 fields, the header has 2" in message
    assert str(tmp_path / "quarantine" / "items.parquet") in message
    assert "--set data.max_bad_rows=4" in message
    assert len(quarantined(tmp_path, "items")) == 4


def test_the_quarantine_of_an_earlier_run_goes_when_all_is_well(tmp_path: Path) -> None:
    path = write(tmp_path / "u.csv", "user_id\na\na\n")
    load("users", path)
    assert len(quarantined(tmp_path, "users")) == 1
    load("users", write(path, "user_id\na\nb\n"))
    assert list((tmp_path / "quarantine").iterdir()) == []


def test_the_quarantine_is_written_when_reading_breaks_off(tmp_path: Path) -> None:
    write(tmp_path / "a.csv", "user_id\na\n\nb,c\n")
    write(tmp_path / "b.csv", "uid\na\n")
    with pytest.raises(DataError, match="no column user_id"):
        load("users", tmp_path)
    assert [row["reason"] for row in quarantined(tmp_path, "users")] == ["wrong_column_count"]


@pytest.mark.parametrize("content", ["", "\n\n", "user_id,age\n", "user_id,age"])
@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_an_empty_table_is_an_error(tmp_path: Path, content: str, suffix: str) -> None:
    path = write(tmp_path / f"u{suffix}", content if suffix == ".csv" else content.replace("user_id,age", ""))
    with pytest.raises(DataError, match="users: the table has no rows") as caught:
        load("users", path)
    assert str(path) in str(caught.value)


def test_a_parquet_file_without_rows_is_an_error(tmp_path: Path) -> None:
    pq.write_table(pa.table({"user_id": pa.array([], pa.string())}), tmp_path / "u.parquet")
    with pytest.raises(DataError, match="no rows"):
        load("users", tmp_path / "u.parquet")


def test_no_good_row_is_an_error_whatever_the_limit(tmp_path: Path) -> None:
    path = write(tmp_path / "u.jsonl", "nonsense\n{}\n")
    with pytest.raises(DataError, match="no good row is left") as caught:
        load("users", write(path, "nonsense\nmore\n"), DataSettings(max_bad_rows=1000))
    assert "2 bad_json" in str(caught.value)


@pytest.mark.parametrize(
    ("header", "options", "expected"),
    [
        ("userId,age", {}, ["no column user_id", "found: userId, age", "did you mean 'userId'?", "{user_id: userId}"]),
        ("user,age", {}, ["did you mean 'user'?", "data.columns: {users: {user_id: user}}"]),
        ("x,y", {}, ["no column user_id", "{user_id: SOURCE_COLUMN}"]),
        ("user_id;age", {"delimiter": ","}, ["no column user_id", "holds ';'", "data.delimiter"]),
        ("user_id\tage", {"delimiter": ","}, ["holds '\\t'"]),
        ("17,3.5", {}, ["looks like data"]),
        ("17::3.5", {}, ["looks like data"]),
        ("user_id::age", {}, ["separated by '::'"]),
        ("user_id,bio", {"columns": ColumnMaps(users={"text": "boi"})}, ["maps text to 'boi'", "did you mean 'bio'?"]),
    ],
)
def test_missing_columns(tmp_path: Path, header: str, options: dict[str, str], expected: list[str]) -> None:
    path = write(tmp_path / "u.csv", header + "\n")
    with pytest.raises(DataError) as caught:
        load("users", path, DataSettings.model_validate(options))
    for part in [*expected, f"{path}, line 1"]:
        assert part in str(caught.value)


def test_missing_keys_in_jsonl(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no column user_id; found: uid"):
        load("users", write(tmp_path / "u.jsonl", '{"uid": 1}\n'))
    options = DataSettings(columns=ColumnMaps(users={"text": "bio"}))
    path = write(tmp_path / "u.jsonl", '{"user_id": 1}\n{"user_id": 2, "bio": "x"}\n{"bio": "y"}\n')
    result = load("users", path, options)
    assert table_of(result).to_pylist() == [{"user_id": "1", "text": None}, {"user_id": "2", "text": "x"}]
    assert result.counts == {"missing_id": 1}
    with pytest.raises(DataError, match="names 'bio', which no row has"):
        load("users", write(tmp_path / "u.jsonl", '{"user_id": 1}\n'), options)


def test_items_need_something_to_show(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match="none of the columns title, text, image, audio; found: item_id, name"
    ) as caught:
        load("items", write(tmp_path / "i.csv", "item_id,name\n1,A\n"))
    assert "data.columns: {items: {title: NAME" in str(caught.value)
    result = load("items", write(tmp_path / "i.jsonl", '{"item_id": 1}\n{"item_id": 2, "text": "t"}\n'))
    assert (result.n_rows, result.counts) == (1, {"nothing_to_show": 1})


def test_nested_columns_are_left_out_with_a_note_and_refused_where_needed(tmp_path: Path) -> None:
    path = write(tmp_path / "i.jsonl", '{"item_id": 1, "title": "A", "more": {"x": 1}}\n')
    result = load("items", path)
    assert result.schema.names == ["item_id", "title"]
    why = f"it holds nested values ({path}, line 1); data.columns can map what is inside, e.g. more.x"
    assert result.notes == (f"items: column more is left out: {why}",)
    with pytest.raises(DataError, match="column title cannot be used") as caught:
        load("items", write(path, '{"item_id": 1, "title": {"en": "A", "de": "B", "all": [{}]}}\n'))
    assert "{items: {title: title.en}}; inside nested columns: title.en, title.de" in str(caught.value)


def test_batches_can_be_read_twice_until_deleted(tmp_path: Path) -> None:
    result = load("users", write(tmp_path / "u.csv", "user_id\na\nb\n"))
    assert table_of(result) == table_of(result)
    assert table_of(result).schema == result.schema
    assert list((tmp_path / ".scratch").iterdir())
    result.delete()
    assert not list((tmp_path / ".scratch").iterdir())


_ID = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(rows=st.lists(st.tuples(_ID, _ID), max_size=15))
def test_rows_are_conserved_and_first_of_an_id_stays(tmp_path: Path, rows: list[tuple[str, str]]) -> None:
    path = write(tmp_path / "i.jsonl", "".join(json.dumps({"item_id": a, "title": b}) + "\n" for a, b in rows))
    expected: dict[str, str] = {}
    for item, title in rows:
        if item.strip() and title:
            expected.setdefault(item, title)
    if not expected:
        with pytest.raises(DataError):
            load("items", path)
        return
    result = load("items", path, DataSettings(max_bad_share=1))
    found = {row["item_id"]: row["title"] for row in table_of(result).to_pylist()}
    assert list(found.items()) == list(expected.items())
    assert result.n_rows + result.n_bad == len(rows)
    assert sum(result.counts.values()) == result.n_bad


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ({"encoding": "utf-99"}, "unknown encoding"),
        ({"delimiter": "::"}, "one ASCII character"),
        ({"rating_min": 5, "rating_max": 1}, "rating_min must be below"),
        ({"columns": {"user": {}}}, "did you mean 'users'"),
        ({"max_bad_rows": -1}, "max_bad_rows"),
        ({"max_bad_share": 5}, "max_bad_share"),
        ({"decimal": ";"}, "decimal"),
    ],
)
def test_settings_are_checked(raw: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        validate(DataSettings, raw)
    assert DataSettings(delimiter="tab").delimiter == "\t"
