"""The command line: lazy commands, and the one place where errors become exit codes."""

from __future__ import annotations

import itertools
import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any

import click

from recpipe import __version__, logs
from recpipe.cli import registry
from recpipe.errors import RecpipeError

INTERRUPTED = 130
TERMINATED = 143


class _Terminated(BaseException):
    """SIGTERM arrived: unwind, drop temporary files, keep finished parts."""


class RecpipeGroup(click.Group):
    """The top-level group; finds commands by name and translates errors."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return registry.names()

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        return registry.command(cmd_name)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and not args[0].startswith("-") and args[0] not in registry.names():
            from recpipe.config import did_you_mean

            raise click.UsageError(f"no command '{args[0]}': {did_you_mean(args[0], registry.names())}", ctx)
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            # the reader of stdout left (`| head`): not an error, and nothing may be flushed to it any more;
            # caught here because click would exit with 1
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0

    def main(self, args: Sequence[str] | None = None, prog_name: str | None = None, **extra: Any) -> Any:  # type: ignore[override]
        """Run, print what went wrong, and exit with the code of docs/commands.md."""
        words = list(sys.argv[1:] if args is None else args)
        # before click has parsed anything: a wrong command line is reported in the format asked for
        json_log = "--log-format=json" in words or ("--log-format", "json") in itertools.pairwise(words)
        logs.configure("json" if json_log else "plain", debug="--debug" in words)
        with _sigterm_raises():
            sys.exit(self._run(words, prog_name, json_log=json_log, debug="--debug" in words))

    def _run(self, words: list[str], prog_name: str | None, *, json_log: bool, debug: bool) -> int:
        try:
            result = super().main(words, prog_name or "recpipe", standalone_mode=False)
            return result if isinstance(result, int) else 0
        except click.exceptions.Exit as error:
            return error.exit_code
        except click.ClickException as error:
            report = Report(error.format_message(), error.exit_code, next_step=_help_hint(error))
        except RecpipeError as error:
            report = Report.of(error, error.what, error.exit_code, where=error.where, next_step=error.next_step)
        except (KeyboardInterrupt, click.Abort) as error:
            report = Report.of(error, "interrupted; finished parts are kept", INTERRUPTED)
        except _Terminated as error:
            report = Report.of(error, "terminated; finished parts are kept", TERMINATED)
        except Exception as error:
            hint = None if debug else "run again with --debug for the traceback, and report it"
            report = Report.of(error, f"unexpected {type(error).__name__}: {error}", 1, next_step=hint)
        report.show(json_log=json_log, debug=debug)
        return report.exit_code


@dataclass(frozen=True, slots=True)
class Report:
    """What went wrong, as the last line of the log.

    Attributes:
        stage: The stage it happened in, where there is one.
        traceback: Shown with --debug.
    """

    what: str
    exit_code: int
    where: str | None = None
    next_step: str | None = None
    stage: str | None = None
    traceback: str | None = None

    @classmethod
    def of(
        cls, error: BaseException, what: str, exit_code: int, *, where: str | None = None, next_step: str | None = None
    ) -> Report:
        """Report an error raised inside a command."""
        interrupted = exit_code in (INTERRUPTED, TERMINATED)
        trace = None if interrupted else "".join(traceback.format_exception(error))
        return cls(what, exit_code, where, next_step, logs.stage_of(error), trace)

    def show(self, *, json_log: bool, debug: bool) -> None:
        """Print to stderr, in JSON as one line with the keys of every other line."""
        if not json_log:
            if debug and self.traceback:
                click.echo(self.traceback, err=True, nl=False)
            click.echo(f"error: {RecpipeError(self.what, where=self.where, next_step=self.next_step)}", err=True)
            return
        entry = {
            "time": logs.json_time(time.time()),
            "level": "error",
            "message": self.what,
            "stage": self.stage,
            "where": self.where,
            "next": self.next_step,
            "exit_code": self.exit_code,
        }
        if debug and self.traceback:
            entry["traceback"] = self.traceback
        click.echo(json.dumps(entry, ensure_ascii=False), err=True)


def _help_hint(error: click.ClickException) -> str | None:
    context = error.ctx if isinstance(error, click.UsageError) else None
    return f"see: {context.command_path} --help" if context else None


@contextmanager
def _sigterm_raises() -> Iterator[None]:
    def terminate(number: int, frame: FrameType | None) -> None:
        raise _Terminated

    try:
        previous = signal.signal(signal.SIGTERM, terminate)
    except ValueError:  # not the main thread: somebody embeds the command line
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


@click.group(
    "recpipe",
    cls=RecpipeGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit codes: 0 done or up to date, 1 unexpected, 2 usage or configuration, 3 bad data, 4 missing input, "
    "5 device or model unavailable, 6 locked by another run, 7 refused by a quality gate, 130/143 interrupted.",
)
@click.version_option(__version__, message="recpipe %(version)s")
@click.option("-C", "directory", type=click.Path(exists=True, file_okay=False), help="Change to this folder first.")
def main(directory: str | None) -> None:
    """Offline recommendations: tables of users, items and interactions in, N items for every user out.

    \b
    recpipe run -c config.yaml        # everything that is stale
    recpipe status -c config.yaml     # what is stale, and why
    """
    if directory:
        os.chdir(directory)
