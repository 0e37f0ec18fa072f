"""`recpipe cache`: the size of the embedding cache, and keeping it small."""

from __future__ import annotations

import dataclasses
import json
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from recpipe.cli import options

if TYPE_CHECKING:
    from recpipe.store.cache_folder import KeyFolder
    from recpipe.store.cache_upkeep import KeySize, Pruned

_KEYS = click.option(
    "--key",
    "keys",
    multiple=True,
    metavar="KEY",
    help="Only this encoder key, or the one that begins like this; may be repeated.",
)


@click.group("cache", short_help="Show, prune and merge the embedding cache.")
def command() -> None:
    """Vectors that were computed once are kept in `cache.dir`, by encoder key: model, pooling, prompt, precision
    and whatever else decides a vector.

    \b
    Examples:
      recpipe cache size -c config.yaml
      recpipe cache merge -c config.yaml
    """


@command.command("size", short_help="Show what the cache holds, by encoder.")
@options.configured
@options.JSON
def size(
    config_path: Path | None,
    overrides: tuple[str, ...],
    workdir: Path | None,
    as_json: bool,
    log_format: str,
    debug: bool,
) -> None:
    """Show every encoder key with its encoder, segments, vectors, size and when it was last used (UTC).

    \b
    Example:
      recpipe cache size -c config.yaml
    """
    from recpipe import logs
    from recpipe.store.cache_upkeep import calibrated_bytes, sizes

    with logs.stage("cache"):
        cache = _folder(config_path, overrides, workdir)
        found = [entry for entry in sizes(cache) if entry.segments]
    if as_json:
        click.echo(json.dumps([_as_json(entry) for entry in found], indent=1, ensure_ascii=False))
        return
    if not found:
        click.echo(f"nothing is cached: {cache}")
        return
    rows = [_row(entry) for entry in sorted(found, key=lambda entry: entry.used_at or 0.0, reverse=True)]
    total = sum(entry.n_bytes for entry in found)
    rows.append(("total", _count(found, "segments"), _count(found, "vectors"), _bytes(total), "", ""))
    click.echo(f"{'key':<20} {'segments':>8} {'vectors':>12} {'size':>11}  {'last used':<16}  encoder")
    for key, segments, vectors, n_bytes, used, encoder in rows:
        click.echo(f"{key:<20} {segments:>8} {vectors:>12} {n_bytes:>11}  {used:<16}  {encoder}".rstrip())
    if models := calibrated_bytes(cache):
        click.echo(
            f"{_bytes(models)} more are calibrated int8 models, which only recpipe cache prune --older-than removes"
        )
    for entry in found:
        if entry.unreadable:
            click.echo(f"{entry.key}: {entry.unreadable} segments cannot be read; recpipe cache merge drops them")


def _count(found: list[KeySize], name: str) -> str:
    return f"{sum(getattr(entry, name) for entry in found):,}"


def _row(entry: KeySize) -> tuple[str, ...]:
    return (
        entry.key,
        f"{entry.segments:,}",
        f"{entry.vectors:,}",
        _bytes(entry.n_bytes),
        _time(entry)[:16].replace("T", " "),
        _encoder(entry.about),
    )


def _as_json(entry: KeySize) -> dict[str, Any]:
    return {**dataclasses.asdict(entry), "used_at": _time(entry) or None}


def _time(entry: KeySize) -> str:
    return datetime.fromtimestamp(entry.used_at, UTC).isoformat(timespec="seconds") if entry.used_at else ""


def _encoder(about: dict[str, list[str]]) -> str:
    if not about:
        return "unknown"
    model = " = ".join(about.get("model", ["unknown"]))  # one set of weights under two names has one key
    others = [f"{name} {' and '.join(values)}" for name, values in about.items() if name != "model"]
    return f"{model} ({', '.join(others)})" if others else model


def _bytes(n_bytes: int) -> str:
    return f"{n_bytes / 1e9:,.2f} GB" if n_bytes >= 1e9 else f"{n_bytes / 1e6:,.2f} MB"


