"""A stored int8 model and what is known of it, read without torch or OpenVINO."""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from recpipe.errors import GateError, UnavailableError

MODEL_FILE, WEIGHTS_FILE, FIGURES_FILE = "model.xml", "model.bin", "calibration.json"
NEIGHBOURS = 10


@dataclass(frozen=True, slots=True)
class Calibration:
    """A calibrated model and how far its vectors are from float32.

    Attributes:
        digest: Of the model's files.
        calibration_texts: Texts the ranges come from.
        held_out_texts: Other texts, on which the rest was measured.
        max_deviation: Largest 1 - cosine of a text's two vectors.
        mean_deviation: The mean of it.
        overlap: Mean share of a text's 10 nearest neighbours that stay among the 10 nearest.
    """

    digest: str
    calibration_texts: int
    held_out_texts: int
    max_deviation: float
    mean_deviation: float
    overlap: float

    @property
    def manifest(self) -> dict[str, Any]:
        """The fields as plain JSON values."""
        return asdict(self)


def note(found: Calibration, folder: Path) -> None:
    """Write what is known of a model beside it."""
    (folder / FIGURES_FILE).write_text(json.dumps(found.manifest, indent=1) + "\n", encoding="utf-8")


def noted(folder: Path) -> Calibration | None:
    """Return what is known of a stored model, its files not looked at; None where there is none.

    Raises:
        UnavailableError: The file is damaged.
    """
    path = folder / FIGURES_FILE
    if not path.is_file():
        return None
    try:
        return Calibration(**json.loads(path.read_text(encoding="utf-8")))
    except PermissionError as error:
        raise UnavailableError(
            "the calibrated int8 model may not be read",
            where=str(path),
            next_step="let everybody who shares it read it",
        ) from error
    except (ValueError, TypeError) as error:
        raise _damaged(folder) from error


def read(folder: Path) -> Calibration | None:
    """Return what is known of a stored model; None where there is none.

    Raises:
        UnavailableError: Its files are damaged.
    """
    found = noted(folder)
    if found is None:
        return None
    try:
        intact = found.digest == files_digest(folder)
    except FileNotFoundError:
        intact = False
    if not intact:
        raise _damaged(folder)
    with suppress(OSError):  # somebody else's, in a shared cache
        os.utime(folder / FIGURES_FILE)  # pruning removes what was not used for long
    return found


def files_digest(folder: Path) -> str:
    """Return the digest of a model's files."""
    digest = hashlib.blake2b(digest_size=10)
    for name in (MODEL_FILE, WEIGHTS_FILE):
        digest.update((folder / name).read_bytes())
    return digest.hexdigest()


def require_overlap(found: Calibration, min_overlap: float, folder: Path) -> None:
    """Refuse a model that changes too many neighbours.

    Raises:
        GateError: Its overlap is below `min_overlap`.
    """
    if found.overlap < min_overlap:
        raise GateError(
            f"int8 changes too much: of a text's {NEIGHBOURS} nearest neighbours {found.overlap:.3f} stay "
            f"(encoder.min_overlap {min_overlap}); cosine deviation at most {found.max_deviation:.4f}, "
            f"mean {found.mean_deviation:.4f}, on {found.held_out_texts} texts it was not calibrated on",
            where=f"encoder.precision: int8, model {folder}",
            next_step="--set encoder.precision=float32, or a lower encoder.min_overlap; "
            "where the items have changed much, remove the model's folder: it is calibrated anew",
        )


def _damaged(folder: Path) -> UnavailableError:
    return UnavailableError(
        "the calibrated model is damaged",
        where=str(folder),
        next_step="remove the folder, then run: recpipe embed-items --force",
    )
