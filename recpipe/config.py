"""Typed configuration: YAML and `--set` in, frozen settings out.

A capability declares its settings beside its code (`segments/settings.py`, ...); the root
class that joins them is assembled in `recpipe.stages.settings`. This module knows how to
read, override, validate and canonicalise them, and how to say what is wrong.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from recpipe.errors import ConfigError


class Settings(BaseModel):
    """Base of all settings: frozen, no unknown keys, one docstring a field.

    The docstring below a field is its description in docs/configuration.md.
    """

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        validate_default=True,
        allow_inf_nan=False,
        protected_namespaces=(),
    )


class Execution:
    """Marks a field that changes how a result is computed but not what it is.

    Such fields (device, workers, batch sizes) stay out of fingerprints:
    `batch_tokens: Annotated[PositiveInt, Execution()] = 1024`.
    """


S = TypeVar("S", bound=Settings)

_RESERVED = ("*", "&", "!", "|", ">", "%", "@", "`", "#", ",")
"""Signs no plain YAML value starts with; the shell's user means them literally."""


def nearest(word: str, known: Iterable[str]) -> list[str]:
    """Return the known words, those most like `word` first."""
    names = sorted(known)
    close = difflib.get_close_matches(word, names, n=3, cutoff=0.5)
    return close + [name for name in names if name not in close]


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return the next step for an unknown word: the likely one first, then all valid ones."""
    names = sorted(known)
    close = difflib.get_close_matches(word, names, n=1, cutoff=0.5)
    guess = f"did you mean '{close[0]}'? " if close else ""
    return f"{guess}valid: {', '.join(nearest(word, names))}"


def read_raw(path: Path | None, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Read a YAML file and lay `section.key=value` overrides over it.

    Args:
        path: The YAML file; None means an empty one.
        overrides: Strings of the form `train.hidden_dim=128`; values are YAML, but a value that
            starts with a sign YAML keeps for itself (`*.csv`, `|`, `#`) is text.

    Raises:
        ConfigError: The file is missing or no mapping, or an override is malformed.
    """
    raw: dict[str, Any] = {}
    if path is not None:
        try:
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            raise ConfigError(
                "configuration file not found", where=str(path), next_step="check the path after -c/--config"
            ) from None
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"configuration file cannot be read: {error}", where=str(path)) from error
        loaded = _parse_yaml(text, str(path))
        _refuse_repeated_keys(text, path)
        if loaded is not None and not isinstance(loaded, dict):
            raise ConfigError("a configuration is a mapping of sections", where=str(path))
        raw = loaded or {}
    for override in overrides:
        _apply_override(raw, override)
    return raw


