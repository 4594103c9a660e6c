"""What is printed where, and how a training is stopped."""

from __future__ import annotations

import os
import signal

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
