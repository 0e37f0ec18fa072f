"""Every error recpipe raises on purpose, and the exit code each one becomes.

    RecpipeError              1   unexpected: a bug, or a failure nobody classified
    ├── ConfigError           2   wrong usage, wrong setting, wrong YAML
    ├── DataError             3   the data are bad: what, in which file, on which line
    ├── MissingInputError     4   an input does not exist yet: which command makes it
    ├── UnavailableError      5   a device, model or package is not here: how to get it
    ├── LockedError           6   another run holds what this one would write
    └── GateError             7   a quality gate refused the result

Interrupted runs exit with 130 (SIGINT) or 143 (SIGTERM). The command line is the only
place that prints these errors and sets the exit code.
"""

from __future__ import annotations

from typing import ClassVar


class RecpipeError(Exception):
    """An error with what happened, where, and what to do next.

    Args:
        what: One sentence: what is wrong.
        where: File, line, column or artifact, where it is known.
        next_step: What the reader can do about it, preferably a command.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, what: str, *, where: str | None = None, next_step: str | None = None) -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.next_step = next_step

    def __str__(self) -> str:
        lines = [self.what]
        if self.where:
            lines.append(f"  where: {self.where}")
        if self.next_step:
            lines.append(f"  next:  {self.next_step}")
        return "\n".join(lines)


class ConfigError(RecpipeError):
    """Wrong usage or a wrong setting."""

    exit_code = 2


class DataError(RecpipeError):
    """The data are not what the schema says."""

    exit_code = 3


class MissingInputError(RecpipeError):
    """An input does not exist (yet)."""

    exit_code = 4


class UnavailableError(RecpipeError):
    """A device, a model or an optional package is not available here."""

    exit_code = 5


class LockedError(RecpipeError):
    """Another run holds the lock."""

    exit_code = 6


class GateError(RecpipeError):
    """A quality gate refused the result."""

    exit_code = 7
