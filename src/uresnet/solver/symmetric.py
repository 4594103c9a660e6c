"""The velocity between two images, found half-way between both.

The unknown is a stationary velocity v on a lattice of a **mid-space**, to which the moving image is brought by exp(v/2)
after half the affine, and the fixed one by exp(-v/2) after the other half. Exchanging the images changes the sign of v
and nothing else: the map from B to A is the inverse of that from A to B by construction, which the paper says it lacks.
The loss is the paper's with both images in the middle (Eq. 4, 6): a Dice distance of the predicted structures and one
minus the local cross-correlation of the intensities. Forces come from the images as they lie in the mid-space, as in
symmetric log-demons (Vercauteren et al. 2008), and are smoothed; the velocity is smoothed in every step. In the end a
second, short velocity w, the **residual velocity**, is found at 1 mm between the images as v has brought them together;
exp(v) becomes exp(v/2) exp(w) exp(v/2), symmetric as before. There are no weights here and nothing is kept from one
pair to the next.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from uresnet.core.coordinates import identity_coordinates
from uresnet.core.ops import FeatureRows, bounding_box, read_rows, structure_forces
from uresnet.core.sampling import sample
from uresnet.solver.descent import Descent
from uresnet.solver.forces import dice_weights, intensity_force
from uresnet.solver.images import SolverImage
from uresnet.solver.lattice import doubled, mapped, upsampled, with_midpoints
from uresnet.solver.midspace import MidSpace
from uresnet.solver.settings import Level, SolverSettings
from uresnet.transform import integrate_velocity

_LONGEST_MM = 8  # of steps of half a velocity: it takes no doubling at 8 mm, one at 4 mm, two at 2 mm


def velocity_between(
    moving: SolverImage, fixed: SolverImage, affine_log: np.ndarray, settings: SolverSettings
) -> Tensor:
    """Velocity v (1, 3, i, j, k), voxels of the last level's lattice: T is half the affine, exp(v), half the affine.

    ``affine_log`` is that of :func:`uresnet.solver.affine.affine_between`.
    """
    spacing = settings.levels[0].spacing
    lattice = [n // spacing for n in moving.intensities.shape[2:]]
    velocity = torch.zeros((1, 3, *lattice), device=moving.intensities.device)
    for level in settings.levels:
        while spacing > level.spacing:
            velocity, spacing = 2 * upsampled(velocity), spacing // 2
        velocity = _solve_level(moving, fixed, affine_log, velocity, level, settings)
    return velocity


def brain_between(
    moving: SolverImage, fixed: SolverImage, affine_log: np.ndarray, velocity: Tensor, spacing: int
) -> Tensor:
    """(i, j, k) bool on the lattice of ``velocity``, voxels of ``spacing`` mm: where either image has its brain in the
    mid-space, or close by."""
    rows = moving.rows_at(spacing), fixed.rows_at(spacing)
    return MidSpace(affine_log, velocity.shape[2:], spacing, velocity.device).brain(rows, velocity)


def residual_velocity(
    moving: SolverImage,
    fixed: SolverImage,
    affine_log: np.ndarray,
    velocity: Tensor,
    settings: SolverSettings,
    region: Tensor | None = None,
) -> Tensor:
    """A second velocity w (1, 3, I, J, K), mm, at 1 mm: T is half the affine, exp(v/2), exp(w), exp(v/2), half the
    affine.

    ``velocity`` is v, in voxels of 2 mm; ``region`` is :func:`brain_between`, where that is known. v warps both images
    to the mid-space once; w corrects what then still differs. w is so short that during the iterations w/2 itself is
    taken for exp(w/2) - id. Exchanging the images changes the sign of w, as that of v. w is 0 outside of the brain.
    """
    level, shape = settings.residual, moving.intensities.shape[2:]
    assert level is not None
    out = torch.zeros((1, 3, *shape), device=velocity.device)
    region = brain_between(moving, fixed, affine_log, velocity, 2) if region is None else region
    box = bounding_box(region)
    displacements = _half_exponentials(velocity, 2, region)
    structures = _structures_in_midspace(moving, fixed, affine_log, displacements, box)
    images = _images_in_midspace(moving, fixed, affine_log, displacements, box)
    counted = _counted_in_midspace(moving, fixed, affine_log, displacements, box)
    weights = settings.structures * dice_weights(moving.rows, fixed.rows)
    region = region[box]

    voxels = identity_coordinates(images[0].shape[2:], device=out.device)
    coarse_voxels = identity_coordinates(region.shape, device=out.device)
    found = torch.zeros_like(out[doubled(box)])
    descent = Descent(level, found)
    for _ in range(level.iterations):
        half = found / 2
        places = [torch.add(voxels, half, alpha=sign) for sign in (1, -1)]
        warped = [sample(image, place, padding="border") for image, place in zip(images, places, strict=True)]
        half = F.avg_pool3d(half, 2) / 2
        places = [(coarse_voxels + sign * half)[0] for sign in (1, -1)]
        force, _ = structure_forces(structures[0], structures[1], places, weights, region)
        # A voxel of 2 mm is eight, each with half the slope.
        force = intensity_force(warped, settings, counted).add_(upsampled(force / 16))
        found = descent.step(found, force if counted is None else force * counted)
    out[doubled(box)] = found
    return out


def _solve_level(
    moving: SolverImage,
    fixed: SolverImage,
    affine_log: np.ndarray,
    velocity: Tensor,
    level: Level,
    settings: SolverSettings,
) -> Tensor:
    """The velocity after the iterations of one ``level``."""
    middle = MidSpace(affine_log, velocity.shape[2:], level.spacing, velocity.device)
    rows = moving.rows_at(level.spacing), fixed.rows_at(level.spacing)
    ignored = moving.ignored_at(level.spacing), fixed.ignored_at(level.spacing)
    weights = settings.structures * dice_weights(*rows)
    region = middle.brain(rows, velocity)  # there is no force elsewhere
    descent = Descent(level, velocity)
    for _ in range(level.iterations):
        places = middle.places(rows, _half_exponentials(velocity, level.spacing, region))
        counted = middle.counted(ignored, places, around=1)
        force, images = structure_forces(*rows, places, weights, region)
        force += intensity_force(images, settings, counted)
        velocity = descent.step(velocity, force if counted is None else force * counted)
    return velocity


def _half_exponentials(velocity: Tensor, spacing: int, region: Tensor) -> Tensor:
    """exp(v/2) - id and exp(-v/2) - id, (2, 3, i, j, k), voxels of ``spacing`` mm, where ``region`` is True."""
    doublings = (_LONGEST_MM // spacing).bit_length() - 1
    return integrate_velocity(torch.cat([velocity, -velocity]) / 2, doublings, region)


def _structures_in_midspace(
    moving: SolverImage, fixed: SolverImage, affine_log: np.ndarray, displacements: Tensor, box: tuple[slice, ...]
) -> list[FeatureRows]:
    """Features of both images at 2 mm, in the ``box`` of the mid-space."""
    rows = moving.rows, fixed.rows
    middle = MidSpace(affine_log, displacements.shape[2:], 2, displacements.device)
    found = []
    for image, place in zip(rows, middle.places(rows, displacements), strict=True):
        inside = place[(slice(None), *box)]
        found.append(FeatureRows(read_rows(image, inside.flatten(1)), tuple(inside.shape[1:])))
    return found


def _images_in_midspace(
    moving: SolverImage, fixed: SolverImage, affine_log: np.ndarray, displacements: Tensor, box: tuple[slice, ...]
) -> list[Tensor]:
    """Intensities of both images at 1 mm, (1, 1, i, j, k) each, in the ``box`` (voxels of 2 mm) of the mid-space.

    An image that is read linearly twice, by v and then by w, loses the detail that the level at 1 mm is for: the first
    time it is read from a finer, sharper version of it.
    """
    found = []
    for image, place in zip((moving, fixed), _places_at_1_mm(affine_log, displacements, box), strict=True):
        found.append(sample(with_midpoints(image.intensities), 2 * place).clamp_(min=0))
    return found


def _counted_in_midspace(
    moving: SolverImage, fixed: SolverImage, affine_log: np.ndarray, displacements: Tensor, box: tuple[slice, ...]
) -> Tensor | None:
    """:meth:`MidSpace.counted` at 1 mm, in the ``box`` (voxels of 2 mm)."""
    if moving.ignored is None and fixed.ignored is None:
        return None
    places = [place[0] for place in _places_at_1_mm(affine_log, displacements, box)]
    return MidSpace.counted((moving.ignored, fixed.ignored), places, around=2)


def _places_at_1_mm(affine_log: np.ndarray, displacements: Tensor, box: tuple[slice, ...]) -> list[Tensor]:
    """Where the voxels of 1 mm in the ``box`` (voxels of 2 mm) lie in moving and in fixed: (1, 3, i, j, k) each."""
    shape = [2 * n for n in displacements.shape[2:]]
    middle = MidSpace(affine_log, shape, 1, displacements.device)
    start = middle.positions[doubled(box)]
    fine = 2 * upsampled(displacements[(slice(None), slice(None), *box)])
    return [mapped(half, start + fine[side : side + 1], shape) for side, half in enumerate(middle.halves)]
