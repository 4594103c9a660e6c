"""The ``uresnet`` command: its verbs, in the order of ``uresnet --help``, and its exit code.

The only place that prints. torch is loaded inside the verbs that compute, after the arguments
have been checked: help and ``info`` answer at once.
"""

from __future__ import annotations

import gc
import inspect
import io
import os
import re
import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import Annotated, Any, NoReturn

import typer

from uresnet._version import __version__
from uresnet.cli import cohort, info, preparation, registration, results, segmentation, template, training, transforms
from uresnet.cli.examples import examples_of
from uresnet.cli.usage import Verbs

_SETTINGS: dict[str, Any] = {
    "no_args_is_help": True,
    "rich_markup_mode": None,  # plain text: as narrow as the terminal, and without a type beside every flag
    "pretty_exceptions_enable": False,
    "context_settings": {"help_option_names": ["-h", "--help"]},
}

_INTERRUPTED = 128 + signal.SIGINT
_PATIENCE_S = 30.0  # from SIGTERM to the end of the process; Slurm waits as long before it kills

app = typer.Typer(cls=Verbs, add_completion=True, epilog="Start with: uresnet demo", **_SETTINGS)
prepare = typer.Typer(add_completion=False, **_SETTINGS)


def _paragraphs(verb: Callable[..., None]) -> str:
    """The docstring with each paragraph on one line: the terminal's width breaks the lines."""
    text = inspect.getdoc(verb) or ""
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in text.split("\n\n"))


def _first_sentence(verb: Callable[..., None]) -> str:
    return re.split(r"(?<=\.) ", _paragraphs(verb).split("\n")[0])[0]


_VERBS: tuple[Callable[..., None], ...] = (
    registration.register,
    segmentation.segment,
    cohort.cohort,
    cohort.group,
    template.template,
    transforms.apply,
    transforms.compose,
    transforms.convert,
    transforms.invert,
    transforms.jacobian,
    training.train,
    training.evaluate,
    results.report,
    results.figure,
    results.view,
    registration.demo,
    info.info,
)
_PREPARE_VERBS: tuple[Callable[..., None], ...] = (
    preparation.pairs,
    preparation.freesurfer,
    preparation.heads,
    preparation.bundle,
)

for group, verbs in ((app, _VERBS), (prepare, _PREPARE_VERBS)):
    for verb in verbs:
        group.command(help=_paragraphs(verb), short_help=_first_sentence(verb), epilog=examples_of(verb.__name__))(verb)

app.add_typer(
    prepare, name="prepare", help="Write a training set: conform images and label maps, and split them by person."
)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"uresnet {__version__}")
        raise typer.Exit()


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Registers and segments 3D brain MRI: files in, files out."""


def main() -> NoReturn:
    """Run the command and exit, with the codes of :mod:`uresnet.cli.session`."""
    start()
    code: int | str | None = 0
    try:
        app(prog_name="uresnet")
    except KeyboardInterrupt:  # outside a verb: while the command line is read
        code = _INTERRUPTED
    except SystemExit as end:
        code = end.code
    _leave(int(code or 0))


def start() -> None:
    """What a command does first: SIGTERM ends it as an error does, and what it prints reaches every terminal."""
    # Libraries make half a million objects that stay: looking for garbage among them time and again takes a second.
    gc.set_threshold(50_000, 20, 20)
    signal.signal(signal.SIGTERM, _exit_on_signal)
    if isinstance(sys.stdout, io.TextIOWrapper):  # a terminal of another encoding shows \u2192 for an arrow
        sys.stdout.reconfigure(errors="backslashreplace")


def _exit_on_signal(number: int, frame: FrameType | None) -> None:
    # As an exception, so that temporary files are removed on the way out.
    if hasattr(signal, "setitimer") and signal.getitimer(signal.ITIMER_REAL)[0] == 0:
        # Where something swallows the exception or waits for ever, the system ends the process; the next command
        # removes what it leaves.
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, _PATIENCE_S)
    raise SystemExit(128 + number)


def _leave(code: int) -> NoReturn:
    """End at once: all is written, or removed after a signal. Python would wait for threads that still compute, and
    take a second to take torch apart."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):  # nobody reads it, or the disk is full
            code = code or 1
    os._exit(code)
