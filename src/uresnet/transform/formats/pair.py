"""What is written: a transform, its inverse and the two images' grids; a transform taken apart into warp and affine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from uresnet.errors import UserError
from uresnet.spaces import Grid
from uresnet.transform.affine import Affine
from uresnet.transform.base import Transform
from uresnet.transform.composite import Composite, displacement_on
from uresnet.transform.deformation import DisplacementField

Writer = Callable[[Path], None]
Writers = dict[str, Writer]
"""Ending of a file's name → what writes it."""

_SHEAR = 1e-6  # cosine: what the quaternion of a NIfTI header still holds


@dataclass(frozen=True, eq=False)
class TransformPair:
    """``forward`` fixed world → moving world and ``backward``, its inverse (None: not wanted).

    ``fixed`` and ``moving`` are the grids on which files that need one are baked.
    """

    forward: Transform
    backward: Transform | None = None
    fixed: Grid | None = None
    moving: Grid | None = None

    def grid(self, which: str) -> Grid:
        """The fixed or the moving grid. ``UserError`` where it was not given."""
        grid = self.fixed if which == "fixed" else self.moving
        if grid is None:
            raise UserError(f"this format needs the grid of the {which} image; name it with --{which}")
        return grid

    def turned(self) -> TransformPair:
        """The same pair seen from the moving image. ``ValueError`` where there is no backward transform."""
        if self.backward is None:
            raise ValueError("there is no backward transform")
        return TransformPair(self.backward, self.forward, self.moving, self.fixed)


def is_affine(transform: Transform) -> bool:
    """Whether it has no deformation."""
    return all(isinstance(part, Affine) for part in transform.parts)


def only_affine(transform: Transform, path: str | Path) -> Affine:
    """The transform as one affine; ``UserError`` naming ``path`` where it deforms."""
    parts = Composite([transform]).simplified().parts
    if len(parts) > 1 or not isinstance(parts[0], Affine):
        raise UserError(f"{path} can hold only an affine, and this transform also deforms; name it .h5 instead.")
    return parts[0]


def affine_part(transform: Transform) -> Affine:
    """All affines of a transform, multiplied in their order; the identity where there is none."""
    out = Affine.identity()
    for part in transform.parts:
        if isinstance(part, Affine):
            out = out.then(part)
    return Affine(out.matrix)


def warp_then_affine(transform: Transform, grid: Grid | None) -> tuple[DisplacementField | None, Affine]:
    """(W, A) with T(x) = A(W(x)), as ANTs and greedy keep a transform; W is None where nothing deforms.

    A is all affines multiplied. Exact, on the field's own voxels, for an affine, a field, and one field between affines
    of which the first keeps right angles; otherwise W is read off at the voxels of ``grid`` (``UserError`` without).
    """
    affine = affine_part(transform)
    parts = Composite([transform]).simplified().parts
    fields = [n for n, part in enumerate(parts) if isinstance(part, DisplacementField)]
    if not fields:
        return None, affine
    if len(fields) == 1:
        field = parts[fields[0]]
        assert isinstance(field, DisplacementField)
        before = affine_part(Composite(parts[: fields[0]])) if fields[0] else Affine.identity()
        back = np.linalg.inv(before.matrix)
        here = Grid(field.grid.shape, back @ field.grid.voxel_to_world)
        if here.shear < _SHEAR:
            if fields[0] == 0:
                return DisplacementField(field.displacement, field.grid), affine
            return DisplacementField.from_voxel_displacement(field.voxel_displacement, here), affine
    if grid is None:
        raise UserError("this transform deforms between two affines; name the fixed image with --fixed to write it so")
    return displacement_on(Composite([transform, affine.inverse()]), grid), affine


def affine_then_warp(transform: Transform, grid: Grid | None) -> tuple[Affine, DisplacementField | None]:
    """(A, W) with T(x) = W(A(x)): how an inverse is kept. As :func:`warp_then_affine`, W lying in the other world.

    ``grid`` is the image at whose world W arrives.
    """
    affine = affine_part(transform)
    parts = Composite([transform]).simplified().parts
    fields = [n for n, part in enumerate(parts) if isinstance(part, DisplacementField)]
    if not fields:
        return affine, None
    if len(fields) == 1:
        field = parts[fields[0]]
        assert isinstance(field, DisplacementField)
        after = affine_part(Composite(parts[fields[0] + 1 :])) if fields[0] + 1 < len(parts) else Affine.identity()
        there = Grid(field.grid.shape, after.matrix @ field.grid.voxel_to_world)
        if there.shear < _SHEAR:
            return affine, DisplacementField.from_voxel_displacement(field.voxel_displacement, there)
    if grid is None:
        raise UserError("this transform deforms between two affines; name the fixed image with --fixed to write it so")
    return affine, displacement_on(Composite([affine.inverse(), transform]), grid)
