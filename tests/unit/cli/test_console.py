"""What is printed where, and how a training is stopped."""

from __future__ import annotations

import io
import os
import re
import signal
import sys
import time

import pytest

from uresnet.cli.console import Terminal, TrainingDisplay


def test_results_and_progress_go_different_ways(capsys: pytest.CaptureFixture[str]) -> None:
    terminal = Terminal()
    terminal.progress("warp", None)
    terminal.progress("warp", 1.25)
    terminal.note("[one] line")
    terminal.warn(["Something is odd."])
    terminal.say("the result")
    out, err = capsys.readouterr()
    assert out == "the result\n"
    assert [line.split() for line in err.splitlines()] == [
        ["warp", "…"],  # before it has ended: a log shows what is being done
        ["warp", "1.2", "s"],
        ["[one]", "line"],
        ["warning:", "Something", "is", "odd."],
    ]


def test_quiet_leaves_warnings_alone(capsys: pytest.CaptureFixture[str]) -> None:
    terminal = Terminal(quiet=True)
    terminal.progress("warp", None)
    terminal.progress("warp", 1.25)
    terminal.note("a line")
    terminal.say("the result")
    with terminal.bar("preparing", 2) as advance:
        advance()
    terminal.warn(["Something is odd."])
    assert capsys.readouterr() == ("", "warning: Something is odd.\n")


class Screen(io.StringIO):
    """A terminal."""

    def isatty(self) -> bool:
        return True


def test_a_terminal_shows_what_is_being_done(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Screen()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("TERM", "xterm")
    terminal = Terminal()
    terminal.progress("couple", None)
    deadline = time.monotonic() + 30
    while "couple …" not in screen.getvalue() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert "couple …" in screen.getvalue() and "couple  " not in screen.getvalue()
    with terminal.bar("tables", 1) as advance:  # which takes the place of the moving sign
        advance()
    terminal.progress("couple", 1.25)
    terminal.close()
    assert re.search(r"couple +.*1\.2 s", screen.getvalue())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_asks_and_the_second_stops(capsys: pytest.CaptureFixture[str], number: signal.Signals) -> None:
    handler = signal.getsignal(number)
    with TrainingDisplay(quiet=False) as display:
        assert not display.wants_to_stop()
        os.kill(os.getpid(), number)
        assert display.wants_to_stop()
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)
    assert signal.getsignal(number) is handler
    assert capsys.readouterr().err.count("Stopping after this update") == 1
