"""Derivatives of the loss by the velocity: forces that pull the images together in the mid-space."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from uresnet.core.ops import FeatureRows, bounding_box, correlation_slopes
from uresnet.solver.midspace import DARK
from uresnet.solver.settings import SolverSettings
from uresnet.transform import half_difference

_FAINT = 1e-5  # product of two variances, below which a cube's correlation counts for little


def dice_weights(moving: FeatureRows, fixed: FeatureRows) -> Tensor:
    """(S,): the factors that turn squared differences into 1 - Dice, averaged over the structures that are present."""
    a, b = moving.table, fixed.table
    mass = a[:, :-1].square().sum(0) + b[:, :-1].square().sum(0)
    return (mass > 40) / mass.clamp_min(20) / len(mass)


def intensity_force(images: Sequence[Tensor], settings: SolverSettings, counted: Tensor | None = None) -> Tensor:
    """Derivative of minus the local cross-correlation of two ``images`` (1, 1, i, j, k), by the velocity:
    (1, 3, i, j, k). Only cubes about voxels that are ``counted`` (i, j, k) bool take part; None is all."""
    force = torch.zeros((1, 3, *images[0].shape[2:]), device=images[0].device)
    bright = (images[0] > DARK) | (images[1] > DARK)
    if counted is not None:
        bright &= counted
    if not bright.any():
        return force
    around = settings.window // 2
    box = tuple(slice(max(0, side.start - around), side.stop + around) for side in bounding_box(bright[0, 0]))
    a, b = (image[0, 0][box][None, None] for image in images)
    slopes = correlation_slopes(a, b, bright[0, 0][box][None, None], settings.window, _FAINT)
    factor = settings.correlation / bright.sum()
    for slope, image, sign in zip(slopes, (a, b), (-0.5, 0.5), strict=True):
        for axis in range(3):
            # Multiplied before it is added, so that equal images pull exactly as much either way.
            force[0, axis][box] += (slope[0, 0] * (sign * factor)).mul_(half_difference(image[0, 0], axis))
    return force
