"""Files of sounds to windows of mono samples at a model's own rate."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from recpipe.encoders.media_files import BadFileError, Code, unreadable

# Outside of these a header is wrong, and a filter between two such rates would fill the memory.
_MIN_RATE, _MAX_RATE = 1_000, 384_000
# -80 dB of full scale: three steps of a 16-bit file.
_SILENCE = 1e-4
# Full scale is 1; far beyond that the file holds no sound, and squares of it no finite number.
_LOUDEST = 1e3
# Sizes that writers of a stream put where they cannot go back.
_STREAMED = {0, 0x7FFFFFFF, 0xFFFFFFFF}


def read_windows(path: Path, *, rate: int, window_seconds: float, max_seconds: float) -> list[npt.NDArray[np.float32]]:
    """Decode a sound: channels averaged, cut into windows of equal length, resampled to `rate`.

    Where channels cancel out, the loudest counts. A sound that is longer than a window is cut into
    the fewest windows of one length that are not longer, so that no window is a scrap. Windows of
    silence are left out. Only one window is in memory with all its channels.

    Args:
        rate: Samples a second of the windows returned.
        max_seconds: Looked up in the header, before anything is unpacked.

    Returns:
        At least one window of (n_samples,) float32, of about the same length.

    Raises:
        BadFileError: Unreadable, of an unknown format, too long, without samples or silent.
    """
    import soundfile

    try:
        # opened here, so that the format is read from the content: by its name, x.raw would be headerless
        with _quiet(), path.open("rb") as file, soundfile.SoundFile(file.fileno(), closefd=False) as sound:
            return _windows(sound, rate=rate, window_seconds=window_seconds, max_seconds=max_seconds)
    except soundfile.LibsndfileError as error:
        if "unknown format" in str(error).lower() or "not recognised" in str(error).lower():
            raise BadFileError(Code.UNSUPPORTED, "no sound of a known format (WAV, FLAC, OGG, MP3, ...)") from None
        raise unreadable(error) from error
    except (OSError, RuntimeError, TypeError, ValueError) as error:
        raise unreadable(error) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep what the MP3 decoder prints off stderr, whose lines are the log's."""
    try:
        before = os.dup(2)
    except OSError:  # the process has no stderr
        yield
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    os.close(nowhere)
    try:
        yield
    finally:
        os.dup2(before, 2)
        os.close(before)


def _windows(sound: Any, *, rate: int, window_seconds: float, max_seconds: float) -> list[npt.NDArray[np.float32]]:
    source_rate, n_frames = int(sound.samplerate), int(sound.frames)
    if not _MIN_RATE <= source_rate <= _MAX_RATE:
        raise BadFileError(Code.UNSUPPORTED, f"{source_rate} samples a second")
    if n_frames > max_seconds * source_rate:
        seconds = n_frames / source_rate
        raise BadFileError(Code.TOO_LARGE, f"{seconds:.1f} s, longer than media.max_seconds ({max_seconds:g})")
    if n_frames <= 0:
        raise BadFileError(Code.EMPTY, "the sound has no samples")
    if _is_cut_off(str(sound.extra_info)):
        raise BadFileError(Code.UNREADABLE, "cut off: the file ends before its sound does")
    n_windows = math.ceil(n_frames / max(1, math.floor(window_seconds * source_rate)))
    edges = np.linspace(0, n_frames, n_windows + 1).round().astype(int)
    kept: list[npt.NDArray[np.float32]] = []
    read = 0
    for wanted in np.diff(edges).tolist():
        channels = sound.read(wanted, dtype="float32", always_2d=True)  # (n, n_channels)
        read += len(channels)
        if not np.isfinite(channels).all() or np.abs(channels).max(initial=0.0) > _LOUDEST:
            raise BadFileError(Code.UNREADABLE, "samples that are no sound: not finite, or far beyond full scale")
        samples = _mono(channels)
        if len(samples) and np.abs(samples).max() > _SILENCE:
            kept.append(resampled(samples, source_rate, rate))
        if len(samples) < wanted:
            # some formats only estimate their length; a file cut off by a tenth is another matter
            if read < 0.9 * n_frames:
                raise BadFileError(Code.UNREADABLE, f"ends after {read} of {n_frames} samples")
            break
    if not kept:
        raise BadFileError(Code.SILENT, "nothing but silence")
    return kept


def _mono(channels: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return the mean of (n, n_channels) samples; of channels that cancel out, the loudest."""
    mean: npt.NDArray[np.float32] = channels.mean(axis=1)
    if channels.shape[1] == 1 or len(channels) == 0:
        return mean
    loudest = np.abs(channels).max(axis=0)  # (n_channels,)
    if loudest.max() > _SILENCE >= np.abs(mean).max():
        return np.ascontiguousarray(channels[:, int(loudest.argmax())])
    return mean


def _is_cut_off(log: str) -> bool:
    """Return whether libsndfile's log of the header says that data are missing; it counts the frames that are there.

    WAV: `data : 11162 (should be 5559)`. OGG: `Last page lacks an end-of-stream bit`.
    """
    if "lacks an end-of-stream bit" in log:
        return True
    told = re.search(r"^\s*data\s*:\s*(\d+) \(should be (\d+)\)", log, flags=re.MULTILINE)
    return told is not None and int(told[1]) not in _STREAMED and int(told[1]) > int(told[2])


def resampled(samples: npt.NDArray[np.float32], source_rate: int, rate: int) -> npt.NDArray[np.float32]:
    """Return (n,) samples at another rate, by a polyphase filter (scipy.signal.resample_poly)."""
    if source_rate == rate:
        return samples
    from scipy.signal import resample_poly

    divisor = math.gcd(source_rate, rate)
    return np.asarray(resample_poly(samples, rate // divisor, source_rate // divisor), dtype=np.float32)
