"""Files of pictures or sounds to vectors of unit length, one file in memory at a time.

A vector depends on its file alone (within 1e-5), not on the others in its batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from recpipe.encoders.arithmetic import SMALLEST_NORM, inference
from recpipe.encoders.audio import read_windows
from recpipe.encoders.images import read_picture
from recpipe.encoders.media_files import BadFileError, Code
from recpipe.encoders.media_models import PictureModel, load_picture_model, load_sound_model
from recpipe.encoders.media_spec import MediaModel, Modality, require_decoder, require_media_precision, section
from recpipe.encoders.resolve import verify_weights
from recpipe.encoders.settings import AudioEncoderSettings, ImageEncoderSettings, MediaSettings, Precision
from recpipe.encoders.sound_models import Samples, SoundModel
from recpipe.errors import UnavailableError

# Batches of windows are made of this many at a time, those of like length together.
_BATCHES_SORTED = 4


@dataclass(frozen=True, slots=True)
class EncodedFiles:
    """Vectors of n files.

    Attributes:
        vectors: (n, dim) float32 of unit length; zero where the file failed.
        failed: What is wrong with the files that gave none, by row.
    """

    vectors: npt.NDArray[np.float32]
    failed: dict[int, BadFileError] = field(default_factory=dict)


class MediaEncoder(Protocol):
    """Encodes files of one kind."""

    @property
    def dim(self) -> int:
        """Width of the vectors."""

    def encode(self, paths: Sequence[Path]) -> EncodedFiles:
        """Encode files that `media_files.locate` has let through.

        Raises:
            UnavailableError: The device ran out of memory.
        """


def load(
    model: MediaModel, settings: ImageEncoderSettings | AudioEncoderSettings, media: MediaSettings, *, device: str
) -> MediaEncoder:
    """Load a model of pictures or sounds.

    Args:
        device: "cpu", "cuda" or "cuda:1".

    Raises:
        UnavailableError: The model cannot be loaded, the device lacks the precision, or the package that
            decodes the files is not installed.
    """
    require_decoder(model.modality)
    require_media_precision(model.modality, settings, device)
    verify_weights(model.folder)
    if isinstance(settings, AudioEncoderSettings):
        return SoundEncoder(load_sound_model(model, device), settings, media, device=device)
    return PictureEncoder(load_picture_model(model, device), settings, media, device=device)


class PictureEncoder:
    """Encodes files of pictures. Make one with `load`."""

    def __init__(
        self, model: PictureModel, settings: ImageEncoderSettings, media: MediaSettings, *, device: str
    ) -> None:
        self._model = model
        self._settings = settings
        self._media = media
        self._device = torch.device(device)

    @cached_property
    def dim(self) -> int:
        """Width of the vectors, from a grey picture: configs name it in a dozen ways."""
        from PIL import Image

        return int(self._forward([self._model.prepare(Image.new("RGB", (64, 64), (128, 128, 128)))]).shape[1])

    def encode(self, paths: Sequence[Path]) -> EncodedFiles:
        """See `MediaEncoder.encode`."""
        failed: dict[int, BadFileError] = {}
        rows: list[int] = []
        vectors: list[Tensor] = []
        waiting: list[Tensor] = []
        for row, path in enumerate(paths):
            try:
                picture = read_picture(path, max_megapixels=self._media.max_megapixels, edge=self._model.edge)
            except BadFileError as error:
                failed[row] = error
                continue
            pixels = self._model.prepare(picture)
            # a folder may leave pictures as large as they are
            if waiting and (len(waiting) == self._settings.batch_size or pixels.shape != waiting[0].shape):
                vectors.append(self._forward(waiting))
                waiting = []
            waiting.append(pixels)
            rows.append(row)
        if waiting:
            vectors.append(self._forward(waiting))
        stacked = torch.cat(vectors) if vectors else torch.zeros((0, self.dim))
        return _finished(stacked, rows, len(paths), failed=failed, modality="image", precision=self._settings.precision)

    def _forward(self, pixels: Sequence[Tensor]) -> Tensor:
        """Return (b, dim) float32 vectors on the CPU."""
        with _arithmetic(self._device, self._settings, "image"):
            return self._model.forward(torch.stack(list(pixels)).to(self._device)).float().cpu()


class SoundEncoder:
    """Encodes files of sounds. Make one with `load`."""

    def __init__(self, model: SoundModel, settings: AudioEncoderSettings, media: MediaSettings, *, device: str) -> None:
        self._model = model
        self._settings = settings
        self._media = media
        self._device = torch.device(device)
        # a model that reads 10 s crops or cuts off what is longer
        self._window_seconds = min(settings.window_seconds, model.max_seconds or settings.window_seconds)

    @cached_property
    def dim(self) -> int:
        """Width of the vectors, from a click: configs name it in a dozen ways."""
        click = np.zeros(self._model.rate, np.float32)
        click[0] = 1.0
        return int(self._forward([click]).shape[1])

    def encode(self, paths: Sequence[Path]) -> EncodedFiles:
        """See `MediaEncoder.encode`; the vector of a long sound is the mean of its windows'."""
        failed: dict[int, BadFileError] = {}
        sums: dict[int, npt.NDArray[np.float64]] = {}
        counts: dict[int, int] = {}
        waiting: list[tuple[int, Samples]] = []
        for row, path in enumerate(paths):
            try:
                windows = read_windows(
                    path,
                    rate=self._model.rate,
                    window_seconds=self._window_seconds,
                    max_seconds=self._media.max_seconds,
                )
            except BadFileError as error:
                failed[row] = error
                continue
            counts[row] = len(windows)
            waiting += [(row, window) for window in windows]
            if len(waiting) >= _BATCHES_SORTED * self._settings.batch_size:
                self._add(waiting, sums)
                waiting = []
        self._add(waiting, sums)
        rows = list(counts)
        means = [sums[row] / counts[row] for row in rows]
        stacked = torch.from_numpy(np.stack(means).astype(np.float32)) if means else torch.zeros((0, self.dim))
        return _finished(stacked, rows, len(paths), failed=failed, modality="audio", precision=self._settings.precision)

    def _add(self, windows: list[tuple[int, Samples]], sums: dict[int, npt.NDArray[np.float64]]) -> None:
        """Encode windows and add their vectors to those of their rows."""
        for batch in self._batches(windows):
            vectors = self._forward([window for _, window in batch]).double().numpy()
            for (row, _), vector in zip(batch, vectors, strict=True):
                sums[row] = sums[row] + vector if row in sums else vector

    def _batches(self, windows: list[tuple[int, Samples]]) -> Iterator[list[tuple[int, Samples]]]:
        batch: list[tuple[int, Samples]] = []
        for entry in sorted(windows, key=lambda entry: -len(entry[1])):
            alike = self._model.mixes_lengths or not batch or len(entry[1]) == len(batch[0][1])
            if batch and (len(batch) == self._settings.batch_size or not alike):
                yield batch
                batch = []
            batch.append(entry)
        if batch:
            yield batch

    def _forward(self, windows: Sequence[Samples]) -> Tensor:
        """Return (b, dim) float32 vectors on the CPU."""
        with _arithmetic(self._device, self._settings, "audio"):
            return self._model.forward(windows, self._device).float().cpu()


