"""What a model folder says about itself, read without torch or transformers.

sentence-transformers writes beside the weights which modules follow the transformer
(`modules.json`), how token vectors are pooled (`1_Pooling/config.json`), the longest text
(`sentence_bert_config.json`) and the prompts (`config_sentence_transformers.json`). Both its
older and its current spellings are read.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from recpipe.encoders.settings import POOLINGS, Pooling
from recpipe.errors import UnavailableError

MODULES_FILE = "modules.json"
DENSE_ACTIVATIONS = ("Identity", "Tanh", "ReLU", "GELU", "SiLU", "Sigmoid")

# In the order in which sentence-transformers puts the vectors behind one another.
_POOLING_FLAGS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
_SENTENCE_CONFIGS = tuple(
    f"sentence_{family}_config.json"
    for family in ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
)
# These families start counting positions after the padding token's id, so two positions are never a token's.
_OFFSET_POSITIONS = frozenset(
    {"roberta", "xlm-roberta", "xlm-roberta-xl", "camembert", "mpnet", "longformer", "data2vec-text", "ibert"}
)
# Files that decide how a text becomes tokens, or what is done with the transformer's output.
_TEXT_FILES = (
    "config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
    "vocab.txt", "vocab.json", "merges.txt", "tokenizer.model", "spiece.model", "sentencepiece.bpe.model",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Head:
    """A module after pooling.

    Attributes:
        path: Folder of a dense layer's config and weights.
        activation: Name of the class in torch.nn applied after a dense layer.
    """

    kind: Literal["dense", "normalise"]
    path: Path | None = None
    activation: str = "Identity"
    out_features: int = 0


@dataclass(frozen=True, slots=True)
class EncoderFolder:
    """A model folder and what its files say.

    Attributes:
        name: The name it was asked for by.
        path: The folder; `transformer_path` is the one with the transformer itself.
        weight_files: Weights, in safetensors, of the transformer and of dense layers.
        config_files: Everything else that can change a vector: tokeniser and module files.
        pooling: As stated by the folder; None where it states none.
        unsupported_pooling: What it states where recpipe has no such pooling.
        model_type: Kind of transformer, as in its config.json.
        heads: Modules after pooling, in order.
        prompts: Prompt texts by name ("query", "document", ...).
        prompt_is_pooled: Whether the prompt's tokens count in the pooling.
        max_length: Longest text in tokens; None where nothing states one.
        max_positions: Tokens the position table of the transformer holds; None: no such table.
        expected_sha256: What the first weight file must hash to; None: anything.
    """

    name: str
    path: Path
    transformer_path: Path
    weight_files: tuple[Path, ...]
    config_files: tuple[Path, ...]
    pooling: Pooling | None = None
    unsupported_pooling: str | None = None
    model_type: str = ""
    heads: tuple[Head, ...] = ()
    prompts: dict[str, str] = field(default_factory=dict)
    default_prompt_name: str | None = None
    prompt_is_pooled: bool = True
    max_length: int | None = None
    max_positions: int | None = None
    lower_case: bool = False
    expected_sha256: str | None = None

    @property
    def normalise(self) -> bool:
        """Whether the folder's last module makes unit vectors."""
        return bool(self.heads) and self.heads[-1].kind == "normalise"

    @property
    def digest_files(self) -> tuple[Path, ...]:
        """Every file whose content decides a vector, sorted: the input of the weights digest."""
        return tuple(sorted({*self.weight_files, *self.config_files}))


