"""Models of the kind "midspace": each image is segmented on its own, then both are brought half-way to each other."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from uresnet.core.choices import Freedom
from uresnet.core.grid import Grid
from uresnet.core.image import LabelMap
from uresnet.core.labels import LabelScheme
from uresnet.core.steps import expect_steps
from uresnet.coupling.result import Coupling
from uresnet.errors import UserError
from uresnet.model.checkpoint import Model
from uresnet.preprocess import Conformed
from uresnet.solver import (
    DEFAULT_SETTINGS,
    SolverImage,
    SolverSettings,
    affine_between,
    brain_between,
    exponentials,
    residual_velocity,
    velocity_between,
)
from uresnet.transform import (
    Affine,
    Composite,
    DisplacementField,
    Transform,
    closest_rigid,
    matrix_exponential,
    matrix_logarithm,
)


def couple_midspace(
    model: Model, moving: Conformed, fixed: Conformed, freedom: Freedom, settings: SolverSettings = DEFAULT_SETTINGS
) -> Coupling:
    """Fixed world → mid-space → deformed mid-space → moving world; each affine is half of the whole.

    Raises :class:`UserError` when the structures of the two images give no affine, or when no invertible deformation
    brings them together.
    """
    moving_image, moving_labels = _segment(model, moving, settings.shifted_pass)
    fixed_image, fixed_labels = _segment(model, fixed, settings.shifted_pass)
    affine_log = _affine_log(moving_image, fixed_image, freedom)
    fixed_to_middle = _half_way(affine_log, fixed.grid, 1)
    moving_to_middle = _half_way(affine_log, moving.grid, -1)
    middle = Grid.centred(fixed.grid.shape, (1, 1, 1), ("R", "A", "S"), (0, 0, 0))
    parts: list[Transform] = [Affine(fixed_to_middle, domain=fixed.grid, codomain=middle)]
    if freedom in ("joint", "deformable"):
        parts.append(_deformation(moving_image, fixed_image, affine_log, middle, settings))
    parts.append(Affine(np.linalg.inv(moving_to_middle), domain=middle, codomain=moving.grid))
    return Coupling(Composite(parts), moving_labels, fixed_labels)


def segment_alone(model: Model, image: Conformed) -> LabelMap:
    """The most probable class of every voxel of one image."""
    return _segment(model, image, shifted_pass=True)[1]


def _segment(model: Model, image: Conformed, shifted_pass: bool) -> tuple[SolverImage, LabelMap]:
    assert model.scheme is not None
    tensor = image.tensor.to(model.device)
    classes, probabilities = model.network(tensor, shifted_pass)
    groups = _structures_of_classes(model.scheme).to(model.device)
    ignored = None if image.unseen is None else image.unseen[None, None].float().to(model.device)
    return SolverImage(probabilities, tensor, groups, ignored), LabelMap(classes.cpu(), image.grid)


def _structures_of_classes(scheme: LabelScheme) -> Tensor:
    """(C,): a number for every class, shared by the left and the right of a structure; 0 is the background."""
    lower = [min(c, mirrored) for c, mirrored in enumerate(scheme.mirrored)]
    order = {c: n for n, c in enumerate(sorted(set(lower)))}
    return torch.tensor([order[c] for c in lower])


def _affine_log(moving: SolverImage, fixed: SolverImage, freedom: Freedom) -> np.ndarray:
    """Logarithm of the affine from fixed to moving about the middles of their grids; zero when it may not move."""
    if freedom == "deformable":
        return np.zeros((4, 4))
    try:
        ignored = moving.ignored_at(2), fixed.ignored_at(2)
        found = affine_between(moving.probabilities, fixed.probabilities, ignored)
    except ValueError as error:
        raise UserError(
            f"The brains cannot be aligned: {error}. Look at the segmentation of each with 'uresnet segment', and "
            "check that both headers say rightly which way is left, front and up."
        ) from error
    return matrix_logarithm(closest_rigid(matrix_exponential(found))) if freedom == "rigid" else found


def _half_way(affine_log: np.ndarray, grid: Grid, sign: int) -> np.ndarray:
    """(4, 4): an image's world to the mid-space, whose origin the middle of the grid becomes.

    The conformed grid's voxels are the mid-space's millimetres: all models of this kind see voxels of 1 mm.
    """
    to_middle = np.eye(4)
    to_middle[:3, 3] = -(np.array(grid.shape) - 1) / 2
    half_way: np.ndarray = matrix_exponential(sign * affine_log / 2) @ to_middle @ grid.world_to_voxel
    return half_way


def _deformation(
    moving: SolverImage, fixed: SolverImage, affine_log: np.ndarray, middle: Grid, settings: SolverSettings
) -> DisplacementField:
    """The deformation of the mid-space ``middle``, with its inverse."""
    expect_steps(sum(level.iterations for level in (*settings.levels, settings.residual) if level is not None))
    velocity = velocity_between(moving, fixed, affine_log, settings)
    spacing = settings.levels[-1].spacing
    brain = brain_between(moving, fixed, affine_log, velocity, spacing)
    residual = None
    if settings.residual is not None:
        residual = residual_velocity(moving, fixed, affine_log, velocity, settings, brain)
    smooth, stored_mm = settings.smooth_displacement, settings.stored_mm
    try:
        forward, backward = exponentials(velocity, spacing, middle.shape, brain, residual, smooth, stored_mm)
    except ArithmeticError as error:
        raise UserError(
            "The images differ too much for a deformation that can be inverted; look at the segmentation of each with "
            "'uresnet segment', or register with --transform affine."
        ) from error
    lattice = Grid.centred(tuple(forward.shape[1:]), (stored_mm,) * 3, ("R", "A", "S"), (0, 0, 0))
    inverse = DisplacementField(backward.cpu(), lattice, domain=middle, codomain=middle)
    return DisplacementField(forward.cpu(), lattice, inverse, domain=middle, codomain=middle)
