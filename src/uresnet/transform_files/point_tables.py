"""Tables of points: comma-separated (``.csv``), tab-separated (``.tsv``), and 3D Slicer's older ``.fcsv``."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from uresnet.errors import UserError, quoted
from uresnet.transform_files.contents import small_content
from uresnet.transform_files.formats.matrices import number

_NAMES = (("x", "y", "z"), ("r", "a", "s"), ("l", "p", "s"))
_SYSTEMS = {"0": "RAS", "1": "LPS", "RAS": "RAS", "LPS": "LPS"}
_INSIDE = "inside"


@dataclass(frozen=True, eq=False)
class PointTable:
    """``points`` (N, 3) RAS mm; ``header`` and ``rows`` are the table they came from, ``columns`` where in it they are.

    ``lps``: the table holds LPS numbers, as ANTs and ITK have them. ``inside`` (N,) bool: whether a point was where the
    transform is defined; None: not mapped yet. ``comments`` are the lines at the head of a ``.fcsv``, and ``document``
    is the content of a ``.mrk.json``.
    """

    points: np.ndarray
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    columns: tuple[int, int, int]
    lps: bool = False
    inside: np.ndarray | None = None
    comments: tuple[str, ...] = ()
    document: Any = None

    @property
    def numbers(self) -> np.ndarray:
        """(N, 3) as the table's own convention has them."""
        return self.points * ([-1, -1, 1] if self.lps else [1, 1, 1])


def read_table(path: Path, lps: bool) -> PointTable:
    """Points of a table whose header names x, y, z (or R, A, S; L, P, S), mm; without a header, exactly three columns.

    Other columns are kept. ``UserError`` for any other table, and for rows longer than the header.
    """
    lines = text_of(path).splitlines(keepends=True)
    rows = _cells(lines, "\t" if path.name.lower().endswith(".tsv") else ",")
    if not rows:
        raise UserError(f"{path} holds no points.")
    header = () if all(_is_number(cell) for cell in rows[0][:3]) else rows[0]
    if not header and len(rows[0]) != 3:
        raise UserError(
            f"{path} has {len(rows[0])} columns and no header, so it does not say which of them are coordinates; name "
            "the columns in a first line, such as x,y,z."
        )
    columns, named = _columns(path, header)
    if lps and named == "RAS":
        raise UserError(f"{path} has columns called R, A, S, which are not LPS; leave out --lps, or rename them.")
    return table_of(path, header, rows[1:] if header else rows, columns, lps or named == "LPS")


def read_fcsv(path: Path, lps: bool) -> PointTable:
    """Points of Slicer's ``.fcsv``, whose first lines name the columns and the coordinate system."""
    lines = text_of(path).splitlines(keepends=True)
    comments = [line for line in lines if line.startswith("#")]
    said = dict(_setting(line) for line in comments)
    named = said.get("coordinatesystem")
    header = tuple(cell.strip() for cell in said.get("columns", "").split(","))
    if "columns" not in said:
        raise UserError(f"{path} is not a .fcsv of 3D Slicer: it does not name its columns; save it again, or as .csv.")
    rows = _cells([line for line in lines if not line.startswith("#")], ",")
    columns, _ = _columns(path, header)
    return table_of(path, header, rows, columns, is_lps(path, named, lps), comments=tuple(comments))


def is_lps(path: Path, named: str | None, lps: bool) -> bool:
    """Whether a file of Slicer is in LPS. ``named`` is what it says; ``lps`` what the caller says of it."""
    system = "LPS" if named is None and lps else _SYSTEMS.get((named or "").strip().upper())
    if system is None:
        what = "does not say its coordinate system" if named is None else f"is in the coordinates {quoted(named)}"
        raise UserError(f"{path} {what}; save it from 3D Slicer in LPS or RAS.")
    if lps and system == "RAS":
        raise UserError(f"{path} says that it is in RAS; leave out --lps.")
    return system == "LPS"