def read_folder(name: str, path: Path, *, expected_sha256: str | None = None) -> EncoderFolder:
    """Read a model folder's files.

    Raises:
        UnavailableError: No model in it, weights in pickle alone, or modules recpipe cannot run.
    """
    modules = _read_modules(name, path)
    transformer_path = path / modules[0][1] if modules else path
    config = _read_json(transformer_path / "config.json")
    if config is None:
        raise UnavailableError(
            f"no model in the folder of '{name}': config.json is missing",
            where=str(transformer_path),
            next_step="give encoder.model_name a folder with config.json, a tokeniser and model.safetensors",
        )
    sentence_config = _first_json(transformer_path, _SENTENCE_CONFIGS)
    _check_task(name, path, sentence_config)
    prompts_config = _read_json(path / "config_sentence_transformers.json") or {}
    pooling, unsupported, prompt_is_pooled = _pooling_of(modules, path)
    heads = _heads_of(name, path, modules)
    dense_paths = [head.path for head in heads if head.path is not None]
    max_positions = _positions(config)
    return EncoderFolder(
        name=name,
        path=path,
        transformer_path=transformer_path,
        weight_files=(
            *_weights(name, transformer_path),
            *(file for dense in dense_paths for file in _weights(name, dense)),
        ),
        config_files=_existing(path, transformer_path, [directory for _, directory in modules]),
        pooling=pooling,
        unsupported_pooling=unsupported,
        model_type=str(config.get("model_type") or ""),
        heads=heads,
        prompts={key: value for key, value in (prompts_config.get("prompts") or {}).items() if value is not None},
        default_prompt_name=prompts_config.get("default_prompt_name"),
        prompt_is_pooled=prompt_is_pooled,
        max_length=_max_length(transformer_path, sentence_config, max_positions),
        max_positions=max_positions,
        lower_case=bool(sentence_config.get("do_lower_case")),
        expected_sha256=expected_sha256,
    )


