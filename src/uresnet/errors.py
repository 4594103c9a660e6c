"""The two kinds of message to a user: an error ends the run; a warning concerns an input that is used nevertheless."""

from __future__ import annotations

import warnings


class UserError(Exception):
    """Something the user can put right: one sentence that says what is wrong, in which file, and what to do.

    The command line prints the sentence and ends with exit code 2. Every other exception is a fault of uresnet.
    """


class InputWarning(UserWarning):
    """An input is used although something about it had to be assumed or repaired; the sentence says what."""


def warn_about_input(sentence: str) -> None:
    """Issue an :class:`InputWarning`."""
    warnings.warn(sentence, InputWarning, stacklevel=3)


def quoted(value: object, most: int = 120) -> str:
    """What a message quotes of an input: at most ``most`` characters and three dots, and none that a terminal would not
    print."""
    text = value if isinstance(value, str) else repr(value) if not isinstance(value, bytes) else value.decode("latin-1")
    shown = text if len(text) <= most else f"{text[:most]}..."
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in shown)
