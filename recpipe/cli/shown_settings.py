"""Settings in one short line: those that were changed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from recpipe.config import Settings, identity_of
from recpipe.models.settings import ModelSettings


def changed_settings(settings: Settings, defaults: type[Settings]) -> list[str]:
    """Return what differs from the defaults, as `section.key=value`; execution settings are left out.

    Args:
        settings: A stage's settings: sections and keys of the configuration.
        defaults: The whole configuration's class, for the keys outside a section.
    """
    changed: list[str] = []
    for name in type(settings).model_fields:
        value = getattr(settings, name)
        if isinstance(value, Settings):
            changed += [f"{name}.{entry}" for entry in _changed(value, identity_of(value))]
        elif name in (identity := identity_of(settings)) and value != _default(defaults, name):
            changed.append(f"{name}={_short(identity[name])}")
    return changed


def _changed(section: Settings, identity: dict[str, Any]) -> Iterator[str]:
    for name in type(section).model_fields:
        if name not in identity:
            continue
        value, shown = getattr(section, name), identity[name]
        # a model's own class has its own name as the default
        owner = ModelSettings if isinstance(section, ModelSettings) and name == "model" else type(section)
        if isinstance(value, Settings):
            yield from (f"{name}.{entry}" for entry in _changed(value, shown))
        elif value != _default(owner, name):
            yield f"{name}={_short(shown)}"


def _default(owner: type[Settings], name: str) -> Any:
    field = owner.model_fields.get(name)
    return field.get_default(call_default_factory=True) if field else None


def _short(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, separators=(",", ":"))
