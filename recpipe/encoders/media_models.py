"""Pretrained models of pictures and sounds: from pixels and samples to one vector each.

Loaded by the `model_type` of their config through transformers' Auto classes, quietly and
without a folder's own code. Sizes and rates are those of the folder's files. What each family
gives:

    clip, siglip              the picture's vector in the space shared with texts
    vit, dinov2               the pooled vector; the class token's where the folder has no pooler
    clap                      the sound's vector in the space shared with texts
    wav2vec2, hubert, whisper the mean over the frames that hold sound, not padding
    audio-spectrogram-transformer  the pooled vector

CLIP: https://arxiv.org/abs/2103.00020, SigLIP: 2303.15343, ViT: 2010.11929, DINOv2: 2304.07193,
CLAP: 2211.06687, wav2vec 2.0: 2006.11477, HuBERT: 2106.07447, Whisper: 2212.04356, AST: 2104.01778.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from recpipe.encoders.loading import explained, quiet_transformers
from recpipe.encoders.media_spec import MediaModel, section
from recpipe.errors import UnavailableError

if TYPE_CHECKING:
    from PIL.Image import Image

# Frames of speech models and spectrograms are about 25 ms wide: a shorter sound has none.
_SHORTEST_SECONDS = 0.1
# Weights that only other inputs or training use; whatever else is missing would be filled with random numbers.
_UNUSED_WEIGHTS = ("text_model.", "text_projection", "logit_", "decoder.", "masked_spec_embed", "mask_token")

Samples = npt.NDArray[np.float32]
"""(n,) mono samples at the model's rate."""


class PictureModel:
    """A model that makes one vector of a picture.

    Attributes:
        edge: Pixels below which a picture need not be shrunk before it is prepared; None: not known.
    """

    def __init__(self, model: Any, processor: Any, features: Callable[[Any, Tensor], Tensor]) -> None:
        self._model = model
        self._processor = processor
        self._features = features
        sizes = [getattr(processor, name, None) for name in ("size", "crop_size")]
        sides = [side for size in sizes if size is not None for side in dict(size).values() if isinstance(side, int)]
        # twice the size: scaling down the rest of the way is then as good as from the whole picture
        self.edge = 2 * max(sides) if sides and getattr(processor, "do_resize", False) else None

    def prepare(self, picture: Image) -> Tensor:
        """Return (channels, height, width) float32 as the model's own files ask for."""
        with quiet_transformers():
            # stated, because the order of a picture of 3 x 3 pixels cannot be told
            inputs = self._processor(images=[picture], return_tensors="pt", input_data_format="channels_last")
        pixels: Tensor = inputs["pixel_values"][0]
        return pixels.float()

    def forward(self, pixels: Tensor) -> Tensor:
        """Return (b, dim) vectors of (b, channels, height, width) pixels."""
        return self._features(self._model, pixels)


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


def load_picture_model(model: MediaModel, device: str) -> PictureModel:
    """Load a model of pictures.

    Raises:
        UnavailableError: It cannot be loaded, or some of its weights are missing.
    """
    import transformers

    current = int(transformers.__version__.partition(".")[0]) >= 5
    # torchvision's resizing differs from Pillow's: a vector must not depend on what else is installed
    backend: dict[str, object] = {"backend": "pil"} if current else {"use_fast": False}
    with quiet_transformers(), explained(model.folder, "image processor", key=f"{section('image')}.model_name"):
        processor = transformers.AutoImageProcessor.from_pretrained(
            model.folder.transformer_path, local_files_only=True, trust_remote_code=False, **backend
        )
    loaded, missing = _load(model, device)
    with_pooler = not any("pooler." in name for name in missing)
    features = _shared_space if model.model_type in {"clip", "siglip"} else _pooled if with_pooler else _class_token
    return PictureModel(loaded, processor, features)


