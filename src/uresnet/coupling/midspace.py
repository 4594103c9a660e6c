"""Models of the kind "midspace": each image is segmented on its own, then both are brought half-way to each other."""

from __future__ import annotations

from dataclasses import replace
from math import isfinite

import numpy as np
import torch
from torch import Tensor

from uresnet.core.choices import Contrast, Freedom
from uresnet.core.grid import Grid
from uresnet.core.image import LabelMap
from uresnet.core.labels import ABNORMAL, LabelScheme
from uresnet.core.limits import freed_memory_kept
from uresnet.core.steps import expect_steps
from uresnet.coupling.abnormal import abnormal_classes, is_mass, with_abnormal
from uresnet.coupling.contrast import Look
from uresnet.coupling.mirrored import Filling, filling
from uresnet.coupling.result import Coupling, Expected, Structures
from uresnet.errors import UserError
from uresnet.measures.overlap import expected_dice
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

_HARDLY = 0.01  # of a structure: so little in abnormal tissue changes nothing
_CORRELATION_OF_PREDICTED = 0.25
"""Weight of the intensities where at least one image's are predicted: an eighth of that of the images themselves."""

_SHARE_OF_SPECIALIST: dict[Contrast, float] = {"T1": 0.6, "T2": 0.5, "FLAIR": 0.35, "unknown": 0.5}
"""Of the probabilities: what the model for T1-weighted images sees in the image, or in the one predicted from it."""

_STRUCTURES_OF_COARSE = 0.0
"""Weight of the structures of a network that sees voxels of 2 mm, where intensities can be compared: its borders are
less sure than theirs. They give the affine (docs/models/open.md has what was measured)."""


def couple_midspace(
    model: Model,
    moving: Conformed,
    fixed: Conformed,
    freedom: Freedom,
    settings: SolverSettings = DEFAULT_SETTINGS,
    looks: tuple[Look, Look] | None = None,
) -> Coupling:
    """Fixed world → mid-space → deformed mid-space → moving world; each affine is half of the whole.

    ``looks`` are what the model for any contrast saw in both images, where it looked. Raises :class:`UserError` when
    the structures of the two images give no affine, or when no invertible deformation brings them together.
    """
    assert model.scheme is not None
    seen = looks or (None, None)
    abnormal = [abnormal_classes(image, look) for image, look in zip((moving, fixed), seen, strict=True)]
    alike = looks is None or (looks[0].contrast == looks[1].contrast != "unknown")
    if not alike:
        settings = replace(settings, correlation=_CORRELATION_OF_PREDICTED)
    if model.is_coarse:
        settings = replace(settings, structures=_STRUCTURES_OF_COARSE)
    with freed_memory_kept():
        found = [
            _segment(model, image, settings.shifted_pass, look, tissue, as_it_is=alike)
            for image, look, tissue in zip((moving, fixed), seen, abnormal, strict=True)
        ]
    (moving_image, moving_labels, moving_expected), (fixed_image, fixed_labels, fixed_expected) = found
    affine_log = _affine_log(moving_image, fixed_image, freedom)
    fixed_to_middle = _half_way(affine_log, fixed.grid, 1)
    moving_to_middle = _half_way(affine_log, moving.grid, -1)
    middle = Grid.centred(fixed.grid.shape, (1, 1, 1), ("R", "A", "S"), (0, 0, 0))
    parts: list[Transform] = [Affine(fixed_to_middle, domain=fixed.grid, codomain=middle)]
    if freedom in ("joint", "deformable"):
        with freed_memory_kept():
            velocities = _velocities(moving_image, fixed_image, affine_log, settings)
            del found, moving_image, fixed_image  # what follows needs as much memory as they do
        parts.append(_deformation(*velocities, middle, settings))
    parts.append(Affine(np.linalg.inv(moving_to_middle), domain=middle, codomain=moving.grid))
    (moving_classes, first), (fixed_classes, second) = (
        with_abnormal(labels, model.scheme, tissue)
        for labels, tissue in zip((moving_labels, fixed_labels), abnormal, strict=True)
    )
    scheme = max(first, second, key=lambda scheme: scheme.number_of_classes)
    return Coupling(Composite(parts), moving_classes, fixed_classes, scheme, moving_expected, fixed_expected)


def segment_alone(model: Model, image: Conformed, look: Look | None = None) -> Structures:
    """The most probable class of every voxel of one image."""
    assert model.scheme is not None
    tissue = abnormal_classes(image, look)
    _, labels, expected = _segment(model, image, True, look, tissue)
    return Structures(*with_abnormal(labels, model.scheme, tissue), expected)


