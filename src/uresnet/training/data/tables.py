"""Small tables of text: which scans there are, whose they are, and what was left out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from uresnet.core.files import write_text
from uresnet.core.reading import read_numbered_rows, separated
from uresnet.errors import UserError


def read_table(path: Path, needed: Sequence[str]) -> list[dict[str, str]]:
    """Rows of a table by column. Raises :class:`UserError` when it cannot be read, is empty or lacks a column."""
    columns, lines = read_numbered_rows(path)
    missing = [name for name in needed if name not in columns]
    if missing:
        raise UserError(f"{path} has no column '{missing[0]}'; it needs {', '.join(needed)}, {separated(path)}.")
    for number, row in lines:
        if any(not row[name] for name in needed):
            raise UserError(
                f"{path}, line {number}: {next(name for name in needed if not row[name])} is empty; fill it in."
            )
    if not lines:
        raise UserError(f"{path} has no rows; name at least two scans.")
    return [row for _, row in lines]


def write_table(path: Path, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Write tab-separated values; white space within a cell becomes a blank."""
    lines = ["\t".join(" ".join(cell.split()) for cell in row) + "\n" for row in (header, *rows)]
    write_text("".join(lines), path)
