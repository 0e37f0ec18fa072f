from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from recpipe.encoders.images import read_picture
from recpipe.encoders.media_files import BadFileError

NOISE = np.random.Generator(np.random.PCG64(5)).integers(0, 255, (24, 40, 3), dtype=np.uint8)


def encoded(picture: Image.Image, kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, kind, **options)
    return stream.getvalue()


def save(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def read(path: Path, *, max_megapixels: float = 1.0, edge: int | None = None) -> np.ndarray:
    picture = read_picture(path, max_megapixels=max_megapixels, edge=edge)
    assert picture.mode == "RGB"
    return np.asarray(picture)


def code_of(path: Path, **options: float) -> str:
    with pytest.raises(BadFileError) as found:
        read_picture(path, **{"max_megapixels": 1.0, **options})  # type: ignore[arg-type]
    assert found.value.message
    return found.value.code.value


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "GIF", "WEBP"])
def test_formats_are_told_from_the_content(tmp_path: Path, kind: str) -> None:
    picture = Image.fromarray(NOISE).quantize(8) if kind == "GIF" else Image.fromarray(NOISE)
    options = {"lossless": True} if kind == "WEBP" else {}
    path = save(tmp_path / "photo.jpg", encoded(picture, kind, **options))
    assert np.array_equal(read(path), np.asarray(picture.convert("RGB")))


def test_a_photograph_is_turned_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held upright: to be turned clockwise
    path = save(tmp_path / "a.png", encoded(Image.fromarray(NOISE), "PNG", exif=exif))
    assert np.array_equal(read(path), np.rot90(NOISE, -1))


def test_what_is_transparent_is_white(tmp_path: Path) -> None:
    alpha = np.full((24, 40, 1), 255, np.uint8)
    alpha[:, :20] = 0
    path = save(tmp_path / "a.png", encoded(Image.fromarray(np.concatenate([NOISE, alpha], axis=2)), "PNG"))
    pixels = read(path)
    assert (pixels[:, :20] == 255).all()
    assert np.array_equal(pixels[:, 20:], NOISE[:, 20:])


def test_16_bits_keep_their_shades(tmp_path: Path) -> None:
    shades = np.linspace(0, 65535, 24 * 40).reshape(24, 40).astype(np.uint16)
    pixels = read(save(tmp_path / "a.png", encoded(Image.fromarray(shades), "PNG")))
    assert np.abs(pixels - shades[:, :, None] / 257).max() <= 0.5 + 1e-3


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "CMYK", "YCbCr"])
def test_every_mode_becomes_rgb(tmp_path: Path, mode: str) -> None:
    kind = "JPEG" if mode in {"CMYK", "YCbCr"} else "PNG"
    path = save(tmp_path / "a", encoded(Image.fromarray(NOISE).convert(mode), kind))
    assert read(path).shape == (24, 40, 3)


def test_of_an_animation_the_first_picture_counts(tmp_path: Path) -> None:
    frames = [Image.new("P", (8, 8), colour) for colour in (0, 1)]
    for frame in frames:
        frame.putpalette([10, 20, 30, 200, 100, 50])
    path = save(tmp_path / "a.gif", encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]))
    assert (read(path) == (10, 20, 30)).all()


def test_a_large_jpeg_is_decoded_smaller(tmp_path: Path) -> None:
    smooth = Image.fromarray(NOISE).resize((800, 640))
    path = save(tmp_path / "a.jpg", encoded(smooth, "JPEG"))
    assert read(path).shape == (640, 800, 3)
    small = read(path, edge=150)
    assert small.shape == (160, 200, 3)
    expected = np.asarray(smooth.reduce(4)).astype(float)
    assert np.abs(small - expected).mean() < 5
    assert read(path, edge=700).shape == (640, 800, 3)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "WEBP"])
def test_a_truncated_file_is_unreadable(tmp_path: Path, kind: str) -> None:
    content = encoded(Image.fromarray(NOISE), kind)
    assert code_of(save(tmp_path / "a", content[: len(content) * 2 // 3])) == "unreadable"


def test_a_wrong_checksum_is_unreadable(tmp_path: Path) -> None:
    content = bytearray(encoded(Image.fromarray(NOISE), "PNG"))
    content[len(content) // 2] ^= 1
    assert code_of(save(tmp_path / "a.png", bytes(content))) == "unreadable"


@pytest.mark.parametrize(
    "content",
    [b"hello\n", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n", b"<svg xmlns='x'/>", b"\0" * 50],
)
def test_what_is_no_picture_is_unsupported(tmp_path: Path, content: bytes) -> None:
    assert code_of(save(tmp_path / "a.jpg", content)) == "unsupported"


def bomb(width: int, height: int) -> bytes:
    """A PNG of black and white pixels that is a thousandth of its unpacked size."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    row = b"\0" * (1 + width // 8)
    packer = zlib.compressobj(9)
    packed = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


@pytest.mark.parametrize("side", [2000, 24_000])  # Pillow itself warns from 9,000 on and refuses from 13,000 on
def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, side: int) -> None:
    path = save(tmp_path / "a.png", bomb(side, side))
    monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("it was unpacked"))
    before = Image.MAX_IMAGE_PIXELS
    assert code_of(path) == "too_large"
    assert before == Image.MAX_IMAGE_PIXELS


def test_the_limit_is_the_pictures_pixels(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", encoded(Image.fromarray(NOISE), "PNG"))  # 960 pixels
    assert read(path, max_megapixels=960e-6).shape == NOISE.shape
    assert code_of(path, max_megapixels=959e-6) == "too_large"


def test_a_higher_limit_than_pillows_own_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    path = save(tmp_path / "a.png", encoded(Image.fromarray(NOISE), "PNG"))
    assert np.array_equal(read(path), NOISE)


def test_a_thread_of_pixels_is_refused(tmp_path: Path) -> None:
    # its long side would have millions of pixels when the short one is brought to a model's size
    path = save(tmp_path / "a.png", encoded(Image.new("RGB", (1, 101)), "PNG"))
    assert code_of(path) == "unsupported"
    assert read(save(tmp_path / "b.png", encoded(Image.new("RGB", (1, 100)), "PNG"))).shape == (100, 1, 3)


CONTENTS = {kind: encoded(Image.fromarray(NOISE), kind) for kind in ("JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP")}


@given(
    kind=st.sampled_from(sorted(CONTENTS)),
    places=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=6),
    length=st.floats(0.01, 1),
)
def test_whatever_a_file_holds_it_is_a_picture_or_has_a_code(
    tmp_path_factory: pytest.TempPathFactory, kind: str, places: list[tuple[float, int]], length: float
) -> None:
    content = bytearray(CONTENTS[kind])
    for place, value in places:
        content[int(place * (len(content) - 1))] = value
    path = save(tmp_path_factory.getbasetemp() / "damaged", bytes(content[: max(1, int(length * len(content)))]))
    try:
        assert read(path).shape[2] == 3
    except BadFileError as error:
        assert error.code.value in {"unreadable", "unsupported", "too_large"}


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "GIF", "JPEG"])
@pytest.mark.parametrize("n_bytes", [10, 16])
def test_what_begins_like_a_picture_and_ends_there_is_unreadable(tmp_path: Path, kind: str, n_bytes: int) -> None:
    assert code_of(save(tmp_path / "a", CONTENTS[kind][:n_bytes])) == "unreadable"
