"""A fitted model as a folder: weights.safetensors, model.json and ids in Parquet. Nothing is pickled.

    model.json            format, model, settings, values
    weights.safetensors   named arrays
    item_ids.parquet      the item each row of the item weights belongs to; user_ids.parquet likewise

Where the folder lives, and that it appears whole, is the business of whoever asks for it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from recpipe.errors import DataError, MissingInputError
from recpipe.models.base import JsonValue, Model, ModelState
from recpipe.models.settings import ModelSettings
from recpipe.schemas import ITEM_ID, USER_ID, Column

FORMAT = 1
HEADER_FILE = "model.json"
WEIGHTS_FILE = "weights.safetensors"
ITEM_IDS_FILE = "item_ids.parquet"
USER_IDS_FILE = "user_ids.parquet"

_RETRAIN = "run: recpipe train --force"


@dataclass(frozen=True, slots=True)
class Header:
    """What model.json says."""

    model: str
    settings: Mapping[str, JsonValue]
    values: Mapping[str, JsonValue]


def write_model(folder: Path, *, model: str, settings: ModelSettings, state: ModelState) -> None:
    """Write a fitted model; equal models give equal bytes.

    model.json comes last, so that a folder without it is no model.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / HEADER_FILE).unlink(missing_ok=True)
    weights = {name: np.ascontiguousarray(array) for name, array in sorted(state.weights.items())}
    save_file(weights, folder / WEIGHTS_FILE)
    _write_ids(folder / ITEM_IDS_FILE, ITEM_ID, state.item_ids)
    _write_ids(folder / USER_IDS_FILE, USER_ID, state.user_ids)
    header = {
        "format": FORMAT,
        "model": model,
        "settings": settings.model_dump(mode="json"),
        "values": dict(state.values),
    }
    text = json.dumps(header, indent=2, allow_nan=False, ensure_ascii=False)
    (folder / HEADER_FILE).write_text(text + "\n", encoding="utf-8")


def read_header(folder: Path) -> Header:
    """Read model.json.

    Raises:
        MissingInputError: There is none.
        DataError: It is damaged or of another format.
    """
    path = folder / HEADER_FILE
    try:
        raw: Any = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise MissingInputError("there is no fitted model", where=str(folder), next_step="run: recpipe train") from None
    except ValueError as error:
        raise DataError(f"{HEADER_FILE} is damaged: {error}", where=str(path), next_step=_RETRAIN) from error
    found = raw.get("format") if isinstance(raw, dict) else None
    if found != FORMAT:
        raise DataError(
            f"the model's format is {found!r}, this version reads {FORMAT}", where=str(path), next_step=_RETRAIN
        )
    try:
        return Header(model=str(raw["model"]), settings=dict(raw["settings"]), values=dict(raw["values"]))
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{HEADER_FILE} is damaged: {error!r}", where=str(path), next_step=_RETRAIN) from error


def restore_model(model: Model, folder: Path) -> None:
    """Give `model` the state kept in `folder`.

    Raises:
        MissingInputError: There is no model in the folder.
        DataError: It is another model, of another format, or damaged.
    """
    header = read_header(folder)
    if header.model != model.settings.model:
        raise DataError(
            f"the folder holds the model '{header.model}', not '{model.settings.model}'",
            where=str(folder),
            next_step="name another folder with --model, or " + _RETRAIN,
        )
    try:
        weights: dict[str, np.ndarray[Any, Any]] = load_file(folder / WEIGHTS_FILE)
        state = ModelState(
            weights=weights,
            values=header.values,
            item_ids=_read_ids(folder / ITEM_IDS_FILE, ITEM_ID),
            user_ids=_read_ids(folder / USER_IDS_FILE, USER_ID),
        )
        model.restore(state)
    except (SafetensorError, pa.ArrowInvalid, OSError, KeyError) as error:
        raise DataError(f"the model is damaged: {error!r}", where=str(folder), next_step=_RETRAIN) from error


def _write_ids(path: Path, column: Column, ids: pa.StringArray | None) -> None:
    if ids is None:
        path.unlink(missing_ok=True)
    else:
        pq.write_table(pa.table({column.name: ids.cast(pa.string())}), path)


def _read_ids(path: Path, column: Column) -> pa.StringArray | None:
    if not path.exists():
        return None
    return pq.read_table(path, columns=[column.name]).column(0).combine_chunks()