def _segment(
    model: Model,
    image: Conformed,
    shifted_pass: bool,
    look: Look | None = None,
    abnormal: Tensor | None = None,
    as_it_is: bool = True,
) -> tuple[SolverImage, LabelMap, Expected | None]:
    """What the solver sees, the most probable classes and what is expected of them; the intensities ``as_it_is``, or as
    those of a T1-weighted image."""
    assert model.scheme is not None
    tensor = image.tensor.to(model.device)
    evaluated = None if look is None else look.evaluated
    as_t1 = tensor if evaluated is None or look is None or look.contrast == "T1" else evaluated.as_t1
    intensities = tensor if as_it_is else as_t1
    mass = None if abnormal is None else is_mass(abnormal).to(model.device)
    fill = None if mass is None or not mass.any() else _filling(model, tensor, mass, look)
    if fill is not None:
        tensor, as_t1 = fill.of(tensor), fill.of(as_t1)
    if model.specialist is not None:
        assert look is not None
        classes, probabilities = model.network.together(  # type: ignore[operator]
            model.specialist.network, tensor, as_t1, _SHARE_OF_SPECIALIST[look.contrast], shifted_pass
        )
    elif evaluated and look and model.scheme is look.scheme and fill is None and not shifted_pass:
        classes, probabilities = evaluated.classes, evaluated.probabilities
    else:
        classes, probabilities = model.network(tensor, shifted_pass)
    ignored = _either(image.unseen, mass, model)
    no_centroid = _either(image.unseen, mass if fill is None else fill.unfilled, model)
    groups = _structures_of_classes(model.scheme).to(model.device)
    labels = LabelMap(classes.cpu(), image.grid)
    expected: Expected | None = None
    if model.specialist is None:
        expected = _expected(labels.data, probabilities, model.scheme, abnormal)
    elif look is not None and look.contrast == "T1":
        # What it expects of its own labels is calibrated, and those of both are as good or better.
        alone, its = model.specialist.network(tensor, shifted_pass)
        assert model.specialist.scheme is not None
        expected = _expected(alone.cpu(), its, model.specialist.scheme, abnormal)
    return SolverImage(probabilities, intensities, groups, ignored, no_centroid), labels, expected


def _filling(model: Model, image: Tensor, mass: Tensor, look: Look | None) -> Filling | None:
    """What fills the ``mass`` (I, J, K) of an ``image`` (1, 1, I, J, K) with what lies opposite to it, by what was seen
    in it, or else by what the ``model`` sees."""
    if look is not None and look.evaluated is not None:
        return filling(image, mass, look.evaluated.probabilities, look.scheme)
    assert model.scheme is not None
    return filling(image, mass, model.network(image)[1], model.scheme)


def _either(first: Tensor | None, second: Tensor | None, model: Model) -> Tensor | None:
    """(1, 1, I, J, K): 1 where either of (I, J, K) bool holds; None where none does anywhere."""
    parts = [part.to(model.device) for part in (first, second) if part is not None and part.any()]
    return torch.stack(parts).any(dim=0)[None, None].float() if parts else None


def _expected(classes: Tensor, probabilities: Tensor, scheme: LabelScheme, abnormal: Tensor | None) -> Expected:
    """Of the structures of a healthy brain that were found, but for those that abnormal tissue takes a part of."""
    whole = torch.bincount(classes.flatten(), minlength=scheme.number_of_classes)
    taken = torch.zeros_like(whole)
    if abnormal is not None:
        taken = torch.bincount(classes[abnormal > 0], minlength=scheme.number_of_classes)
    kept = (taken <= _HARDLY * whole).tolist()[1:]
    by_class = zip(scheme.classes, expected_dice(classes, probabilities).tolist(), kept, strict=True)
    return {label.id: dice for label, dice, own in by_class if own and isfinite(dice) and label.id not in ABNORMAL}


def _structures_of_classes(scheme: LabelScheme) -> Tensor:
    """(C,): a number for every class, shared by the left and the right of a structure; 0 is the background. A lesion of
    the white matter is white matter; a mass is matched to nothing."""
    lower = [min(c, mirrored) for c, mirrored in enumerate(scheme.mirrored)]
    for c, label in enumerate(scheme.classes, start=1):
        if label.id in ABNORMAL:
            lower[c] = 1 + scheme.ids.index(2) if label.id == 77 and 2 in scheme.ids else 0
    order = {c: n for n, c in enumerate(sorted(set(lower)))}
    return torch.tensor([order[c] for c in lower])


def _affine_log(moving: SolverImage, fixed: SolverImage, freedom: Freedom) -> np.ndarray:
    """Logarithm of the affine from fixed to moving about the middles of their grids; zero when it may not move."""
    if freedom == "deformable":
        return np.zeros((4, 4))
    try:
        hidden = moving.no_centroid_at(2), fixed.no_centroid_at(2)
        found = affine_between(moving.probabilities, fixed.probabilities, hidden)
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


def _velocities(
    moving: SolverImage, fixed: SolverImage, affine_log: np.ndarray, settings: SolverSettings
) -> tuple[Tensor, Tensor, Tensor | None]:
    """The velocity, where the brain is, and the residual velocity, if the settings ask for one."""
    expect_steps(sum(level.iterations for level in (*settings.levels, settings.residual) if level is not None))
    velocity = velocity_between(moving, fixed, affine_log, settings)
    brain = brain_between(moving, fixed, affine_log, velocity, settings.levels[-1].spacing)
    residual = None
    if settings.residual is not None:
        residual = residual_velocity(moving, fixed, affine_log, velocity, settings, brain)
    return velocity, brain, residual


def _deformation(
    velocity: Tensor, brain: Tensor, residual: Tensor | None, middle: Grid, settings: SolverSettings
) -> DisplacementField:
    """The deformation of the mid-space ``middle``, with its inverse."""
    spacing = settings.levels[-1].spacing
    smoothing, stored_mm = settings.smoothing, settings.stored_mm
    try:
        forward, backward = exponentials(velocity, spacing, middle.shape, brain, residual, smoothing, stored_mm)
    except ArithmeticError as error:
        raise UserError(
            "The images differ too much for a deformation that can be inverted; look at the segmentation of each with "
            "'uresnet segment', or register with --transform affine."
        ) from error
    lattice = Grid.centred(tuple(forward.shape[1:]), (stored_mm,) * 3, ("R", "A", "S"), (0, 0, 0))
    inverse = DisplacementField(backward.cpu(), lattice, domain=middle, codomain=middle)
    return DisplacementField(forward.cpu(), lattice, inverse, domain=middle, codomain=middle)
