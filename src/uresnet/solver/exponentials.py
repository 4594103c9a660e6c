"""From velocities to displacements: the exponential, and an inverse that is accurate between voxels too."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from uresnet.core.exact import is_exact
from uresnet.core.ops import folds, newton_half_steps
from uresnet.solver.lattice import gaussian_smoothed, neighbours_mixed, spline_resampled, upsampled
from uresnet.transform import compose_displacements, integrate_velocity

_DOUBLINGS, _RESIDUAL_DOUBLINGS = 4, 0  # of scaling and squaring
_REPAIRS, _REPAIR_SIGMA = 6, 2.0  # of the velocity where it folds; voxels
_TOLERANCE = 0.1  # voxels; a residual that is smaller needs no second correction


def exponentials(
    velocity: Tensor,
    spacing: int,
    shape: Sequence[int],
    where: Tensor | None = None,
    residual: Tensor | None = None,
    smoothing: float = 0.0,
    stored_mm: float = 1.0,
) -> tuple[Tensor, Tensor]:
    """exp(v) - id and exp(-v) - id, each (3, I, J, K), mm, on a lattice of ``shape`` at 1 mm, or finer; neither folds.

    ``velocity`` v (1, 3, i, j, k) is in its voxels of ``spacing`` mm. With the ``residual`` velocity w (1, 3, I, J, K),
    mm, it is exp(v/2) exp(w) exp(v/2) and its inverse. ``smoothing`` is the weight of either neighbour along
    every axis in the result.

    Both are integrated at the spacing of their velocities and stored on voxels of ``stored_mm``, about the same middle:
    read linearly between voxels, they invert each other the better the finer these are. Each takes half of Newton's
    step towards the inverse of the other, which keeps the two exchangeable: first at 1 mm, where that is cheap, then at
    ``stored_mm``. ``where`` (i, j, k) bool, on the velocity's lattice, is where that is done; everywhere by default.

    An exponential is invertible, but a velocity that changes too much from voxel to voxel is integrated with errors
    that fold: there, the velocities are smoothed and integrated again, and from the second time on halved too: where a
    brain reaches the end of the lattice, the flow through it stays a fold however smooth. Raises ``ArithmeticError``
    when folds remain.
    """
    for repairs in range(_REPAIRS + 1):
        both = _integrated(velocity, spacing, shape, where, residual, smoothing, stored_mm)
        folded = folds(both[0]) | folds(both[1])
        if not folded.any():
            both.mul_(stored_mm)
            return both[0], both[1]
        around = _around(folded, velocity.shape[2:])
        velocity = velocity.lerp(gaussian_smoothed(velocity, _REPAIR_SIGMA), around)
        if repairs > 0:
            velocity = velocity * (1 - around / 2)
        if residual is not None:
            residual = residual * (1 - _around(folded, residual.shape[2:]))
    raise ArithmeticError("the deformation folds, and smoothing it did not help")


def _around(folded: Tensor, shape: Sequence[int]) -> Tensor:
    """(1, 1, i, j, k) on a lattice of ``shape``: 1 where ``folded``, falling to 0 within some voxels."""
    near = F.adaptive_max_pool3d(folded[None, None].float(), list(shape))
    return gaussian_smoothed(F.max_pool3d(near, 7, stride=1, padding=3), 1.5)


def _integrated(
    velocity: Tensor,
    spacing: int,
    shape: Sequence[int],
    where: Tensor | None,
    residual: Tensor | None,
    smoothing: float,
    stored_mm: float,
) -> Tensor:
    """:func:`exponentials`, with folds or without: (2, 3, I, J, K), voxels of ``stored_mm``."""
    # A second correction at 1 mm changes little: those that follow make up for it.
    first, tolerance, where = (2, 0.0, None) if is_exact() else (1, _TOLERANCE, where)
    fine, inside = _integrated_at_1_mm(velocity, spacing, shape, where, residual, smoothing)
    newton_half_steps(fine, inside, first, tolerance)
    if stored_mm != 1:
        stored = [math.ceil(n / stored_mm) for n in shape]
        fine = spline_resampled(fine, stored, stored_mm)
        inside = F.interpolate(inside[None, None].float(), size=stored)[0, 0] > 0
    newton_half_steps(fine.div_(stored_mm), inside, 3, tolerance)
    return fine


def _integrated_at_1_mm(
    velocity: Tensor,
    spacing: int,
    shape: Sequence[int],
    where: Tensor | None,
    residual: Tensor | None,
    smoothing: float,
) -> tuple[Tensor, Tensor]:
    """Both exponentials (2, 3, I, J, K) as integrated, mm, on ``shape``, and ``where`` (I, J, K) bool on it."""
    part = 1.0 if residual is None else 0.5
    fine = integrate_velocity(part * torch.cat([velocity, -velocity]), _DOUBLINGS, where) * spacing
    for _ in range(spacing.bit_length() - 1):
        fine = upsampled(fine)
    # Linear interpolation leaves creases, which would be seen wherever the field is read between its voxels.
    fine = neighbours_mixed(fine, 1 / 3)
    inside = torch.ones(tuple(shape), dtype=torch.bool, device=fine.device)
    if where is not None:
        inside = F.interpolate(where[None, None].float(), size=list(shape))[0, 0] > 0
    if residual is not None:
        between = integrate_velocity(torch.cat([residual, -residual]), _RESIDUAL_DOUBLINGS, inside)
        fine = compose_displacements(compose_displacements(fine, between, inside), fine, inside)
    return neighbours_mixed(fine, smoothing), inside