def table_of(
    path: Path,
    header: tuple[str, ...],
    rows: Sequence[tuple[str, ...]],
    columns: tuple[int, int, int],
    lps: bool,
    **kept: Any,
) -> PointTable:
    """A table whose coordinates have proved to be finite numbers; short rows are filled with empty cells."""
    width = len(header) or 3
    for n, row in enumerate(rows, start=1):
        if len(row) > width:
            raise UserError(f"{path} has a row ({n}) of {len(row)} cells where there are {width} columns; repair it.")
    rows = [(*row, *[""] * (width - len(row))) for row in rows]
    try:
        values = np.array([[number(row[c]) for c in columns] for row in rows], dtype=np.float64).reshape(-1, 3)
    except ValueError as error:
        raise UserError(f"{path} has a row whose coordinates are not three numbers.") from error
    if not len(values):
        raise UserError(f"{path} holds no points.")
    if not np.isfinite(values).all():
        raise UserError(f"{path} has coordinates that are not finite.")
    return PointTable(values * ([-1, -1, 1] if lps else [1, 1, 1]), header, tuple(rows), columns, lps, **kept)


def text_of(path: Path) -> str:
    """The text of a file of points. ``UserError`` where it is none."""
    try:
        return small_content(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path} cannot be read as points: it is not text in UTF-8; save it so.") from error


def written_table(table: PointTable, delimiter: str) -> str:
    """The table with its coordinates replaced, in its own convention, and a last column ``inside`` (1 or 0), which has
    no name where the table has no header."""
    names = list(table.header)
    if table.comments:  # x, y, z of Slicer: a .csv has no other place to say in which convention
        for column, name in zip(table.columns, "LPS" if table.lps else "RAS", strict=True):
            names[column] = name
    last = [] if table.inside is None else [[str(int(inside))] for inside in table.inside]
    rows = [[*row, *(last[n] if last else [])] for n, row in enumerate(_replaced(table))]
    return _joined([[*names, *([_INSIDE] if last else [])], *rows] if names else rows, delimiter)


def written_fcsv(table: PointTable) -> str:
    """The ``.fcsv`` with its coordinates replaced; the description of a point outside says so."""
    rows = _replaced(table)
    if table.inside is not None and "desc" in table.header:
        at = table.header.index("desc")
        for row, inside in zip(rows, table.inside, strict=True):
            row[at] = described(row[at], bool(inside))
    return "".join(table.comments) + _joined(rows, ",")


def described(text: str, inside: bool) -> str:
    """A description of a point, which says where the point was outside of the deformation."""
    if inside:
        return text
    return f"{text}; outside the deformation" if text else "outside the deformation"


def _replaced(table: PointTable) -> list[list[str]]:
    rows = [list(row) for row in table.rows]
    for row, values in zip(rows, table.numbers, strict=True):
        for column, value in zip(table.columns, values, strict=True):
            row[column] = f"{value:.6f}"
    return rows


def _joined(rows: list[list[str]], delimiter: str) -> str:
    lines = io.StringIO()
    csv.writer(lines, delimiter=delimiter, lineterminator="\n").writerows(rows)
    return lines.getvalue()


def _cells(lines: list[str], delimiter: str) -> list[tuple[str, ...]]:
    return [tuple(cell.strip() for cell in row) for row in csv.reader(lines, delimiter=delimiter) if any(row)]


def _setting(line: str) -> tuple[str, str]:
    key, _, value = line.lstrip("# ").partition("=")
    return key.strip().lower(), value.strip()


def _columns(path: Path, header: tuple[str, ...]) -> tuple[tuple[int, int, int], str]:
    """(columns of the coordinates, the convention that their names say: LPS, RAS or none)."""
    if not header:
        return (0, 1, 2), ""
    lower = [name.lower().lstrip("# ") for name in header]
    found = [names for names in _NAMES if all(name in lower for name in names)]
    if len(header) == 1 and any(separator in header[0] for separator in ";\t,"):
        wanted = "tabs" if path.suffix == ".tsv" else "commas"
        raise UserError(f"{path} has another separator than {wanted}; save it with {wanted} between the columns.")
    if not found:
        raise UserError(f"{path} has no columns x, y, z (its columns are {quoted(', '.join(header))}); name them so.")
    if len(found) > 1 or any(lower.count(name) > 1 for name in found[0]):
        raise UserError(
            f"{path} has more than one column for a coordinate ({quoted(', '.join(header))}); keep one set."
        )
    i, j, k = (lower.index(name) for name in found[0])
    return (i, j, k), "" if found[0] == _NAMES[0] else "".join(found[0]).upper()


def _is_number(text: str) -> bool:
    try:
        number(text)
    except ValueError:
        return False
    return True
