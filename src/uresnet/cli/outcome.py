"""How a verb that runs a model ends: its verdict in words, and the exit code that --fail-on asks for."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from uresnet.cli.session import Session
from uresnet.core.choices import FailOn
from uresnet.core.files import write_text

if TYPE_CHECKING:
    from uresnet.results.record import Quality, RunRecord


def verdict_in_words(quality: Quality | None) -> str:
    """The verdict and its reasons, a line each."""
    assert quality is not None
    reasons = "\n        ".join(quality.reasons)
    return f"verdict {quality.verdict}: {reasons or 'automatic checks passed.'}"


def tell_verdict(run: Session, record: RunRecord, name: str = "") -> None:
    """The verdict, and what else is worth knowing; one below good on standard error, also where all else is quiet."""
    from uresnet.quality.verdict import judge_record

    assert record.quality is not None
    words = verdict_in_words(record.quality)
    if record.quality.verdict == "good":
        run.terminal.say(words)
    else:
        run.terminal.alert(f"{name}: {words}" if name else words)
    judged = judge_record(record)
    for note in judged.notes if judged else ():
        run.terminal.say(f"        {note}")


def exit_on(fail_on: FailOn | None, *qualities: Quality | None) -> None:
    """Ends with exit code 3 where a verdict is the one named, or worse."""
    verdicts = {quality.verdict.value for quality in qualities if quality is not None}
    if fail_on is not None and verdicts & {"failed", fail_on}:
        raise typer.Exit(3)


def log_result(run: Session, record: RunRecord, path: Path) -> None:
    """Says the details of a run, and writes all that was said to ``path``, a log beside the results."""
    say = run.terminal.detail
    for name, image in record.inputs.items():
        say(f"{name}: {image.path or 'in memory'}; {image.brain}")
        for note in image.notes:
            say(f"{name}: {note}")
    say(f"model {record.model.name}, sha256 {record.model.sha256}")
    if (other := record.model.specialist) is not None:
        say(f"together with {other.name}, sha256 {other.sha256}, which saw T1-weighted images, given or predicted")
    if (other := record.model.contrast_by) is not None:
        say(f"contrast and masses by {other.name}, sha256 {other.sha256}")
    say(f"device {record.device}, {record.threads} threads")
    say(", ".join(f"{name} {version}" for name, version in record.versions.items()))
    lines = [" ".join(shlex.quote(word) for word in command_line()), f"finished {record.finished}"]
    write_text("\n".join([*lines, *run.terminal.transcript]) + "\n", path)
    run.terminal.transcript.clear()


def model_file(model: str | None) -> Path | None:
    """The file that ``--model`` names, if it names one."""
    return None if model is None else Path(model)


def command_line() -> list[str]:
    """The command line, as the record keeps it."""
    return ["uresnet", *sys.argv[1:]]
