"""The manifest of a cohort: a line for each thing that happened, appended, so that a killed process loses none.

``manifest.jsonl`` grows by one line of JSON whenever a job ends; the last line of a job counts. ``manifest.tsv`` is the
same as a table with one line for each job, written anew when a run ends.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from uresnet.cohort.jobs import Job, Outcome
from uresnet.core.files import write_text
from uresnet.errors import UserError

LINES, TABLE = "manifest.jsonl", "manifest.tsv"
COLUMNS = ("id", "state", "verdict", "seconds", "peak_mb", "error", "reasons", "warnings")


def append_line(path: Path, text: str) -> None:
    """Append one line and wait until the disk has it. What a killed process left of a line is ended first.

    Raises :class:`UserError` when the file cannot be written.
    """
    try:
        with path.open("a+b") as file, locked(file.fileno()):
            if file.seek(0, os.SEEK_END) and not _ends(file.fileno(), path):
                text = "\n" + text
            file.write(text.encode("utf-8") + b"\n")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error.strerror}); check the folder and its free space.") from error


def read_lines(path: Path) -> Iterator[object]:
    """The values of a file of JSON lines; damaged lines, such as the last of a killed process, are left out."""
    if not path.exists():
        return
    for line in path.read_bytes().split(b"\n"):
        with suppress(ValueError, RecursionError):
            if line:
                yield json.loads(line)


class Manifest:
    """The manifest in a ``folder``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def note(self, outcome: Outcome) -> None:
        """Add what came of a job."""
        line = json.dumps(outcome.to_json_value(), ensure_ascii=False)
        append_line(self.folder / LINES, line)

    def outcomes(self) -> dict[str, Outcome]:
        """The last of each job, by id, in the order in which they first ended."""
        found: dict[str, Outcome] = {}
        for value in read_lines(self.folder / LINES):
            with suppress(ValueError, TypeError):
                outcome = Outcome.from_json_value(value)
                found[outcome.id] = outcome
        return found

    def made(self) -> set[str]:
        """The ids of all jobs that were done once, whatever came of them since."""
        values = (value for value in read_lines(self.folder / LINES) if isinstance(value, dict))
        return {str(value.get("id")) for value in values if value.get("state") == "done"}

    def write_table(self, jobs: Sequence[Job]) -> None:
        """Write ``manifest.tsv``: all ``jobs`` in their order, then what the manifest knows besides."""
        known = self.outcomes()
        names = list(dict.fromkeys([*(job.id for job in jobs), *known]))
        rows = (_row(known[name]) if name in known else (name, "missing", *[""] * (len(COLUMNS) - 2)) for name in names)
        write_text(_lines([COLUMNS, *rows]), self.folder / TABLE)


def _row(outcome: Outcome) -> tuple[str, ...]:
    values = (getattr(outcome, name) for name in COLUMNS)
    texts = (" | ".join(value) if isinstance(value, tuple) else value for value in values)
    return tuple("" if text is None else " ".join(str(text).split()) for text in texts)


def _lines(rows: Iterable[Sequence[str]]) -> str:
    return "".join("\t".join(row) + "\n" for row in rows)


def _ends(handle: int, path: Path) -> bool:
    """Whether the file's last byte ends a line."""
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"


@contextmanager
def locked(handle: int) -> Iterator[None]:
    """One process at a time, where the system has such locks."""
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    with suppress(OSError):  # file systems without locks
        fcntl.flock(handle, fcntl.LOCK_EX)
    try:
        yield
    finally:
        with suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_UN)
