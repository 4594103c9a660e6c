"""Small files of text, JSON and tables, read whole: how long they may be, and what JSON is."""

from __future__ import annotations

import csv
import io
import json
import os
from pathlib import Path
from typing import Any

from uresnet.errors import UserError

MOST_TEXT = 16 << 20
"""Bytes of a file of text, where nothing else is said."""


def read_text(path: Path, most: int = MOST_TEXT) -> str:
    """The text of a file in UTF-8, with or without a mark at its start.

    A pipe is read where somebody writes into it (a shell's ``<(…)``); it is empty where nobody does. Raises
    :class:`UserError` for a file of more than ``most`` bytes, before more of it is read; ``OSError``, and
    ``ValueError`` for a file that is no text.
    """
    with open(path, "rb", opener=_without_waiting) as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise UserError(
            f"{path} has more than {most:,} bytes, too many for such a file; check that it is the right one."
        )
    return content.decode("utf-8-sig")


def _without_waiting(path: str, flags: int) -> int:
    """Opens a file; a pipe at once, which otherwise waits for somebody who writes into it."""
    handle = os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
    if hasattr(os, "O_NONBLOCK"):
        os.set_blocking(handle, True)
    return handle


def read_rows(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    """The columns of a table, and its rows by column, without blanks around a value; a missing value is empty.

    Values are separated by tabs, or by commas in a ``.csv``. Raises :class:`UserError` when the file cannot be read,
    is no text, or has two columns of one name.
    """
    try:
        file = io.StringIO(read_text(path), newline="")
        reader = csv.DictReader(file, delimiter="," if path.suffix.lower() == ".csv" else "\t", restval="")
        columns = [name.strip() for name in reader.fieldnames or []]
        reader.fieldnames = columns
        rows = [{name: (cell or "").strip() for name, cell in row.items() if name is not None} for row in reader]
    except OSError as error:
        raise UserError(f"Cannot read the table {path}: {error.strerror}.") from error
    except (ValueError, csv.Error) as error:
        raise UserError(f"{path} is not a text file; give tab-separated values.") from error
    if len(set(columns)) < len(columns):
        raise UserError(f"{path} has two columns of one name; give each its own.")
    return columns, rows


def parse_json(text: str) -> Any:
    """The value of a JSON text. Raises ``ValueError`` for what is none, is nested too deep, or is not in Unicode."""
    try:
        value = json.loads(text)
        json.dumps(value, ensure_ascii=False).encode("utf-8")  # halves of surrogate pairs could not be written again
    except RecursionError:
        raise ValueError("it is nested too deep") from None
    return value


def is_file(path: Path) -> bool:
    """Whether there is such a file; also for names that no file system takes."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False
