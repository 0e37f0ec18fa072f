"""Files that arrive, are mended, replaced or lost while the table that names them stays the same."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from click.testing import Result
from media_shop import Shop, picture, sound

from recpipe.stages.pipeline import cached_files
from recpipe.store.arrow import vector_matrix
from recpipe.store.manifest import Manifest, read_manifest

Run = Callable[..., Result]

EMBEDDINGS = Path("work/item_embeddings.parquet")


def made() -> Manifest:
    manifest = read_manifest(EMBEDDINGS)
    assert manifest is not None
    return manifest


def pictures() -> tuple[np.ndarray, list[bool]]:
    matrix, present = vector_matrix(pq.read_table(EMBEDDINGS).column("embedding_image"))
    return matrix, present.tolist()


def arrive(shop: Shop) -> None:
    picture(shop.media / "late.png", 9)


def mend(shop: Shop) -> None:
    picture(shop.media / "broken.png", 8)


def replace(shop: Shop) -> None:
    picture(shop.media / "1.png", 7)


def lose(shop: Shop) -> None:
    (shop.media / "1.png").unlink()


def status(shop: Shop, run_cli: Run) -> str:
    (shop.folder / "interactions.csv").write_text("user_id,item_id,timestamp\nu,i1,5\n")
    return run_cli("status", "-c", shop.config, "--set", "data.interactions=interactions.csv").stdout


CHANGES = {"arrive": (arrive, 2), "mend": (mend, 3), "replace": (replace, 1), "lose": (lose, 1)}


@pytest.fixture
def some_bad(shop: Shop, run_cli: Run) -> Shop:
    """Embedded once: two good pictures, one that is not there yet, one that is broken."""
    (shop.media / "broken.png").write_text("no picture")
    names = ["0.png", "1.png", "late.png", "broken.png"]
    shop.items(*((f"i{n}", f"title {n}", name, f"{n}.wav") for n, name in enumerate(names)))
    shop.config.write_text(shop.config.read_text() + "\nmedia: {max_bad_share: 0.9}\n")
    found = run_cli("embed-items", "-c", shop.config)
    assert "the next run sees what was mended" in found.stderr
    assert pictures()[1] == [True, True, False, False]
    assert "up to date" in run_cli("embed-items", "-c", shop.config).stderr
    return shop


@pytest.mark.parametrize("change", CHANGES)
def test_what_happened_to_a_file_is_seen(some_bad: Shop, run_cli: Run, change: str) -> None:
    before, had = pictures()
    first = made()
    happen, row = CHANGES[change]
    happen(some_bad)
    assert "media_files changed" in status(some_bad, run_cli)
    run_cli("embed-items", "-c", some_bad.config)
    after, has = pictures()
    assert made().fingerprint != first.fingerprint
    assert has[row] == (change != "lose") and [has[i] for i in range(4) if i != row] == [
        had[i] for i in range(4) if i != row
    ]
    assert not np.allclose(after[row], before[row])
    others = [other for other in range(4) if other != row]
    assert np.array_equal(after[others], before[others])
    assert "up to date" in run_cli("embed-items", "-c", some_bad.config).stderr


def test_a_file_of_another_time_alone_changes_nothing(some_bad: Shop, run_cli: Run) -> None:
    first = made()
    os.utime(some_bad.media / "0.png", (1, 1))
    shutil.copy(some_bad.media / "1.png", some_bad.media / "copy.png")
    (some_bad.media / "copy.png").replace(some_bad.media / "1.png")
    assert "up to date" in run_cli("embed-items", "-c", some_bad.config).stderr
    assert made() == first


def test_files_that_changed_places_are_seen(some_bad: Shop, run_cli: Run) -> None:
    before = pictures()[0]
    for old, new in (("0.png", "x.png"), ("1.png", "0.png"), ("x.png", "1.png")):
        (some_bad.media / old).rename(some_bad.media / new)
    run_cli("embed-items", "-c", some_bad.config)
    assert np.array_equal(pictures()[0][[1, 0]], before[[0, 1]])


def test_an_older_change_stays_part_of_the_fingerprint(some_bad: Shop, run_cli: Run) -> None:
    seen = [made().fingerprint]
    for number in (31, 32):
        picture(some_bad.media / "1.png", number)
        run_cli("embed-items", "-c", some_bad.config)
        seen.append(made().fingerprint)
    assert len(set(seen)) == 3
    # the table and a file together
    picture(some_bad.media / "1.png", 33)
    some_bad.items(("i1", "x", "1.png", "0.wav"))
    run_cli("embed-items", "-c", some_bad.config)
    assert "up to date" in run_cli("embed-items", "-c", some_bad.config).stderr
    picture(some_bad.media / "1.png", 34)
    assert "media_files changed" in status(some_bad, run_cli)


def test_a_damaged_table_is_made_again(some_bad: Shop, run_cli: Run) -> None:
    picture(some_bad.media / "1.png", 35)
    Path("work/tables/items.parquet").write_bytes(b"PAR1 no more")
    run_cli("embed-items", "-c", some_bad.config)
    assert "media_files changed" in status(some_bad, run_cli)  # it could not be told before the table was there


def test_sounds_as_well_and_users_files(shop: Shop, run_cli: Run) -> None:
    (shop.folder / "users.csv").write_text("user_id,image\nu1,0.png\nu2,1.png\n")
    tables = ("--users", "users.csv", "--items", "items.csv", "--set", "users.history=none")
    run_cli("embed-items", "-c", shop.config)
    run_cli("embed-users", "-c", shop.config, *tables)
    sound(shop.media / "3.wav", 17)
    assert "up to date" in run_cli("embed-users", "-c", shop.config, *tables).stderr
    assert "up to date" not in run_cli("embed-items", "-c", shop.config).stderr
    picture(shop.media / "1.png", 17)
    assert "up to date" not in run_cli("embed-users", "-c", shop.config, *tables).stderr
    assert "up to date" in run_cli("embed-users", "-c", shop.config, *tables).stderr


def test_a_file_that_changes_while_it_is_read_is_read_again(
    some_bad: Shop, run_cli: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the pass that encodes and the one that takes the vectors, as between a kill and the resumed run."""
    real = cached_files.CachedFiles.read
    calls: list[int] = []

    def read(self: Any, paths: Any, **how: Any) -> Any:
        calls.append(1)
        if self.column == "image" and len(calls) == 3:  # image and audio were encoded
            mend(some_bad)
        return real(self, paths, **how)

    picture(some_bad.media / "1.png", 55)
    with monkeypatch.context() as patched:
        patched.setattr(cached_files.CachedFiles, "read", read)
        found = run_cli("embed-items", "-c", some_bad.config)
    assert "files in column image changed while they were read" in found.stderr
    assert "up to date" not in run_cli("embed-items", "-c", some_bad.config).stderr
    assert pictures()[1] == [True, True, False, True]
    assert [line["item_id"] for line in pq.read_table("work/item_media_errors.parquet").to_pylist()] == ["i2"]
    assert "up to date" in run_cli("embed-items", "-c", some_bad.config).stderr
