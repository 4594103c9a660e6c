"""What a command line can have wrong before a verb begins, said as every other error: one sentence, exit code 2."""

from __future__ import annotations

import re
import sys
from typing import Any

import typer
from typer.core import TyperGroup

from uresnet.errors import quoted

# Typer carries its own copy of click in some versions, and takes click's in others.
_USAGE_ERROR: type[Exception] = typer.BadParameter.__mro__[1]
_CHOICE = re.compile(r"'?(.*?)'? is not one of (.*?)\.?", re.DOTALL)


class Verbs(TyperGroup):
    """The verbs. What Typer would print in a box becomes a sentence."""

    def main(self, *arguments: Any, **settings: Any) -> Any:
        """Run the command line, and exit with the verb's exit code."""
        settings |= {"prog_name": "uresnet", "standalone_mode": False}
        try:
            code = super().main(*arguments, **settings)
        except _USAGE_ERROR as error:
            if type(error).__name__ == "NoArgsIsHelpError":
                print(error.ctx.get_help())  # type: ignore[attr-defined]
            else:
                print(f"error: {sentence_of(error)}", file=sys.stderr)
            sys.exit(2)
        sys.exit(code if isinstance(code, int) else 0)


def sentence_of(error: Any) -> str:
    """One sentence for a usage error of Typer or click."""
    context, parameter = getattr(error, "ctx", None), getattr(error, "param", None)
    path = context.command_path if context is not None else "uresnet"
    said = " ".join(error.format_message().split()).rstrip(".")
    choice = _CHOICE.fullmatch(error.message) if parameter is not None else None
    if choice:
        *others, last = choice[2].replace("'", "").split(", ")
        listed = f"{', '.join(others)} or {last}" if others else last
        return f"{_name(parameter)} is {quoted(choice[1])}; choose {listed}."
    if type(error).__name__ == "MissingParameter":
        return f"{_name(parameter)} is missing; see {path} --help."
    if type(error).__name__ == "NoSuchOption":
        likely = " or ".join(sorted(error.possibilities or ()))
        return f"{path} has no option {quoted(error.option_name)}; {_meant(likely, path)}"
    command = re.fullmatch(r"No such command '(.*?)'(?:\. Did you mean (.*)\?)?", said)
    if command:
        likely = (command[2] or "").replace("'", "").replace(", ", " or ")
        return f"{path} has no command {quoted(command[1])}; {_meant(likely, path)}"
    value = re.fullmatch(r"Invalid value for '(.*?)': (.*)", said.replace("a valid float", "a number"))
    if value:
        return f"{value[1]} cannot have this value: {quoted(value[2][:1].lower() + value[2][1:], 200)}."
    extra = re.fullmatch(r"Got unexpected extra arguments?(?:\(s\))? \((.*)\)", said)
    if extra:
        return f"{path} does not expect {quoted(extra[1])}; see {path} --help."
    return f"{quoted(said, 200)}; see {path} --help."


def _meant(likely: str, path: str) -> str:
    return f"did you mean {likely}?" if likely else f"see {path} --help."


def _name(parameter: Any) -> str:
    """``--transform``, or the word that the help has for an argument."""
    options = [name for name in parameter.opts if name.startswith("-")]
    if options:
        return str(max(options, key=len))
    return str(parameter.metavar or parameter.name).strip("{}[].").upper()
