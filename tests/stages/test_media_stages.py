"""Pictures and sounds through embed-items and embed-users, as people run them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile
from click.testing import Result
from media_shop import RATE, Shop, picture, sound, write_csv
from PIL import Image
from tiny_media_models import PICTURE_MODELS, SOUND_MODELS

from recpipe.store.arrow import vector_matrix
from recpipe.store.manifest import read_manifest

Models = Callable[[str], Path]
Run = Callable[..., Result]


def vectors(name: str, path: str = "work/item_embeddings.parquet") -> tuple[np.ndarray, list[bool]]:
    matrix, present = vector_matrix(pq.read_table(path).column(name))
    assert np.allclose(np.linalg.norm(matrix[present], axis=1), 1, atol=1e-5)
    return matrix, present.tolist()


def listed(path: str = "work/item_media_errors.parquet") -> list[dict[str, Any]]:
    return [dict(line) for line in pq.read_table(path).to_pylist()]


def codes(path: str = "work/item_media_errors.parquet") -> dict[str, str]:
    return {next(iter(line.values())): line["code"] for line in listed(path)}


def details(path: str = "work/item_embeddings.parquet") -> dict[str, Any]:
    manifest = read_manifest(Path(path))
    assert manifest is not None
    return dict(manifest.details["media"])


@pytest.mark.parametrize("kind", [*PICTURE_MODELS, *SOUND_MODELS])
def test_every_model_end_to_end(shop: Shop, run_cli: Run, tiny_media_model: Models, kind: str) -> None:
    block = "image" if kind in PICTURE_MODELS else "audio"
    other = "audio" if block == "image" else "image"
    chosen = [f"{block}_encoder.model_name={tiny_media_model(kind)}", f"{other}_encoder.model_name=null"]
    sets = [word for override in chosen for word in ("--set", override)]
    run_cli("embed-items", "-c", shop.config, *sets)
    table = pq.read_table("work/item_embeddings.parquet")
    assert table.column_names == ["item_id", "embedding", f"embedding_{block}"]
    matrix, present = vectors(f"embedding_{block}")
    assert present == [True] * 4
    assert np.linalg.norm(matrix[:, None] - matrix, axis=2)[np.triu_indices(4, 1)].min() > 1e-3
    assert vectors("embedding")[1] == [True] * 4
    assert listed() == []
    assert "up to date" in run_cli("embed-items", "-c", shop.config, *sets).stderr


def failing_files(shop: Shop) -> dict[str, str]:
    """Make files that fail in every way a picture or sound can; return their codes by name."""
    media = shop.media
    good = (media / "0.png").read_bytes()
    (media / "cut.png").write_bytes(good[: len(good) // 2])
    (media / "empty.png").touch()
    (media / "text.png").write_text("hello")
    Image.new("1", (9000, 9000)).save(media / "bomb.png")
    shutil.copy(media / "0.png", shop.folder / "secret.png")
    (media / "link.png").symlink_to(shop.folder / "secret.png")
    soundfile.write(media / "silent.wav", np.zeros(RATE), RATE)
    soundfile.write(media / "long.flac", np.zeros(601 * 8000), 8000)
    soundfile.write(media / "none.wav", np.zeros(0), RATE)
    (media / "cut.flac").write_bytes(b"fLaC" + b"\xff" * 60)
    return {
        "cut.png": "unreadable",
        "empty.png": "empty",
        "text.png": "unsupported",
        "bomb.png": "too_large",
        "link.png": "outside",
        "../secret.png": "outside",
        str(shop.folder / "secret.png"): "outside",
        "https://host/a.png": "outside",
        "nowhere.png": "missing",
        "silent.wav": "silent",
        "long.flac": "too_large",
        "none.wav": "empty",
        "cut.flac": "unreadable",
        "0.png": "unsupported",  # a picture where a sound is wanted
    }


def test_files_that_fail_are_counted_and_listed(shop: Shop, run_cli: Run) -> None:
    expected = failing_files(shop)
    names = list(expected)
    sounds = names.index("silent.wav")
    shutil.copy(shop.media / "0.png", shop.media / "photo.jpg")  # another ending than its format
    sound(shop.media / "stereo.ogg", 1, rate=8_000)
    soundfile.write(shop.media / "stereo.ogg", np.tile(soundfile.read(shop.media / "1.wav")[0][:, None], 2), 8_000)
    good = [
        ("good", "x", "photo.jpg", "stereo.ogg"),
        ("bare", "x", "", ""),
        ("abs", "x", str(shop.media / "1.png"), ""),
    ]
    shop.items(
        *good,
        *((f"image {name}", "x", name, "") for name in names[:sounds]),
        *((f"audio {name}", "x", "", name) for name in names[sounds:]),
    )
    result = run_cli("embed-items", "-c", shop.config, "--set", "media.max_bad_share=1")
    given = {f"{'image' if place < sounds else 'audio'} {name}": expected[name] for place, name in enumerate(names)}
    assert codes() == given
    assert {line["column"] for line in listed()} == {"image", "audio"}
    assert all(line["message"] for line in listed())
    assert vectors("embedding_image")[1] == [True, False, True] + [False] * len(names)
    assert vectors("embedding_audio")[1] == [True, False, False] + [False] * len(names)
    assert np.abs(vectors("embedding_image")[0][0] - image_of(shop, run_cli, "0.png")).max() < 1e-5
    assert details()["image"] == {
        "named": 11,
        "encoded": 2,
        "cached": 0,
        "failed": {"missing": 1, "outside": 4, "unreadable": 1, "too_large": 1, "unsupported": 1, "empty": 1},
    }
    assert details()["audio"]["failed"] == {
        "unreadable": 1, "too_large": 1, "unsupported": 1, "empty": 1, "silent": 1,
    }  # fmt: skip
    assert "9 of 11 files give no vector" in result.stderr
    assert "outside: 4" in result.stderr


def image_of(shop: Shop, run_cli: Run, name: str) -> np.ndarray:
    """The vector of one picture, from a work directory of its own."""
    write_csv(shop.folder / "one.csv", ("item_id", "title", "image"), ("a", "b", name))
    run_cli("embed-items", "-c", shop.config, "--items", "one.csv", "--workdir", "alone")
    row: np.ndarray = vectors("embedding_image", "alone/item_embeddings.parquet")[0][0]
    return row


def test_too_many_failures_end_the_stage_with_the_list_written(shop: Shop, run_cli: Run) -> None:
    for name in ("1.png", "2.png"):
        (shop.media / name).rename(shop.media / f"away-{name}")
    (shop.media / "3.png").write_text("hello")
    result = run_cli("embed-items", "-c", shop.config, "--set", "media.max_bad_share=0.74", expect=3)
    assert "3 of 4 files in column image give no vector (75.0%; media.max_bad_share is 74.0%)" in result.stderr
    assert "missing: 2, unsupported: 1" in result.stderr
    assert "i1: 'media/1.png' missing" in result.stderr
    assert "i3: 'media/3.png' unsupported" in result.stderr
    assert str(Path("work/item_media_errors.parquet")) in result.stderr
    assert codes() == {"i1": "missing", "i2": "missing", "i3": "unsupported"}
    assert not Path("work/item_embeddings.parquet").exists()
    assert not list(Path("work/.parts").iterdir())
    # the files are mended: nothing of the failed run stands in the way, and nothing is encoded twice
    for name in ("1.png", "2.png"):
        (shop.media / f"away-{name}").rename(shop.media / name)
    picture(shop.media / "3.png", 3)
    run_cli("embed-items", "-c", shop.config, "--set", "media.max_bad_share=0")
    assert listed() == []
    assert details()["image"] == {"named": 4, "encoded": 3, "cached": 1, "failed": {}}
    assert vectors("embedding_image")[1] == [True] * 4


def test_the_share_is_of_the_files_named(shop: Shop, run_cli: Run) -> None:
    # one of two pictures is bad, whatever number of items has none and of sounds is good
    shop.items(
        ("a", "x", "0.png", "0.wav"), ("b", "x", "none.png", "1.wav"), *((f"c{n}", "x", "", "2.wav") for n in range(9))
    )
    run_cli("embed-items", "-c", shop.config, "--set", "media.max_bad_share=0.49", expect=3)
    run_cli("embed-items", "-c", shop.config, "--set", "media.max_bad_share=0.5")


def test_a_file_known_to_the_cache_is_not_decoded(shop: Shop, run_cli: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    run_cli("embed-items", "-c", shop.config)
    before = [vectors(f"embedding_{block}")[0] for block in ("image", "audio")]
    for module, function in (("media", "read_picture"), ("media", "read_windows")):
        monkeypatch.setattr(
            f"recpipe.encoders.{module}.{function}", lambda path, **_: pytest.fail(f"{path} was decoded again")
        )
    monkeypatch.setattr("recpipe.encoders.media.load", lambda *_, **__: pytest.fail("a model was loaded"))
    # another name, another time, another place in the table: the content is the same
    (shop.media / "0.png").rename(shop.media / "renamed.png")
    os.utime(shop.media / "1.wav", (1, 1))
    shop.items(
        ("i3", "x", "3.png", "3.wav"), ("i0", "x", "renamed.png", "0.wav"), ("i1", "x", "1.png", "1.wav"),
        ("twice", "x", "3.png", ""),
    )  # fmt: skip
    run_cli("embed-items", "-c", shop.config)
    assert details()["image"] == {"named": 4, "encoded": 0, "cached": 4, "failed": {}}
    assert np.array_equal(vectors("embedding_image")[0], before[0][[3, 0, 1, 3]])
    assert np.array_equal(vectors("embedding_audio")[0][:3], before[1][[3, 0, 1]])


def test_a_changed_file_is_encoded_again(shop: Shop, run_cli: Run) -> None:
    run_cli("embed-items", "-c", shop.config)
    old = vectors("embedding_image")[0]
    picture(shop.media / "2.png", 77)
    run_cli("embed-items", "-c", shop.config)
    assert details()["image"] == {"named": 4, "encoded": 1, "cached": 3, "failed": {}}
    new = vectors("embedding_image")[0]
    assert np.linalg.norm(new[2] - old[2]) > 1e-3
    assert np.array_equal(new[[0, 1, 3]], old[[0, 1, 3]])


def test_an_unchanged_file_is_not_read_at_all(shop: Shop, run_cli: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    run_cli("embed-items", "-c", shop.config)
    changed = shop.media / "2.wav"
    shutil.copy(shop.media / "3.wav", changed)
    real, read = Path.open, []
    monkeypatch.setattr(Path, "open", lambda path, *how, **more: (read.append(path.name), real(path, *how, **more))[1])
    run_cli("embed-items", "-c", shop.config)
    assert [name for name in read if name.endswith((".png", ".wav"))] == ["2.wav"]
    assert np.array_equal(*vectors("embedding_audio")[0][[2, 3]])


def test_equal_files_are_encoded_once(shop: Shop, run_cli: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from recpipe.encoders import media

    asked: list[str] = []
    real = media.read_picture
    monkeypatch.setattr(media, "read_picture", lambda path, **how: (asked.append(path.name), real(path, **how))[1])
    shutil.copy(shop.media / "0.png", shop.media / "copy.png")
    (shop.media / "bad.png").write_text("x")
    shutil.copy(shop.media / "bad.png", shop.media / "bad2.png")
    names = ["1.png", "0.png", "copy.png", "bad.png", "0.png", "bad2.png", "2.png"]
    shop.items(*((str(number), "x", name, "") for number, name in enumerate(names)))
    run_cli("embed-items", "-c", shop.config, "--set", "media.max_bad_share=1")
    assert asked == ["1.png", "0.png", "bad.png", "2.png"]
    assert codes() == {"3": "unsupported", "5": "unsupported"}
    matrix, present = vectors("embedding_image")
    assert present == [True, True, True, False, True, False, True]
    assert np.array_equal(matrix[1], matrix[2]) and np.array_equal(matrix[1], matrix[4])
    assert not np.allclose(matrix[0], matrix[1])


def test_the_size_of_a_batch_changes_no_vector(shop: Shop, run_cli: Run) -> None:
    run_cli("embed-items", "-c", shop.config)
    before = [vectors(f"embedding_{block}")[0] for block in ("image", "audio")]
    sizes = ("--set", "image_encoder.batch_size=1", "--set", "audio_encoder.batch_size=3")
    assert "up to date" in run_cli("embed-items", "-c", shop.config, *sizes).stderr
    run_cli("embed-items", "-c", shop.config, *sizes, "--workdir", "other")
    for block, matrix in zip(("image", "audio"), before, strict=True):
        found = vectors(f"embedding_{block}", "other/item_embeddings.parquet")[0]
        assert np.abs(found - matrix).max() < 1e-5


def test_a_stricter_limit_holds_for_files_known_to_the_cache(shop: Shop, run_cli: Run) -> None:
    run_cli("embed-items", "-c", shop.config)
    strict = ("--set", "media.max_megapixels=0.001", "--set", "media.max_bad_share=1")
    run_cli("embed-items", "-c", shop.config, *strict)
    assert details()["image"]["failed"] == {"too_large": 4}
    assert details()["audio"] == {"named": 4, "encoded": 0, "cached": 4, "failed": {}}


def test_items_without_text(shop: Shop, run_cli: Run) -> None:
    shop.items(("a", "0.png"), ("b", ""), ("c", "1.png"), header=("item_id", "image"))
    # the second row has nothing at all, so the table does not hold it
    run_cli("embed-items", "-c", shop.config)
    assert pq.read_table("work/item_embeddings.parquet").column("item_id").to_pylist() == ["a", "c"]
    assert vectors("embedding")[1] == [False, False]
    assert vectors("embedding_image")[1] == [True, True]
    # without the encoder of pictures there is nothing to encode
    off = ("--set", "image_encoder.model_name=null", "--set", "audio_encoder.model_name=null")
    result = run_cli("embed-items", "-c", shop.config, *off, expect=2)
    assert "none of the columns to encode" in result.stderr


def test_a_column_that_is_not_there_is_said(shop: Shop, run_cli: Run) -> None:
    shop.items(("a", "x"), header=("item_id", "title"))
    result = run_cli("embed-items", "-c", shop.config)
    assert "items have no column image: nothing for image_encoder to encode" in result.stderr
    assert pq.read_table("work/item_embeddings.parquet").column_names == ["item_id", "embedding"]
    assert listed() == []


def test_without_a_media_root_files_lie_under_the_current_directory(shop: Shop, run_cli: Run) -> None:
    outside = shop.folder.parent / f"{shop.folder.name}-outside.png"
    picture(outside, 5)
    shop.items(("a", "x", "media/0.png", ""), ("b", "x", "config.yaml", ""), ("c", "x", str(outside), ""))
    run_cli("embed-items", "-c", shop.config, "--set", "data.media_root=null", "--set", "media.max_bad_share=1")
    assert codes() == {"b": "unsupported", "c": "outside"}


def test_no_encoder_no_list(shop: Shop, run_cli: Run) -> None:
    off = ("--set", "image_encoder.model_name=null", "--set", "audio_encoder.model_name=null")
    run_cli("embed-items", "-c", shop.config, *off)
    assert pq.read_table("work/item_embeddings.parquet").column_names == ["item_id", "embedding"]
    assert not Path("work/item_media_errors.parquet").exists()


def test_an_unknown_model_is_unavailable(shop: Shop, run_cli: Run, tiny_encoder: Path) -> None:
    result = run_cli("embed-items", "-c", shop.config, "--set", f"image_encoder.model_name={tiny_encoder}", expect=5)
    assert "known types: clip, siglip, vit, dinov2" in result.stderr


@pytest.mark.parametrize("package", ["PIL", "soundfile"])
def test_without_the_extra_the_command_is_named(
    shop: Shop, run_cli: Run, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    import importlib.util

    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == package else real(name, *rest))
    result = run_cli("embed-items", "-c", shop.config, expect=5)
    assert "pip install 'recpipe[media]'" in result.stderr


def with_users(shop: Shop, *rows: tuple[str, ...], header: tuple[str, ...]) -> tuple[str, ...]:
    write_csv(shop.folder / "users.csv", header, *rows)
    write_csv(shop.folder / "interactions.csv", ("user_id", "item_id"), ("u0", "i0"), ("u1", "i1"))
    return ("--users", "users.csv", "--interactions", "interactions.csv")


def test_users_pictures(shop: Shop, run_cli: Run) -> None:
    tables = with_users(
        shop, ("u0", "I am", "0.png"), ("u1", "", "none.png"), ("u2", "words", ""), header=("user_id", "text", "image")
    )
    run_cli("embed-items", "-c", shop.config)
    run_cli("embed-users", "-c", shop.config, *tables, "--set", "media.max_bad_share=0.5")
    path = "work/user_embeddings.parquet"
    names = pq.read_table(path).column_names
    assert names == ["user_id", "profile_embedding", "history_embedding", "embedding", "embedding_image"]
    matrix, present = vectors("embedding_image", path)
    assert present == [True, False, False]
    assert np.array_equal(matrix[0], vectors("embedding_image")[0][0])
    assert codes("work/user_media_errors.parquet") == {"u1": "missing"}
    assert details(path)["image"] == {"named": 2, "encoded": 0, "cached": 1, "failed": {"missing": 1}}
    result = run_cli(
        "embed-users", "-c", shop.config, *tables, "--set", "media.max_bad_share=0.49", "--force", expect=3
    )
    assert "1 of 2 files in column image" in result.stderr


def test_users_with_nothing_but_pictures(shop: Shop, run_cli: Run) -> None:
    tables = with_users(shop, ("u0", "0.png"), ("u1", ""), header=("user_id", "image"))
    run_cli("embed-users", "-c", shop.config, *tables, "--set", "users.history=none")
    path = "work/user_embeddings.parquet"
    assert vectors("embedding", path)[1] == [False, False]
    assert vectors("embedding_image", path)[1] == [True, False]


def test_vectors_of_two_encoders_never_meet(shop: Shop, run_cli: Run, tiny_media_model: Models) -> None:
    tables = with_users(shop, ("u0", "I am"), ("u1", "x"), header=("user_id", "text"))
    run_cli("embed-items", "-c", shop.config)
    other = ("--set", f"image_encoder.model_name={tiny_media_model('vit')}")
    result = run_cli("embed-users", "-c", shop.config, *tables, *other, expect=3)
    assert "their vectors do not compare" in result.stderr
    # texts compare whether or not pictures are encoded this time
    run_cli("embed-users", "-c", shop.config, *tables, "--set", "image_encoder.model_name=null")


@pytest.mark.slow
def test_workers_change_nothing(shop: Shop, run_cli: Run) -> None:
    shop.items(*((f"i{n}", f"title {n % 7}", f"{n % 5}.png", f"{n % 4}.wav") for n in range(600)))
    relaxed = ("--set", "media.max_bad_share=1")
    run_cli("embed-items", "-c", shop.config, *relaxed)
    run_cli("embed-items", "-c", shop.config, *relaxed, "--set", "executor.workers=2", "--workdir", "other")
    for block in ("embedding", "embedding_image", "embedding_audio"):
        one, two = vectors(block), vectors(block, "other/item_embeddings.parquet")
        assert one[1] == two[1]
        assert np.abs(one[0] - two[0]).max() < 1e-5
    assert listed() == listed("other/item_media_errors.parquet")
    assert len(listed()) == 120
