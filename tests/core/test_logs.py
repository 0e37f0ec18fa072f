from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator

import numpy as np
import pytest

from recpipe import logs


@pytest.fixture(autouse=True)
def _restore() -> Iterator[None]:
    logger = logs.get()
    before = logger.handlers, logger.level, logger.propagate
    yield
    logger.handlers, logger.level, logger.propagate = before


class Clock:
    """Stands for time.monotonic."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(logs, "time", found)
    return found


def json_lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    captured = capsys.readouterr()
    assert captured.out == ""
    return [json.loads(line) for line in captured.err.splitlines()]


def test_json_lines_parse_whatever_is_in_them(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("json")
    with logs.stage("embed-items"):
        logs.get().info('two\nlines and "quotes", größe', extra=logs.fields(rows=3, path=logging))
    try:
        raise ValueError("inner")
    except ValueError:
        logs.get().exception("outer")
    first, second = json_lines(capsys)
    assert first["message"] == 'two\nlines and "quotes", größe'
    assert (first["stage"], first["level"], first["rows"]) == ("embed-items", "info", 3)
    assert str(first["time"]).endswith("+00:00")
    assert "stage" not in second
    assert "ValueError: inner" in str(second["traceback"])


def test_a_librarys_warning_is_a_line_of_the_log(capsys: pytest.CaptureFixture[str]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logs.configure("json")
        np.array([3e38], np.float32) * np.float32(10)
    (line,) = capsys.readouterr().err.splitlines()
    entry = json.loads(line)
    assert entry["level"] == "warning"
    assert entry["message"].startswith("RuntimeWarning: overflow")
    assert "test_logs.py" in entry["source"]


def test_plain_lines_carry_the_stage_and_the_level_of_warnings(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("plain")
    with logs.stage("cluster"):
        logs.get().info("%d users", 3)
        with logs.stage("train"):
            logs.get().warning("inner")
        logs.get().info("again")
    logs.get().info("none")
    lines = [line.split("  ", 1)[1] for line in capsys.readouterr().err.splitlines()]
    assert lines == ["cluster: 3 users", "train: warning: inner", "cluster: again", "none"]


def test_debug_lines_only_when_asked(capsys: pytest.CaptureFixture[str]) -> None:
    for debug, n_lines in ((False, 0), (True, 1)):
        logs.configure("plain", debug=debug)
        logs.get().debug("detail")
        assert len(capsys.readouterr().err.splitlines()) == n_lines


def test_configuring_twice_writes_once(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("plain")
    logs.configure("json")
    logs.get().info("once")
    assert len(json_lines(capsys)) == 1


def test_progress_is_a_line_at_most_every_30_seconds(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("json")
    with logs.progress(1000, "embed-items", "items") as progress:
        for _ in range(100):  # a step a second
            clock.now += 1
            progress.advance(10)
    lines = json_lines(capsys)
    assert [line["done"] for line in lines] == [300, 600, 900]
    assert lines[0]["message"] == "embed-items: 300 of 1000 items, 10 a second, about 70 s left"


def test_a_quick_stage_shows_no_progress(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("plain")
    with logs.progress(10, "train") as progress:
        clock.now += 29
        progress.advance(5)
        clock.now += 29
        progress.advance(5)
    assert capsys.readouterr().err == ""


def test_what_was_done_before_does_not_count_for_the_speed(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("json")
    with logs.progress(1000, "embed-items", done=800) as progress:
        clock.now += 50
        progress.advance(50)
    assert "850 of 1000 rows, 1 a second, about 150 s left" in str(json_lines(capsys)[0]["message"])
