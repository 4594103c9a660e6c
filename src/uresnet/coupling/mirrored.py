"""Masses filled with what the other half of the brain shows, for networks to look at.

A network errs beside a mass: what it takes the mass for shifts the structures around it, and the centroids of those
that the mass has taken a part of say nothing. A brain is nearly its own mirror image, so that a plausible healthy one
is at hand. It guides networks and centroids alone: no force comes from there, and no label of it is kept.
docs/models/any.md has what was measured.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from uresnet.core.labels import LabelScheme
from uresnet.core.ops import bounding_box
from uresnet.core.sampling import sample
from uresnet.solver import affine_between
from uresnet.solver.lattice import centred_positions, gaussian_smoothed, mapped, widened
from uresnet.transform import matrix_exponential

_EDGE = 1.0  # voxels, of the Gaussian over which an image becomes what fills it
_AROUND = 5  # voxels round a mass that this reaches


@dataclass(frozen=True, eq=False)
class Filling:
    """Where the voxels of a ``box`` round a mass read what is opposite to them: ``places`` (1, 3, i, j, k), and the
    ``share`` (1, 1, i, j, k) of it that they take. ``unfilled`` (I, J, K) bool is mass that has none of it."""

    box: tuple[slice, ...]
    places: Tensor
    share: Tensor
    unfilled: Tensor

    def of(self, image: Tensor) -> Tensor:
        """The ``image`` (1, 1, I, J, K) with the mass filled."""
        filled = image.clone()
        filled[0, 0][self.box] = torch.lerp(image[0, 0][self.box], sample(image, self.places)[0, 0], self.share[0, 0])
        return filled


def filling(image: Tensor, mass: Tensor, probabilities: Tensor, scheme: LabelScheme) -> Filling | None:
    """What fills a ``mass`` (I, J, K) bool of an ``image`` (1, 1, I, J, K) whose first axis runs from side to side.

    ``probabilities`` (C, I/2, J/2, K/2) of ``scheme`` tell which place is opposite to which. None where too few
    structures are found for that. What is opposite to mass, or to no brain, stays unfilled.
    """
    around = widened(mass[None, None].float(), 1)
    try:
        opposite = _opposite(probabilities, F.max_pool3d(around, 2), scheme)
    except ValueError:
        return None
    tight = bounding_box(mass)
    box = tuple(slice(max(0, side.start - _AROUND), side.stop + _AROUND) for side in tight)
    positions = centred_positions(image.shape[2:], 1.0, image.device)[(slice(None), slice(None), *box)]
    places = mapped(opposite, positions, image.shape[2:])
    known = (sample(image, places) > 0) & (sample(around, places) < 0.5)
    share = gaussian_smoothed(around[0, 0][box][None, None], _EDGE) * (known & (image[0, 0][box] > 0))
    unfilled = mass.clone()
    unfilled[box] &= ~known[0, 0]
    return Filling(box, places, share, unfilled)


def _opposite(probabilities: Tensor, ignored: Tensor, scheme: LabelScheme) -> np.ndarray:
    """(4, 4), voxels of 1 mm about the middle: from each place to the same on the other side of the brain, by the
    centroids of the structures in the image and in its mirror image. ``ignored`` (1, 1, i, j, k) at 2 mm."""
    flipped = probabilities[list(scheme.mirrored)].flip(1)
    to_flipped = affine_between(flipped, probabilities, (ignored.flip(2), ignored))
    opposite: np.ndarray = np.diag([-1.0, 1.0, 1.0, 1.0]) @ matrix_exponential(to_flipped)
    return opposite
