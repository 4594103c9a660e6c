"""Grids, maps and images on which every spatial feature is tried: orientation × oblique × anisotropic × non-cubic."""

from __future__ import annotations

import numpy as np
import torch
from scipy import ndimage
from scipy.spatial.transform import Rotation

from uresnet.core.grid import Grid
from uresnet.transform import Affine, Composite, DisplacementField, matrix_exponential, matrix_logarithm

ORIENTATIONS = ("RAS", "LAS", "LPS", "PIR", "oblique")
LPS = np.array([-1.0, -1.0, 1.0])
Point = tuple[float, float, float]


def grid_of(
    orientation: str,
    shape: tuple[int, int, int] = (21, 32, 17),
    zooms: Point = (1.9, 1.1, 2.4),
    centre: Point = (5.0, -12.0, 20.0),
) -> Grid:
    """An anisotropic, non-cubic grid; "oblique" is LAS turned by 12, −9 and 17 degrees."""
    grid = Grid.centred(shape, zooms, "LAS" if orientation == "oblique" else orientation, centre)
    if orientation != "oblique":
        return grid
    turn = np.eye(4)
    turn[:3, :3] = Rotation.from_euler("xyz", [12, -9, 17], degrees=True).as_matrix()
    turn[:3, 3] = np.array(centre) - turn[:3, :3] @ centre
    return Grid(shape, turn @ grid.voxel_to_world)


def known_affine() -> Affine:
    """Rotation, stretch and shift of the size that heads need."""
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_euler("xyz", [4, 6, -5], degrees=True).as_matrix() @ np.diag([1.05, 0.95, 1.08])
    matrix[:3, 3] = [3.0, -2.0, 2.5]
    return Affine(matrix)


def half_affine() -> Affine:
    """The affine that makes :func:`known_affine` when it is applied two times."""
    return Affine(matrix_exponential(matrix_logarithm(known_affine().matrix) / 2))


def smooth_noise(shape: tuple[int, int, int], sigma: float, size: float, seed: int = 0) -> np.ndarray:
    """(3, I, J, K) float32 with standard deviation ``size``, vanishing towards the faces."""
    rng = np.random.default_rng(seed)
    noise = np.stack([ndimage.gaussian_filter(rng.normal(size=shape), sigma, mode="wrap") for _ in range(3)])
    window = np.ones(shape)
    for axis, n in enumerate(shape):
        along = np.sin(np.pi * np.arange(n) / (n - 1))
        window *= along.reshape([-1 if a == axis else 1 for a in range(3)])
    return np.asarray(noise / noise.std() * size * window, dtype=np.float32)


def smooth_field(grid: Grid, size_mm: float = 1.5, sigma: float = 3.0, seed: int = 0) -> DisplacementField:
    return DisplacementField(torch.from_numpy(smooth_noise(grid.shape, sigma, size_mm, seed)), grid)


def mid_space(grid: Grid) -> Composite:
    """Half an affine, a deformation, the other half."""
    half = half_affine()
    return Composite([half, smooth_field(grid), half])


def smooth_image(grid: Grid, seed: int = 0) -> torch.Tensor:
    """(I, J, K) float32, about −3 to 3."""
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=grid.shape), 1.5)
    return torch.from_numpy((noise / noise.std()).astype(np.float32))


def points_in(grid: Grid, number: int = 100, seed: int = 0, margin: float = 2.0, whole: bool = False) -> np.ndarray:
    """(N, 3) world mm inside ``grid``; at voxel centres with ``whole``."""
    drawn = np.random.default_rng(seed).uniform(size=(number, 3))
    voxels = margin + drawn * (np.array(grid.shape) - 1 - 2 * margin)
    return grid.points_to_world(np.rint(voxels) if whole else voxels)