@command.command("prune", short_help="Remove the vectors that were not used for longest.")
@options.configured
@click.option(
    "--max-gb", type=click.FloatRange(min=0), metavar="GB", help="Remove the least recently used ones beyond this size."
)
@click.option(
    "--older-than", type=click.FloatRange(min=0), metavar="DAYS", help="Remove what was not used for so many days."
)
@_KEYS
@options.DRY_RUN
def prune(
    config_path: Path | None,
    overrides: tuple[str, ...],
    workdir: Path | None,
    max_gb: float | None,
    older_than: float | None,
    keys: tuple[str, ...],
    dry_run: bool,
    log_format: str,
    debug: bool,
) -> None:
    """Remove segments, the least recently used first, and what killed runs left half written.

    Without options down to `cache.max_gb`; --key alone removes everything of that key. A key that a running
    stage uses is left alone. What is removed is computed again when it is needed. With --older-than, calibrated
    int8 models that were not used for so long go as well.

    \b
    Examples:
      recpipe cache prune -c config.yaml --older-than 30 --dry-run
      recpipe cache prune -c config.yaml --max-gb 5
      recpipe cache prune -c config.yaml --key 3f2a
    """
    from recpipe import logs
    from recpipe.errors import ConfigError, LockedError
    from recpipe.stages.pipeline.cached_files import file_digests
    from recpipe.stages.settings import load
    from recpipe.store.cache_upkeep import prune as prune_cache

    with logs.stage("cache"):
        config = load(config_path, overrides, workdir=workdir)
        wanted = [folder.key for folder in _chosen(config.cache_folder, keys)]
        if max_gb is None and older_than is None and not keys:
            max_gb = config.cache.max_gb
            if max_gb is None:
                raise ConfigError("cache.max_gb is null: nothing says what to remove", next_step="pass --max-gb")
        done = prune_cache(
            config.cache_folder,
            max_bytes=None if max_gb is None else int(max_gb * 1e9),
            unused_seconds=None if older_than is None else older_than * 86_400,
            keys=wanted if keys else None,
            dry_run=dry_run,
        )
        if keys and done.in_use:
            raise LockedError(
                f"encoder keys in use by a running stage: {', '.join(done.in_use)}",
                where=str(config.cache_folder),
                next_step="wait for it to finish",
            )
        for key in done.in_use:
            logs.get().warning("left alone, a running stage uses it: %s", key)
        if not dry_run and not keys:
            file_digests(config.cache_folder).forget_missing()
    click.echo(_pruned(done, dry_run=dry_run))


def _pruned(done: Pruned, *, dry_run: bool) -> str:
    verb = "would remove" if dry_run else "removed"
    lines = [
        f"{verb} {removed.segments:,} segments of {key}, {_bytes(removed.n_bytes)}"
        for key, removed in sorted(done.removed.items())
    ]
    if done.models:
        lines.append(f"{verb} {done.models:,} calibrated int8 models, {_bytes(done.models_bytes)}")
    return "\n".join([*(lines or ["nothing to remove"]), f"kept {_bytes(done.kept_bytes)}"])


@command.command("merge", short_help="Join small segments into large ones; drop damaged and duplicate rows.")
@options.configured
@_KEYS
def merge(
    config_path: Path | None,
    overrides: tuple[str, ...],
    workdir: Path | None,
    keys: tuple[str, ...],
    log_format: str,
    debug: bool,
) -> None:
    """Read every vector once, join what lies in many small files into few large ones, and drop rows that are
    damaged or there twice. Killed in the middle it loses nothing.

    Small files are also joined by the stages themselves when there are many. A key that a running stage
    uses is left alone.

    \b
    Example:
      recpipe cache merge -c config.yaml
    """
    from recpipe import logs
    from recpipe.errors import LockedError
    from recpipe.store.cache_merge import merge_segments

    with logs.stage("cache"):
        cache = _folder(config_path, overrides, workdir)
        chosen = _chosen(cache, keys)
        if not chosen:
            click.echo(f"nothing is cached: {cache}")
        for folder in chosen:
            with ExitStack() as held:
                try:
                    held.enter_context(folder.alone())
                except LockedError:
                    if keys:
                        raise
                    logs.get().warning("left alone, a running stage uses it: %s", folder.key)
                    continue
                done = merge_segments(folder, thorough=True)
                folder.sweep(alone=True)
            click.echo(
                f"{folder.key}: {done.before:,} → {done.after:,} segments; dropped {done.duplicates:,} duplicate and "
                f"{done.damaged:,} damaged rows, {done.unreadable:,} unreadable segments"
            )


def _folder(config_path: Path | None, overrides: tuple[str, ...], workdir: Path | None) -> Path:
    from recpipe.stages.settings import load

    return load(config_path, overrides, workdir=workdir).cache_folder


def _chosen(cache: Path, keys: tuple[str, ...]) -> list[KeyFolder]:
    """Return the folders of the named encoder keys, of all where none is named.

    Raises:
        ConfigError: There is no such key, or several begin like this.
    """
    from recpipe.config import nearest
    from recpipe.errors import ConfigError
    from recpipe.store.cache_folder import key_folders

    folders = {folder.key: folder for folder in key_folders(cache)}
    found = {}
    for key in keys:
        matches = [key] if key in folders else [name for name in folders if name.startswith(key)]
        if len(matches) != 1:
            raise ConfigError(
                f"{len(matches)} encoder keys begin with '{key}'" if matches else f"no encoder key '{key}'",
                where=str(cache),
                next_step=f"there are: {', '.join(nearest(key, folders)) or 'none'}; see: recpipe cache size",
            )
        found[matches[0]] = folders[matches[0]]
    return list((found if keys else folders).values())
