"""The one exception that is written for the person at the keyboard."""


class UserError(Exception):
    """Something the user can put right: one sentence that says what, in which file, and what to do.

    The command line prints the sentence and ends with exit code 2. Everything else that is raised is our mistake.
    """
