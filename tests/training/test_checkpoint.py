from __future__ import annotations

from pathlib import Path

import pytest
import torch

from recpipe.training.checkpoint import Checkpoint, read_checkpoint, write_checkpoint

TENSORS = {"a": torch.tensor([[1.5, -2.0]]), "scalar": torch.tensor(3.0), "state": torch.Generator().get_state()}


def test_round_trip_is_exact(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "fit.safetensors"
    write_checkpoint(path, Checkpoint(TENSORS, {"step": 3, "values": [0.1, None]}), identity="me")
    found = read_checkpoint(path, identity="me")
    assert found is not None
    assert found.values == {"step": 3, "values": [0.1, None]}
    assert {name: tensor.tolist() for name, tensor in found.tensors.items()} == {
        name: tensor.tolist() for name, tensor in TENSORS.items()
    }
    assert [entry.name for entry in path.parent.iterdir()] == ["fit.safetensors"]


def test_failed_write_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "fit.safetensors"
    write_checkpoint(path, Checkpoint(TENSORS, {"step": 1}), identity="me")

    def full(*args: object) -> None:
        raise OSError("no space")

    monkeypatch.setattr("recpipe.training.checkpoint.os.fsync", full)
    with pytest.raises(OSError, match="no space"):
        write_checkpoint(path, Checkpoint(TENSORS, {"step": 2}), identity="me")
    found = read_checkpoint(path, identity="me")
    assert found is not None and found.values == {"step": 1}


@pytest.mark.parametrize("content", [None, b"", b"not safetensors at all"])
def test_absent_or_damaged_is_none(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "fit.safetensors"
    if content is not None:
        path.write_bytes(content)
    assert read_checkpoint(path, identity="me") is None


def test_anothers_is_none(tmp_path: Path) -> None:
    path = tmp_path / "fit.safetensors"
    write_checkpoint(path, Checkpoint(TENSORS, {}), identity="you")
    assert read_checkpoint(path, identity="me") is None
