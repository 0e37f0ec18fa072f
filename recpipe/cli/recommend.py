"""`recpipe recommend`: one person's profile, history and list."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from recpipe.cli import options
from recpipe.store.layout import View

if TYPE_CHECKING:
    from recpipe.stages.settings import Config
    from recpipe.store.artifacts import ArtifactReader

SHOWN_CHARACTERS = 160

NOTHING_LEFT = "nothing left to recommend"
"""Said of a user for whom `score` found no item: all are taken or filtered out."""

NOT_YET = "no list yet: the users are newer than the recommendations; run: recpipe score"


@click.command("recommend", short_help="Print users' profiles, histories and recommended titles.")
@click.argument("users", nargs=-1, metavar="USER...")
@click.option(
    "--sample", type=click.IntRange(min=1), metavar="N", help="Without USER: N users, spread over those with a list."
)
@click.option("--top", type=click.IntRange(min=1), metavar="N", default=10, show_default=True, help="Titles to print.")
@options.configured
@options.JSON
def command(
    users: tuple[str, ...],
    sample: int | None,
    top: int,
    config_path: Path | None,
    overrides: tuple[str, ...],
    workdir: Path | None,
    as_json: bool,
    log_format: str,
    debug: bool,
) -> None:
    """Print what is known of users, what they took last and what `score` wrote for them.

    \b
    Examples:
      recpipe recommend u17 -c config.yaml
      recpipe recommend --sample 2 -c config.yaml
    """
    from recpipe.stages.settings import load

    if bool(users) == (sample is not None):
        raise click.UsageError("name users, or ask for --sample N")
    config = load(config_path, overrides, workdir=workdir)
    tables = _Tables.open(config)
    found = [_portrait(tables, user, top) for user in (users or _spread(tables, sample or 1))]
    if as_json:
        click.echo(json.dumps(found, indent=1, ensure_ascii=False, default=str))
        return
    click.echo("\n\n".join(_describe(portrait) for portrait in found))


@dataclass(frozen=True)
class _Tables:
    """What a portrait is made of; only the lists and the users are always there."""

    recommendations: ArtifactReader
    users: ArtifactReader
    items: ArtifactReader | None
    interactions: ArtifactReader | None
    profiles: ArtifactReader | None
    segments: ArtifactReader | None

    @classmethod
    def open(cls, config: Config) -> _Tables:
        from recpipe import schemas
        from recpipe.cli.artifacts import open_artifact, open_if_there

        return cls(
            open_artifact(config, schemas.RECOMMENDATIONS, View.PRODUCTION),
            open_artifact(config, schemas.USERS, View.PRODUCTION),
            open_if_there(config, schemas.ITEMS, View.PRODUCTION),
            open_if_there(config, schemas.INTERACTIONS, View.PRODUCTION),
            open_if_there(config, schemas.USER_PROFILES, View.PRODUCTION),
            open_if_there(config, schemas.SEGMENTS, View.PRODUCTION),
        )

    @property
    def in_step(self) -> bool:
        """Whether the lists were written for these users."""
        from recpipe.schemas import USERS

        lists, users = self.recommendations.manifest, self.users.manifest
        return lists is not None and users is not None and lists.inputs.get(USERS.name) == users.fingerprint


def _spread(tables: _Tables, count: int) -> list[str]:
    """Users at even distances among those who have a list and a text, or a list; all of them when fewer."""
    import pyarrow as pa
    import pyarrow.compute as pc

    from recpipe.schemas import TEXT, USER_ID

    batches = tables.recommendations.batches([USER_ID.name])
    served = pa.chunked_array([pc.unique(batch.column(USER_ID.name)) for batch in batches], pa.string())
    table = tables.users.table([column.name for column in (USER_ID, TEXT) if tables.users.has(column)])
    table = table.filter(pc.is_in(table.column(USER_ID.name), served.combine_chunks()))
    if TEXT.name in table.column_names:
        written = table.filter(pc.greater(pc.utf8_length(table.column(TEXT.name)), 0))
        table = written if written.num_rows >= count else table
    ids = table.column(USER_ID.name)
    step = table.num_rows // (count + 1)
    rows = range(step, step * count + 1, step) if count < table.num_rows else range(table.num_rows)
    return [str(ids[row].as_py()) for row in rows]


def _rows_of(reader: ArtifactReader | None, user: str, columns: list[str] | None = None) -> list[dict[str, Any]]:
    import pyarrow.compute as pc

    from recpipe.schemas import USER_ID

    batches = reader.batches(columns) if reader else ()
    matches = (batch.filter(pc.equal(batch.column(USER_ID.name), user)) for batch in batches)
    return [row for batch in matches for row in batch.to_pylist()]


def _portrait(tables: _Tables, user: str, top: int) -> dict[str, Any]:
    from recpipe.errors import DataError
    from recpipe.schemas import LABEL, RANK, SEGMENT, USER_ID

    attributes = _rows_of(tables.users, user)
    recommended = sorted(_rows_of(tables.recommendations, user), key=lambda row: int(row[RANK.name]))
    if not attributes and not recommended:
        raise DataError(f"unknown user {user!r}", where=str(tables.users.path), next_step="check the id")
    profile = _rows_of(tables.profiles, user, [USER_ID.name, SEGMENT.name])
    segment = profile[0][SEGMENT.name] if profile else None
    described = tables.segments.table([SEGMENT.name, LABEL.name]).to_pylist() if tables.segments else []
    history = _rows_of(tables.interactions, user)[::-1][:top]
    return {
        "user": user,
        "attributes": attributes[0] if attributes else {},
        "segment": segment,
        "label": {row[SEGMENT.name]: row[LABEL.name] for row in described}.get(segment),
        "history": _with_titles(tables.items, history),
        "recommended": recommended[:top],
        "note": None if recommended else NOTHING_LEFT if tables.in_step else NOT_YET,
    }


def _with_titles(items: ArtifactReader | None, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    import pyarrow as pa
    import pyarrow.compute as pc

    from recpipe.schemas import ITEM_ID, TITLE

    if items is None or not items.has(TITLE):
        return rows
    wanted = pa.array([row[ITEM_ID.name] for row in rows], pa.string())
    titles: dict[str, str] = {}
    for batch in items.batches([ITEM_ID.name, TITLE.name]):
        kept = batch.filter(pc.is_in(batch.column(ITEM_ID.name), wanted))
        titles.update(zip(kept.column(0).to_pylist(), kept.column(1).to_pylist(), strict=True))
    return [{**row, TITLE.name: titles.get(row[ITEM_ID.name])} for row in rows]


def _describe(portrait: dict[str, Any]) -> str:
    from recpipe.schemas import ITEM_ID, RANK, RATING, SCORE, SOURCE, TEXT, TIMESTAMP, TITLE, USER_ID

    lines = [f"user {portrait['user']}"]
    attributes = {
        name: value
        for name, value in portrait["attributes"].items()
        if name not in (USER_ID.name, TEXT.name) and value is not None
    }
    text = portrait["attributes"].get(TEXT.name)
    if text:
        lines.append(f"  says      {text if len(text) <= SHOWN_CHARACTERS else text[:SHOWN_CHARACTERS] + '…'}")
    if attributes:
        lines.append(f"  profile   {', '.join(f'{name} {value}' for name, value in attributes.items())}")
    if portrait["segment"] is not None:
        label = f": {portrait['label']}" if portrait["label"] else ""
        lines.append(f"  segment   {portrait['segment']}{label}")
    for number, row in enumerate(portrait["history"]):
        when = f" on {row[TIMESTAMP.name]:%Y-%m-%d}" if row.get(TIMESTAMP.name) else ""
        rating = f", rated {row[RATING.name]:g}" if row.get(RATING.name) is not None else ""
        lines.append(f"  {'took' if number == 0 else '':<9} {row.get(TITLE.name) or row[ITEM_ID.name]}{when}{rating}")
    for row in portrait["recommended"]:
        title = row.get(TITLE.name) or row[ITEM_ID.name]
        lines.append(f"  {row[RANK.name]:>4}      {title}  ({row[SOURCE.name]}, {row[SCORE.name]:.3f})")
    if portrait["note"]:
        lines.append(f"  {portrait['note']}")
    return "\n".join(lines)
