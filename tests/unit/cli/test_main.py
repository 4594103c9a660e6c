"""The command as a whole: usage errors, the version, signals."""

from __future__ import annotations

import io
import os
import re
import shutil
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import IO, Any

import pytest
import typer

from command import run
from uresnet import __version__
from uresnet.cli.main import _VERBS, app, main

SOURCE = Path(__file__).resolve().parents[3] / "src"


VERBS = (
    "register segment cohort group template apply compose convert invert jacobian train evaluate report figure view "
    "demo info prepare"
)


def test_the_help_lists_the_verbs_in_order() -> None:
    listed = re.findall(r"^  (\w+) {2}", run("--help").stdout.partition("Commands")[2], re.MULTILINE)
    assert listed == VERBS.split()


def test_every_verb_and_option_explains_itself() -> None:
    root: Any = typer.main.get_command(app)
    commands = {**root.commands, **root.commands["prepare"].commands}
    assert len(commands) == len(VERBS.split()) + 4
    for name, command in commands.items():
        assert command.help.endswith("."), name
        for option in command.params:
            assert option.help and option.help.endswith("."), f"{name} {option.name}"


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("register a b -o c --transform bend", "--transform is bend; choose joint, affine, rigid or deformable."),
        ("segment a -o b --fail-on good", "--fail-on is good; choose look or failed."),
        ("convert a -o b --to x", "--to is x; choose itk, ants, fsl, freesurfer, greedy, nifti or learn2reg."),
        ("prepare pairs t -o d --labels x", "--labels is x; choose freesurfer or neuromorphometrics."),
        ("register a", "FIXED is missing; see uresnet register --help."),
        ("register a b", "--output is missing; see uresnet register --help."),
        ("register a b c -o d", "uresnet register does not expect c; see uresnet register --help."),
        ("apply --nope", "uresnet apply has no option --nope; see uresnet apply --help."),
        ("segment a -o b --overwrit", "uresnet segment has no option --overwrit; did you mean --overwrite?"),
        ("regster a b", "uresnet has no command regster; did you mean register?"),
        ("prepare foo", "uresnet prepare has no command foo; see uresnet prepare --help."),
        ("register a b -o c --threads 0", "--threads cannot have this value: 0 is not in the range x>=1."),
        ("apply t i -o x --fill abc", "--fill cannot have this value: 'abc' is not a number."),
        ("register a b -o", "Option '-o' requires an argument; see uresnet"),
    ],
)
def test_a_wrong_command_line_is_one_sentence(line: str, sentence: str) -> None:
    result = run(*line.split())
    assert result.exit_code == 2 and result.stdout == ""
    assert result.stderr.startswith(f"error: {sentence}") and result.stderr.count("\n") == 1
    assert result.stderr[-2] in ".?"


def test_a_command_alone_prints_its_help() -> None:
    for words in ((), ("prepare",)):
        result = run(*words)
        assert result.exit_code == 2 and "Usage: uresnet" in result.output and "error:" not in result.output


def test_a_long_word_is_shortened() -> None:
    for line in ("register a b -o c --transform {}", "{}", "register a b c{} -o d", "apply --{}"):
        assert len(run(*line.format("x" * 5000).split()).stderr) < 400


def start(*arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "uresnet", *map(str, arguments)],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        encoding="utf-8",
        env={**os.environ, "PYTHONPATH": str(SOURCE), "PYTHONUNBUFFERED": "1"},
        # A suite that was started in the background ignores Ctrl-C, and what it starts would inherit that.
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )


def start_copy(*arguments: object) -> tuple[int, IO[str]]:
    """The command in a copy of this process, in which torch is loaded: its number, and what it says."""
    said, told = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            os.dup2(told, 2)
            sys.stdout, sys.stderr = io.StringIO(), io.TextIOWrapper(io.FileIO(2, "w"), "utf-8", write_through=True)
            sys.argv = ["uresnet", *map(str, arguments)]
            main()
        finally:
            os._exit(99)
    os.close(told)
    return child, os.fdopen(said, encoding="utf-8")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills a copy of this process")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["Ctrl-C", "kill"])
def test_a_signal_leaves_nothing_behind(
    pair: tuple[str, str], tiny_model: Path, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    for _ in range(5):  # on a busy computer the run of a second may end before the signal comes
        process, errors = start_copy("register", *pair, "-o", tmp_path / "out", "--model", tiny_model, "--threads", 1)
        with errors:
            first = errors.readline()  # the first stage: the run is on its way
            assert "read" in first
            os.kill(process, number)
            rest = errors.read()
        ended = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
        if ended != 0:
            break
        shutil.rmtree(tmp_path / "out")
    assert ended == code, rest
    assert "Traceback" not in rest
    assert list(tmp_path.iterdir()) == []


ENDINGS = """
import os, signal, threading, time
from uresnet.cli import main
main._PATIENCE_S = 0.3
threading.Thread(target=time.sleep, args=(60,)).start()  # as one that waits for a lock that nobody gives back
def verb(**_):
    try:
        os.kill(os.getpid(), signal.SIG{})
    except BaseException:
        if {}: raise  # else it is swallowed, as in a callback
    time.sleep(60)
main.app = verb
main.main()
"""


@pytest.mark.parametrize(
    ("number", "raised", "code"), [("TERM", True, 143), ("INT", True, 130), ("TERM", False, -signal.SIGALRM)]
)
def test_a_signal_ends_the_process_whatever_waits(number: str, raised: bool, code: int) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", ENDINGS.format(number, raised)],
        env={**os.environ, "PYTHONPATH": str(SOURCE)},
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )
    assert process.wait(40) == code


def test_the_module_is_the_command() -> None:
    process = start("--version")
    assert process.communicate(timeout=120)[0].strip() == f"uresnet {__version__}"
    assert process.returncode == 0


@pytest.mark.parametrize("verb", [verb.__name__ for verb in _VERBS])
def test_help_ends_with_two_examples_of_options_that_exist(verb: str) -> None:
    result = run(verb, "--help")
    assert "<bool>" not in result.stdout
    lines = result.stdout.rstrip().splitlines()
    assert lines[-3].strip() == "Examples:"
    for line in lines[-2:]:
        words = line.split()
        assert words[:2] == ["uresnet", verb]
        assert all(re.search(rf"(^|[ ,/]){word}\b", result.stdout) for word in words if word.startswith("-"))
