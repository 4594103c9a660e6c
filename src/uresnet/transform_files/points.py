"""Points (``.csv``, ``.tsv``, Slicer's ``.fcsv`` and ``.mrk.json``) through a transform.

Points go the other way than images: the transform that resamples MOVING onto FIXED sends a point of the fixed world to
the moving world.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from uresnet.core.files import check_exist, write_text
from uresnet.core.grid import Grid
from uresnet.errors import UserError
from uresnet.transform import Composite, DisplacementField, Transform
from uresnet.transform_files.contents import reading
from uresnet.transform_files.markups import read_markups, written_markups
from uresnet.transform_files.point_tables import PointTable, read_fcsv, read_table, written_fcsv, written_table

__all__ = ["PointTable", "map_points", "read_points", "write_points"]


def read_points(path: str | Path, lps: bool | None = None) -> PointTable:
    """Read points, mm: a table (``.csv``; tabs in ``.tsv``) with columns x, y, z (or R, A, S; L, P, S), or with exactly
    three columns and no header; and 3D Slicer's ``.fcsv`` and ``.mrk.json``, which say whether they are in LPS.

    Everything else in the file is kept. ``lps``: the numbers are LPS (True) or RAS (False) where the file does not say
    it; None is RAS, but for a table with the column t, which those of ANTs have: it may be either. ``UserError`` for a
    file that does not say where its points are, and for a damaged one.
    """
    path = Path(path)
    check_exist(path)
    if not path.is_file():
        raise UserError(f"{path} is not a file; give points as .csv, .tsv, .fcsv or .mrk.json.")
    readers = {".fcsv": read_fcsv, ".mrk.json": read_markups}
    read = next((read for ending, read in readers.items() if path.name.lower().endswith(ending)), read_table)
    with reading(path):
        return read(path, lps)


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
    return replace(table, points=points.numpy(), inside=inside)


def write_points(table: PointTable, path: str | Path) -> None:
    """Write the points in their own convention: as ``.csv`` or ``.tsv`` with a column ``inside`` (1 or 0), or as the
    kind of Slicer file that they came from, where descriptions say which points are outside.

    ``UserError`` for a Slicer file of points that came from another kind.
    """
    name = Path(path).name.lower()
    if name.endswith(".fcsv") and table.comments:
        write_text(written_fcsv(table), path)
    elif name.endswith(".mrk.json") and table.document is not None:
        write_text(written_markups(table), path)
    elif name.endswith((".fcsv", ".mrk.json")):
        raise UserError(f"{path}: these points come from another kind of file; give the result the ending .csv.")
    else:
        write_text(written_table(table, "\t" if name.endswith(".tsv") else ","), path)


def _within(grid: Grid, points: np.ndarray) -> np.ndarray:
    """Whether each of (N, 3) points lies in a voxel of ``grid``."""
    voxels = grid.points_to_voxel(points)
    return np.asarray(((voxels >= -0.5) & (voxels < np.array(grid.shape) - 0.5)).all(axis=-1))