def _read_json(path: Path) -> Any:
    """Return the parsed file; None when it does not exist."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UnavailableError(f"a file of the model is damaged: {error}", where=str(path)) from error


def _first_json(folder: Path, names: tuple[str, ...]) -> dict[str, Any]:
    found = (_read_json(folder / name) for name in names)
    return next((dict(value) for value in found if value is not None), {})


def _read_modules(name: str, path: Path) -> list[tuple[str, str]]:
    """Return (kind, folder) of each module in order; an empty list without modules.json."""
    entries = _read_json(path / MODULES_FILE) or []
    modules = []
    for entry in entries:
        package, _, kind = str(entry["type"]).rpartition(".")
        if package.split(".")[0] != "sentence_transformers":
            raise _unsupported(name, path, f"module {entry['type']} brings its own code, which recpipe never runs")
        modules.append((kind, str(entry.get("path") or "")))
    kinds = [kind for kind, _ in modules]
    if modules and kinds[:2] != ["Transformer", "Pooling"]:
        raise _unsupported(name, path, f"modules {', '.join(kinds)}; they must begin with Transformer, Pooling")
    return modules


def _unsupported(name: str, path: Path, reason: str) -> UnavailableError:
    return UnavailableError(
        f"model '{name}' cannot be used: {reason}",
        where=str(path / MODULES_FILE),
        next_step="choose a model of Transformer, Pooling, Dense and Normalize modules",
    )


def _check_task(name: str, path: Path, sentence_config: dict[str, Any]) -> None:
    task = sentence_config.get("transformer_task", "feature-extraction")
    if task != "feature-extraction":
        raise _unsupported(name, path, f"its transformer is made for {task}, not for embeddings")


def _pooling_of(modules: list[tuple[str, str]], path: Path) -> tuple[Pooling | None, str | None, bool]:
    """Return the pooling, the name of one recpipe does not have, and whether prompt tokens are pooled."""
    if not modules:
        return None, None, True
    config = _read_json(path / modules[1][1] / "config.json")
    if config is None:
        return None, None, True
    stated = config.get("pooling_mode")
    if stated is None:
        # sentence-transformers takes the mean when no flag is set.
        stated = [mode for flag, mode in _POOLING_FLAGS.items() if config.get(flag)] or ["mean"]
    modes = [stated] if isinstance(stated, str) else list(stated)
    modes = ["last_token" if mode == "lasttoken" else mode for mode in modes]
    prompt_is_pooled = bool(config.get("include_prompt", True))
    if set(modes) <= set(POOLINGS) - {"pooler"}:
        return "+".join(modes), None, prompt_is_pooled
    return None, "+".join(modes), prompt_is_pooled


def _heads_of(name: str, path: Path, modules: list[tuple[str, str]]) -> tuple[Head, ...]:
    heads = []
    for kind, folder in modules[2:]:
        if kind == "Normalize":
            heads.append(Head("normalise"))
        elif kind == "Dense":
            heads.append(_dense(name, path, folder))
        elif kind != "Dropout":  # dropout does nothing outside training
            raise _unsupported(name, path, f"module {kind} is not supported")
    return tuple(heads)


def _dense(name: str, path: Path, folder: str) -> Head:
    config = _read_json(path / folder / "config.json") or {}
    activation = str(config.get("activation_function", "Tanh")).rpartition(".")[2]
    if activation not in DENSE_ACTIVATIONS:
        raise _unsupported(name, path, f"activation {activation} of {folder}; known: {', '.join(DENSE_ACTIVATIONS)}")
    if config.get("use_residual"):
        raise _unsupported(name, path, f"the dense layer {folder} has a residual connection")
    if "out_features" not in config:
        raise _unsupported(name, path, f"{folder}/config.json does not state out_features")
    return Head("dense", path / folder, activation, int(config["out_features"]))


def _weights(name: str, folder: Path) -> tuple[Path, ...]:
    single = folder / "model.safetensors"
    if single.is_file():
        return (single,)
    index = _read_json(folder / "model.safetensors.index.json")
    files = tuple(folder / file for file in sorted(set(index["weight_map"].values()))) if index else ()
    missing = [file.name for file in files if not file.is_file()]
    if files and not missing:
        return files
    if missing:
        reason, step = f"{', '.join(missing)} of its weights is missing", "complete the folder"
    elif (folder / "pytorch_model.bin").exists():
        reason = "its weights are a pickle (pytorch_model.bin), which can run code when it is read"
        step = "save it once as safetensors: AutoModel.from_pretrained(...).save_pretrained(FOLDER)"
    elif (folder / "adapter_config.json").exists():
        reason, step = "it is an adapter without its base model", "merge the adapter into the base model and save that"
    else:
        reason, step = "model.safetensors is missing", "give encoder.model_name a folder with model.safetensors"
    raise UnavailableError(f"model '{name}' cannot be used: {reason}", where=str(folder), next_step=step)


def _existing(path: Path, transformer_path: Path, folders: list[str]) -> tuple[Path, ...]:
    candidates = [transformer_path / file for file in (*_TEXT_FILES, *_SENTENCE_CONFIGS)]
    candidates += [path / file for file in (MODULES_FILE, "config_sentence_transformers.json")]
    candidates += [path / folder / "config.json" for folder in folders]
    return tuple(sorted({file for file in candidates if file.is_file()}))


def _positions(config: dict[str, Any]) -> int | None:
    text_config = config.get("text_config") or {}
    positions = config.get("max_position_embeddings", text_config.get("max_position_embeddings"))
    if not isinstance(positions, int) or positions <= 0:  # XLNet writes -1: no limit
        return None
    if config.get("model_type") in _OFFSET_POSITIONS:
        return positions - int(config.get("pad_token_id") or 0) - 1
    return positions


def _max_length(transformer_path: Path, sentence_config: dict[str, Any], max_positions: int | None) -> int | None:
    tokenizer_config = _read_json(transformer_path / "tokenizer_config.json") or {}
    stated = sentence_config.get("max_seq_length") or tokenizer_config.get("model_max_length")
    # transformers writes 1e30 where a tokeniser has no limit.
    limits = [limit for limit in (stated, max_positions) if isinstance(limit, int | float) and 0 < limit < 1e9]
    return int(min(limits)) if limits else None
