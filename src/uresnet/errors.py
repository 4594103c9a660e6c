"""The two kinds of message to a user: an error ends the run; a warning concerns an input that is used nevertheless."""

from __future__ import annotations

import re
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

_in_command = False
_thread = threading.local()

_IN_PYTHON = (
    (r"--overwrite\b", "overwrite=True"),
    (r"--from ([a-z0-9]+)\b", r'format="\1"'),
    (r"--from\b", "format="),
    (r"--lps\b", "lps=True"),
    (r"--ras\b", "lps=False"),
    (r"--(device|transform) ([a-z0-9:]+)\b", r'\1="\2"'),
    (r"--([a-z]+(?:-[a-z]+)*)\b", lambda option: option[1].replace("-", "_") + "="),
)
"""How an option of the command, in a sentence, is written in Python."""


class UserError(Exception):
    """Something the user can put right: one sentence that says what is wrong, in which file, and what to do.

    The command line prints the sentence and ends with exit code 2. Every other exception is a fault of uresnet. Where
    the sentence names an option (``--overwrite``) and no command runs, it names the argument (``overwrite=True``).

    >>> from uresnet import UserError
    >>> print(UserError("out exists already; replace it with --overwrite."))
    out exists already; replace it with overwrite=True.
    """

    def __str__(self) -> str:
        sentence = super().__str__()
        for option, argument in () if _in_command else _IN_PYTHON:
            sentence = re.sub(rf"(?<=[ (]){option}", argument, sentence)
        return sentence


class BrokenResult(UserError):
    """A result that does not keep what every result promises. It is not given, and nothing is written.

    The user cannot correct it: the command ends with exit code 1, as it does for every fault of uresnet.
    """


@contextmanager
def told_by_the_command() -> Iterator[None]:
    """While the block lasts, errors name the options of the command, not the arguments of Python functions."""
    global _in_command
    before, _in_command = _in_command, True
    try:
        yield
    finally:
        _in_command = before


class InputWarning(UserWarning):
    """An input is used although something about it had to be assumed or repaired; the sentence says what."""


def warn_about_input(sentence: str) -> None:
    """Issue an :class:`InputWarning`, or hold it back (:func:`held_warnings`)."""
    held: list[str] | None = getattr(_thread, "held", None)
    if held is None:
        warnings.warn(sentence, InputWarning, stacklevel=3)
    else:
        held.append(sentence)


@contextmanager
def held_warnings(into: list[str]) -> Iterator[None]:
    """While the block lasts, what this thread would warn about an input goes into a list, to be said later.

    Python collects the warnings of all threads in one place: a thread that reads an image ahead would warn about it in
    the middle of the work on another.
    """
    before, _thread.held = getattr(_thread, "held", None), into
    try:
        yield
    finally:
        _thread.held = before


def quoted(value: object, most: int = 120) -> str:
    """What a message quotes of an input: at most about ``most`` characters, of a longer text its beginning and its end,
    and none that a terminal would not print."""
    text = value.decode("latin-1") if isinstance(value, bytes) else str(value)
    last = most // 3
    shown = text if len(text) <= most else f"{text[: most - last]} … {text[len(text) - last :]}"
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in shown)


def counted(count: int, noun: str) -> str:
    """``1 part``, ``2 parts``."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
