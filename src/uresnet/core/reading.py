"""Small files of text, JSON and tables, read whole: how long they may be, and what JSON is."""

from __future__ import annotations

import csv
import io
import json
import os
from itertools import zip_longest
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
    """The columns of a table, and its rows by column, as :func:`read_numbered_rows` reads them."""
    columns, lines = read_numbered_rows(path)
    return columns, [row for _, row in lines]


def read_numbered_rows(path: Path) -> tuple[list[str], list[tuple[int, dict[str, str]]]]:
    """The columns of a table, and its rows by column, each with the number of its line. There are no blanks around a
    value; a missing value is empty; lines without any value are left out.

    Values are separated by tabs, or by commas in a ``.csv``. Raises :class:`UserError` when the file cannot be read,
    is no text, has two columns of one name, or more values in a line than there are columns.
    """
    try:
        reader = csv.reader(io.StringIO(read_text(path), newline=""), delimiter=_separator(path), strict=True)
        lines = [(reader.line_num, [cell.strip() for cell in cells]) for cells in reader]
    except OSError as error:
        raise UserError(f"Cannot read the table {path}: {error.strerror}.") from error
    except csv.Error as error:
        raise UserError(
            f"{path}, line {reader.line_num}: its quotation marks do not come in pairs, or a value is too long; repair "
            "the line."
        ) from error
    except ValueError as error:
        raise UserError(f"{path} is not a text file; give a table with values {separated(path)}.") from error
    (_, columns), *rows = [(line, _without_empty_end(cells)) for line, cells in lines if any(cells)] or [(1, [])]
    if len(set(columns)) < len(columns):
        raise UserError(f"{path} has two columns of one name; give each its own.")
    long = [(line, len(cells)) for line, cells in rows if len(cells) > len(columns)]
    if long:
        more = f", and so have {len(long) - 1} more lines" if len(long) > 1 else ""
        raise UserError(
            f"{path}, line {long[0][0]}: {long[0][1]} values in {len(columns)} columns{more}; repair them (a value "
            f"that holds a {'comma' if _separator(path) == ',' else 'tab'} stands between quotation marks)."
        )
    return columns, [(line, dict(zip_longest(columns, cells, fillvalue=""))) for line, cells in rows]


def separated(path: Path) -> str:
    """How the values of a table are separated, in words."""
    return "separated by commas" if _separator(path) == "," else "separated by tabs (in a .csv, by commas)"


def _separator(path: Path) -> str:
    return "," if path.suffix.lower() == ".csv" else "\t"


def _without_empty_end(cells: list[str]) -> list[str]:
    """Spreadsheets write empty cells after the last column."""
    return cells[: max((place for place, cell in enumerate(cells, start=1) if cell), default=0)]


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
