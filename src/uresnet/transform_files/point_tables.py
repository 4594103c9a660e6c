"""Tables of points: comma-separated (``.csv``), tab-separated (``.tsv``), and 3D Slicer's older ``.fcsv``."""

from __future__ import annotations

import csv
import io
import math
import re
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
_DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d+")

Row = tuple[str, tuple[str, ...]]
"""Where it stands in its file, in words, and its cells."""


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


def read_table(path: Path, lps: bool | None) -> PointTable:
    """Points of a table whose header names x, y, z (or R, A, S; L, P, S), mm; without a header, exactly three columns.

    Other columns are kept. ``lps``: as :func:`uresnet.transform_files.read_points` has it. ``UserError`` for any other
    table, for rows longer than the header, and for a table of ANTs where nobody says that it is one.
    """
    lines = text_of(path).splitlines(keepends=True)
    rows = _rows(lines, "\t" if path.name.lower().endswith(".tsv") else ",")
    if not rows:
        raise UserError(f"{path} holds no points.")
    first = rows[0][1]
    header = () if all(_is_number(cell) for cell in first[:3]) else first
    if not header and len(first) != 3:
        raise UserError(
            f"{path} has {len(first)} columns and no header, so it does not say which of them are coordinates; name "
            f"the columns in a first line, such as x,y,z{_of_decimal_commas(first)}."
        )
    columns, named = _columns(path, header)
    if lps and named == "RAS":
        raise UserError(f"{path} has columns called R, A, S, which are not LPS; leave out --lps, or rename them.")
    if lps is False and named == "LPS":
        raise UserError(f"{path} has columns called L, P, S, which are not RAS; leave out --ras, or rename them.")
    if lps is None and not named and "t" in _plain(header):
        raise UserError(
            f"{path} has a column t, as the tables of ANTs have, whose points are in LPS; say --lps if it is one, and "
            "--ras if its points are in RAS."
        )
    table = table_of(path, header, rows[1:] if header else rows, columns, bool(lps) or named == "LPS")
    _check_inside(path, table)
    return table


def read_fcsv(path: Path, lps: bool | None) -> PointTable:
    """Points of Slicer's ``.fcsv``, whose first lines name the columns and the coordinate system."""
    lines = text_of(path).splitlines(keepends=True)
    comments = [line for line in lines if line.startswith("#")]
    said = dict(_setting(line) for line in comments)
    named = said.get("coordinatesystem")
    header = tuple(cell.strip() for cell in said.get("columns", "").split(","))
    if "columns" not in said:
        raise UserError(f"{path} is not a .fcsv of 3D Slicer: it does not name its columns; save it again, or as .csv.")
    rows = _rows(["\n" if line.startswith("#") else line for line in lines], ",")
    columns, _ = _columns(path, header)
    return table_of(path, header, rows, columns, is_lps(path, named, lps), comments=tuple(comments))


def is_lps(path: Path, named: str | None, lps: bool | None) -> bool:
    """Whether a file of Slicer is in LPS. ``named`` is what it says; ``lps`` what the caller says of it."""
    if named is None and lps is not None:
        return lps
    system = _SYSTEMS.get((named or "").strip().upper())
    if system is None:
        what = "does not say its coordinate system" if named is None else f"is in the coordinates {quoted(named)}"
        raise UserError(f"{path} {what}; save it from 3D Slicer in LPS or RAS.")
    if lps is not None and lps != (system == "LPS"):
        raise UserError(f"{path} says that it is in {system}; leave out {'--lps' if lps else '--ras'}.")
    return system == "LPS"


def table_of(
    path: Path, header: tuple[str, ...], rows: Sequence[Row], columns: tuple[int, int, int], lps: bool, **kept: Any
) -> PointTable:
    """A table whose coordinates have proved to be finite numbers; short rows are filled with empty cells."""
    width = len(header) or 3
    cells, values = [], []
    for place, row in rows:
        if len(row) > width:
            raise UserError(
                f"{path} has {len(row)} cells in {place} where there are {width} columns; repair "
                f"it{_of_decimal_commas(row, width)}."
            )
        filled = (*row, *[""] * (width - len(row)))
        cells.append(filled)
        values.append(_coordinates(path, place, [filled[column] for column in columns]))
    if not cells:
        raise UserError(f"{path} holds no points.")
    points = np.array(values, dtype=np.float64) * ([-1, -1, 1] if lps else [1, 1, 1])
    return PointTable(points, header, tuple(cells), columns, lps, **kept)


