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

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from torch import Tensor

from recpipe.encoders.loading import explained, quiet_transformers
from recpipe.encoders.media_spec import MediaModel, section
from recpipe.encoders.sound_models import Clap, SoundModel, SpectrogramTransformer, Waveform, WhisperEncoder
from recpipe.errors import UnavailableError

if TYPE_CHECKING:
    from PIL.Image import Image

# Weights that only other inputs or training use; whatever else is missing would be filled with random numbers.
_UNUSED_WEIGHTS = ("text_model.", "text_projection", "logit_", "decoder.", "masked_spec_embed", "mask_token")


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
        "clap": Clap,
        "wav2vec2": Waveform,
        "hubert": Waveform,
        "whisper": WhisperEncoder,
        "audio-spectrogram-transformer": SpectrogramTransformer,
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
