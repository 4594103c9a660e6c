"""Tables of points (``.csv``) through a transform.

Points go the other way than images: the transform that resamples MOVING onto FIXED sends a point of the fixed world to
the moving world.
"""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from uresnet.core.files import check_exist, write_text
from uresnet.core.grid import Grid
from uresnet.errors import UserError
from uresnet.transform import Composite, DisplacementField, Transform

_NAMES = (("x", "y", "z"), ("r", "a", "s"), ("l", "p", "s"))
_INSIDE = "inside"


@dataclass(frozen=True, eq=False)
class PointTable:
    """``points`` (N, 3) RAS mm; ``header`` and ``rows`` are the table they came from, ``columns`` where in it they are.

    ``lps``: the table holds LPS numbers, as ANTs and ITK have them. ``inside`` (N,) bool: whether a point was where the
    transform is defined; None: not mapped yet.
    """

    points: np.ndarray
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    columns: tuple[int, int, int]
    lps: bool = False
    inside: np.ndarray | None = None


def read_points(path: str | Path, lps: bool = False) -> PointTable:
    """Read a comma-separated table with columns x, y, z (or R, A, S), mm; or three or more columns without a header.

    Other columns are kept. ``lps``: the numbers are LPS, also when the columns are called L, P, S. ``UserError`` for
    a table without such columns, and for cells that are no numbers.
    """
    path = Path(path)
    check_exist(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read as a table of points; give a .csv of text.") from error
    rows = [tuple(cell.strip() for cell in row) for row in csv.reader(io.StringIO(text)) if any(row)]
    if not rows:
        raise UserError(f"{path} holds no points.")
    header = rows[0] if not _is_number(rows[0][0]) or len(rows[0]) < 3 or not _is_number(rows[0][2]) else ()
    if header:
        rows = rows[1:]
    columns, named_lps = _columns(path, header)
    try:
        values = np.array([[float(row[c]) for c in columns] for row in rows], dtype=np.float64).reshape(-1, 3)
    except (ValueError, IndexError) as error:
        raise UserError(f"{path} has a row whose coordinates are not three numbers.") from error
    if not np.isfinite(values).all():
        raise UserError(f"{path} has coordinates that are not finite.")
    flip = lps or named_lps
    return PointTable(values * ([-1, -1, 1] if flip else [1, 1, 1]), header, tuple(rows), columns, flip)


def map_points(transform: Transform, table: PointTable, fixed: Grid | None = None) -> PointTable:
    """The points where ``transform`` sends them, and whether each passed inside every deformation on its way.

    Outside its grid a deformation leaves points where they are; only the affine parts move them. An affine is defined
    everywhere: give the ``fixed`` image's grid for points outside of it to count as outside.
    """
    points = torch.from_numpy(np.array(table.points))
    inside = np.ones(len(points), dtype=bool) if fixed is None else _within(fixed, table.points)
    for part in Composite([transform]).parts:
        if isinstance(part, DisplacementField):
            inside &= _within(part.grid, points.numpy())
        points = part.apply(points)
    return PointTable(points.numpy(), table.header, table.rows, table.columns, table.lps, inside)


def write_points(table: PointTable, path: str | Path) -> None:
    """Write the table with its coordinates replaced, in its own convention, and a last column ``inside`` (1 or 0),
    which has no name where the table has no header."""
    values = table.points * ([-1, -1, 1] if table.lps else [1, 1, 1])
    lines = io.StringIO()
    writer = csv.writer(lines, lineterminator="\n")
    if table.header:
        writer.writerow([*table.header, *([_INSIDE] if table.inside is not None else [])])
    for n, row in enumerate(table.rows):
        cells = list(row)
        for column, value in zip(table.columns, values[n], strict=True):
            cells[column] = f"{value:.6f}"
        writer.writerow([*cells, *([int(table.inside[n])] if table.inside is not None else [])])
    write_text(lines.getvalue(), path)


def _within(grid: Grid, points: np.ndarray) -> np.ndarray:
    """Whether each of (N, 3) points lies in a voxel of ``grid``."""
    voxels = grid.points_to_voxel(points)
    return np.asarray(((voxels >= -0.5) & (voxels < np.array(grid.shape) - 0.5)).all(axis=-1))


def _columns(path: Path, header: tuple[str, ...]) -> tuple[tuple[int, int, int], bool]:
    """(columns of the coordinates, whether their names say LPS)."""
    if not header:
        return (0, 1, 2), False
    lower = [name.lower() for name in header]
    for names in _NAMES:
        if all(name in lower for name in names):
            i, j, k = (lower.index(name) for name in names)
            return (i, j, k), names[0] == "l"
    raise UserError(f"{path} has no columns x, y, z (its columns are {', '.join(header)}); name them so")


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
