"""Values inside JSON objects and Parquet structs, mapped by dotted names."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recpipe.errors import DataError
from recpipe.ingest import readers
from recpipe.ingest.entities import canonical_items
from recpipe.ingest.settings import DataSettings
from recpipe.ingest.sources import find_sources
from recpipe.ingest.tables import CanonicalTable

ROWS = [
    {"id": {"ean": "007"}, "info": {"name": "Lamp", "beschreibung": "Warm", "size": {"cm": 30}}, "tags": ["a"]},
    {"id": {"ean": "008"}, "info": {"name": "Desk", "beschreibung": None, "size": None}, "tags": None},
    {"id": {"ean": "009"}, "info": {"name": "Chair", "beschreibung": "Oak", "size": {"cm": 45}}, "tags": ["b", "c"]},
]
COLUMNS = {"item_id": "id.ean", "title": "info.name", "text": ["info.beschreibung"], "height": "info.size.cm"}


def load(path: Path, columns: Mapping[str, object]) -> CanonicalTable:
    return canonical_items(
        find_sources(path, table="items"),
        DataSettings.model_validate({"columns": {"items": columns}}),
        scratch=path.parent / ".scratch",
        quarantine=path.parent / "bad.parquet",
    )


def written(folder: Path, suffix: str, rows: list[dict[str, object]] = ROWS) -> Path:
    path = folder / f"items{suffix}"
    if suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_dotted_names_reach_inside(tmp_path: Path, suffix: str) -> None:
    result = load(written(tmp_path, suffix), COLUMNS)
    assert pa.concat_tables(result.batches()).to_pylist() == [
        {"item_id": "007", "title": "Lamp", "text": "Warm", "height": 30, "tags": ["a"]},
        {"item_id": "008", "title": "Desk", "text": None, "height": None, "tags": None},
        {"item_id": "009", "title": "Chair", "text": "Oak", "height": 45, "tags": ["b", "c"]},
    ]
    # what is used is not reported as left out
    assert result.notes == ()


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_several_are_joined_and_add_no_attributes(tmp_path: Path, suffix: str) -> None:
    columns = {"item_id": "id.ean", "text": ["info.name", "info.beschreibung"]}
    result = load(written(tmp_path, suffix), columns)
    assert result.schema.names == ["item_id", "text", "tags"]
    assert pa.concat_tables(result.batches()).column("text").to_pylist() == ["Lamp. Warm", "Desk", "Chair. Oak"]


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_a_column_with_dots_in_its_name_comes_first(tmp_path: Path, suffix: str) -> None:
    rows: list[dict[str, object]] = [{"item_id": "1", "info.name": "flat", "info": {"name": "deep"}}]
    result = load(written(tmp_path, suffix, rows), {"title": "info.name"})
    assert pa.concat_tables(result.batches()).column("title").to_pylist() == ["flat"]


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_a_wrong_name_lists_the_names_there_are(tmp_path: Path, suffix: str) -> None:
    with pytest.raises(DataError) as caught:
        load(written(tmp_path, suffix), COLUMNS | {"text": ["info.beschreibun"]})
    message = str(caught.value)
    assert "'info.beschreibun'" in message
    assert "did you mean 'info.beschreibung'?" in message
    for name in ("id.ean", "info.name", "info.beschreibung", "info.size.cm"):
        assert name in message


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_unmapped_ids_inside_are_named(tmp_path: Path, suffix: str) -> None:
    with pytest.raises(DataError, match=r"no column item_id; found: tags, id.ean, info.name"):
        load(written(tmp_path, suffix), {"title": "info.name"})


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_what_is_nested_itself_is_refused(tmp_path: Path, suffix: str) -> None:
    with pytest.raises(DataError, match=r"info.size cannot be used"):
        load(written(tmp_path, suffix), COLUMNS | {"height": "info.size"})


def test_a_key_may_come_late_or_stand_beside_plain_values(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readers, "_CHUNK_RECORDS", 2)
    rows: list[dict[str, object]] = [
        {"item_id": "1", "title": "a"},
        {"item_id": "2", "title": "b", "info": "plain"},
        {"item_id": "3", "title": "c", "info": {"text": "deep"}},
        {"item_id": "4", "title": "d", "info": "plain"},
    ]
    result = load(written(tmp_path, ".jsonl", rows), {"text": "info.text"})
    found = pa.concat_tables(result.batches()).column("text").to_pylist()
    assert found == [None, None, "deep", None]


def test_items_without_a_description_name_what_is_inside(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none of the columns .*found: tags, id.ean, info.name"):
        load(written(tmp_path, ".parquet"), {"item_id": "id.ean"})
