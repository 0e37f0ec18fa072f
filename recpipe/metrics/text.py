"""The metrics as a table people read: one block a slice, models below each other, fixed width.

all: 610 users, the first 10 of each list
  model           ndcg               recall  hit_rate  mrr    map    ndcg against popularity
  popularity      .0151 [.010, .021]  .0311     .0311  .0103  .0103
  factorization   .0322 [.024, .041]  .0590     .0590  .0240  .0240  +.0171 [+.009, +.026]
  deep            .0160 [.009, .024]  .0328     .0328  .0110  .0110  +.0009 [-.006, +.008] not real
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import isnan

from recpipe.metrics.beyond_accuracy import COVERAGE, LIST_METRICS
from recpipe.metrics.ranking import RANKING_METRICS
from recpipe.metrics.rating import INTERVAL_COVERAGE, RATING_METRICS
from recpipe.metrics.summary import ALL, DifferenceRow, MetricRow
from recpipe.metrics.values import Metric
from recpipe.schemas import NDCG

BEYOND_ACCURACY = (COVERAGE, *LIST_METRICS)


def metrics_text(rows: Sequence[MetricRow], differences: Sequence[DifferenceRow], *, k: int, level: float) -> str:
    """Return ranking metrics of every slice, properties of the lists and rating errors, as text.

    Args:
        rows: rows of `metrics`; models and slices keep their order of appearance.
        differences: rows of `metric_differences`, at most one reference for each model.
        k: the length of list shown.
        level: confidence level of the intervals, for the note below the table.
    """
    blocks = []
    for name in dict.fromkeys(row.slice for row in rows):
        here = [row for row in rows if row.slice == name]
        paired = [row for row in differences if row.slice == name]
        first = Metric(NDCG.name, k)
        ranking = [row for row in here if row.metric.k == k and row.metric.name in RANKING_METRICS]
        if ranking:
            metrics = tuple(Metric(metric, k) for metric in RANKING_METRICS)
            title = f"{name}: {_users(ranking)}, the first {k} of each list"
            blocks.append(_block(title, ranking, [row for row in paired if row.metric == first], metrics=metrics))
        listed = [row for row in here if row.metric.k == k and row.metric.name in BEYOND_ACCURACY]
        if listed and name == ALL:
            metrics = tuple(Metric(metric, k) for metric in BEYOND_ACCURACY)
            blocks.append(_block(f"what the first {k} of each list are like", listed, [], metrics=metrics))
        rating_metrics = (*RATING_METRICS, INTERVAL_COVERAGE)
        rated = [row for row in here if row.metric in rating_metrics]
        if rated:
            title = f"{name}: predicted ratings of {_users(rated)}"
            paired = [row for row in paired if row.metric == RATING_METRICS[0]]
            blocks.append(_block(title, rated, paired, metrics=rating_metrics))
    notes = [f"[low, high]: {100 * level:g} % interval over users; a difference is real when its interval excludes 0."]
    return "\n\n".join([*blocks, *notes]) + "\n"


def differences_text(rows: Sequence[DifferenceRow], *, level: float) -> str:
    """Return paired differences between two models, one line each, as text."""
    blocks = []
    for name in dict.fromkeys(row.slice for row in rows):
        here = [row for row in rows if row.slice == name]
        table = [["metric", "difference", "users", ""]]
        table += [[str(row.metric), _difference(row), f"{row.n_users:,}", _verdict(row)] for row in here]
        title = f"{name}: {here[0].model} minus {here[0].reference}"
        blocks.append("\n".join([title, *_aligned(table, left={0, 1, 3})]))
    notes = [f"[low, high]: {100 * level:g} % interval over users; a difference is real when its interval excludes 0."]
    return "\n\n".join([*blocks, *notes]) + "\n"


def _block(
    title: str, rows: Sequence[MetricRow], differences: Sequence[DifferenceRow], *, metrics: Sequence[Metric]
) -> str:
    """Return one block; the first metric is shown with its interval, and with the difference where there is one."""
    found = {(row.model, row.metric): row for row in rows}
    paired = {row.model: row for row in differences}
    shown = [metric for metric in metrics if any(row.metric == metric for row in rows)]
    header = ["model", *(metric.name for metric in shown)]
    if differences:
        header.append(f"{differences[0].metric.name} against {differences[0].reference}")
    table = [header]
    for model in dict.fromkeys(row.model for row in rows):
        line = [model]
        for place, metric in enumerate(shown):
            row = found.get((model, metric))
            line.append("" if row is None else _figure(row) if place == 0 else _value(row))
        if differences:
            difference = paired.get(model)
            line.append("" if difference is None else f"{_difference(difference)} {_verdict(difference)}".rstrip())
        table.append(line)
    return "\n".join([title, *_aligned(table, left={0, 1, len(header) - 1 if differences else 0})])


def _aligned(table: Sequence[Sequence[str]], *, left: set[int]) -> list[str]:
    """Return lines of equal columns, two spaces apart; those not in `left` stand to the right."""
    widths = [max(len(line[column]) for line in table) for column in range(len(table[0]))]
    return [
        "  "
        + "  ".join(
            cell.ljust(width) if column in left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in table
    ]


def _users(rows: Sequence[MetricRow]) -> str:
    n_users = max(row.n_users for row in rows)
    return f"{n_users:,} user{'s' if n_users != 1 else ''}"


def _figure(row: MetricRow) -> str:
    return _value(row) if isnan(row.low) else f"{_value(row)} {_interval(row.low, row.high, _short)}"


def _value(row: MetricRow) -> str:
    return _decimal(row.value, 4) if abs(row.value) < 10 else f"{row.value:.2f}"


def _difference(row: DifferenceRow) -> str:
    value = _signed(row.difference, 4)
    return value if isnan(row.low) else f"{value} {_interval(row.low, row.high, _signed)}"


def _verdict(row: DifferenceRow) -> str:
    if isnan(row.low):
        return "too few users"
    return "" if row.real else "not real"


def _interval(low: float, high: float, shown: Callable[[float], str]) -> str:
    return f"[{shown(low)}, {shown(high)}]"


def _short(number: float) -> str:
    return _decimal(number, 3)


def _signed(number: float, places: int = 3) -> str:
    """Return a number with its sign; enough places that an end which is not 0 does not look like it."""
    if number == 0:
        return _decimal(0.0, places)
    while abs(number) < 0.5 * 10.0**-places and places < 6:
        places += 1
    return ("+" if number > 0 else "-") + _decimal(abs(number), places)


def _decimal(number: float, places: int) -> str:
    """Return 0.0151 as .0151, and 1.25 as it is."""
    text = f"{number:.{places}f}"
    return text.replace("0.", ".", 1) if text.startswith(("0.", "-0.")) else text
