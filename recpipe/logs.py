"""Logs and progress on stderr; stdout belongs to results.

Plain lines for people, one JSON object a line for machines. Progress is a bar on a terminal
and otherwise a log line at most every 30 seconds, so that a quiet night says little.
"""

from __future__ import annotations

import contextvars
import json
import logging
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal, Protocol, TextIO

LogFormat = Literal["plain", "json"]

PROGRESS_SECONDS = 30.0

_STAGE_OF_ERROR = "recpipe_stage"

_stage: contextvars.ContextVar[str] = contextvars.ContextVar("stage", default="")


def get() -> logging.Logger:
    """Return the one logger of recpipe."""
    return logging.getLogger("recpipe")


def fields(**values: object) -> dict[str, object]:
    """Return structured fields for a log call: `log.info("...", extra=fields(rows=12))`."""
    return {"fields": values}


@contextmanager
def stage(name: str) -> Iterator[None]:
    """Mark every line logged inside, and every error raised inside, as coming from stage `name`."""
    token = _stage.set(name)
    try:
        yield
    except BaseException as error:
        vars(error).setdefault(_STAGE_OF_ERROR, name)
        raise
    finally:
        _stage.reset(token)


def stage_of(error: BaseException) -> str | None:
    """Return the stage an error was raised in, the innermost one; None outside of stages."""
    name = vars(error).get(_STAGE_OF_ERROR)
    return name if isinstance(name, str) else None


def json_time(seconds: float) -> str:
    """Return a moment as it stands in JSON lines: ISO 8601, UTC, milliseconds."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")


class _Plain(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        moment = datetime.fromtimestamp(record.created).strftime("%H:%M:%S")
        name = _stage.get()
        level = f"{record.levelname.lower()}: " if record.levelno >= logging.WARNING else ""
        line = f"{moment}  {name + ': ' if name else ''}{level}{record.getMessage()}"
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return line


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, object] = {
            "time": json_time(record.created),
            "level": record.levelname.lower(),
            "message": record.getMessage(),
        }
        if _stage.get():
            entry["stage"] = _stage.get()
        extra = getattr(record, "fields", None)
        if isinstance(extra, dict):
            entry.update(extra)
        if record.exc_info:
            entry["traceback"] = self.formatException(record.exc_info)
        return json.dumps(entry, ensure_ascii=False, default=str)


class _StderrHandler(logging.StreamHandler[TextIO]):
    """Write to whatever sys.stderr is now, so that a captured stream is honoured."""

    def __init__(self) -> None:
        super().__init__(sys.stderr)

    def emit(self, record: logging.LogRecord) -> None:
        self.stream = sys.stderr
        super().emit(record)


def configure(log_format: LogFormat = "plain", *, debug: bool = False) -> None:
    """Send the log to stderr in the given format; replaces an earlier configuration."""
    logger = get()
    handler = _StderrHandler()
    handler.setFormatter(_Json() if log_format == "json" else _Plain())
    logger.handlers = [handler]
    logger.setLevel(logging.DEBUG if debug else logging.INFO)
    logger.propagate = False
    warnings.showwarning = _log_warning


def _log_warning(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, *_: object, **__: object
) -> None:
    """Make a library's warning a line of the log: as text of its own it would break a log of JSON lines."""
    get().warning("%s: %s", category.__name__, message, extra=fields(source=f"{filename}:{lineno}"))


@dataclass(frozen=True, slots=True)
class State:
    """How this process logs, for worker processes to log alike."""

    log_format: LogFormat
    debug: bool
    stage: str


def current() -> State | None:
    """Return how this process logs; None where `configure` was never called."""
    for handler in get().handlers:
        if isinstance(handler, _StderrHandler):
            log_format: LogFormat = "json" if isinstance(handler.formatter, _Json) else "plain"
            return State(log_format, get().level == logging.DEBUG, _stage.get())
    return None


def resume(state: State | None) -> None:
    """Log in this process as the one that `current` was called in."""
    if state is not None:
        configure(state.log_format, debug=state.debug)
        _stage.set(state.stage)


class Progress(Protocol):
    """Counts finished work."""

    def advance(self, amount: int) -> None:
        """Count `amount` more units as done."""


class _Bar:
    def __init__(self, total: int, label: str, unit: str, done: int) -> None:
        from tqdm import tqdm

        self._bar = tqdm(
            total=total, desc=label, unit=f" {unit}", file=sys.stderr, leave=False, unit_scale=True, initial=done
        )

    def advance(self, amount: int) -> None:
        self._bar.update(amount)

    def close(self) -> None:
        self._bar.close()


class _Lines:
    def __init__(self, total: int, label: str, unit: str, done: int) -> None:
        self._total, self._label, self._unit = total, label, unit
        self._done = self._before = done
        self._started = self._reported = time.monotonic()

    def advance(self, amount: int) -> None:
        self._done += amount
        now = time.monotonic()
        if now - self._reported < PROGRESS_SECONDS or self._done >= self._total:
            return
        self._reported = now
        rate = (self._done - self._before) / (now - self._started)
        left = (self._total - self._done) / rate if rate else 0.0
        get().info(
            "%s: %d of %d %s, %.3g a second, about %.0f s left",
            self._label, self._done, self._total, self._unit, rate, left,
            extra=fields(done=self._done, total=self._total, per_second=round(rate, 1)),
        )  # fmt: skip

    def close(self) -> None:
        pass


@contextmanager
def progress(total: int, label: str, unit: str = "rows", *, done: int = 0) -> Iterator[Progress]:
    """Show progress over `total` units: a bar on a terminal, otherwise sparse log lines.

    `done` units were finished before; they count as done but not for the speed.
    """
    json_log = any(isinstance(handler.formatter, _Json) for handler in get().handlers)
    shown: _Bar | _Lines = (
        _Bar(total, label, unit, done) if sys.stderr.isatty() and not json_log else _Lines(total, label, unit, done)
    )
    try:
        yield shown
    finally:
        shown.close()
