from __future__ import annotations

import io
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from recpipe.encoders.audio import read_windows
from recpipe.encoders.media_files import BadFileError

RATE = 16_000


def sine(seconds: float, rate: int, hertz: float = 440.0) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def save(path: Path, samples: np.ndarray, rate: int, **options: str) -> Path:
    soundfile.write(path, samples, rate, **{"subtype": "FLOAT" if path.suffix == ".wav" else None, **options})
    return path


def read(path: Path, *, rate: int = RATE, window_seconds: float = 10.0, max_seconds: float = 60.0) -> list[np.ndarray]:
    windows = read_windows(path, rate=rate, window_seconds=window_seconds, max_seconds=max_seconds)
    assert all(window.dtype == np.float32 and window.ndim == 1 for window in windows)
    return windows


def code_of(path: Path, **options: float) -> str:
    with pytest.raises(BadFileError) as found:
        read(path, **options)  # type: ignore[arg-type]
    assert found.value.message
    return found.value.code.value


def test_samples_at_the_models_rate_are_taken_as_they_are(tmp_path: Path) -> None:
    samples = sine(0.5, RATE)
    (window,) = read(save(tmp_path / "a.wav", samples, RATE))
    assert np.array_equal(window, samples)


@pytest.mark.parametrize("source_rate", [8_000, 22_050, 44_100, 48_000])
def test_another_rate_is_resampled(tmp_path: Path, source_rate: int) -> None:
    (window,) = read(save(tmp_path / "a.wav", sine(0.5, source_rate), source_rate))
    expected = sine(0.5, RATE)
    assert abs(len(window) - len(expected)) <= 1
    inner = slice(800, 7200)  # a filter has no samples beyond the ends
    assert np.abs(window[inner] - expected[inner]).max() < 5e-3


def test_what_the_lower_rate_cannot_hold_is_filtered_out(tmp_path: Path) -> None:
    (window,) = read(save(tmp_path / "a.wav", sine(0.5, 48_000, hertz=11_000), 48_000))
    # taking every third sample would turn it into 5,000 Hz
    assert np.abs(window[800:-800]).max() < 5e-3


def test_channels_are_averaged(tmp_path: Path) -> None:
    left, right = sine(0.2, RATE), sine(0.2, RATE, hertz=1_000)
    (window,) = read(save(tmp_path / "a.wav", np.stack([left, right], axis=1), RATE))
    assert np.allclose(window, (left + right) / 2, atol=1e-7)


@pytest.mark.parametrize(
    ("seconds", "lengths"),
    [(2.0, [2.0]), (2.001, [1.0005, 1.0005]), (5.0, [5 / 3] * 3), (0.01, [0.01])],
)
def test_a_long_sound_is_cut_into_windows_of_one_length(tmp_path: Path, seconds: float, lengths: list[float]) -> None:
    samples = sine(seconds, RATE)
    windows = read(save(tmp_path / "a.wav", samples, RATE), window_seconds=2.0)
    assert np.array_equal(np.concatenate(windows), samples)
    assert [len(window) / RATE for window in windows] == pytest.approx(lengths, abs=1.1 / RATE)


def test_silent_windows_say_nothing(tmp_path: Path) -> None:
    samples = np.concatenate([sine(1, RATE), np.zeros(2 * RATE, np.float32), sine(1, RATE, hertz=900)])
    windows = read(save(tmp_path / "a.wav", samples, RATE), window_seconds=1.0)
    assert np.array_equal(np.concatenate(windows), samples[np.r_[0:RATE, 3 * RATE : 4 * RATE]])


@pytest.mark.parametrize("suffix", ["flac", "ogg", "mp3", "aiff"])
def test_other_formats_whatever_the_name(tmp_path: Path, suffix: str) -> None:
    path = save(tmp_path / f"a.{suffix}", sine(0.5, RATE), RATE).rename(tmp_path / "a.wav")
    (window,) = read(path)
    assert abs(len(window) - RATE / 2) < 0.1 * RATE
    assert np.abs(np.fft.rfft(window, RATE)).argmax() == pytest.approx(440, abs=2)


@pytest.mark.parametrize("samples", [np.zeros(RATE), np.full(RATE, 9e-5), np.zeros((RATE, 2))])
def test_silence(tmp_path: Path, samples: np.ndarray) -> None:
    assert code_of(save(tmp_path / "a.wav", samples, RATE)) == "silent"


def test_channels_that_cancel_out_are_heard_by_the_loudest(tmp_path: Path) -> None:
    loud = sine(1, RATE)
    (found,) = read(save(tmp_path / "a.wav", np.stack([0.999 * loud, -loud, np.zeros(RATE)], 1)[:, :2], RATE))
    assert np.abs(found - (0.999 * loud - loud) / 2).max() < 1e-3  # not quite silent: the mean
    (found,) = read(save(tmp_path / "b.wav", np.stack([0.5 * loud, -loud, 0.5 * loud], 1), RATE))
    assert np.abs(found + loud).max() < 1e-3


