"""Files of pictures to RGB, with everything refused that could take the process down."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from recpipe.encoders.media_files import BadFileError, Code, unreadable

if TYPE_CHECKING:
    from PIL.Image import Image

# Pillow also knows formats that start other programs (EPS) or are none a shop's pictures come in.
FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")
# How such files begin; BMP's two letters begin other files as well, WebP's are those of WAV.
_SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF8", b"II*\0", b"MM\0*")
# Resizing the short side of a thread of pixels to a model's input makes the long one enormous.
_MAX_ASPECT = 100
_LEVELS_16_TO_8_BITS = 257
_PIXELS_A_MEGAPIXEL = 1_000_000


def read_picture(path: Path, *, max_megapixels: float, edge: int | None = None) -> Image:
    """Decode a picture, upright, in RGB; what is transparent becomes white.

    The format is told from the content, whatever the file's name ends in. Of an animation the first
    picture counts.

    Args:
        max_megapixels: Looked up in the header, before anything is unpacked.
        edge: A JPEG larger than this is decoded at 1/2, 1/4 or 1/8 of its size, never below this.

    Raises:
        BadFileError: Unreadable, of an unknown format or too large.
    """
    with _limited(max_megapixels):
        with _open(path, max_megapixels) as picture:
            _check_shape(picture.size)
            try:
                picture.verify()
            except Exception as error:
                raise unreadable(error) from error
        with _open(path, max_megapixels) as picture:  # verify leaves a picture unusable
            return _decoded(picture, edge)


@contextmanager
def _limited(max_megapixels: float) -> Iterator[None]:
    """Make Pillow's own check, which plugins repeat for what lies inside a file, follow our limit."""
    from PIL import Image

    before = Image.MAX_IMAGE_PIXELS
    Image.MAX_IMAGE_PIXELS = max(1, int(max_megapixels * _PIXELS_A_MEGAPIXEL))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # damaged EXIF and the like
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            yield
    finally:
        Image.MAX_IMAGE_PIXELS = before


@contextmanager
def _open(path: Path, max_megapixels: float) -> Iterator[Image]:
    from PIL import Image, UnidentifiedImageError

    Image.init()  # with a list of formats, Pillow does not load their plugins itself
    try:
        picture = Image.open(path, formats=[name for name in FORMATS if name in Image.OPEN])
    except UnidentifiedImageError:
        with path.open("rb") as file:
            begins = file.read(max(map(len, _SIGNATURES)))
        if begins.startswith(_SIGNATURES):
            raise BadFileError(Code.UNREADABLE, "cut off or damaged: it begins like a picture") from None
        raise BadFileError(Code.UNSUPPORTED, f"no picture of a known format ({', '.join(FORMATS)})") from None
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        raise _too_large(max_megapixels) from None
    except Exception as error:
        raise unreadable(error) from error
    with picture:
        try:
            yield picture
        except (Image.DecompressionBombWarning, Image.DecompressionBombError):
            raise _too_large(max_megapixels) from None


def _too_large(max_megapixels: float) -> BadFileError:
    return BadFileError(Code.TOO_LARGE, f"more than media.max_megapixels ({max_megapixels:g})")


def _check_shape(size: tuple[int, int]) -> None:
    width, height = size
    if max(width, height) > _MAX_ASPECT * min(width, height):
        raise BadFileError(
            Code.UNSUPPORTED, f"{width} x {height} pixels: one side is over {_MAX_ASPECT} times the other"
        )


def _decoded(picture: Image, edge: int | None) -> Image:
    from PIL import Image, ImageOps

    try:
        if edge is not None:
            picture.draft("RGB", (edge, edge))  # does nothing but for JPEG
        picture.load()
        return _rgb(ImageOps.exif_transpose(picture))
    except (BadFileError, Image.DecompressionBombWarning, Image.DecompressionBombError):
        raise
    except Exception as error:
        raise unreadable(error) from error


def _rgb(picture: Image) -> Image:
    from PIL import Image

    if picture.mode.startswith("I;16"):
        # converting as it is would clip all but the darkest shades to white
        shades = np.asarray(picture).astype(np.float32) / _LEVELS_16_TO_8_BITS
        return Image.fromarray(np.rint(shades).astype(np.uint8)).convert("RGB")
    if picture.mode in {"I", "F"}:
        raise BadFileError(Code.UNSUPPORTED, f"pixels of 32 bits a channel (mode {picture.mode})")
    if picture.mode in {"RGBA", "LA", "PA", "La", "RGBa"} or "transparency" in picture.info:
        clear = picture.convert("RGBA")
        white = Image.new("RGBA", clear.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, clear).convert("RGB")
    return picture.convert("RGB")
