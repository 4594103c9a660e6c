"""Transforms in sequence, and where one sends the voxels of a grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from uresnet.core.coordinates import affine_coordinates, slabs
from uresnet.core.grid import Grid
from uresnet.errors import UserError
from uresnet.transform.affine import Affine
from uresnet.transform.base import Transform
from uresnet.transform.deformation import DisplacementField
from uresnet.transform.inversion import InverseResidual


@dataclass(frozen=True, eq=False)
class Composite(Transform):
    """``parts[0]`` is applied first to a fixed point, ``parts[-1]`` gives the moving point.

    The paper's model is ``Composite((field, affine))``, T(x) = A(x + d(x)); a mid-space model is
    ``Composite((half, field, half))``. Nested composites are flattened. Raises ``UserError`` where one part's codomain
    is tagged as another space than the next part's domain, and where a field lies nowhere near the points it would get.
    """

    sequence: tuple[Transform, ...]

    def __init__(self, parts: Sequence[Transform]) -> None:
        flat = tuple(inner for part in parts for inner in part.parts)
        if not flat:
            raise ValueError("a composite has at least one part")
        object.__setattr__(self, "sequence", flat)
        _check_meeting(flat)

    @property
    def parts(self) -> tuple[Transform, ...]:
        return self.sequence

    @property
    def domain(self) -> Grid | None:  # type: ignore[override]
        """The tag of the first part."""
        return self.parts[0].domain

    @property
    def codomain(self) -> Grid | None:  # type: ignore[override]
        """The tag of the last part."""
        return self.parts[-1].codomain

    @property
    def residual(self) -> InverseResidual | None:
        """The worst residual among the parts that were solved for (an inverse), mm; None where none was."""
        found = [part.residual for part in self.parts if isinstance(part, DisplacementField) and part.residual]
        return max(found, key=lambda residual: residual.max_mm, default=None)

    def _map(self, points: Tensor) -> Tensor:
        for part in self.parts:
            points = part.apply(points)
        return points

    def inverse(self) -> Composite:
        """The parts' inverses in the opposite order."""
        return Composite([part.inverse() for part in reversed(self.parts)])

    def simplified(self) -> Composite:
        """The same map with neighbouring affines multiplied into one."""
        merged: list[Transform] = []
        for part in self.parts:
            if merged and isinstance(part, Affine) and isinstance(merged[-1], Affine):
                merged[-1] = merged[-1].then(part)
            else:
                merged.append(part)
        return Composite(merged)


def _check_meeting(parts: Sequence[Transform]) -> None:
    for number, (first, second) in enumerate(pairwise(parts), start=1):
        if first.codomain is not None and second.domain is not None and not first.codomain.same_as(second.domain):
            raise UserError(
                f"part {number} of the transform ends in another space than part {number + 1} starts from; "
                "check the order of the parts and the direction of each"
            )
    _check_reach(parts)


def _check_reach(parts: Sequence[Transform]) -> None:
    """A tagged fixed grid whose points never enter a field is a wrong order or an inverse taken for its forward."""
    start = parts[0].domain
    matrix = np.eye(4)
    for number, part in enumerate(parts, start=1):
        if isinstance(part, Affine):
            matrix = part.matrix @ matrix
        elif not isinstance(part, DisplacementField) or start is None:
            continue
        elif not Grid(start.shape, matrix @ start.voxel_to_world).overlaps(part.grid):
            raise UserError(
                f"the deformation in part {number} of the transform lies where no point of the fixed image goes; "
                "check the order of the parts and the direction of each"
            )


def map_grid(
    transform: Transform,
    grid: Grid,
    world_to_out: np.ndarray | None = None,
    rows: slice | None = None,
    device: torch.device | str | None = None,
) -> Tensor:
    """Where ``transform`` sends every voxel of ``grid``: (1, 3, I, J, K) float32.

    In mm of the moving world, or in voxels where ``world_to_out`` (4×4) is a moving image's ``world_to_voxel``.
    ``rows`` restricts it to a slice of axis i. Runs of affines, with the grids' own matrices, are multiplied in float64
    first, so an affine alone costs one rounding.
    """
    rows = rows or slice(0, grid.shape[0])
    shape = (rows.stop - rows.start, *grid.shape[1:])
    pending, where = grid.voxel_to_world, None
    for part in transform.parts:
        if isinstance(part, Affine):
            pending = part.matrix @ pending
        elif isinstance(part, DisplacementField):
            home = part.displacement.device
            own_voxels = where is None and part.grid.same_as(Grid(grid.shape, pending))
            where = _advance(pending, where, shape, rows.start, home)
            if own_voxels:
                where = where + part.displacement[None, :, rows]
            else:
                where = where + part.read(_advance(part.grid.world_to_voxel, where, shape, 0, home))
            pending = np.eye(4)
        else:
            raise TypeError(f"no way to map a grid through a {type(part).__name__}")
    final = pending if world_to_out is None else world_to_out @ pending
    out = _advance(final, where, shape, rows.start, where.device if where is not None else device)
    return out.to(device) if device is not None else out


def _advance(
    matrix: np.ndarray, where: Tensor | None, shape: Sequence[int], first_slice: int, device: torch.device | str | None
) -> Tensor:
    """``matrix`` applied to positions (1, 3, i, j, k), or to the voxel indices themselves while there are none yet."""
    if where is None:
        return affine_coordinates(matrix, shape, device, first_slice=first_slice)
    if np.array_equal(matrix, np.eye(4)):
        return where.to(device)
    where = where.to(device)
    m = torch.tensor(matrix).to(where)
    return torch.addmm(m[:3, 3:], m[:3, :3], where[0].flatten(1)).view_as(where)


def displacement_on(transform: Transform, grid: Grid) -> DisplacementField:
    """T(x) − x at every voxel of ``grid`` as one dense field, which outside of ``grid`` has no affine any more."""
    out = torch.empty((3, *grid.shape), dtype=torch.float32)
    for rows in slabs(grid.shape, channels=3):
        shape = (rows.stop - rows.start, *grid.shape[1:])
        here = affine_coordinates(grid.voxel_to_world, shape, first_slice=rows.start)
        out[:, rows] = (map_grid(transform, grid, rows=rows, device="cpu") - here)[0]
    return DisplacementField(out, grid, domain=transform.domain, codomain=transform.codomain)
