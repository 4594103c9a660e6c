"""Solving x + u(x) = y for a displacement u on a lattice, for all y of another lattice.

Coarse to fine. The coarsest lattice is solved point by point (fixed-point steps, then damped Newton steps). Each finer
one starts from the coarser solution and takes Newton steps in which the inverse of the Jacobian is taken from the
current inverse itself, by differences on its own lattice: a step reads u once and solves no system. Points that are
left above the tolerance are solved one by one again.

Everything here is in voxels of u's own lattice; it knows no world. The displacement is read trilinearly and continues
unchanged beyond its edge, so that x + u(x) covers all of space.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from uresnet.core.coordinates import affine_coordinates
from uresnet.core.sampling import sample, sample_points

_BACKTRACK = 0.5
_SMALLEST_STEP = 1 / 16
_FEW = 0.05  # share of the voxels


@dataclass(frozen=True)
class InversionSettings:
    """When to stop: a voxel is solved when its residual is below ``tolerance_mm``.

    ``levels`` lattices, each twice as fine as the one before, ``newton_steps`` on all voxels of each but the coarsest;
    voxels that are left then get at most ``iterations`` steps of their own, the first ``fixed_point_steps`` of them
    x ← y − u(x), the others Newton's, halved where they overshoot.
    """

    tolerance_mm: float = 5e-3
    levels: int = 3
    newton_steps: int = 2
    iterations: int = 30
    fixed_point_steps: int = 3


@dataclass(frozen=True)
class InverseResidual:
    """How far inverse ∘ forward moves points drawn all over the field, mm, and the share of voxels left unsolved."""

    mean_mm: float
    max_mm: float
    unsolved_fraction: float

    def __str__(self) -> str:
        return f"mean {self.mean_mm:.4f} mm, max {self.max_mm:.4f} mm, unsolved {self.unsolved_fraction:.2g}"


@dataclass(frozen=True)
class Lattice:
    """Where the inverse is wanted: ``shape`` points whose voxel n lies at ``to_source`` (4×4) n in voxels of u."""

    shape: tuple[int, int, int]
    to_source: np.ndarray

    def coarser(self) -> Lattice:
        """Every second point, from the first, reaching at least the last."""
        i, j, k = (n // 2 + 1 for n in self.shape)
        return Lattice((i, j, k), self.to_source @ np.diag([2.0, 2.0, 2.0, 1.0]))


def solve_on_lattice(
    displacement: Tensor, lattice: Lattice, voxel_to_mm: np.ndarray, settings: InversionSettings
) -> tuple[Tensor, Tensor]:
    """Find e with ``(y + e) + u(y + e) = y`` at every point y of ``lattice``.

    ``displacement`` u is (3, I, J, K) float32 in voxels, ``voxel_to_mm`` (3, 3) measures residuals. Returns e
    (3, i, j, k) and the length of the residual (i, j, k) in mm.
    """
    levels = [lattice]
    while len(levels) < settings.levels and min(levels[-1].shape) >= 16:
        levels.append(levels[-1].coarser())
    guess = error = None
    for level in reversed(levels):
        y = affine_coordinates(level.to_source, level.shape, displacement.device)
        coarsest = guess is None
        guess = -sample(displacement[None], y, padding="border")[0] if guess is None else _doubled(guess, level.shape)
        residual = _residual(displacement, guess, y)
        error = _length_mm(residual, voxel_to_mm)
        for _ in range(0 if coarsest else settings.newton_steps):
            # Once few voxels are left, they are cheaper one by one.
            if float((error > settings.tolerance_mm).float().mean()) < _FEW:
                break
            tried = guess - _lattice_step(guess, residual, level)
            tried_residual = _residual(displacement, tried, y)
            tried_error = _length_mm(tried_residual, voxel_to_mm)
            # In a fold the inverse has no derivative, and a step by it may lead anywhere.
            better = tried_error < error
            guess, residual = torch.where(better, tried, guess), torch.where(better, tried_residual, residual)
            error = torch.minimum(error, tried_error)
        fixed_point_steps = settings.fixed_point_steps if coarsest else 0
        pointwise = replace(settings, fixed_point_steps=fixed_point_steps)
        guess, error = _solve_remaining(displacement, guess, y, error, voxel_to_mm, pointwise)
    assert guess is not None and error is not None
    return guess, error


def _residual(displacement: Tensor, guess: Tensor, y: Tensor) -> Tensor:
    """By how much x + u(x) differs from y at x = y + ``guess``, (3, i, j, k)."""
    return sample(displacement[None], y + guess, padding="border")[0] + guess


def _lattice_step(guess: Tensor, residual: Tensor, level: Lattice) -> Tensor:
    """``∂ψ/∂y · residual`` for ψ = id + guess: the derivative of the inverse is the inverse of the derivative."""
    per_voxel = torch.tensor(np.linalg.inv(level.to_source[:3, :3])).to(residual)
    straight = torch.equal(per_voxel, torch.diag(per_voxel.diagonal()))
    along = residual if straight else (per_voxel @ residual.flatten(1)).view_as(residual)
    step = residual.clone()
    for axis in range(3):
        weight = along[axis] * per_voxel[axis, axis] if straight else along[axis]
        step += half_difference(guess, axis + 1) * weight
    return step


def _doubled(coarse: Tensor, shape: tuple[int, int, int]) -> Tensor:
    """Values on every second point to all points, linearly."""
    for axis, n in enumerate(shape, start=1):
        size = list(coarse.shape)
        size[axis] = 2 * coarse.shape[axis] - 1
        fine = coarse.new_empty(size)
        even, odd = [slice(None)] * 4, [slice(None)] * 4
        even[axis], odd[axis] = slice(0, None, 2), slice(1, None, 2)
        fine[tuple(even)] = coarse
        before = coarse.narrow(axis, 0, coarse.shape[axis] - 1)
        fine[tuple(odd)] = (before + coarse.narrow(axis, 1, coarse.shape[axis] - 1)) / 2
        coarse = fine.narrow(axis, 0, n)
    return coarse.contiguous()


def _solve_remaining(
    displacement: Tensor,
    guess: Tensor,
    y: Tensor,
    error: Tensor,
    voxel_to_mm: np.ndarray,
    settings: InversionSettings,
) -> tuple[Tensor, Tensor]:
    """Solve point by point where ``error`` is above the tolerance; the guess and its residual in mm."""
    left = (error.flatten() > settings.tolerance_mm).nonzero()[:, 0]
    if len(left):
        targets = y[0].flatten(1)[:, left].T.contiguous()
        start = targets + guess.flatten(1)[:, left].T
        solved, remaining = solve_inverse(displacement, targets, start, voxel_to_mm, settings)
        guess = guess.clone()
        guess.view(3, -1)[:, left] = (solved - targets).T
        error.view(-1)[left] = remaining
    return guess, error


def _length_mm(vectors: Tensor, voxel_to_mm: np.ndarray) -> Tensor:
    """Length (…) in mm of vectors (3, …) in voxels, by the metric tensor, which needs no copy in mm."""
    metric = voxel_to_mm.T @ voxel_to_mm
    squared = torch.zeros_like(vectors[0])
    for a in range(3):
        for b in range(a, 3):
            factor = float(metric[a, b]) * (1 if a == b else 2)
            if abs(factor) > 1e-12:
                squared = torch.addcmul(squared, vectors[a], vectors[b], value=factor)
    return squared.clamp_(min=0).sqrt_()


def half_difference(values: Tensor, axis: int) -> Tensor:
    """(v[n+1] − v[n−1]) / 2 along ``axis``; at either end the difference to the one neighbour."""
    n = values.shape[axis]
    if n == 1:
        return torch.zeros_like(values)
    out = torch.empty_like(values)
    torch.sub(values.narrow(axis, 2, n - 2), values.narrow(axis, 0, n - 2), out=out.narrow(axis, 1, n - 2)).div_(2)
    out.narrow(axis, 0, 1).copy_(values.narrow(axis, 1, 1) - values.narrow(axis, 0, 1))
    out.narrow(axis, n - 1, 1).copy_(values.narrow(axis, n - 1, 1) - values.narrow(axis, n - 2, 1))
    return out


def between_voxels(values: Tensor) -> Tensor:
    """The lattice values whose trilinear reading is closest, over whole cells, to the smooth map through ``values``.

    Linear interpolation of a curve lies on its hollow side everywhere but at the nodes, by h²f″/12 on average; moving
    every node by that much (first order of the L² projection on linear splines) leaves an error that averages out.
    """
    out = values.clone()
    for axis in (1, 2, 3):
        n = values.shape[axis]
        if n < 3:
            continue
        inner = values.narrow(axis, 1, n - 2)
        bend = values.narrow(axis, 2, n - 2) + values.narrow(axis, 0, n - 2) - 2 * inner
        out.narrow(axis, 1, n - 2).sub_(bend, alpha=1 / 12)
    return out


def solve_inverse(
    displacement: Tensor, targets: Tensor, start: Tensor, voxel_to_mm: np.ndarray, settings: InversionSettings
) -> tuple[Tensor, Tensor]:
    """Find x with ``x + u(x) = y``.

    ``displacement`` u is (3, I, J, K) float32 in voxels, ``targets`` y and ``start`` (first guess of x) are (N, 3)
    voxels, ``voxel_to_mm`` (3, 3) measures residuals. Returns x (N, 3) and the length of its residual (N,), mm.
    """
    to_mm = torch.as_tensor(voxel_to_mm.T.copy()).to(targets)
    solution = start.clone()
    residual = _point_residual(displacement, solution, targets)
    error = (residual @ to_mm).norm(dim=1)
    active = (error > settings.tolerance_mm).nonzero()[:, 0]
    step = torch.ones_like(error)
    for iteration in range(settings.iterations):
        if len(active) == 0:
            break
        current, remaining = solution[active], residual[active]
        if iteration >= settings.fixed_point_steps:
            change = step[active, None] * _newton_step(displacement, current, remaining)
        else:
            change = remaining
        tried = current - change
        tried_residual = _point_residual(displacement, tried, targets[active])
        tried_error = (tried_residual @ to_mm).norm(dim=1)
        better = tried_error < error[active]
        kept = active[better]
        solution[kept], residual[kept], error[kept] = tried[better], tried_residual[better], tried_error[better]
        # After overshooting: again from the same place with half the step, down to the smallest.
        step[kept] = 1.0
        if iteration >= settings.fixed_point_steps:
            step[active[~better]] *= _BACKTRACK
        active = active[(error[active] > settings.tolerance_mm) & (step[active] >= _SMALLEST_STEP)]
    return solution, error


def _point_residual(displacement: Tensor, x: Tensor, y: Tensor) -> Tensor:
    return sample_points(displacement, x, padding="border") + x - y


def _newton_step(displacement: Tensor, x: Tensor, residual: Tensor) -> Tensor:
    """``J⁻¹ residual`` with J the Jacobian of x + u(x), from differences over one voxel; plain step where J is poor."""
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
    solved = torch.stack([(row * residual).sum(dim=1) for row in rows], dim=1) / determinant
    poor = (determinant.abs() < 0.02) | ~torch.isfinite(solved).all(dim=1, keepdim=True)
    return torch.where(poor, residual, solved)
