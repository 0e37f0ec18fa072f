"""Fixtures for every test: a tiny encoder, a small world of tables on disk, and the command line."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import yaml
from click.testing import CliRunner, Result
from hypothesis import settings
from media_shop import Shop, picture, sound

# before anything imports the hub's client: no test may reach for the network
os.environ["HF_HUB_OFFLINE"] = "1"

# examples are small; how long one takes says more about the machine than about the code
settings.register_profile("recpipe", deadline=None)
settings.load_profile("recpipe")

GENRES = ("Space", "Love", "War", "Comedy", "Robot")
_WORDS = ("the", "a", "of", "and", "space", "love", "war", "story", "robot", "comedy", "night", "city")
_DAY = 86_400
_START = 1_577_836_800  # 2020-01-01 00:00 UTC


@dataclass(frozen=True)
class World:
    """Small source tables on disk and a configuration that names them.

    Attributes:
        folder: Where all of it is; `config` names the tables by absolute paths.
        config: YAML file; its workdir is `work` below the current directory.
    """

    folder: Path
    users: Path
    items: Path
    interactions: Path
    config: Path


@pytest.fixture(scope="session")
def tiny_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a BERT of a few kilobytes and random weights."""
    from tiny_encoder import build_tiny_bert

    return build_tiny_bert(tmp_path_factory.mktemp("encoder") / "tiny-bert")


@pytest.fixture(scope="session")
def tiny_media_model(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return a function that gives the folder of a tiny model of pictures or sounds: `tiny_media_model("clip")`."""
    from tiny_media_models import build

    folder = tmp_path_factory.mktemp("media_models")
    return lambda kind: folder / kind if (folder / kind).is_dir() else build(kind, folder / kind)


@pytest.fixture
def shop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_encoder: Path, tiny_media_model: Callable[[str], Path]
) -> Shop:
    monkeypatch.chdir(tmp_path)
    made = Shop(tmp_path, tmp_path / "media", tmp_path / "config.yaml")
    made.media.mkdir()
    for number in range(4):
        picture(made.media / f"{number}.png", number)
        sound(made.media / f"{number}.wav", number)
    made.items(*((f"i{n}", f"title {n}", f"{n}.png", f"{n}.wav") for n in range(4)))
    configuration = {
        "data": {"items": "items.csv", "media_root": "media"},
        "device": "cpu",
        "encoder": {"model_name": str(tiny_encoder)},
        "image_encoder": {"model_name": str(tiny_media_model("clip"))},
        "audio_encoder": {"model_name": str(tiny_media_model("whisper"))},
    }
    made.config.write_text(yaml.safe_dump(configuration), encoding="utf-8")
    return made


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory, tiny_encoder: Path) -> World:
    """40 users, 60 items and about 600 interactions as CSV; some users and items have none.

    Read only: a test that changes a table copies it first (`shutil.copytree(world.folder, ...)`).
    """
    folder = tmp_path_factory.mktemp("world")
    generator = np.random.Generator(np.random.PCG64(20_200_101))
    tables = World(
        folder, folder / "users.csv", folder / "items.csv", folder / "interactions.csv", folder / "config.yaml"
    )

    def sentence(n_words: int) -> str:
        return " ".join(generator.choice(_WORDS, n_words))

    # two users wrote nothing, the last two took nothing, and the very last did neither
    texts = {f"u{user:02d}": "" if user in (5, 39) else sentence(6) for user in range(40)}
    _write_csv(tables.users, ("user_id", "text"), texts.items())
    item_genre = generator.integers(len(GENRES), size=60)
    _write_csv(
        tables.items,
        ("item_id", "title", "text", "genres"),
        (
            (f"i{item:02d}", f"{GENRES[genre]} {item}", sentence(8), f"{GENRES[genre]}|{GENRES[(genre + 1) % 5]}")
            for item, genre in enumerate(item_genre)
        ),
    )
    _write_csv(tables.interactions, ("user_id", "item_id", "rating", "timestamp"), _interactions(generator, item_genre))
    configuration = {
        "data": {name: str(getattr(tables, name)) for name in ("users", "items", "interactions")}
        | {"list_columns": {"items": {"genres": "|"}}},
        "device": "cpu",
        "encoder": {"model_name": str(tiny_encoder)},
        "cluster": {"n_clusters": 3, "pca_dim": 4, "n_init": 2},
        "train": {"model": "content"},
        "score": {"top_n": 5},
    }
    tables.config.write_text(yaml.safe_dump(configuration, sort_keys=False), encoding="utf-8")
    return tables


def _interactions(generator: np.random.Generator, item_genre: np.ndarray) -> Iterable[tuple[str, str, float, int]]:
    """Every user prefers one genre; items 57 to 59 are taken by nobody."""
    for user in range(38):
        likes = generator.integers(len(GENRES))
        weights = np.where(item_genre[:57] == likes, 6.0, 1.0)
        taken = generator.choice(57, size=16, replace=False, p=weights / weights.sum())
        for item in taken:
            rating = 4.0 + generator.integers(2) if item_genre[item] == likes else 1.0 + generator.integers(4)
            yield f"u{user:02d}", f"i{item:02d}", float(rating), int(_START + generator.integers(365 * _DAY))


def _write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)


@pytest.fixture
def run_cli() -> Callable[..., Result]:
    """Return a function that runs the command line: `run_cli("run", "-c", world.config).exit_code`.

    `expect` asserts the exit code, 0 by default, and shows the output where it differs; None
    asserts nothing. Use `monkeypatch.chdir(tmp_path)` first: the work directory is relative.
    """
    from recpipe.cli.app import main

    def run(*words: object, expect: int | None = 0) -> Result:
        result = CliRunner().invoke(main, [str(word) for word in words])
        if expect is not None:
            assert result.exit_code == expect, f"exit code {result.exit_code}\n{result.stdout}\n{result.stderr}"
        return result

    return run
