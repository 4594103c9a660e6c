"""How far the surfaces of two structures lie apart, in mm of the world."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from scipy.spatial import cKDTree

from uresnet.core.grid import Grid


@dataclass(frozen=True)
class SurfaceDistance:
    """``hd95_mm``: the larger of the two 95th percentiles (a to b, b to a) of the distance from a voxel of one surface
    to the nearest of the other. ``mean_mm``: the mean over the voxels of both surfaces. NaN where one is missing."""

    hd95_mm: float
    mean_mm: float


def surface_distance(a: np.ndarray, b: np.ndarray, grid: Grid) -> SurfaceDistance:
    """Distances between the surfaces of two masks, bool (I, J, K) on ``grid``.

    A surface is the voxels of a mask that have a face neighbour outside it; beyond the array is outside. Neighbours are
    looked up in a k-d tree of world positions, so that oblique and anisotropic voxels need no thought.
    Raises ``ValueError`` for masks that do not fit the grid.
    """
    if a.shape != grid.shape or b.shape != grid.shape:
        raise ValueError(f"masks of shapes {a.shape} and {b.shape} on a grid of shape {grid.shape}")
    points = [grid.points_to_world(_surface(mask)) for mask in (a, b)]
    if not all(len(surface) for surface in points):
        return SurfaceDistance(float("nan"), float("nan"))
    there = cKDTree(points[1]).query(points[0])[0]
    back = cKDTree(points[0]).query(points[1])[0]
    hd95 = max(float(np.percentile(there, 95)), float(np.percentile(back, 95)))
    return SurfaceDistance(hd95, float(np.concatenate([there, back]).mean()))


def _surface(mask: np.ndarray) -> np.ndarray:
    """(N, 3) voxel indices of the surface of a mask."""
    box = ndimage.find_objects(mask.astype(np.uint8))
    if not box:
        return np.empty((0, 3), int)
    inside = mask[box[0]]
    start = np.array([axis.start for axis in box[0]])
    return np.asarray(np.argwhere(inside & ~ndimage.binary_erosion(inside)) + start)
