"""Dense deformations: from what networks predict (spatial gradients, velocities) to displacements of the world."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import product

import numpy as np
import torch
from torch import Tensor

from uresnet.core import ops
from uresnet.core.coordinates import identity_coordinates
from uresnet.core.grid import Grid, voxel_to_voxel
from uresnet.core.sampling import sample
from uresnet.transform.base import Transform
from uresnet.transform.inversion import (
    InverseResidual,
    InversionSettings,
    Lattice,
    between_voxels,
    half_difference,
    solve_on_lattice,
)

_PROBES = 20_000  # points at which an inverse is measured


class GridConvention(StrEnum):
    """How spatial gradients and an affine become a voxel map.

    ``IDENTITY_AT_ONE``: gradients of 1 give exactly the voxel index, and the affine turns about the grid's centre.
    ``PUBLISHED_2019``: the authors' code, whose running sum starts at 1 although it samples from 0, so that gradients
    of 1 shift by one voxel along every axis, and whose affine turns about voxel (0, 0, 0).
    """

    IDENTITY_AT_ONE = "identity_at_one"
    PUBLISHED_2019 = "published_2019"

    @property
    def first_index(self) -> float:
        """Where a gradient of 1 sends the first voxel."""
        return 0.0 if self is GridConvention.IDENTITY_AT_ONE else 1.0

    def affine_centre(self, shape: Iterable[int]) -> tuple[float, ...]:
        """The voxel that the linear part of the affine leaves where it is."""
        if self is GridConvention.IDENTITY_AT_ONE:
            return tuple((n - 1) / 2 for n in shape)
        return tuple(0.0 for _ in shape)


def integrate_spatial_gradients(
    gradients: Tensor, convention: GridConvention = GridConvention.IDENTITY_AT_ONE
) -> Tensor:
    """Voxel map (B, 3, I, J, K) whose derivative along its own axis is ``gradients`` (B, 3, I, J, K), in [0, 2].

    Component c at voxel n is the sum of gradient c over voxels 0…n along axis c, less 1 (``IDENTITY_AT_ONE``), so that
    gradients of 1 give exactly the voxel index. The paper's Eq. 2. Positive gradients cannot fold along their own axis.
    """
    gradients = gradients if gradients.dtype == torch.float64 else gradients.float()
    sums = [torch.cumsum(gradients[:, c], dim=1 + c) for c in range(3)]
    return torch.stack(sums, dim=1) - (1.0 - convention.first_index)


def apply_voxel_affine(
    affine: Tensor, voxel_map: Tensor, convention: GridConvention = GridConvention.IDENTITY_AT_ONE
) -> Tensor:
    """``D = A ∘ G``: a predicted ``affine`` (B, 3, 4) after a ``voxel_map`` (B, 3, I, J, K), voxels."""
    flat = voxel_map.flatten(2)
    affine = affine.to(flat)
    centre = torch.tensor(convention.affine_centre(voxel_map.shape[2:])).to(flat)[None, :, None]
    moved = affine[:, :, :3] @ (flat - centre) + centre + affine[:, :, 3:]
    return moved.view_as(voxel_map)


def integrate_velocity(velocity: Tensor, steps: int = 6, where: Tensor | None = None) -> Tensor:
    """Displacement ``exp(velocity) - id`` (B, 3, I, J, K), voxels, of a stationary velocity (B, 3, I, J, K), voxels.

    Scaling and squaring (Arsigny et al. 2006): a first step of length 2^-steps, taken by the midpoint rule, which makes
    the error fall with 4^-steps instead of 2^-steps, then ``steps`` doublings. Differentiable, float32 or better.
    Beyond the edge the field continues unchanged, so that points which a velocity moves outwards leave the lattice.
    ``where`` (I, J, K) bool saves time, without gradients: elsewhere the displacement is the velocity itself.
    """
    velocity = velocity if velocity.dtype == torch.float64 else velocity.float()
    scale = 1 / 2**steps
    displacement = ops.compose(velocity * (scale / 2), velocity, 0.0, scale, where)
    for _ in range(steps):
        displacement = compose_displacements(displacement, displacement, where)
    return displacement


def compose_displacements(first: Tensor, second: Tensor, where: Tensor | None = None) -> Tensor:
    """Displacement of ``second ∘ first`` on one lattice, all (B, 3, I, J, K), voxels: u₁(x) + u₂(x + u₁(x)).

    ``where`` (I, J, K) bool saves time, without gradients: elsewhere the two are added.
    """
    return ops.compose(first, second, where=where)


@dataclass(frozen=True, eq=False)
class DisplacementField(Transform):
    """``x ↦ x + d(x)`` with ``displacement`` d (3, I, J, K) float32, RAS mm, on ``grid``.

    Read trilinearly; zero beyond half a voxel outside the outermost voxel centres, and constant within that rim, as
    ITK does. ``inverse_field`` is the known inverse (for instance exp(−v) of exp(v)), on any grid; without one,
    :meth:`inverse` solves for it. ``residual`` says how well this field inverts the one it was solved from.
    """

    displacement: Tensor
    grid: Grid
    inverse_field: DisplacementField | None = None
    residual: InverseResidual | None = None
    domain: Grid | None = None
    codomain: Grid | None = None

    def __post_init__(self) -> None:
        if tuple(self.displacement.shape) != (3, *self.grid.shape):
            raise ValueError(
                f"a displacement on a grid of shape {self.grid.shape} has shape {(3, *self.grid.shape)}, "
                f"not {tuple(self.displacement.shape)}"
            )
        object.__setattr__(self, "displacement", self.displacement.detach().float())

    @classmethod
    def from_voxel_displacement(cls, displacement: Tensor, grid: Grid) -> DisplacementField:
        """From a displacement (3, I, J, K) in voxels of ``grid``."""
        return cls(_linear_part(grid.voxel_to_world, displacement.detach()), grid)

    @classmethod
    def from_voxel_map(cls, voxel_map: Tensor, grid: Grid) -> DisplacementField:
        """From a map (3, I, J, K) of each voxel of ``grid`` to a voxel position of the same grid."""
        voxel_map = voxel_map.detach().float()
        return cls.from_voxel_displacement(voxel_map - identity_coordinates(grid.shape, voxel_map.device)[0], grid)

    @property
    def voxel_displacement(self) -> Tensor:
        """(3, I, J, K) float32, voxels of ``grid``."""
        return _linear_part(self.grid.world_to_voxel, self.displacement)

    def read(self, voxels: Tensor) -> Tensor:
        """Displacement, mm, at voxel positions (1, 3, i, j, k) of ``grid``: (1, 3, i, j, k)."""
        values = sample(self.displacement[None], voxels.to(self.displacement.device), padding="border")
        inside = torch.ones_like(values[:, :1], dtype=torch.bool)
        for c, n in enumerate(self.grid.shape):
            along = voxels[:, c : c + 1].to(values.device)
            inside &= (along >= -0.5) & (along < n - 0.5)
        return values * inside

    def _map(self, points: Tensor) -> Tensor:
        to_voxel = torch.tensor(self.grid.world_to_voxel).to(points)
        flat = points.reshape(-1, 3)
        voxels = (flat @ to_voxel[:3, :3].T + to_voxel[:3, 3]).T.reshape(1, 3, -1, 1, 1)
        return points + self.read(voxels)[0, :, :, 0, 0].T.to(points).view_as(points)

    def inverse(self) -> DisplacementField:
        """The known inverse, or else the solved one on :meth:`inverse_grid` (see :func:`invert_displacement`)."""
        back = self.inverse_field if self.inverse_field is not None else invert_displacement(self)
        forward = replace(self, inverse_field=None)
        return replace(back, inverse_field=forward, domain=self.codomain, codomain=self.domain)

    def inverse_grid(self) -> Grid:
        """This grid, grown on each side as far as the displacement of its faces reaches out of it."""
        low, high = np.zeros(3, int), np.array(self.grid.shape) - 1
        voxel = self.voxel_displacement
        for axis, end in product(range(3), (0, -1)):
            face = voxel.select(axis + 1, end)[axis]
            if end == 0:
                low[axis] = min(0, int(np.floor(float(face.min()) + 0.5)))
            else:
                high[axis] += max(0, int(np.ceil(float(face.max()) - 0.5)))
        return self.grid.subgrid(low.tolist(), (high - low + 1).tolist())


def invert_displacement(field: DisplacementField, settings: InversionSettings | None = None) -> DisplacementField:
    """The inverse of ``field``, on ``field.inverse_grid()``.

    The equation solved at every voxel is that of the stored field, read trilinearly, which beyond its edge is taken to
    continue. The solved values are then moved so that reading *between* voxels is right on average
    (:func:`between_voxels`) where that lowers the error. ``residual`` records inverse ∘ forward over points drawn all
    over the field, not only where it was solved. Where the field folds, voxels stay unsolved and the residual says so.
    """
    settings = settings or InversionSettings()
    grid = field.inverse_grid()
    lattice = Lattice(grid.shape, voxel_to_voxel(grid, field.grid))
    voxel_to_mm = field.grid.voxel_to_world[:3, :3]
    solved, error = solve_on_lattice(field.voxel_displacement, lattice, voxel_to_mm, settings)
    solved = _linear_part(field.grid.voxel_to_world, solved)
    unsolved = float((error > settings.tolerance_mm).double().mean())
    candidates = [DisplacementField(values, grid) for values in (solved, between_voxels(solved))]
    residuals = [_measured_residual(field, candidate, unsolved) for candidate in candidates]
    best = min((0, 1), key=lambda n: residuals[n].mean_mm)
    return replace(candidates[best], residual=residuals[best], domain=field.codomain, codomain=field.domain)


def _measured_residual(field: DisplacementField, inverse: DisplacementField, unsolved: float) -> InverseResidual:
    """inverse ∘ forward at points drawn evenly from the field's grid whose images the inverse's grid covers."""
    drawn = torch.rand((_PROBES, 3), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    world = field.grid.points_to_world(drawn.numpy() * (np.array(field.grid.shape) - 1))
    points = torch.from_numpy(world)
    moved = field.apply(points)
    voxels = inverse.grid.points_to_voxel(moved.numpy())
    covered = torch.from_numpy(((voxels >= 0) & (voxels <= np.array(inverse.grid.shape) - 1)).all(axis=-1))
    distance = (inverse.apply(moved) - points).norm(dim=1)[covered]
    if len(distance) == 0:
        return InverseResidual(float("nan"), float("nan"), unsolved)
    return InverseResidual(float(distance.mean()), float(distance.max()), unsolved)


def lattice_determinant(displacement: Tensor) -> Tensor:
    """det(I + ∂u/∂x) (I, J, K) of a displacement u (3, I, J, K) in voxels, by central differences.

    At the outermost voxels the difference to the one neighbour (ITK's filter repeats the edge there: half the slope).
    """
    rows = [[half_difference(displacement[c], axis) for axis in range(3)] for c in range(3)]
    for c in range(3):
        rows[c][c] = rows[c][c] + 1
    (a, b, c0), (d, e, f), (g, h, i) = rows
    return a * (e * i - f * h) - b * (d * i - f * g) + c0 * (d * h - e * g)


def _linear_part(matrix: np.ndarray, vectors: Tensor) -> Tensor:
    """The linear part of a 4×4 ``matrix`` applied to vectors (3, I, J, K)."""
    linear = torch.tensor(matrix[:3, :3]).to(vectors)
    return (linear @ vectors.flatten(1)).view_as(vectors)
