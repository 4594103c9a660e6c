"""What is said to the person at the keyboard: one exception, one warning."""


class UserError(Exception):
    """Something the user can put right: one sentence that says what, in which file, and what to do.

    The command line prints the sentence and ends with exit code 2. Everything else that is raised is our mistake.
    """


class InputWarning(UserWarning):
    """An input is used although something about it had to be assumed or repaired; the sentence says what."""
