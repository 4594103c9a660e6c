"""Grids on which every spatial thing is tried: RAS, LAS, LPS, LIA and oblique; none is cubic or isotropic."""

from __future__ import annotations

import numpy as np

from uresnet.core.grid import Grid, directions


def rotation(degrees: tuple[float, float, float]) -> np.ndarray:
    """(3, 3): about x, then y, then z."""
    a, b, c = np.radians(degrees)
    x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    y = np.array([[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]])
    z = np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
    turned: np.ndarray = z @ y @ x
    return turned


def turned(grid: Grid, degrees: tuple[float, float, float]) -> Grid:
    """The same voxels, turned about the middle of the box."""
    matrix = np.eye(4)
    matrix[:3, :3] = rotation(degrees)
    matrix[:3, 3] = grid.centre_world - matrix[:3, :3] @ grid.centre_world
    return Grid(grid.shape, matrix @ grid.voxel_to_world)


def made_from_scratch(
    shape: tuple[int, int, int], zooms: tuple[float, float, float], codes: str, origin: tuple[float, float, float]
) -> Grid:
    """Voxel 0 at ``origin``; no helper of the package but the signs of its axes."""
    matrix = np.eye(4)
    matrix[:3, :3] = directions(codes) * np.array(zooms)
    matrix[:3, 3] = origin
    return Grid(shape, matrix)


GRIDS: dict[str, Grid] = {
    "RAS": made_from_scratch((12, 15, 10), (1.0, 1.5, 2.0), "RAS", (-5.0, -9.0, 40.0)),
    "LAS": made_from_scratch((11, 14, 9), (1.2, 0.9, 2.5), "LAS", (80.0, -150.0, -165.0)),
    "LPS": made_from_scratch((13, 10, 12), (0.8, 1.3, 1.1), "LPS", (20.0, 30.0, -7.0)),
    "LIA": made_from_scratch((10, 13, 11), (1.0, 1.4, 0.7), "LIA", (6.0, 9.0, -4.0)),
    "oblique": turned(made_from_scratch((14, 11, 9), (0.9, 1.1, 3.0), "PSR", (10.0, 7.0, -12.0)), (12.0, -20.0, 31.0)),
    "oblique LAS": turned(
        made_from_scratch((9, 12, 13), (1.6, 1.0, 1.2), "LAS", (3.0, -8.0, 300.0)), (-7.0, 16.0, -25.0)
    ),
}
