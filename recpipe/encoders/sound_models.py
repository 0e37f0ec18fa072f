"""Models of sounds: from samples to one vector a window.

What padding does to each family is handled here: it must not reach a vector.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

# Frames of speech models and spectrograms are about 25 ms wide: a shorter sound has none.
_SHORTEST_SECONDS = 0.1

Samples = npt.NDArray[np.float32]
"""(n,) mono samples at the model's rate."""


class SoundModel(Protocol):
    """A model that makes one vector of a window of sound.

    Attributes:
        rate: Samples a second it wants.
        max_seconds: Longest window it reads; None: any.
        mixes_lengths: Windows of several lengths may stand in one batch without changing a vector.
    """

    rate: int
    max_seconds: float | None
    mixes_lengths: bool

    def forward(self, windows: Sequence[Samples], device: torch.device) -> Tensor:
        """Return (b, dim) vectors."""


class Clap:
    """CLAP reads windows of one length; shorter ones are repeated to fill it."""

    mixes_lengths = True

    def __init__(self, model: Any, extractor: Any) -> None:
        self.rate = int(extractor.sampling_rate)
        self.max_seconds: float | None = extractor.nb_max_samples / self.rate
        self._model = model
        self._extractor = extractor
        # the extractor's own default makes four channels, which a model without fusion cannot read
        self._truncation = "fusion" if model.config.audio_config.enable_fusion else "rand_trunc"

    def forward(self, windows: Sequence[Samples], device: torch.device) -> Tensor:
        # what is longer than the model reads would be cropped at random; a rounding may leave a sample too many
        cut = [padded(window[: self._extractor.nb_max_samples], self.rate) for window in windows]
        with exact_input():
            inputs = self._extractor(cut, sampling_rate=self.rate, truncation=self._truncation, return_tensors="pt")
        # the extractor calls a random window of each batch longer where none is; here none ever is
        longer = torch.zeros((len(windows), 1), dtype=torch.bool, device=device)
        features = inputs["input_features"].float().to(device)
        output = self._model.get_audio_features(input_features=features, is_longer=longer)
        return output if isinstance(output, Tensor) else output.pooler_output


class Waveform:
    """wav2vec 2.0 and HuBERT: frames straight from the samples.

    Models with group normalisation over time were trained without an attention mask and see
    padding; their windows are only put together with others of the same length.
    """

    max_seconds: float | None = None

    def __init__(self, model: Any, extractor: Any) -> None:
        self.rate = int(extractor.sampling_rate)
        self.mixes_lengths = model.config.feat_extract_norm != "group"
        self._model = model
        self._extractor = extractor
        self._adapted = bool(getattr(model.config, "add_adapter", False))

    def forward(self, windows: Sequence[Samples], device: torch.device) -> Tensor:
        long_enough = [padded(window, self.rate, at_least=self._receptive_field) for window in windows]
        lengths = [len(window) for window in long_enough]
        with exact_input():
            inputs = self._extractor(
                long_enough, sampling_rate=self.rate, padding=True, return_attention_mask=True, return_tensors="pt"
            )
        values = inputs["input_values"].float().to(device)
        if not self.mixes_lengths:
            assert len(set(lengths)) == 1, lengths
            return self._model(values).last_hidden_state.float().mean(dim=1)  # type: ignore[no-any-return]
        states = self._model(values, attention_mask=inputs["attention_mask"].to(device)).last_hidden_state
        return mean_of_frames(states, torch.tensor([self._frames(length) for length in lengths], device=device))

    @property
    def _receptive_field(self) -> int:
        """Samples behind one frame."""
        config, width = self._model.config, 1
        for kernel, stride in zip(reversed(config.conv_kernel), reversed(config.conv_stride), strict=True):
            width = (width - 1) * stride + kernel
        return int(width)

    def _frames(self, n_samples: int) -> int:
        config, n = self._model.config, n_samples
        for kernel, stride in zip(config.conv_kernel, config.conv_stride, strict=True):
            n = (n - kernel) // stride + 1
        if self._adapted:
            for _ in range(config.num_adapter_layers):
                n = (n - 1) // config.adapter_stride + 1
        return max(1, n)


class WhisperEncoder:
    """Whisper's encoder reads 30 seconds whatever the sound's length: the frames of the rest are left out."""

    mixes_lengths = True

    def __init__(self, model: Any, extractor: Any) -> None:
        self.rate = int(extractor.sampling_rate)
        self.max_seconds: float | None = extractor.n_samples / self.rate
        self._encoder = model.get_encoder()
        self._extractor = extractor

    def forward(self, windows: Sequence[Samples], device: torch.device) -> Tensor:
        cut = [padded(window[: self._extractor.n_samples], self.rate) for window in windows]
        with exact_input():
            inputs = self._extractor(cut, sampling_rate=self.rate, padding="max_length", return_tensors="pt")
        states = self._encoder(inputs["input_features"].float().to(device)).last_hidden_state
        n_spectrogram = [math.ceil(len(window) / self._extractor.hop_length) for window in cut]
        # the encoder's second convolution takes every other frame of the spectrogram
        frames = torch.tensor([math.ceil(n / 2) for n in n_spectrogram], device=device)
        return mean_of_frames(states, frames.clamp(max=states.shape[1]))


class SpectrogramTransformer:
    """AST reads spectrograms of one length; shorter ones are filled up."""

    mixes_lengths = True
    _hop_seconds = 0.010
    _frame_seconds = 0.025

    def __init__(self, model: Any, extractor: Any) -> None:
        self.rate = int(extractor.sampling_rate)
        self.max_seconds: float | None = (extractor.max_length - 1) * self._hop_seconds + self._frame_seconds
        self._model = model
        self._extractor = extractor

    def forward(self, windows: Sequence[Samples], device: torch.device) -> Tensor:
        long_enough = [padded(window, self.rate) for window in windows]
        with exact_input():
            inputs = self._extractor(long_enough, sampling_rate=self.rate, return_tensors="pt")
        return self._model(inputs["input_values"].float().to(device)).pooler_output  # type: ignore[no-any-return]


def exact_input() -> torch.autocast:
    """Return a context in which input is prepared in float32, as the model was trained, whatever it computes in."""
    return torch.autocast("cpu", enabled=False)


def padded(window: Samples, rate: int, *, at_least: int = 0) -> Samples:
    """Return a window with zeros behind it where it is shorter than a tenth of a second or `at_least` samples."""
    lacking = max(at_least, math.ceil(_SHORTEST_SECONDS * rate)) - len(window)
    return np.pad(window, (0, lacking)) if lacking > 0 else window


def mean_of_frames(states: Tensor, n_frames: Tensor) -> Tensor:
    """Return the mean over each row's first frames.

    Args:
        states: (b, frames, dim).
        n_frames: (b,) int64, at least 1 each.

    Returns:
        (b, dim) float32.
    """
    assert states.ndim == 3 and n_frames.shape == states.shape[:1], (states.shape, n_frames.shape)
    inside = torch.arange(states.shape[1], device=states.device) < n_frames.unsqueeze(1)  # (b, frames)
    # not a product with the mask: a frame of padding may be infinite
    kept = states.float().masked_fill(~inside.unsqueeze(2), 0.0)
    return kept.sum(dim=1) / n_frames.unsqueeze(1)
