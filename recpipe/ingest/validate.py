"""Checks of the values of canonical columns: good values out, and which rows are bad and why."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from recpipe.ingest.attributes import to_text
from recpipe.ingest.decimals import COMMA_NUMBER, Sign, with_points

Mask = npt.NDArray[np.bool_]

_NUMBER = r"^[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?$"
_HAS_ZONE = r":[0-9]{2}(\.[0-9]+)?\s?([Zz]|[+-][0-9]{2}:?([0-9]{2})?)$"
_PER_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
_MICROSECONDS = 1_000_000
_LATEST = datetime(2100, 1, 1, tzinfo=UTC)
_LATEST_SECONDS = _LATEST.timestamp()
_UTC = pa.timestamp("us", "UTC")


@dataclass(frozen=True, slots=True)
class Checked:
    """A checked column.

    Attributes:
        values: The column in its canonical type; undefined where bad.
        bad: bool (n_rows,).
        detail: Row index -> what is wrong there.
    """

    values: pa.Array
    bad: Mask
    detail: Callable[[int], str]


def check_ids(column: pa.Array) -> Checked:
    """Ids as text: whole floats lose their point; null, empty and blank ids are bad."""
    text = to_text(column)
    bad = mask(pc.equal(pc.utf8_trim_whitespace(text), ""), null=True)
    return Checked(text, bad, lambda i: "no id")


def check_ratings(column: pa.Array, *, low: float | None, high: float | None, decimal: Sign = ".") -> Checked:
    """Ratings as float32; null is allowed, anything but a finite number within the bounds is bad.

    Args:
        decimal: Decimal sign of ratings that are text; the other sign makes no number.
    """
    numbers, wrong = _numbers(column) if decimal == "." else _comma_numbers(column)
    given = mask(numbers.is_valid(), null=False)
    as_float32 = pc.cast(numbers, pa.float32(), safe=False)
    outside = given & ~mask(pc.is_finite(as_float32), null=False)
    if low is not None:
        outside |= mask(pc.less(numbers, low), null=False)
    if high is not None:
        outside |= mask(pc.greater(numbers, high), null=False)
    bounds = f"between {'any' if low is None else low} and {'any' if high is None else high}"

    def detail(i: int) -> str:
        value = column[i].as_py()
        if not wrong[i]:
            return f"{value!r} is no finite number {bounds}"
        if decimal == "." and re.match(COMMA_NUMBER, str(value)):
            return f"{value!r} is no number with a decimal point: if the comma is the decimal sign, set data.decimal"
        if decimal == "," and "." in str(value):
            return f"{value!r} is no number with a decimal comma: if the point is the decimal sign, set data.decimal"
        return f"{value!r} is no number"

    return Checked(as_float32, wrong | outside, detail)


def check_positions(column: pa.Array) -> Checked:
    """Positions as int64; null, text and fractions are bad."""
    numbers, _ = _numbers(column)
    values = numbers.to_numpy(zero_copy_only=False).astype(np.float64)
    with np.errstate(invalid="ignore"):
        good = np.isfinite(values) & (np.floor(values) == values) & (np.abs(values) < 2.0**53)
    integers = np.where(good, values, 0).astype(np.int64)
    return Checked(pa.array(integers), ~good, lambda i: f"{column[i].as_py()!r} is no whole number")


def check_timestamps(column: pa.Array, *, unit: str) -> Checked:
    """Timestamps as timestamp[us, UTC]; null, unreadable, before 1970 and from 2100 on are bad.

    Numbers count in `unit` since 1970; with `auto` each value's size tells seconds,
    milliseconds, microseconds and nanoseconds apart, as no two of them overlap between 1973
    and 2100. Text is a number or ISO 8601, in UTC where it names no zone.
    """
    if pa.types.is_timestamp(column.type):
        micros = column.cast(_UTC).cast(pa.int64())
        return _bounded(column, micros, mask(micros.is_null(), null=True), _no_date(column))
    numbers, words = _numbers(column)
    values = numbers.to_numpy(zero_copy_only=False).astype(np.float64)
    dates = _no_date(column)
    if unit == "auto":
        dates = _looks_like_date(values)
    micros = _to_microseconds(numbers, values, unit)
    unread = mask(micros.is_null(), null=True)
    if words.any():
        rows = np.flatnonzero(words)
        parsed = _parse_iso(to_text(column).take(pa.array(rows)))
        merged = np.array(micros.fill_null(0).to_numpy(zero_copy_only=False))
        merged[rows] = parsed.fill_null(0).to_numpy(zero_copy_only=False)
        unread[rows] = mask(parsed.is_null(), null=True)
        micros = pa.array(merged)
    return _bounded(column, micros, unread, dates)


def _bounded(column: pa.Array, micros: pa.Array, unread: Mask, dates: Mask) -> Checked:
    values = micros.fill_null(0).to_numpy(zero_copy_only=False)
    early = ~unread & (values < 0)
    late = ~unread & (values >= _LATEST_SECONDS * _MICROSECONDS)

    def detail(i: int) -> str:
        value = column[i].as_py()
        if value is None:
            return "no time"
        if unread[i]:
            return f"{value!r} is no time"
        if dates[i]:
            return f"{value!r} may be a date: write YYYY-MM-DD, or set data.timestamp_unit"
        return f"{value!r} lies " + ("before 1970" if early[i] else "after 2099")

    return Checked(micros.fill_null(0).cast(_UTC), unread | early | late | dates, detail)


def _numbers(column: pa.Array) -> tuple[pa.Array, Mask]:
    """Return numbers (float64, or int64 where all are) and where a value is no number; blank is null."""
    none = np.zeros(len(column), bool)
    if pa.types.is_integer(column.type) or pa.types.is_floating(column.type):
        return column, none
    if pa.types.is_boolean(column.type):
        return column.cast(pa.int64()), none
    text = pc.utf8_trim_whitespace(to_text(column))
    text = pc.if_else(pc.equal(text, ""), pa.scalar(None, pa.string()), text)
    for target in (pa.int64(), pa.float64()):
        try:
            return text.cast(target), none
        except pa.ArrowInvalid:
            continue
    numeric = pc.match_substring_regex(text, _NUMBER)
    numbers = pc.if_else(numeric, text, pa.scalar(None, pa.string())).cast(pa.float64())
    return numbers, mask(pc.invert(numeric), null=False)


def _comma_numbers(column: pa.Array) -> tuple[pa.Array, Mask]:
    """Return what `_numbers` does, where the decimal sign of text is a comma."""
    if not pa.types.is_string(column.type):
        return _numbers(column)
    pointed = mask(pc.match_substring(column, "."), null=False)
    numbers, wrong = _numbers(with_points(pc.if_else(pa.array(pointed), pa.scalar(None, pa.string()), column)))
    return numbers, wrong | pointed


def _to_microseconds(numbers: pa.Array, values: npt.NDArray[np.float64], unit: str) -> pa.Array:
    """Scale to int64 microseconds, null where null; absurd sizes become a value out of bounds."""
    if unit == "auto":
        sizes = np.abs(np.nan_to_num(values))
        scale = np.select([sizes < 1e11, sizes < 1e14, sizes < 1e17], [1.0, 1e3, 1e6], 1e9)
    else:
        scale = np.full(len(values), float(_PER_SECOND[unit]))
    seconds = np.nan_to_num(values / scale, posinf=2 * _LATEST_SECONDS, neginf=-1.0)
    seconds = np.clip(seconds, -1.0, 2 * _LATEST_SECONDS)
    micros = np.round(seconds * _MICROSECONDS).astype(np.int64)
    inside = (seconds >= 0) & (seconds < _LATEST_SECONDS)
    if pa.types.is_integer(numbers.type):
        # float64 cannot hold nanoseconds of today
        whole = numbers.fill_null(0).to_numpy(zero_copy_only=False)
        steps = scale.astype(np.int64)
        exact = np.where(inside, whole, 0)
        fine = steps > _MICROSECONDS
        factor = np.where(fine, 1, _MICROSECONDS // np.minimum(steps, _MICROSECONDS))
        exact = exact // np.where(fine, steps // _MICROSECONDS, 1) * factor
        micros = np.where(inside, exact, micros)
    return pa.array(micros, mask=mask(numbers.is_null(), null=True) | np.isnan(values))


def _looks_like_date(values: npt.NDArray[np.float64]) -> Mask:
    """Mark numbers such as 20240131, which as seconds would be a day in August 1970."""
    whole = np.nan_to_num(values)
    year, month, day = whole // 10_000, whole // 100 % 100, whole % 100
    return (year >= 1970) & (year < 2100) & (month >= 1) & (month <= 12) & (day >= 1) & (day <= 31)


def _no_date(column: pa.Array) -> Mask:
    return np.zeros(len(column), bool)


def _parse_iso(text: pa.Array) -> pa.Array:
    """Return int64 microseconds since 1970, null where the text is no ISO 8601 time."""
    trimmed = pc.utf8_trim_whitespace(text)
    zoned = pc.match_substring_regex(trimmed, _HAS_ZONE)
    if not pc.any(zoned).as_py() or pc.all(zoned).as_py():
        target = _UTC if pc.any(zoned).as_py() else pa.timestamp("us")
        try:
            return trimmed.cast(target).cast(_UTC).cast(pa.int64())
        except pa.ArrowInvalid:
            pass
    return pa.array([_parse_one(value) for value in trimmed.to_pylist()], pa.int64())


def _parse_one(text: str) -> int | None:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    elapsed = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return (elapsed.days * 86_400 + elapsed.seconds) * _MICROSECONDS + elapsed.microseconds


def mask(values: pa.Array, *, null: bool) -> Mask:
    """Return a boolean Arrow array as a NumPy mask, nulls as `null`."""
    return np.array(values.fill_null(null).to_numpy(zero_copy_only=False), bool)
