"""What is done with a transform once it is a file: carry images over, turn it round, measure it."""

from __future__ import annotations

from pathlib import Path

import torch

from uresnet.errors import UserError
from uresnet.image import Image, LabelMap
from uresnet.io import read_grid, read_image, read_labels
from uresnet.spaces import Grid
from uresnet.transform import (
    Composite,
    DisplacementField,
    InverseResidual,
    Transform,
    folding_fraction,
    jacobian_determinant,
    map_grid,
    resample,
)
from uresnet.transform.composite import Interpolation
from uresnet.transform.export import read_transform


def apply_transform(
    transform: str | Path, image: str | Path, like: str | Path, interpolation: Interpolation = "linear"
) -> Image | LabelMap:
    """The moving ``image`` on the grid of the fixed image ``like``, all files.

    "label" and "nearest" keep whole numbers whole: the result is then a label map. Raises :class:`UserError` for files
    that cannot be used, and when no point of ``like`` falls into the image: the wrong transform, or the inverse of the
    right one.
    """
    warp, grid = read_transform(transform), read_grid(like)
    moving = _read_for(interpolation, image)
    if not _reaches(warp, grid, moving.grid):
        raise UserError(
            f"{transform} sends no point of {like} into {image}; check which image is which, or use the inverse."
        )
    if isinstance(moving, LabelMap):
        return resample(warp, moving, grid, interpolation)
    return resample(warp, moving, grid, interpolation)


def invert_transform(transform: str | Path) -> tuple[Transform, InverseResidual | None]:
    """The inverse of a transform file, and how well it undoes it (None: exactly, there was nothing to solve)."""
    inverse = Composite([read_transform(transform)]).inverse()
    return inverse, inverse.residual


def jacobian_of(transform: str | Path, like: str | Path | None = None) -> tuple[Image, float]:
    """Jacobian determinant of a transform file on a grid (default: that of its deformation), and the share that folds.

    Raises :class:`UserError` when the transform has no deformation and ``like`` is not given.
    """
    warp = read_transform(transform)
    grid = read_grid(like) if like is not None else _own_grid(warp)
    if grid is None:
        raise UserError(f"{transform} is an affine without a grid of its own; name an image with --like.")
    determinant = jacobian_determinant(warp, grid)
    return Image(determinant, grid), folding_fraction(determinant)


def _read_for(interpolation: Interpolation, path: str | Path) -> Image | LabelMap:
    if interpolation == "label":
        return read_labels(path)
    if interpolation == "nearest":
        try:
            return read_labels(path)
        except UserError:  # fractions: an image; anything that is wrong with the file is said below
            pass
    return read_image(path)


def _reaches(transform: Transform, fixed: Grid, moving: Grid) -> bool:
    """Whether any point of a coarse lattice over the fixed grid lands in the moving one."""
    factors = [max(1.0, n / 32) for n in fixed.shape]
    where = map_grid(transform, fixed.rescaled(factors), moving.world_to_voxel)[0].flatten(1)
    size = torch.tensor(moving.shape, device=where.device)[:, None]
    return bool(((where >= -0.5) & (where < size - 0.5)).all(dim=0).any())


def _own_grid(transform: Transform) -> Grid | None:
    fields = [part for part in transform.parts if isinstance(part, DisplacementField)]
    return fields[0].grid if fields else None
