"""Checkpoints of a fit: one safetensors file whose header carries the plain values as JSON.

A single file, written beside its place and renamed, is whole or absent after a kill. Nothing
is pickled. A checkpoint of other data, settings or seed is not taken up.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

FORMAT = 1


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """State of a fit between two steps.

    Attributes:
        tensors: Named tensors, on the CPU.
        values: Plain JSON values.
    """

    tensors: Mapping[str, torch.Tensor]
    values: Mapping[str, Any]


def write_checkpoint(path: Path, checkpoint: Checkpoint, *, identity: str) -> None:
    """Write atomically.

    Args:
        identity: Names the fit: data, settings, seed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in checkpoint.tensors.items()}
    header = {"format": FORMAT, "identity": identity, "values": dict(checkpoint.values)}
    save_file(tensors, temporary, metadata={"recpipe": json.dumps(header)})
    with temporary.open("rb+") as file:
        os.fsync(file.fileno())
    temporary.replace(path)


def read_checkpoint(path: Path, *, identity: str) -> Checkpoint | None:
    """Return the checkpoint of this very fit; None where there is none, or another's, or a damaged one."""
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {}).get("recpipe", "{}"))
            if header.get("format") != FORMAT or header.get("identity") != identity:
                return None
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    except (FileNotFoundError, SafetensorError, json.JSONDecodeError):
        return None
    return Checkpoint(tensors, header["values"])


def optimizer_tensors(
    optimizer: torch.optim.Optimizer, parameters: Mapping[str, torch.nn.Parameter]
) -> dict[str, torch.Tensor]:
    """Return the optimiser's state as named tensors: `<parameter>/<name>`."""
    return {
        f"{name}/{key}": torch.as_tensor(value)
        for name, parameter in parameters.items()
        for key, value in optimizer.state.get(parameter, {}).items()
    }


def restore_optimizer(
    optimizer: torch.optim.Optimizer, parameters: Mapping[str, torch.nn.Parameter], tensors: Mapping[str, torch.Tensor]
) -> None:
    """Give the optimiser the state that `optimizer_tensors` returned."""
    for name, parameter in parameters.items():
        prefix = f"{name}/"
        kept = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
        if kept:
            optimizer.state[parameter] = {
                # fused Adam keeps its step counter on the parameters' device
                key: value.to(parameter.device, copy=True)
                for key, value in kept.items()
            }
