"""Made-up heads and brains: balls of noise."""

from __future__ import annotations

import numpy as np
import torch

from grids import made_from_scratch
from uresnet.core.grid import Grid
from uresnet.core.image import Image

ROOMY = made_from_scratch((100, 110, 90), (2, 2, 2), "RAS", (-100, -110, -90))


def ball(grid: Grid, litres: float, at: tuple[float, float, float] = (0, 0, 0)) -> np.ndarray:
    """A ball ``at`` millimetres from the middle of ``grid``, bool on its voxels."""
    voxels = np.stack(np.meshgrid(*map(np.arange, grid.shape), indexing="ij"), axis=-1)
    away = grid.points_to_world(voxels) - grid.centre_world - at
    return np.asarray(np.linalg.norm(away, axis=-1) <= (litres * 1e6 * 3 / 4 / np.pi) ** (1 / 3))


def image_of(mask: np.ndarray, grid: Grid = ROOMY, background: float = 0.0) -> Image:
    """Noise about 100 in the mask."""
    noise = np.random.default_rng(0).normal(100, 10, grid.shape)
    return Image(torch.from_numpy(np.where(mask, noise, background)), grid)


def dice(a: np.ndarray, b: np.ndarray) -> float:
    """Overlap of two masks."""
    return float(2 * (a & b).sum() / (a.sum() + b.sum()))
