"""Transformers computed by OpenVINO on the CPU: converted from PyTorch, or read from a file."""

from __future__ import annotations

import io
import logging
import os
import threading
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, redirect_stdout
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from recpipe.encoders.arithmetic import inference
from recpipe.encoders.backends import States, model_inputs
from recpipe.encoders.batching import Tokens
from recpipe.errors import UnavailableError

_STATES, _POOLER = "last_hidden_state", "pooler_output"


def require(name: str) -> Any:
    """Return the module `openvino` or `nncf`.

    Raises:
        UnavailableError: It is not installed.
    """
    try:
        with quiet():
            return import_module(name)
    except ImportError as error:
        raise UnavailableError(
            f"the package {name} is not installed",
            where="encoder.backend: openvino",
            next_step="pip install 'recpipe[openvino]', or --set encoder.backend=torch",
        ) from error


@contextmanager
def quiet() -> Iterator[None]:
    """Keep the libraries' progress bars off stdout, their advice off stderr and their usage reports at home.

    Both report usage to their makers unless they believe to run in a continuous integration.
    """
    before = {name: os.environ.get(name) for name in ("CI", "NNCF_CI")}
    os.environ.update(CI="true", NNCF_CI="1")
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def convert(model: Any, tokens: Tokens, *, pad: int) -> Any:
    """Return a transformer of PyTorch as a model of OpenVINO for batches of any size.

    Args:
        tokens: Texts of several lengths, to follow the model's steps on.

    Raises:
        UnavailableError: OpenVINO is not installed or cannot convert the model.
    """
    openvino = require("openvino")
    rows = np.arange(len(tokens.lengths))
    example = {name: torch.from_numpy(values) for name, values in model_inputs(tokens, rows, pad=pad).items()}
    try:
        with quiet(), torch.inference_mode(False), torch.no_grad():
            return openvino.convert_model(model, example_input=example)
    except Exception as error:  # converters raise whatever their frontends do
        raise UnavailableError(
            f"OpenVINO cannot convert this transformer: {str(error).strip().partition(chr(10))[0]}",
            where="encoder.backend: openvino",
            next_step="--set encoder.backend=torch",
        ) from error


def read(path: Path) -> Any:
    """Return a stored model.

    Raises:
        UnavailableError: OpenVINO is not installed, or the file is damaged.
    """
    openvino = require("openvino")
    try:
        return openvino.Core().read_model(path)
    except RuntimeError as error:
        raise UnavailableError(
            f"the model cannot be read: {str(error).strip().partition(chr(10))[0]}",
            where=str(path),
            next_step=f"remove {path.parent} and run again",
        ) from error


class OpenVinoBackend:
    """A transformer in OpenVINO, batches padded to their longest text; a batch on each core.

    Args:
        model: From `convert` or `read`.
        pad: Token id of padding.
        threads: Batches computed at a time.
    """

    def __init__(self, model: Any, *, pad: int, threads: int) -> None:
        openvino = require("openvino")
        self.device = torch.device("cpu")
        self.threads = threads
        self._pad = pad
        self._outputs = {name: place for place, output in enumerate(model.outputs) for name in output.get_names()}
        self.hidden_dim = int(model.outputs[self._outputs[_STATES]].get_partial_shape()[2].get_length())
        self._inputs = {name for entry in model.inputs for name in entry.get_names()}
        # f32: on a CPU with bfloat16 units OpenVINO would round by itself.
        options = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": threads}
        self._compiled = openvino.Core().compile_model(model, "CPU", options)
        self._requests = threading.local()

    def session(self) -> AbstractContextManager[None]:
        """Compute without gradients."""
        return inference(self.device, "float32")

    def states(self, tokens: Tokens, rows: npt.NDArray[np.int64]) -> States:
        """Compute the texts at `rows`; valid until the thread's next call."""
        if not hasattr(self._requests, "own"):
            self._requests.own = self._compiled.create_infer_request()
        inputs = model_inputs(tokens, rows, pad=self._pad)
        result = self._requests.own.infer(
            {name: values for name, values in inputs.items() if name in self._inputs},
            share_inputs=True,
            share_outputs=True,
        )
        place = self._outputs.get(_POOLER)
        return States(
            torch.from_numpy(result[self._outputs[_STATES]]),
            torch.from_numpy(tokens.lengths[rows]),
            None if place is None else torch.from_numpy(result[place]),
        )