def test_the_mp3_decoder_says_nothing_on_stderr(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    content = save(tmp_path / "whole.mp3", sine(2, RATE), RATE).read_bytes()
    broken = tmp_path / "broken.mp3"
    rng = np.random.default_rng(0)
    noise = bytearray(content)
    for place in rng.integers(len(noise) // 4, len(noise), 400).tolist():
        noise[place] = int(rng.integers(256))
    broken.write_bytes(noise)
    with soundfile.SoundFile(broken) as sound:
        sound.read()
    assert capfd.readouterr().err  # it has something to say
    with suppress(BadFileError):
        read(broken)
    print("after", file=sys.stderr)
    assert capfd.readouterr().err == "after\n"


def test_no_samples(tmp_path: Path) -> None:
    assert code_of(save(tmp_path / "a.wav", np.zeros(0), RATE)) == "empty"


def test_an_overlong_sound_is_refused_by_its_header(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(tmp_path / "a.flac", np.zeros(61 * 8000), 8000)
    assert code_of(path, max_seconds=61) == "silent"
    monkeypatch.setattr(soundfile.SoundFile, "read", lambda *_, **__: pytest.fail("it was read"))
    assert code_of(path, max_seconds=60.9) == "too_large"


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_samples_that_are_no_numbers(tmp_path: Path, value: float) -> None:
    samples = sine(0.5, RATE)
    samples[100] = value
    assert code_of(save(tmp_path / "a.wav", samples, RATE)) == "unreadable"


@pytest.mark.parametrize("rate", [100, 1_000_000])
def test_a_rate_no_sound_has(tmp_path: Path, rate: int) -> None:
    assert code_of(save(tmp_path / "a.wav", sine(0.5, RATE), rate)) == "unsupported"


@pytest.mark.parametrize("suffix", ["flac", "wav", "ogg"])
@pytest.mark.parametrize("share", [0.5, 0.8])
def test_a_truncated_file(tmp_path: Path, suffix: str, share: float) -> None:
    """libsndfile takes the frames that are there for all there ever were."""
    noise = np.random.Generator(np.random.PCG64(1)).normal(0, 0.1, 4 * RATE)
    path = save(tmp_path / f"a.{suffix}", noise, RATE)
    assert len(read(path)) == 1
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    assert code_of(path) == "unreadable"


@pytest.mark.parametrize("size", [0, 0x7FFFFFFF, 0xFFFFFFFF])
def test_a_stream_whose_writer_did_not_know_the_size(tmp_path: Path, size: int) -> None:
    path = save(tmp_path / "a.wav", sine(1.0, RATE), RATE, subtype="PCM_16")
    content = bytearray(path.read_bytes())
    place = content.index(b"data") + 4
    content[place : place + 4] = size.to_bytes(4, "little")
    path.write_bytes(content)
    if size:
        assert len(read(path)[0]) == RATE
    else:
        assert code_of(path) == "empty"


def test_samples_far_beyond_full_scale(tmp_path: Path) -> None:
    samples = sine(1.0, RATE)
    samples[5] = 3e38
    assert code_of(save(tmp_path / "a.wav", samples, RATE)) == "unreadable"


def test_the_name_decides_nothing(tmp_path: Path) -> None:
    path = save(tmp_path / "a.wav", sine(1.0, RATE), RATE).rename(tmp_path / "a.raw")
    assert len(read(path)[0]) == RATE


@pytest.mark.parametrize("content", [b"hello\n", b"\0" * 100, b"\x89PNG\r\n\x1a\n"])
def test_what_is_no_sound_is_unsupported(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.wav").write_bytes(content)
    assert code_of(tmp_path / "a.wav") == "unsupported"


def content_of(kind: str) -> bytes:
    stream = io.BytesIO()
    soundfile.write(stream, sine(0.1, 8000), 8000, format=kind)
    return stream.getvalue()


CONTENTS = {kind: content_of(kind) for kind in ("WAV", "FLAC", "OGG", "MP3")}


@given(
    kind=st.sampled_from(sorted(CONTENTS)),
    places=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=6),
    length=st.floats(0.01, 1),
)
def test_whatever_a_file_holds_it_is_a_sound_or_has_a_code(
    tmp_path_factory: pytest.TempPathFactory, kind: str, places: list[tuple[float, int]], length: float
) -> None:
    content = bytearray(CONTENTS[kind])
    for place, value in places:
        content[int(place * (len(content) - 1))] = value
    path = tmp_path_factory.getbasetemp() / "damaged.wav"
    path.write_bytes(bytes(content[: max(1, int(length * len(content)))]))
    try:
        windows = read(path)
    except BadFileError as error:
        assert error.code.value in {"unreadable", "unsupported", "too_large", "empty", "silent"}
    else:
        assert windows and all(np.isfinite(window).all() for window in windows)
