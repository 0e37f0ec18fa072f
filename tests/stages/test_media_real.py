"""Real photographs and recordings through the stage, with damaged files among them."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile
from click.testing import Result
from PIL import Image

from recpipe.store.arrow import vector_matrix
from recpipe.store.manifest import read_manifest

Models = Callable[[str], Path]

# beside the checkout, or higher up where that is itself a copy
DATA = next(
    (folder / "shared" / "data" for folder in Path(__file__).parents if (folder / "shared" / "data").is_dir()),
    Path("none"),
)


def copied(name: str, folder: Path, sort: str) -> tuple[Path, list[str]]:
    """Copy a data set and put three bad files among its own; return its table and the ids of those."""
    source = DATA / name
    if not source.is_dir():
        pytest.skip(f"no {name} beside the checkout")
    target = folder / name
    shutil.copytree(source, target)
    for path in (target, *target.rglob("*")):  # the originals may be read-only
        path.chmod(0o755 if path.is_dir() else 0o644)
    with (target / "items.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    good = target / rows[0][sort]
    suffix = good.suffix
    (target / f"corrupt{suffix}").write_bytes(bytes(reversed(good.read_bytes())))
    (target / f"empty{suffix}").touch()
    if sort == "image":
        Image.new("1", (20_000, 20_000)).save(target / f"huge{suffix}", "PNG")
    else:
        soundfile.write(target / f"huge{suffix}", np.zeros(3601 * 8000), 8000, format="FLAC")
    bad = ["corrupt", "empty", "huge"]
    for place, name_ in enumerate(bad):
        rows.insert(50 * place, {**rows[0], "item_id": name_, sort: f"{name_}{suffix}"})
    with (target / "items.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return target / "items.csv", bad


@pytest.mark.parametrize(
    ("name", "sort", "kind"),
    [
        ("clothing-images", "image", "clip"),
        ("clothing-images", "image", "dinov2"),
        ("spoken-digits", "audio", "wav2vec2_group"),
        ("spoken-digits", "audio", "whisper"),
        ("spoken-digits", "audio", "clap"),
    ],
)
def test_real_files_with_bad_ones_among_them(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    run_cli: Callable[..., Result],
    tiny_encoder: Path,
    tiny_media_model: Models,
    name: str,
    sort: str,
    kind: str,
) -> None:
    table, bad = copied(name, tmp_path, sort)
    monkeypatch.chdir(tmp_path)
    values = {
        "data.items": table,
        "data.media_root": table.parent,
        "device": "cpu",
        "encoder.model_name": tiny_encoder,
        f"{sort}_encoder.model_name": tiny_media_model(kind),
    }
    sets = [word for key, value in values.items() for word in ("--set", f"{key}={value}")]
    run_cli("embed-items", *sets)
    found = pq.read_table("work/item_embeddings.parquet")
    ids = found.column("item_id").to_pylist()
    matrix, present = vector_matrix(found.column(f"embedding_{sort}"))
    assert [entity for entity, there in zip(ids, present, strict=True) if not there] == bad
    assert np.allclose(np.linalg.norm(matrix[present], axis=1), 1, atol=1e-5)
    assert len(np.unique(matrix[present].round(5), axis=0)) == present.sum()
    listed = {line["item_id"]: line["code"] for line in pq.read_table("work/item_media_errors.parquet").to_pylist()}
    assert listed == {"corrupt": "unsupported", "empty": "empty", "huge": "too_large"}
    manifest = read_manifest(Path("work/item_embeddings.parquet"))
    assert manifest is not None
    assert manifest.details["media"][sort]["named"] == len(ids)
    run_cli("embed-items", *sets, "--set", "media.max_bad_share=0.01", "--force", expect=3)
