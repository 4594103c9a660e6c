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
