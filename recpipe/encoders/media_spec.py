"""Which model encodes pictures or sounds, and the key that keeps its vectors apart. No torch here."""

from __future__ import annotations

import hashlib
import importlib.util
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from recpipe.encoders.folder import EncoderFolder
from recpipe.encoders.precision import require_precision
from recpipe.encoders.resolve import resolve
from recpipe.encoders.settings import AudioEncoderSettings, ImageEncoderSettings, MediaSettings, Precision
from recpipe.errors import UnavailableError

Modality = Literal["image", "audio"]
MediaEncoderSettings = ImageEncoderSettings | AudioEncoderSettings

CODE_VERSION = 1
"""Raised when a change of decoding or pooling changes vectors, so that cached ones are not taken for new ones."""

MODEL_TYPES: dict[Modality, tuple[str, ...]] = {
    "image": ("clip", "siglip", "vit", "dinov2"),
    "audio": ("clap", "wav2vec2", "hubert", "whisper", "audio-spectrogram-transformer"),
}
"""What `model_type` in config.json may say."""

_PACKAGES: dict[Modality, tuple[str, str]] = {"image": ("PIL", "pillow"), "audio": ("soundfile", "soundfile")}
# Files that say how a picture or a sound becomes the model's input.
_PROCESSOR_FILES = ("config.json", "preprocessor_config.json", "processor_config.json")


@dataclass(frozen=True, slots=True)
class MediaModel:
    """A model folder for pictures or sounds.

    Attributes:
        key: 20 hexadecimal digits; vectors of two keys never meet.
    """

    modality: Modality
    folder: EncoderFolder
    model_type: str
    key: str

    @property
    def identity(self) -> str:
        """Name and key, as they stand in manifests."""
        return f"{self.folder.name}@{self.key}"


@dataclass(frozen=True, slots=True)
class _Spec:
    """Everything that decides the vector of a file.

    What is too large belongs to it: otherwise the vectors of files that were encoded under a
    higher limit would still be found.
    """

    weights: str
    modality: str
    precision: Precision
    window_seconds: float | None
    limit: float
    code: int = CODE_VERSION

    @property
    def key(self) -> str:
        text = json.dumps(asdict(self), sort_keys=True)
        return hashlib.blake2b(text.encode(), digest_size=10).hexdigest()


def section(modality: Modality) -> str:
    """Return the section of the configuration that names the encoder."""
    return f"{modality}_encoder"


def find_folder(modality: Modality, settings: MediaEncoderSettings) -> tuple[EncoderFolder, str]:
    """Return the folder of the model the settings name, and its model_type.

    Raises:
        UnavailableError: It is not here, its folder cannot be used, or recpipe has no such model.
    """
    assert settings.model_name is not None, "the encoder is switched off"
    key = f"{section(modality)}.model_name"
    try:
        folder = resolve(settings.model_name)
    except UnavailableError as error:
        raise _said_of(error, key) from error
    # read_folder has read it before
    config = json.loads((folder.transformer_path / "config.json").read_text(encoding="utf-8"))
    model_type = str(config.get("model_type"))
    if model_type not in MODEL_TYPES[modality]:
        raise UnavailableError(
            f"'{folder.name}' is a model of type {model_type}, which recpipe has no {modality} encoder for",
            where=f"{key}: {folder.transformer_path}",
            next_step=f"known types: {', '.join(MODEL_TYPES[modality])}",
        )
    if not any((folder.transformer_path / name).is_file() for name in _PROCESSOR_FILES[1:]):
        raise UnavailableError(
            f"'{folder.name}' does not say how its input is prepared: preprocessor_config.json is missing",
            where=f"{key}: {folder.transformer_path}",
            next_step="save the model's processor to the same folder: AutoProcessor.from_pretrained(...)"
            ".save_pretrained(FOLDER)",
        )
    return folder, model_type


def deciding_files(folder: EncoderFolder) -> tuple[Path, ...]:
    """Return every file whose content decides a vector, sorted."""
    prepared = (folder.transformer_path / name for name in _PROCESSOR_FILES)
    return tuple(sorted({*folder.weight_files, *(file for file in prepared if file.is_file())}))


def media_model(
    modality: Modality, settings: MediaEncoderSettings, media: MediaSettings, *, weights_digest: str
) -> MediaModel:
    """Return the model the settings name and its key.

    Args:
        weights_digest: Digest of `deciding_files`.

    Raises:
        UnavailableError: See `find_folder`.
    """
    folder, model_type = find_folder(modality, settings)
    window = settings.window_seconds if isinstance(settings, AudioEncoderSettings) else None
    limit = media.max_megapixels if modality == "image" else media.max_seconds
    spec = _Spec(weights_digest, modality, settings.precision, window, limit)
    return MediaModel(modality, folder, model_type, spec.key)


def require_decoder(modality: Modality) -> None:
    """Check that the package that decodes the files is installed.

    Raises:
        UnavailableError: It is not; how to install it.
    """
    module, package = _PACKAGES[modality]
    if importlib.util.find_spec(module) is None:
        raise UnavailableError(
            f"{section(modality)} needs the package {package}", next_step="run: pip install 'recpipe[media]'"
        )


def require_media_precision(modality: Modality, settings: MediaEncoderSettings, device: str) -> None:
    """Refuse arithmetic the device would only emulate.

    Raises:
        UnavailableError: See `require_precision`.
    """
    try:
        require_precision(settings.precision, device)
    except UnavailableError as error:
        raise _said_of(error, f"{section(modality)}.precision") from error


def _said_of(error: UnavailableError, key: str) -> UnavailableError:
    """Return an error about the encoder of texts as one about this encoder's key."""
    texts = (error.what, error.where, error.next_step)
    name = key.rpartition(".")[2]
    what, where, step = (text and text.replace(f"encoder.{name}", key) for text in texts)
    return UnavailableError(str(what), where=where, next_step=step)
