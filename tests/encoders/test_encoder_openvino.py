from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError
from tiny_encoder import build_tiny_bert

from recpipe.encoders import loading, openvino
from recpipe.encoders.resolve import resolve
from recpipe.encoders.settings import EncoderSettings
from recpipe.encoders.text import TextEncoder
from recpipe.errors import UnavailableError

pytest.importorskip("openvino")
TEXTS = ["love", "a robot", "the night of the war and the city of love", "x", "word " * 100, "a space robot story"]


def load(folder: Path, **settings: object) -> TextEncoder:
    chosen = EncoderSettings.model_validate({"backend": "openvino", **settings})
    return TextEncoder.load(resolve(str(folder)), chosen, role="document", device="cpu")


@pytest.mark.parametrize("pooling", ["mean", "cls", "last_token", "pooler", "cls+max"])
def test_vectors_are_those_of_torch(tmp_path: Path, pooling: str) -> None:
    build_tiny_bert(tmp_path)
    found = load(tmp_path, pooling=pooling, batch_tokens=60)
    assert isinstance(found._backend, openvino.OpenVinoBackend)
    expected = load(tmp_path, pooling=pooling, backend="torch").encode(TEXTS)
    encoded = found.encode(TEXTS)
    np.testing.assert_allclose(encoded.vectors, expected.vectors, atol=1e-5)
    assert found.dim == encoded.vectors.shape[1]
    assert encoded.token_counts.tolist() == expected.token_counts.tolist()


def test_several_threads_give_the_same_vectors(tmp_path: Path) -> None:
    build_tiny_bert(tmp_path)
    found = load(tmp_path, batch_tokens=20)
    texts = [f"{text} {number}" for text in TEXTS for number in range(20)]
    expected = found.encode(texts).vectors
    found._backend.threads = 3
    np.testing.assert_allclose(found.encode(texts).vectors, expected, atol=1e-6)


def test_a_conversion_that_computes_something_else_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build_tiny_bert(tmp_path / "right")
    other = loading.load_transformer(resolve(str(build_tiny_bert(tmp_path / "other", seed=1))), "mean")
    convert = openvino.convert
    monkeypatch.setattr(openvino, "convert", lambda model, *args, **options: convert(other, *args, **options))
    with pytest.raises(UnavailableError, match="converted to OpenVINO differs from the original by"):
        load(tmp_path / "right")


def test_without_the_package_the_error_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> Any:
        raise ImportError(f"No module named {name!r}")

    monkeypatch.setattr(openvino, "import_module", absent)
    with pytest.raises(UnavailableError, match="openvino is not installed") as caught:
        load(build_tiny_bert(tmp_path))
    assert "pip install 'recpipe[openvino]'" in str(caught.value)


def test_loading_is_silent_and_leaves_the_environment(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    build_tiny_bert(tmp_path)
    capfd.readouterr()
    before = dict(os.environ)
    load(tmp_path).encode(TEXTS)
    assert capfd.readouterr() == ("", "")
    assert dict(os.environ) == before


@pytest.mark.parametrize(
    ("backend", "precision"), [("torch", "int8"), ("openvino", "float16"), ("openvino", "bfloat16")]
)
def test_backends_have_their_precisions(backend: str, precision: str) -> None:
    with pytest.raises(ValidationError, match=r"needs backend: openvino|has no precision"):
        EncoderSettings.model_validate({"backend": backend, "precision": precision})
