from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from recpipe.errors import DataError, MissingInputError
from recpipe.models.base import FitContext, Histories, Items, Profiles, TrainingData
from recpipe.models.popularity import PopularityModel, PopularitySettings
from recpipe.models.registry import find_model, load_model
from recpipe.models.storage import FORMAT


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    items = Items.bare(pa.array(["001", "1", "電影"]))
    histories = Histories(items=items, offsets=np.array([0, 1]), item_rows=np.array([2], dtype=np.int32))
    profiles = Profiles.bare(pa.array(["u"]))
    model = PopularityModel(PopularitySettings(name="mine"))
    model.fit(TrainingData(items=items, open_blocks=lambda: iter([(profiles, histories)]), n_users=1), FitContext())
    model.save(tmp_path / "model")
    return tmp_path / "model"


def edit(folder: Path, **changes: object) -> None:
    path = folder / "model.json"
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | changes), encoding="utf-8")


def test_ids_stay_text_and_settings_come_back(folder: Path) -> None:
    model = load_model(folder)
    assert model.settings == PopularitySettings(name="mine")
    assert model.state().item_ids.to_pylist() == ["001", "1", "電影"]


def test_no_model_is_a_missing_input(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError) as caught:
        load_model(tmp_path / "nothing")
    assert "recpipe train" in str(caught.value)


def test_half_written_model_is_no_model(folder: Path) -> None:
    (folder / "model.json").unlink()
    with pytest.raises(MissingInputError):
        load_model(folder)


@pytest.mark.parametrize("found", [FORMAT + 1, None, "1"])
def test_another_format_is_a_data_error(folder: Path, found: object) -> None:
    edit(folder, format=found)
    with pytest.raises(DataError, match="format"):
        load_model(folder)


@pytest.mark.parametrize("text", ["{", "[]", "", '{"format": 1}', '{"format": 1, "model": "a", "settings": 3}'])
def test_damaged_header_is_a_data_error(folder: Path, text: str) -> None:
    (folder / "model.json").write_text(text, encoding="utf-8")
    with pytest.raises(DataError):
        load_model(folder)


def test_model_or_setting_of_another_version_is_a_data_error(folder: Path) -> None:
    edit(folder, settings={"model": "popularity", "gone": 1})
    with pytest.raises(DataError, match="another version"):
        load_model(folder)
    edit(folder, model="not_here")
    with pytest.raises(DataError, match="not_here"):
        load_model(folder)


@pytest.mark.parametrize("name", ["weights.safetensors", "item_ids.parquet"])
def test_missing_or_cut_file_is_a_data_error(folder: Path, name: str) -> None:
    whole = (folder / name).read_bytes()
    (folder / name).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match="damaged"):
        load_model(folder)
    (folder / name).unlink()
    with pytest.raises(DataError, match="damaged"):
        load_model(folder)


def test_another_model_is_a_data_error(folder: Path) -> None:
    spec = find_model("content")
    with pytest.raises(DataError, match="'popularity', not 'content'"):
        spec.create(spec.settings()).load(folder)
