"""What a map does to volumes, and how well two maps invert each other."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from uresnet.core.coordinates import affine_coordinates, slabs
from uresnet.core.grid import Grid
from uresnet.core.image import LabelMap
from uresnet.transform.affine import Affine
from uresnet.transform.base import Transform
from uresnet.transform.composite import Composite, map_grid
from uresnet.transform.deformation import lattice_determinant


def jacobian_determinant(transform: Transform, grid: Grid) -> Tensor:
    """det ∂T/∂x with respect to the world at every voxel of ``grid``, (I, J, K) float32, on the CPU.

    Affine parts enter exactly: a composite of affines gives its constant, the last affines their factor. What is left
    is differentiated on ``grid`` by central differences. SimpleITK's ``DisplacementFieldJacobianDeterminant`` gives the
    same on grids along LPS; on others it is wrong, because it takes the grid's axes for the world's.
    """
    parts = list(transform.parts)
    factor = 1.0
    while parts and isinstance(last_part := parts[-1], Affine):
        factor *= float(np.linalg.det(last_part.matrix[:3, :3]))
        parts.pop()
    out = torch.full(grid.shape, factor, dtype=torch.float32)
    if not parts:
        return out
    inner = Composite(parts)
    last = grid.shape[0] - 1
    for rows in slabs(grid.shape, channels=12):
        halo = slice(max(0, rows.start - 1), min(last, rows.stop) + 1)
        moved = map_grid(inner, grid, grid.world_to_voxel, halo, "cpu")[0]
        index = affine_coordinates(np.eye(4), moved.shape[1:], first_slice=halo.start)[0]
        determinant = lattice_determinant(moved - index)
        out[rows] *= determinant[rows.start - halo.start : rows.stop - halo.start]
    return out


def folding_fraction(determinant: Tensor, mask: Tensor | None = None) -> float:
    """Share of the voxels (of ``mask``, bool) whose Jacobian determinant is not positive."""
    values = determinant if mask is None else determinant[mask.to(determinant.device)]
    if values.numel() == 0:
        raise ValueError("the mask is empty")
    return float((values <= 0).double().mean())


def log_jacobian_std(determinant: Tensor, mask: Tensor | None = None) -> float:
    """SDlogJ: standard deviation of log(clip(det, 1e-9, 1e9)) over ``mask`` (bool), or everywhere."""
    values = determinant if mask is None else determinant[mask.to(determinant.device)]
    if values.numel() == 0:
        raise ValueError("the mask is empty")
    return float(values.double().clamp(1e-9, 1e9).log().std(correction=0))


@dataclass(frozen=True)
class InverseError:
    """Distance between a point and backward(forward(point)), mm."""

    mean_mm: float
    max_mm: float


def inverse_error(
    forward: Transform, backward: Transform, mask: LabelMap, points: int | None = 20_000, seed: int = 0
) -> InverseError:
    """How far ``backward ∘ forward`` moves the voxel centres of ``mask``, mm.

    At most ``points`` of them, drawn with ``seed``; all of them with None.
    """
    voxels = mask.mask.nonzero().cpu()
    if len(voxels) == 0:
        raise ValueError("the mask is empty")
    if points is not None and len(voxels) > points:
        order = torch.randperm(len(voxels), generator=torch.Generator().manual_seed(seed))
        voxels = voxels[order[:points]]
    world = torch.from_numpy(mask.grid.points_to_world(voxels.numpy()))
    distance = (backward.apply(forward.apply(world)) - world).norm(dim=1)
    return InverseError(float(distance.mean()), float(distance.max()))
