"""Lines in a log and bars on a terminal."""

from __future__ import annotations

import contextlib
import io
import re
import sys
import time

import pytest

from dpgen import progress
from dpgen.progress import progress_bar


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class _Full(io.StringIO):
    def write(self, text: str) -> int:
        raise OSError(28, "No space left on device")


def test_a_log_has_a_plain_line_at_the_end_and_none_before_half_a_minute(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "WORTH_SECONDS", 0.0)
    with progress_bar("sampling", 3, show=True) as advance:
        for _ in range(3):
            advance()
    said = capsys.readouterr()
    assert re.fullmatch(r"sampling: 3 of 3, took 0:00:0\d\n", said.err)
    assert said.out == ""


def test_what_is_done_at_once_leaves_no_line(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bar("sampling", 1, show=True) as advance:
        advance()
    assert capsys.readouterr() == ("", "")


def test_a_log_hears_of_a_unit_that_takes_long_while_it_takes_long(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "FIRST_SECONDS", 0.05)
    with progress_bar("cells", 200, show=True, done=98) as advance:
        advance()
        deadline = time.monotonic() + 10
        heard = ""
        while "\n" not in heard and time.monotonic() < deadline:
            time.sleep(0.01)
            heard += capsys.readouterr().err
    first = heard.splitlines()[0]
    assert first.startswith("cells: 99 of 200 (49 %) after 0:00:00, about 0:00:")
    assert "about 0:00:00" not in first  # of 101 that are left, by the one that was done here
    assert "\r" not in heard and "\x1b" not in heard


def test_the_time_that_is_left_counts_only_what_this_process_did() -> None:
    half = progress._state(150, 200, 50, 100.0)
    assert half == "150 of 200 (75 %) after 0:01:40, about 0:01:40 left"
    assert progress._state(98, 200, 0, 3700.0) == "98 of 200 (49 %) after 1:01:40"
    assert progress._state(0, 1, 0, 30.0) == "0 of 1 after 0:00:30"


def test_lines_of_a_day_are_some_hundred_and_never_ten_minutes_apart() -> None:
    elapsed, n_lines = progress.FIRST_SECONDS, 1
    while elapsed < 86_400:
        wait = progress._wait(elapsed)
        elapsed, n_lines = elapsed + wait, n_lines + 1
        assert 30 <= wait <= 600
    assert 100 < n_lines < 250


def test_a_terminal_has_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = _Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("TERM", "xterm")
    with progress_bar("sampling", 2, show=True) as advance:
        advance()
    shown = screen.getvalue()
    assert "sampling" in shown and "1/2" in shown and "\x1b" in shown
    assert "took" not in shown


def test_quiet_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bar("sampling", 2, show=False) as advance:
        advance()
    assert capsys.readouterr() == ("", "")


def test_a_log_that_cannot_be_written_stops_no_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", _Full())
    n_done = 0
    monkeypatch.setattr(progress, "WORTH_SECONDS", 0.0)
    with progress_bar("private steps", 1, show=True) as advance:
        advance()
        n_done += 1
    assert n_done == 1


def test_a_loop_that_fails_has_no_line_that_says_how_long_it_took(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "WORTH_SECONDS", 0.0)
    with pytest.raises(ZeroDivisionError), progress_bar("steps", 5, show=True) as advance:
        advance()
        raise ZeroDivisionError
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("terminal", [False, True])
def test_what_others_catch_while_a_bar_is_there_is_theirs_alone(
    monkeypatch: pytest.MonkeyPatch, terminal: bool
) -> None:
    """An audit catches what a run says, and compares it: a line of the audit's own would be taken
    for the run's.
    """
    monkeypatch.setattr(progress, "FIRST_SECONDS", 0.05)
    monkeypatch.setattr(progress, "WORTH_SECONDS", 0.0)
    own = _Terminal() if terminal else io.StringIO()
    monkeypatch.setattr(sys, "stderr", own)
    caught = io.StringIO()
    with progress_bar("worlds", 3, show=True) as advance:
        with contextlib.redirect_stderr(caught), contextlib.redirect_stdout(caught):
            deadline = time.monotonic() + (0.5 if terminal else 5)
            while time.monotonic() < deadline and (terminal or not own.getvalue()):
                time.sleep(0.01)
        advance()
    assert caught.getvalue() == "" and "worlds" in own.getvalue()
