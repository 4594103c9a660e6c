"""What the formats write: a transform, its inverse and the grids of both images; and its parts, affine and warp."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import linalg

from uresnet.core.grid import Grid
from uresnet.errors import UserError
from uresnet.transform import Affine, Composite, DisplacementField, Transform, displacement_on

Writer = Callable[[Path], None]
Writers = dict[str, Writer]
"""Ending of a file's name → what writes it."""

_SHEAR = 1e-6  # cosine: what the quaternion of a NIfTI header still holds


@dataclass(frozen=True, eq=False)
class TransformPair:
    """``forward`` fixed world → moving world and ``backward``, its inverse (None: not wanted).

    ``fixed`` and ``moving`` are the images' grids, for the formats that need them.
    """

    forward: Transform
    backward: Transform | None = None
    fixed: Grid | None = None
    moving: Grid | None = None

    def grid(self, which: str) -> Grid:
        """The fixed or the moving grid. ``UserError`` where it was not given."""
        grid = self.fixed if which == "fixed" else self.moving
        if grid is None:
            raise UserError(f"This format needs the grid of the {which} image; name that image with --{which}.")
        return grid


def is_affine(transform: Transform) -> bool:
    """Whether it has no deformation."""
    return all(isinstance(part, Affine) for part in transform.parts)


def only_affine(transform: Transform, path: str | Path, instead: str) -> Affine:
    """The transform as one affine; ``UserError`` naming ``path`` where it deforms, with what to name it ``instead``."""
    parts = Composite([transform]).simplified().parts
    if len(parts) > 1 or not isinstance(parts[0], Affine):
        raise UserError(f"{path} can hold only an affine, and this transform also deforms; name it {instead} instead.")
    return parts[0]


def affine_part(transform: Transform) -> Affine:
    """All affines of a transform, multiplied in their order; the identity where there is none."""
    out = Affine.identity()
    for part in transform.parts:
        if isinstance(part, Affine):
            out = out.then(part)
    return Affine(out.matrix)


def affine_and_warps(pair: TransformPair) -> tuple[Affine, DisplacementField | None, DisplacementField | None]:
    """(A, W, V) with T(x) = A(W(x)) and T⁻¹(y) = V(A⁻¹(y)), as ANTs and greedy keep a pair.

    W is None where nothing deforms, V also where the pair has no backward transform.
    """
    warp, affine = warp_then_affine(pair.forward, pair.fixed)
    if warp is None or pair.backward is None:
        return affine, warp, None
    return affine, warp, affine_then_warp(pair.backward, pair.fixed)[1]


def warp_then_affine(transform: Transform, grid: Grid | None) -> tuple[DisplacementField | None, Affine]:
    """(W, A) with T(x) = A(W(x)); W is None where nothing deforms.

    A is the product of all affines. Exact, on the field's own voxels, for an affine, a field, and one field between
    affines of which the first keeps right angles; otherwise W is sampled at the voxels of ``grid``, or (None) at voxels
    of the field's size that cover it. Several fields need a ``grid``: ``UserError`` without one.
    """
    affine = affine_part(transform)
    before, field = _only_field(transform, grid)
    if field is None:
        return None if is_affine(transform) else _sampled(Composite([transform, affine.inverse()]), grid), affine
    here = Grid(field.grid.shape, np.linalg.inv(before.matrix) @ field.grid.voxel_to_world)
    if np.array_equal(before.matrix, np.eye(4)):
        return DisplacementField(field.displacement, field.grid), affine
    if here.shear < _SHEAR:
        return DisplacementField.from_voxel_displacement(field.voxel_displacement, here), affine
    return _sampled(Composite([transform, affine.inverse()]), grid or covering_box(here)), affine


def affine_then_warp(transform: Transform, grid: Grid | None) -> tuple[Affine, DisplacementField | None]:
    """(A, W) with T(x) = W(A(x)), as an inverse is kept. As :func:`warp_then_affine`, but W lies in the other world.

    What cannot be kept exactly is sampled at voxels of the field's size; several fields at those of ``grid``.
    """
    affine = affine_part(transform)
    before, field = _only_field(transform, grid)
    if field is None:
        return affine, None if is_affine(transform) else _sampled(Composite([affine.inverse(), transform]), grid)
    there = Grid(field.grid.shape, affine.matrix @ np.linalg.inv(before.matrix) @ field.grid.voxel_to_world)
    if there.shear < _SHEAR:
        return affine, DisplacementField.from_voxel_displacement(field.voxel_displacement, there)
    return affine, _sampled(Composite([affine.inverse(), transform]), covering_box(there))


def covering_box(grid: Grid) -> Grid:
    """The smallest grid with right angles, nearest axes and the same voxel sizes that covers a sheared one."""
    matrix = np.eye(4)
    matrix[:3, :3] = linalg.polar(grid.voxel_to_world[:3, :3] / grid.zooms)[0] * grid.zooms
    corners = (np.linalg.inv(matrix[:3, :3]) @ grid.corners_world.T).T
    low, high = corners.min(axis=0), corners.max(axis=0)
    shape = np.ceil(high - low).astype(int)
    matrix[:3, 3] = matrix[:3, :3] @ (low + 0.5)
    return Grid((int(shape[0]), int(shape[1]), int(shape[2])), matrix)


def _only_field(transform: Transform, grid: Grid | None) -> tuple[Affine, DisplacementField | None]:
    """(the affines before it, the one field); None where there is no field, or there are several."""
    parts = transform.parts
    where = [n for n, part in enumerate(parts) if isinstance(part, DisplacementField)]
    if len(where) > 1 and grid is None:
        raise UserError("This transform deforms more than once; name the fixed image with --fixed to write it so.")
    if len(where) != 1:
        return Affine.identity(), None
    field = parts[where[0]]
    assert isinstance(field, DisplacementField)
    return affine_part(Composite(parts[: where[0]])) if where[0] else Affine.identity(), field


def _sampled(transform: Transform, grid: Grid | None) -> DisplacementField:
    assert grid is not None  # several fields without a grid were refused by _only_field
    return displacement_on(transform, grid)