def load_sound_model(model: MediaModel, device: str) -> SoundModel:
    """Load a model of sounds.

    Raises:
        UnavailableError: It cannot be loaded, or some of its weights are missing.
    """
    from transformers import AutoFeatureExtractor

    with quiet_transformers(), explained(model.folder, "feature extractor", key=f"{section('audio')}.model_name"):
        extractor = AutoFeatureExtractor.from_pretrained(
            model.folder.transformer_path, local_files_only=True, trust_remote_code=False
        )
    loaded, _ = _load(model, device)
    kinds: dict[str, Callable[[Any, Any], SoundModel]] = {
        "clap": _Clap,
        "wav2vec2": _Waveform,
        "hubert": _Waveform,
        "whisper": _WhisperEncoder,
        "audio-spectrogram-transformer": _SpectrogramTransformer,
    }
    return kinds[model.model_type](loaded, extractor)


def _load(model: MediaModel, device: str) -> tuple[Any, list[str]]:
    """Return the model in float32 on its device, and the names of weights its folder lacks."""
    from transformers import AutoModel

    folder = model.folder
    with quiet_transformers(), explained(folder, "weights", key=f"{section(model.modality)}.model_name"):
        loaded, info = AutoModel.from_pretrained(
            folder.transformer_path,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            output_loading_info=True,
        )
    missing = sorted(info["missing_keys"])
    # a pooler that is missing is not used; CLIP's and CLAP's towers cannot do without theirs
    needed = [name for name in missing if not any(part in name for part in _UNUSED_WEIGHTS)]
    if model.model_type in {"vit", "dinov2"}:
        needed = [name for name in needed if "pooler." not in name]
    if needed:
        shown = ", ".join(needed[:3]) + (f" and {len(needed) - 3} more" if len(needed) > 3 else "")
        raise UnavailableError(
            f"the weights of '{folder.name}' are incomplete: {shown}",
            where=str(folder.transformer_path),
            next_step="check the model folder",
        )
    return loaded.float().eval().requires_grad_(False).to(device), missing


def _shared_space(model: Any, pixels: Tensor) -> Tensor:
    output = model.get_image_features(pixel_values=pixels)
    return output if isinstance(output, Tensor) else output.pooler_output


def _pooled(model: Any, pixels: Tensor) -> Tensor:
    return model(pixel_values=pixels).pooler_output  # type: ignore[no-any-return]


def _class_token(model: Any, pixels: Tensor) -> Tensor:
    return model(pixel_values=pixels).last_hidden_state[:, 0]  # type: ignore[no-any-return]


class _Clap:
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
        inputs = self._extractor(cut, sampling_rate=self.rate, truncation=self._truncation, return_tensors="pt")
        # the extractor calls a random window of each batch longer where none is; here none ever is
        longer = torch.zeros((len(windows), 1), dtype=torch.bool, device=device)
        features = inputs["input_features"].float().to(device)
        output = self._model.get_audio_features(input_features=features, is_longer=longer)
        return output if isinstance(output, Tensor) else output.pooler_output


class _Waveform:
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


class _WhisperEncoder:
    """Whisper's encoder reads 30 seconds whatever the sound's length: the frames of the rest are left out."""

    mixes_lengths = True

    def __init__(self, model: Any, extractor: Any) -> None:
        self.rate = int(extractor.sampling_rate)
        self.max_seconds: float | None = extractor.n_samples / self.rate
        self._encoder = model.get_encoder()
        self._extractor = extractor

    def forward(self, windows: Sequence[Samples], device: torch.device) -> Tensor:
        cut = [padded(window[: self._extractor.n_samples], self.rate) for window in windows]
        inputs = self._extractor(cut, sampling_rate=self.rate, padding="max_length", return_tensors="pt")
        states = self._encoder(inputs["input_features"].float().to(device)).last_hidden_state
        n_spectrogram = [math.ceil(len(window) / self._extractor.hop_length) for window in cut]
        # the encoder's second convolution takes every other frame of the spectrogram
        frames = torch.tensor([math.ceil(n / 2) for n in n_spectrogram], device=device)
        return mean_of_frames(states, frames.clamp(max=states.shape[1]))


class _SpectrogramTransformer:
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
        inputs = self._extractor(long_enough, sampling_rate=self.rate, return_tensors="pt")
        return self._model(inputs["input_values"].float().to(device)).pooler_output  # type: ignore[no-any-return]


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
