"""A shop whose items have pictures and sounds, for tests of stages."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
from PIL import Image

RATE = 16_000


@dataclass(frozen=True)
class Shop:
    """A current directory with items.csv, users.csv, media and config.yaml.

    Attributes:
        media: The media root.
    """

    folder: Path
    media: Path
    config: Path

    def items(self, *rows: tuple[str, ...], header: tuple[str, ...] = ("item_id", "title", "image", "audio")) -> None:
        write_csv(self.folder / "items.csv", header, *rows)


def write_csv(path: Path, header: tuple[str, ...], *rows: tuple[str, ...]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])


def picture(path: Path, number: int) -> None:
    pixels = np.random.Generator(np.random.PCG64(number)).integers(0, 255, (30, 40, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def sound(path: Path, number: int, *, seconds: float = 0.4, rate: int = RATE) -> None:
    samples = 0.3 * np.sin(2 * np.pi * (200 + 100 * number) * np.arange(round(seconds * rate)) / rate)
    soundfile.write(path, samples, rate)