@contextmanager
def _arithmetic(
    device: torch.device, settings: ImageEncoderSettings | AudioEncoderSettings, modality: Modality
) -> Iterator[None]:
    try:
        with inference(device, settings.precision):
            yield
    except torch.cuda.OutOfMemoryError as error:
        raise UnavailableError(
            f"device {device} ran out of memory",
            where=section(modality),
            next_step=f"--set {section(modality)}.batch_size={max(1, settings.batch_size // 2)}",
        ) from error


def _finished(
    stacked: Tensor,
    rows: list[int],
    n_files: int,
    *,
    failed: dict[int, BadFileError],
    modality: Modality,
    precision: Precision,
) -> EncodedFiles:
    """Scale raw (k, dim) vectors of some rows to unit length, checked."""
    raw = stacked.numpy()
    assert len(raw) == len(rows), (raw.shape, len(rows))
    norms = np.linalg.norm(raw, axis=1, keepdims=True)  # (k, 1)
    good = np.isfinite(norms[:, 0]) & (norms[:, 0] > SMALLEST_NORM)
    advice = "" if precision == "float32" else f"; try {section(modality)}.precision: float32"
    for place in np.flatnonzero(~good).tolist():
        message = f"the encoder makes no vector of it: NaN, infinite or zero{advice}"
        failed[rows[place]] = BadFileError(Code.NO_VECTOR, message)
    vectors = np.zeros((n_files, raw.shape[1]), np.float32)
    vectors[np.asarray(rows, dtype=np.int64)[good]] = raw[good] / norms[good]
    return EncodedFiles(vectors, failed)
