"""Loading tokeniser, transformer and dense layers of a model folder, quietly and without its code."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from recpipe.encoders import openvino
from recpipe.encoders.backends import TOLERANCE, Backend, TorchBackend, deviation, probe
from recpipe.encoders.batching import Tokens
from recpipe.encoders.calibrated import MODEL_FILE
from recpipe.encoders.folder import EncoderFolder, Head
from recpipe.encoders.packed import PackedBackend, can_pack
from recpipe.encoders.settings import EncoderSettings, Pooling
from recpipe.encoders.spec import choose_max_length, choose_pooling
from recpipe.errors import UnavailableError

logger = logging.getLogger(__name__)

# Encoder-decoders of which only the encoder is wanted; some folders hold no decoder at all.
_ENCODER_OF = frozenset({"t5", "mt5", "umt5"})


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Keep transformers' progress bars, load reports and advice off stderr."""
    from transformers.utils import logging as transformers_logging

    verbosity = transformers_logging.get_verbosity()
    bars = transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        if bars:
            transformers_logging.enable_progress_bar()


def load_tokenizer(folder: EncoderFolder) -> Any:
    """Return the folder's tokeniser, the fast one where there is one.

    Raises:
        UnavailableError: It cannot be loaded.
    """
    from transformers import AutoTokenizer

    with quiet_transformers(), explained(folder, "tokeniser"):
        return AutoTokenizer.from_pretrained(folder.transformer_path, local_files_only=True, trust_remote_code=False)


def load_transformer(folder: EncoderFolder, pooling: Pooling) -> Any:
    """Return the folder's transformer in float32, in evaluation mode, on the CPU.

    Raises:
        UnavailableError: It cannot be loaded, or some of its weights are missing.
    """
    from transformers import AutoConfig, AutoModel, AutoModelForTextEncoding

    with quiet_transformers(), explained(folder, "weights"):
        config = AutoConfig.from_pretrained(folder.transformer_path, local_files_only=True, trust_remote_code=False)
        loader = AutoModelForTextEncoding if config.model_type in _ENCODER_OF else AutoModel
        model, info = loader.from_pretrained(
            folder.transformer_path,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            output_loading_info=True,
        )
    _check_missing(folder, sorted(info["missing_keys"]), pooling)
    return model.float().eval().requires_grad_(False)


def load_backend(
    folder: EncoderFolder, settings: EncoderSettings, *, tokenizer: Any, device: str, calibrated: Path | None = None
) -> Backend:
    """Load the transformer and return what computes it, checked against the plain way.

    Args:
        calibrated: Folder of the int8 model, where precision is int8.

    Raises:
        UnavailableError: It cannot be loaded, or OpenVINO computes something else.
    """
    pad = padding_id(tokenizer)
    threads = 1 if device.startswith("cuda") and settings.backend == "torch" else torch.get_num_threads()
    if settings.precision == "int8":
        if calibrated is None:
            raise ValueError("int8 needs a calibrated model")
        model = openvino.read(calibrated / MODEL_FILE)
        return openvino.OpenVinoBackend(model, pad=pad, threads=threads)
    model = load_transformer(folder, choose_pooling(folder, settings))
    if settings.backend == "openvino":
        device = "cpu"
    plain = TorchBackend(model, pad=pad, device=device, precision=settings.precision, threads=threads)
    if settings.backend == "openvino":
        tokens = probe_of(model, folder, settings, tokenizer)
        faster = openvino.OpenVinoBackend(openvino.convert(model, tokens, pad=pad), pad=pad, threads=threads)
        _require_equal(plain, faster, tokens, folder)
        return faster
    if device != "cpu" or settings.precision != "float32" or not can_pack(model):
        return plain
    return _packed_or(plain, model, probe_of(model, folder, settings, tokenizer), name=folder.name, pad=pad)


def padding_id(tokenizer: Any) -> int:
    """Return the token id batches are padded with."""
    return int(tokenizer.pad_token_id or 0)


def probe_of(model: Any, folder: EncoderFolder, settings: EncoderSettings, tokenizer: Any) -> Tokens:
    """Return made-up texts a transformer can read."""
    return probe(
        vocabulary=int(model.config.vocab_size),
        max_length=choose_max_length(folder, settings),
        pad=padding_id(tokenizer),
        with_types="token_type_ids" in tokenizer.model_input_names,
    )


def _packed_or(plain: TorchBackend, model: Any, tokens: Tokens, *, name: str, pad: int) -> Backend:
    """Return the packed form of a model where it computes the same, else the plain one."""
    try:
        packed = PackedBackend(model, pad=pad, threads=plain.threads)
        difference = deviation(plain, packed, tokens)
    except (RuntimeError, TypeError) as error:  # operators that torch does not promise to keep
        logger.warning("'%s' is computed with padding, its packed form fails: %s", name, error)
        return plain
    if difference > TOLERANCE:
        logger.warning("'%s' is computed with padding, its packed form differs by %.1e", name, difference)
        return plain
    return packed


def _require_equal(plain: TorchBackend, converted: Backend, tokens: Tokens, folder: EncoderFolder) -> None:
    """Refuse a conversion that computes something else: one that treats padding as text was off by 0.07."""
    difference = deviation(plain, converted, tokens)
    if difference > TOLERANCE:
        raise UnavailableError(
            f"'{folder.name}' converted to OpenVINO differs from the original by {difference:.1e}",
            where="encoder.backend: openvino",
            next_step="--set encoder.backend=torch",
        )


def load_dense(folder: EncoderFolder, head: Head) -> nn.Module:
    """Return a dense layer with its activation.

    Raises:
        UnavailableError: Its weights are damaged.
    """
    assert head.path is not None
    with explained(folder, f"dense layer {head.path.name}"):
        weights = load_file(head.path / "model.safetensors")
        weight, bias = weights["linear.weight"], weights.get("linear.bias")
        linear = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
        linear.load_state_dict({key.removeprefix("linear."): value for key, value in weights.items()})
    activation: nn.Module = getattr(nn, head.activation)()
    return nn.Sequential(linear, activation).float().eval().requires_grad_(False)


def _check_missing(folder: EncoderFolder, missing: list[str], pooling: Pooling) -> None:
    """Refuse weights that transformers would fill with random numbers."""
    if pooling != "pooler":  # the pooler is not used then, and many folders leave it out
        missing = [key for key in missing if "pooler." not in key]
    if missing:
        shown = ", ".join(missing[:3]) + (f" and {len(missing) - 3} more" if len(missing) > 3 else "")
        raise UnavailableError(
            f"the weights of '{folder.name}' are incomplete: {shown}",
            where=str(folder.transformer_path),
            next_step="choose another pooling"
            if all("pooler." in key for key in missing)
            else "check the model folder",
        )


@contextmanager
def explained(folder: EncoderFolder, part: str, *, key: str = "encoder.model_name") -> Iterator[None]:
    """Turn the errors of loading into one that names the model, its part and the setting that names it."""
    try:
        yield
    except (OSError, ValueError, KeyError, ImportError, RuntimeError, SafetensorError) as error:
        reason = str(error).strip().partition("\n")[0]
        if "trust_remote_code" in str(error):
            reason = "it brings its own code, which recpipe never runs"
        raise UnavailableError(
            f"the {part} of '{folder.name}' cannot be loaded: {reason}",
            where=str(folder.path),
            next_step=f"check the model folder, or choose another {key}",
        ) from error
