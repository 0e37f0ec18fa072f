"""Whole-number arithmetic (int8) calibrated on the data's own texts, and what it costs in accuracy.

Post-training quantisation by nncf with SmoothQuant (https://arxiv.org/abs/2211.10438): the ranges of
the activations are those of a sample of texts, so the sample decides the vectors. A calibrated model
is therefore stored and used again; its digest enters the encoder key.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from recpipe.encoders import openvino
from recpipe.encoders.backends import model_inputs
from recpipe.encoders.batching import token_batches
from recpipe.encoders.calibrated import MODEL_FILE, NEIGHBOURS, Calibration, files_digest, note
from recpipe.encoders.folder import EncoderFolder
from recpipe.encoders.loading import load_tokenizer, load_transformer, padding_id, probe_of
from recpipe.encoders.settings import EncoderSettings, Role
from recpipe.encoders.spec import choose_pooling
from recpipe.encoders.text import TextEncoder
from recpipe.errors import GateError

CALIBRATION_TEXTS, HELD_OUT_TEXTS = 300, 500
# Fewer texts say neither how far activations reach nor which neighbours change.
FEWEST_TEXTS = 40
# Batches of like length carry little padding, which would widen the ranges.
_BATCH_TOKENS = 512


def split(texts: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the texts to calibrate on and those to measure on, from a sample in an order that is fixed.

    Raises:
        GateError: There are too few to judge by.
    """
    if len(texts) < FEWEST_TEXTS:
        raise GateError(
            f"{len(texts)} different texts are too few to calibrate int8 and to measure it: {FEWEST_TEXTS} are needed",
            where="encoder.precision: int8",
            next_step="--set encoder.precision=float32",
        )
    count = min(CALIBRATION_TEXTS, 3 * len(texts) // 8)
    return list(texts[:count]), list(texts[count : count + HELD_OUT_TEXTS])


def calibrate(
    folder: EncoderFolder, settings: EncoderSettings, *, role: Role, texts: Sequence[str], destination: Path
) -> Calibration:
    """Calibrate a model on texts, store it and measure it on others.

    Args:
        settings: With precision int8.
        texts: Distinct texts without prompt, in an order that is fixed (`split`).
        destination: An existing folder for the model and its figures.

    Raises:
        GateError: The texts are too few.
        UnavailableError: OpenVINO or nncf is not here, or cannot handle the model.
    """
    nncf, library = openvino.require("nncf"), openvino.require("openvino")
    chosen, held_out = split(texts)
    exact = TextEncoder.load(
        folder,
        settings.model_copy(update={"precision": "float32", "backend": "torch"}),
        role=role,
        device="cpu",
    )
    tokenizer = load_tokenizer(folder)
    pad = padding_id(tokenizer)
    model = load_transformer(folder, choose_pooling(folder, settings))
    converted = openvino.convert(model, probe_of(model, folder, settings, tokenizer), pad=pad)
    tokens = exact.tokens(chosen)
    batches = [model_inputs(tokens, rows, pad=pad) for rows in token_batches(tokens.lengths, _BATCH_TOKENS)]
    with openvino.quiet():
        quantised = nncf.quantize(
            converted, nncf.Dataset(batches), model_type=nncf.ModelType.TRANSFORMER, subset_size=len(batches)
        )
        library.save_model(quantised, destination / MODEL_FILE, compress_to_fp16=False)
    rough = TextEncoder.load(folder, settings, role=role, device="cpu", calibrated=destination)
    result = replace(
        compare(exact.encode(held_out).vectors, rough.encode(held_out).vectors),
        digest=files_digest(destination),
        calibration_texts=len(chosen),
    )
    note(result, destination)
    return result


def compare(exact: npt.NDArray[np.float32], rough: npt.NDArray[np.float32]) -> Calibration:
    """Measure vectors (n, dim) of the same texts against each other; digest and calibration_texts stay empty."""
    assert exact.shape == rough.shape, (exact.shape, rough.shape)
    exact, rough = _unit(exact), _unit(rough)
    deviation = 1 - np.einsum("nd,nd->n", exact, rough)
    kept = [len(set(a) & set(b)) / len(a) for a, b in zip(_nearest(exact), _nearest(rough), strict=True)]
    return Calibration("", 0, len(exact), float(deviation.max()), float(deviation.mean()), float(np.mean(kept)))


def _unit(vectors: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)  # type: ignore[no-any-return]


def _nearest(vectors: npt.NDArray[np.float32]) -> list[list[int]]:
    """Return each row's nearest other rows."""
    similarity = vectors @ vectors.T
    np.fill_diagonal(similarity, -np.inf)
    count = min(NEIGHBOURS, len(vectors) - 1)
    return np.argsort(-similarity, axis=1, kind="stable")[:, :count].tolist()  # type: ignore[no-any-return]
