"""The command as a whole: usage errors, the version, signals."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import typer

from command import run
from uresnet import __version__
from uresnet.cli.main import app

SOURCE = Path(__file__).resolve().parents[3] / "src"


VERBS = "register segment apply compose convert invert jacobian train evaluate report figure view demo info prepare"


def test_the_help_lists_the_verbs_in_order() -> None:
    listed = re.findall(r"^│ (\w+) {2}", run("--help").stdout.partition("Commands")[2], re.MULTILINE)
    assert listed == VERBS.split()


def test_every_verb_and_option_explains_itself() -> None:
    root: Any = typer.main.get_command(app)
    commands = {**root.commands, **root.commands["prepare"].commands}
    assert len(commands) == len(VERBS.split()) + 2
    for name, command in commands.items():
        assert command.help.endswith("."), name
        for option in command.params:
            assert option.help and option.help.endswith("."), f"{name} {option.name}"


def test_wrong_words_are_usage_errors(pair: tuple[str, str], tmp_path: Path) -> None:
    for wrong in (("--transform", "bend"), ("--brain", "maybe"), ("--threads", "0"), ("--nonsense",)):
        result = run("register", *pair, "-o", tmp_path / "out", *wrong)
        assert result.exit_code == 2 and wrong[0] in result.stderr
    assert run("register", *pair).exit_code == 2


def start(*arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "uresnet", *map(str, arguments)],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(SOURCE), "PYTHONUNBUFFERED": "1"},
        # A suite that was started in the background ignores Ctrl-C, and what it starts would inherit that.
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["Ctrl-C", "kill"])
def test_a_signal_leaves_nothing_behind(
    pair: tuple[str, str], tiny_model: Path, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    process = start("register", *pair, "-o", tmp_path / "out", "--model", tiny_model)
    assert process.stderr is not None
    first = process.stderr.readline()  # the first stage is done: the run is on its way
    assert "read" in first
    process.send_signal(number)
    rest = process.communicate(timeout=120)[1]
    assert process.returncode == code, rest
    assert "Traceback" not in rest
    assert list(tmp_path.iterdir()) == []


def test_the_module_is_the_command() -> None:
    process = start("--version")
    assert process.communicate(timeout=120)[0].strip() == f"uresnet {__version__}"
    assert process.returncode == 0
