"""Solving x + u(x) = y for a displacement on a lattice, by fixed-point steps and then Newton steps.

Everything here is in voxels of the displacement's own lattice; it knows no world. The displacement is read trilinearly
and continues unchanged beyond its edge, so that x + u(x) covers all of space.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from uresnet.sampling import sample_points

_BACKTRACK = 0.5
_SMALLEST_STEP = 1 / 16


@dataclass(frozen=True)
class InversionSettings:
    """When to stop: after ``iterations``, or when every residual is below ``tolerance_mm``.

    The first ``fixed_point_iterations`` steps are the plain x ← y − u(x), the cheapest and enough for most voxels; the
    voxels that are left take Newton steps with a central-difference Jacobian, halved where they overshoot.
    """

    iterations: int = 30
    tolerance_mm: float = 1e-3
    fixed_point_iterations: int = 3


@dataclass(frozen=True)
class InverseResidual:
    """How well an inverse undoes the map at the points asked for, in mm, and the share above the tolerance."""

    mean_mm: float
    max_mm: float
    unsolved_fraction: float

    def __str__(self) -> str:
        return f"mean {self.mean_mm:.4f} mm, max {self.max_mm:.4f} mm, unsolved {self.unsolved_fraction:.2g}"


def solve_inverse(
    displacement: Tensor, targets: Tensor, start: Tensor, voxel_to_mm: np.ndarray, settings: InversionSettings
) -> tuple[Tensor, Tensor]:
    """Find x with ``x + u(x) = y``.

    ``displacement`` u is (3, I, J, K) float32 in voxels, ``targets`` y and ``start`` (first guess of x) are (N, 3)
    voxels, ``voxel_to_mm`` (3, 3) measures residuals. Returns x (N, 3) and its residual (N,), mm.
    """
    to_mm = torch.as_tensor(voxel_to_mm.T.copy()).to(targets)
    solution = start.clone()
    miss = _miss(displacement, solution, targets)
    error = (miss @ to_mm).norm(dim=1)
    active = (error > settings.tolerance_mm).nonzero()[:, 0]
    step = torch.ones_like(error)
    for iteration in range(settings.iterations):
        if len(active) == 0:
            break
        here, missed = solution[active], miss[active]
        if iteration >= settings.fixed_point_iterations:
            change = step[active, None] * _newton_step(displacement, here, missed)
        else:
            change = missed
        tried = here - change
        tried_miss = _miss(displacement, tried, targets[active])
        tried_error = (tried_miss @ to_mm).norm(dim=1)
        better = tried_error < error[active]
        kept = active[better]
        solution[kept], miss[kept], error[kept] = tried[better], tried_miss[better], tried_error[better]
        # Overshot: try again from the same place with half the step, until halving has nothing left to offer.
        step[kept] = 1.0
        if iteration >= settings.fixed_point_iterations:
            step[active[~better]] *= _BACKTRACK
        active = active[(error[active] > settings.tolerance_mm) & (step[active] >= _SMALLEST_STEP)]
    return solution, error


def _miss(displacement: Tensor, x: Tensor, y: Tensor) -> Tensor:
    return sample_points(displacement, x, padding="border") + x - y


def _newton_step(displacement: Tensor, x: Tensor, missed: Tensor) -> Tensor:
    """``J⁻¹ missed`` with J the Jacobian of x + u(x), from differences over one voxel; plain step where J is poor."""
    columns = []
    for axis in range(3):
        half = torch.zeros(3, dtype=x.dtype, device=x.device)
        half[axis] = 0.5
        ahead = sample_points(displacement, x + half, padding="border")
        columns.append(ahead - sample_points(displacement, x - half, padding="border"))
    jacobian = torch.stack(columns, dim=-1) + torch.eye(3, dtype=x.dtype, device=x.device)
    a, b, c = jacobian.unbind(dim=-1)
    determinant = (a * torch.linalg.cross(b, c)).sum(dim=1, keepdim=True)
    rows = [torch.linalg.cross(b, c), torch.linalg.cross(c, a), torch.linalg.cross(a, b)]
    solved = torch.stack([(row * missed).sum(dim=1) for row in rows], dim=1) / determinant
    poor = (determinant.abs() < 0.02) | ~torch.isfinite(solved).all(dim=1, keepdim=True)
    return torch.where(poor, missed, solved)
