"""Where files of pictures and sounds may lie, and what can be wrong with them."""

from __future__ import annotations

import re
import stat
from enum import StrEnum
from pathlib import Path

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://|data:")
_BYTES_A_MEGABYTE = 1_000_000


class Code(StrEnum):
    """Why a file gives no vector."""

    MISSING = "missing"
    OUTSIDE = "outside"
    UNREADABLE = "unreadable"
    TOO_LARGE = "too_large"
    UNSUPPORTED = "unsupported"
    EMPTY = "empty"
    SILENT = "silent"
    NO_VECTOR = "no_vector"


class BadFileError(Exception):
    """A file that gives no vector; caught, counted and listed, never shown as such.

    Args:
        code: What kind of failure it is.
        message: One sentence about this file.
    """

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


def locate(path: str, root: Path, *, max_megabytes: float) -> Path:
    """Return the real path of a file under the media root, symbolic links followed.

    Args:
        path: As the table has it; a relative one starts from the current directory.
        root: The media root, resolved.

    Raises:
        BadFileError: A URL, outside the root, not there, no file, empty or too large.
    """
    assert root.is_absolute(), root
    if _URL.match(path):
        raise BadFileError(Code.OUTSIDE, "a URL: only files are read")
    try:
        real = Path(path).resolve()
        if not real.is_relative_to(root):
            # said before anything is known of the file: a table must not be able to ask what exists elsewhere
            raise BadFileError(Code.OUTSIDE, "the file does not lie under the media root (data.media_root)")
        state = real.stat()
    except (FileNotFoundError, NotADirectoryError):
        raise BadFileError(Code.MISSING, "no such file") from None
    except (OSError, RuntimeError, ValueError) as error:  # no permission, links in a circle, a zero byte in the name
        raise BadFileError(Code.UNREADABLE, _reason(error)) from error
    if not stat.S_ISREG(state.st_mode):
        # a named pipe would wait for ever
        raise BadFileError(Code.UNREADABLE, "a folder" if stat.S_ISDIR(state.st_mode) else "not a regular file")
    if state.st_size == 0:
        raise BadFileError(Code.EMPTY, "the file has no content")
    if state.st_size > max_megabytes * _BYTES_A_MEGABYTE:
        size = state.st_size / _BYTES_A_MEGABYTE
        raise BadFileError(Code.TOO_LARGE, f"{size:.1f} MB, more than media.max_megabytes ({max_megabytes:g})")
    return real


def unreadable(error: Exception) -> BadFileError:
    """Return what a decoder's exception means. MemoryError is the machine's, not the file's, and raised again."""
    if isinstance(error, MemoryError):
        raise error
    return BadFileError(Code.UNREADABLE, _reason(error))


def _reason(error: BaseException) -> str:
    text = getattr(error, "strerror", None) or str(error)
    lines = text.strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__
