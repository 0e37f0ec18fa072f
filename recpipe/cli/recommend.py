"""`recpipe recommend`: one person's profile, history and list."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from recpipe.cli import options
from recpipe.store.layout import View

if TYPE_CHECKING:
    from recpipe.stages.settings import Config

SHOWN_CHARACTERS = 160


@click.command("recommend", short_help="Print users' profiles, histories and recommended titles.")
@click.argument("users", nargs=-1, metavar="USER...")
@click.option("--sample", default=0, metavar="N", help="Without USER: N users, spread over the table.")
@click.option("--top", default=10, show_default=True, help="Titles to print.")
@options.configured
@options.JSON
def command(
    users: tuple[str, ...],
    sample: int,
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

    if bool(users) == bool(sample):
        raise click.UsageError("name users, or ask for --sample N")
    config = load(config_path, options.with_workdir(overrides, workdir))
    found = [_portrait(config, user, top) for user in (users or _spread(config, sample))]
    if as_json:
        click.echo(json.dumps(found, indent=1, ensure_ascii=False, default=str))
        return
    click.echo("\n\n".join(_describe(portrait) for portrait in found))


def _spread(config: Config, count: int) -> list[str]:
    """Users at even distances among those who have recommendations and a text, else among all."""
    import pyarrow.compute as pc

    from recpipe.cli.artifacts import open_artifact
    from recpipe.schemas import TEXT, USER_ID, USERS

    reader = open_artifact(config, USERS, View.PRODUCTION)
    table = reader.table([column.name for column in (USER_ID, TEXT) if reader.has(column)])
    if TEXT.name in table.column_names:
        written = table.filter(pc.greater(pc.utf8_length(table.column(TEXT.name)), 0))
        table = written if written.num_rows >= count else table
    step = max(1, table.num_rows // (count + 1))
    return [str(table.column(USER_ID.name)[step * (i + 1)].as_py()) for i in range(min(count, table.num_rows - 1))]


def _portrait(config: Config, user: str, top: int) -> dict[str, Any]:
    import pyarrow.compute as pc

    from recpipe.cli.artifacts import open_artifact
    from recpipe.errors import DataError
    from recpipe.schemas import INTERACTIONS, LABEL, RANK, RECOMMENDATIONS, SEGMENT, SEGMENTS, USER_ID, USERS
    from recpipe.schemas import USER_PROFILES as PROFILES

    def rows_of(artifact: Any, columns: list[str] | None = None) -> list[dict[str, Any]]:
        reader = open_artifact(config, artifact, View.PRODUCTION)
        matches = (batch.filter(pc.equal(batch.column(USER_ID.name), user)) for batch in reader.batches(columns))
        return [row for batch in matches for row in batch.to_pylist()]

    recommended = sorted(rows_of(RECOMMENDATIONS), key=lambda row: int(row[RANK.name]))
    if not recommended:
        raise DataError(
            f"no recommendations for user {user!r}", next_step="check the id; recpipe status shows if score is stale"
        )
    attributes = rows_of(USERS)
    profile = rows_of(PROFILES, [USER_ID.name, SEGMENT.name])
    segments = open_artifact(config, SEGMENTS, View.PRODUCTION).table([SEGMENT.name, LABEL.name]).to_pylist()
    labels = {row[SEGMENT.name]: row[LABEL.name] for row in segments}
    segment = profile[0][SEGMENT.name] if profile else None
    history = rows_of(INTERACTIONS)[::-1][:top]
    return {
        "user": user,
        "attributes": attributes[0] if attributes else {},
        "segment": segment,
        "label": labels.get(segment),
        "history": _with_titles(config, history),
        "recommended": recommended[:top],
    }


def _with_titles(config: Config, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    import pyarrow as pa
    import pyarrow.compute as pc

    from recpipe.cli.artifacts import open_artifact
    from recpipe.schemas import ITEM_ID, ITEMS, TITLE

    reader = open_artifact(config, ITEMS, View.PRODUCTION)
    if not reader.has(TITLE):
        return rows
    wanted = pa.array([row[ITEM_ID.name] for row in rows], pa.string())
    titles: dict[str, str] = {}
    for batch in reader.batches([ITEM_ID.name, TITLE.name]):
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
        lines.append(f"  segment   {portrait['segment']}: {portrait['label']}")
    for number, row in enumerate(portrait["history"]):
        when = f" on {row[TIMESTAMP.name]:%Y-%m-%d}" if row.get(TIMESTAMP.name) else ""
        rating = f", rated {row[RATING.name]:g}" if row.get(RATING.name) is not None else ""
        lines.append(f"  {'took' if number == 0 else '':<9} {row.get(TITLE.name) or row[ITEM_ID.name]}{when}{rating}")
    for row in portrait["recommended"]:
        title = row.get(TITLE.name) or row[ITEM_ID.name]
        lines.append(f"  {row[RANK.name]:>4}      {title}  ({row[SOURCE.name]}, {row[SCORE.name]:.3f})")
    return "\n".join(lines)
