"""Surface distances against positions worked out by hand and against every distance tried."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from uresnet.core.grid import Grid
from uresnet.measures.surfaces import surface_distance


def box(grid: Grid, low: tuple[int, int, int], high: tuple[int, int, int]) -> np.ndarray:
    mask = np.zeros(grid.shape, bool)
    mask[tuple(slice(a, b) for a, b in zip(low, high, strict=True))] = True
    return mask


def test_single_voxels_are_as_far_apart_as_their_centres(grid: Grid) -> None:
    a, b = np.zeros(grid.shape, bool), np.zeros(grid.shape, bool)
    a[1, 2, 1], b[3, 1, 2] = True, True
    expected = float(np.linalg.norm(grid.voxel_to_world[:3, :3] @ [2, -1, 1]))
    found = surface_distance(a, b, grid)
    assert found.hd95_mm == pytest.approx(expected) and found.mean_mm == pytest.approx(expected)


def test_a_plate_moved_along_its_normal_is_off_by_the_move() -> None:
    grid = Grid.centred((20, 12, 12), (1.5, 2.0, 3.0), "LPS", (0, 0, 0))
    found = surface_distance(box(grid, (4, 0, 0), (5, 12, 12)), box(grid, (8, 0, 0), (9, 12, 12)), grid)
    assert (found.hd95_mm, found.mean_mm) == pytest.approx((6.0, 6.0))


def test_the_percentile_is_the_worse_direction_and_the_mean_is_over_both() -> None:
    """A voxel against a row of 21 from it on: back to the voxel 0 … 20 mm, there 0 mm."""
    grid = Grid.centred((21, 3, 3), (1, 1, 1), "RAS", (0, 0, 0))
    found = surface_distance(box(grid, (0, 1, 1), (1, 2, 2)), box(grid, (0, 1, 1), (21, 2, 2)), grid)
    assert found.hd95_mm == pytest.approx(19.0)
    assert found.mean_mm == pytest.approx(210 / 22)


def test_solid_shapes_against_every_pair_of_surface_voxels() -> None:
    grid = Grid.centred((16, 15, 14), (1.0, 1.3, 2.1), "PIR", (3, 4, 5))
    index = np.stack(np.meshgrid(*map(np.arange, grid.shape), indexing="ij"), -1)
    a = (((index - [7, 7, 6]) / [5, 4, 4]) ** 2).sum(-1) <= 1
    b = box(grid, (3, 4, 2), (11, 12, 9))
    points = []
    for mask in (a, b):
        padded = np.pad(mask, 1)
        neighbours = [np.roll(padded, s, axis)[1:-1, 1:-1, 1:-1] for axis in range(3) for s in (1, -1)]
        points.append(grid.points_to_world(np.argwhere(mask & ~np.logical_and.reduce(neighbours))))
    distances = cdist(*points)
    there, back = distances.min(1), distances.min(0)
    found = surface_distance(a, b, grid)
    assert found.hd95_mm == pytest.approx(max(np.percentile(there, 95), np.percentile(back, 95)))
    assert found.mean_mm == pytest.approx((there.sum() + back.sum()) / (len(there) + len(back)))


def test_what_is_missing_has_no_distance() -> None:
    grid = Grid.centred((4, 4, 4), (1, 1, 1), "RAS", (0, 0, 0))
    found = surface_distance(np.ones(grid.shape, bool), np.zeros(grid.shape, bool), grid)
    assert math.isnan(found.hd95_mm) and math.isnan(found.mean_mm)
    with pytest.raises(ValueError, match="on a grid of shape"):
        surface_distance(np.ones((3, 3, 3), bool), np.ones((4, 4, 4), bool), grid)