def _coordinates(path: Path, place: str, cells: Sequence[str]) -> list[float]:
    try:
        values = [number(cell) for cell in cells]
    except ValueError as error:
        hint = " with decimal points (1.5, not 1,5)" if any(map(_DECIMAL_COMMA.fullmatch, cells)) else ""
        shown = quoted(" | ".join(cells), 60)
        raise UserError(f"{path} has in {place} the coordinates {shown}; give three numbers{hint}.") from error
    if not all(map(math.isfinite, values)):
        raise UserError(f"{path} has in {place} coordinates that are not finite; give three numbers.")
    return values


def _of_decimal_commas(row: Sequence[str], width: int = 3) -> str:
    """A hint for a row that has twice as many cells as it should, all of them whole numbers."""
    halves = len(row) == 2 * width and all(re.fullmatch(r"[+-]?\d+", cell) for cell in row)
    return ", with decimal points in its numbers (1.5, not 1,5)" if halves else ""


def text_of(path: Path) -> str:
    """The text of a file of points. ``UserError`` where it is none."""
    try:
        return small_content(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path} cannot be read as points: it is not text in UTF-8; save it so.") from error


def written_table(table: PointTable, delimiter: str) -> str:
    """The table with its coordinates replaced, in its own convention, and a last column ``inside`` (1 or 0), which has
    no name where the table has no header. Where the table has this column, a point that is 0 in it stays 0."""
    names, rows = list(table.header), _replaced(table)
    if table.comments:  # x, y, z of Slicer: a .csv has no other place to say in which convention
        for column, name in zip(table.columns, "LPS" if table.lps else "RAS", strict=True):
            names[column] = name
    if table.inside is not None:
        earlier = _inside_column(table.header)
        for row, inside in zip(rows, table.inside, strict=True):
            if earlier is None:
                row.append(str(int(inside)))
            else:
                row[earlier] = str(int(inside and number(row[earlier]) == 1))
        if names and earlier is None:
            names.append(_INSIDE)
    return _joined([names, *rows] if names else rows, delimiter)


def _inside_column(header: tuple[str, ...]) -> int | None:
    """Where a table has what an earlier transform said of its points."""
    lower = _plain(header)
    return lower.index(_INSIDE) if _INSIDE in lower else None


def _check_inside(path: Path, table: PointTable) -> None:
    column = _inside_column(table.header)
    if column is None:
        return
    if any(not _is_number(row[column]) or number(row[column]) not in (0, 1) for row in table.rows):
        raise UserError(
            f"{path} has a column {_INSIDE} with other values than 1 and 0; rename it: the result has a column of this "
            "name."
        )


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
    if inside or text.endswith("outside the deformation"):
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


def _rows(lines: list[str], delimiter: str) -> list[Row]:
    """The rows that are not empty."""
    reader = csv.reader(lines, delimiter=delimiter)
    stripped = ((f"line {reader.line_num}", tuple(cell.strip() for cell in row)) for row in reader)
    return [(place, row) for place, row in stripped if any(row)]


def _setting(line: str) -> tuple[str, str]:
    key, _, value = line.lstrip("# ").partition("=")
    return key.strip().lower(), value.strip()


def _columns(path: Path, header: tuple[str, ...]) -> tuple[tuple[int, int, int], str]:
    """(columns of the coordinates, the convention that their names say: LPS, RAS or none)."""
    if not header:
        return (0, 1, 2), ""
    lower = _plain(header)
    found = [names for names in _NAMES if all(name in lower for name in names)]
    tabs = path.name.lower().endswith(".tsv")
    if not found and any(separator in cell for cell in header for separator in (";" if tabs else ";\t")):
        raise UserError(_another_separator(path, tabs))
    if not found and len(header) == 1 and "," in header[0]:
        raise UserError(_another_separator(path, tabs))
    if not found and all(map(_DECIMAL_COMMA.fullmatch, header)):
        raise UserError(f"{path} has numbers with decimal commas ({quoted(header[0])}); save it with points (1.5).")
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


def _plain(header: tuple[str, ...]) -> list[str]:
    """Names of columns in small letters, without the # that some programs put before the first one."""
    return [name.lower().lstrip("# ") for name in header]


def _another_separator(path: Path, tabs: bool) -> str:
    wanted = "tabs" if tabs else "commas"
    return (
        f"{path} has another separator than {wanted}; save it with {wanted} between the columns, and points, not "
        "commas, in the numbers."
    )