def _parse_yaml(text: str, where: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"{where}, line {mark.line + 1}, column {mark.column + 1}" if mark else where
        problem = getattr(error, "problem", None) or str(error)
        raise ConfigError(f"invalid YAML: {problem}", where=place) from error


def _refuse_repeated_keys(text: str, path: Path) -> None:
    """Refuse a key that stands twice: YAML keeps the last one and drops the first silently."""
    seen: dict[str, int] = {}
    for key, line in _keys_of(yaml.compose(text, Loader=yaml.SafeLoader)):
        if key in seen:
            raise ConfigError(f"key '{key}' stands twice: lines {seen[key]} and {line}", where=str(path))
        seen[key] = line


def _keys_of(node: yaml.Node | None, prefix: str = "") -> Iterator[tuple[str, int]]:
    """Yield the dotted keys of a YAML document with their line numbers."""
    if isinstance(node, yaml.MappingNode):
        for key_node, value_node in node.value:
            key = f"{prefix}{key_node.value}"
            yield key, key_node.start_mark.line + 1
            yield from _keys_of(value_node, f"{key}.")


def _apply_override(raw: dict[str, Any], override: str) -> None:
    key, separator, value = override.partition("=")
    names = key.strip().split(".")
    if not separator or not all(names):
        raise ConfigError(
            f"cannot read --set {override!r}",
            next_step="write --set section.key=value, e.g. --set cluster.n_clusters=8",
        )
    section = raw
    for name in names[:-1]:
        child = section.get(name)
        if child is None:
            child = section[name] = {}
        if not isinstance(child, dict):
            raise ConfigError(f"--set {key}: '{name}' is a value, not a section")
        section = child
    value = value.strip()
    section[names[-1]] = value if value.startswith(_RESERVED) else _parse_yaml(value, f"--set {key}")


def validate(
    settings: type[S], raw: Mapping[str, Any], *, path: Path | None = None, overrides: Sequence[str] = ()
) -> S:
    """Build settings from a raw mapping, made by `read_raw` from the same path and overrides.

    Raises:
        ConfigError: Every problem found, each with its key and its line in the file, or `--set`.
    """
    try:
        return settings.model_validate(dict(raw))
    except ValidationError as error:
        places = {key: f"line {line}" for key, line in _key_lines(path).items()}
        places |= {override.partition("=")[0].strip(): "--set" for override in overrides}
        problems = [_describe(settings, raw, dict(problem), places) for problem in error.errors()]
        problems = list(dict.fromkeys(problems))
        where = str(path) if path else None
        raise ConfigError(
            "; ".join(problems), where=where, next_step="recpipe config shows every key and its value"
        ) from None


def _describe(settings: type[Settings], raw: Mapping[str, Any], problem: dict[str, Any], places: dict[str, str]) -> str:
    location = [str(part) for part in problem["loc"]]
    if problem["type"] != "missing":
        location = _given_location(raw, problem["loc"])
    key = ".".join(location)
    # an element of a list has no place of its own: its key's is near enough
    prefixes = (".".join(location[:length]) for length in range(len(location), 0, -1))
    place = next((f" ({places[prefix]})" for prefix in prefixes if prefix in places), "")
    if problem["type"] == "extra_forbidden":
        known = _fields_at(settings, location[:-1])
        return f"unknown key '{key}'{place}: {did_you_mean(location[-1], known)}"
    # "Input should be a valid integer, unable to parse string as an integer" says it twice
    message = str(problem["msg"]).removeprefix("Value error, ").partition(", unable to parse")[0]
    message = message.replace("Input should", "must")
    return f"{key or 'configuration'}{place}: {message} (got {problem['input']!r})"


def _given_location(raw: Mapping[str, Any], location: Sequence[str | int]) -> list[str]:
    """Return the part of an error's location that somebody wrote.

    For a field of several types pydantic appends the type that refused the value.
    """
    current: Any = raw
    found: list[str] = []
    for part in location:
        inside = isinstance(current, Mapping) and part in current
        if not inside and not (isinstance(current, list) and isinstance(part, int) and part < len(current)):
            break
        current = current[part]
        found.append(str(part))
    return found or [str(part) for part in location]


def _fields_at(settings: type[Settings], location: Sequence[str]) -> list[str]:
    """Names of the fields of the section at `location`."""
    current: Any = settings
    for name in location:
        field = getattr(current, "model_fields", {}).get(name)
        if field is None:
            return []
        current = field.annotation
    return list(getattr(current, "model_fields", {}))


def _key_lines(path: Path | None) -> dict[str, int]:
    """Map dotted keys of a YAML file to their line numbers."""
    if path is None:
        return {}
    return dict(_keys_of(yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)))


def identity_of(settings: Settings) -> dict[str, Any]:
    """Return the part of the settings that determines a result, as plain JSON values.

    Fields marked `Execution` are left out, at every depth.
    """
    values: dict[str, Any] = {}
    for name, field in type(settings).model_fields.items():
        if any(isinstance(mark, Execution) or mark is Execution for mark in field.metadata):
            continue
        values[name] = _plain(getattr(settings, name))
    return dict(json.loads(json.dumps(values, sort_keys=True, default=str)))


def _plain(value: Any) -> Any:
    if isinstance(value, Settings):
        return identity_of(value)
    if isinstance(value, Mapping):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(entry) for entry in value]
    if isinstance(value, (set, frozenset)):
        return sorted((_plain(entry) for entry in value), key=str)  # a set's own order differs from run to run
    return value


def to_yaml(settings: Settings) -> str:
    """Return settings as YAML in the order of their declaration."""
    return str(yaml.safe_dump(settings.model_dump(mode="json"), sort_keys=False, allow_unicode=True))
