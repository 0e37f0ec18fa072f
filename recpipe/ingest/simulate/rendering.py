"""Pictures and sounds of simulated items, as the bytes of a PNG and of a WAV file.

A look is one hue and, by sector, one of six shapes; where the shape stands, how large and how
light it is say nothing. A sound is a tone: the cosine of its angle is the pitch, two octaves
wide, the sine how bright it is; its loudness, phase and noise say nothing.
"""

from __future__ import annotations

import colorsys
import io
import wave

import numpy as np
import numpy.typing as npt

from recpipe.errors import UnavailableError

IMAGES_FOLDER, AUDIO_FOLDER = "images", "audio"

SIDE = 32
"""Of a picture, in pixels."""
N_SHAPES = 6

SAMPLE_RATE = 8_000
SECONDS = 0.5
MIDDLE_PITCH = 330.0
N_OVERTONES = 5


def require_pillow() -> None:
    """Check that pictures can be written. UnavailableError otherwise."""
    try:
        import PIL  # noqa: F401
    except ImportError:
        raise UnavailableError(
            "pictures need Pillow", next_step="pip install 'recpipe[media]', or leave media=false"
        ) from None


def picture(look: float, rng: np.random.Generator) -> bytes:
    """Draw a look, an angle in radians, as a PNG of SIDE x SIDE pixels."""
    from PIL import Image

    turn = look / (2 * np.pi) % 1.0
    centre, radius = SIDE / 2 - 0.5 + rng.uniform(-3, 3, 2), rng.uniform(8, 12)
    colour = 255 * np.array(colorsys.hsv_to_rgb(turn, 0.9, rng.uniform(0.75, 1.0)))
    pixels = np.full((SIDE, SIDE, 3), rng.uniform(200, 255))
    pixels[_inside(int(turn * N_SHAPES), centre, radius)] = colour
    file = io.BytesIO()
    Image.fromarray(np.rint(pixels).astype(np.uint8)).save(file, format="PNG")
    return file.getvalue()


def _inside(shape: int, centre: npt.NDArray[np.float64], radius: float) -> npt.NDArray[np.bool_]:
    """Return the pixels of a shape. (SIDE, SIDE)"""
    down, right = (np.arange(SIDE) - centre[axis] for axis in (0, 1))
    y, x = down[:, None] / radius, right[None, :] / radius
    shapes = (
        np.hypot(x, y) < 1,  # disc
        np.maximum(abs(x), abs(y)) < 0.85,  # square
        (y < 0.8) & (abs(x) < (y + 1) / 1.8),  # triangle
        abs(x) + abs(y) < 1.1,  # diamond
        (np.hypot(x, y) < 1) & (np.hypot(x, y) > 0.55),  # ring
        np.minimum(abs(x), abs(y)) < 0.35,  # cross, to be cut below
    )
    inside: npt.NDArray[np.bool_] = shapes[shape % N_SHAPES] & (np.maximum(abs(x), abs(y)) < 1.1)
    return inside


def sound(tone: float, rng: np.random.Generator) -> bytes:
    """Play a sound, an angle in radians, as a WAV of 16 bits, one channel."""
    times = np.arange(int(SAMPLE_RATE * SECONDS)) / SAMPLE_RATE
    pitch, brightness = MIDDLE_PITCH * 2 ** np.cos(tone), 0.05 + 0.85 * (1 + np.sin(tone)) / 2
    overtones = np.arange(1, N_OVERTONES + 1)
    strengths = brightness ** (overtones - 1)
    phases = rng.uniform(0, 2 * np.pi, N_OVERTONES)
    waves = np.sin(2 * np.pi * pitch * times[:, None] * overtones + phases) @ (strengths / strengths.sum())
    envelope = np.minimum(times / 0.02, 1) * np.exp(-2 * times)
    samples = rng.uniform(0.5, 0.9) * envelope * waves + 0.01 * rng.standard_normal(len(times))
    file = io.BytesIO()
    with wave.open(file, "wb") as output:
        output.setnchannels(1)
        output.setsampwidth(2)
        output.setframerate(SAMPLE_RATE)
        output.writeframes(np.rint(32_000 * np.clip(samples, -1, 1)).astype("<i2").tobytes())
    return file.getvalue()
