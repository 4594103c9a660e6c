"""The space half-way between both images, in which the velocity lives."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from uresnet.core.ops import FeatureRows
from uresnet.core.sampling import sample
from uresnet.solver.lattice import centred_positions, in_voxels, mapped, widened
from uresnet.transform import matrix_exponential

DARK = 0.02  # of intensities, and of probabilities of structures: below, there is nothing
_AROUND = 2  # voxels around the brain that move with it


class MidSpace:
    """A lattice of ``shape`` with voxels of ``spacing`` mm, half the affine away from either image.

    ``affine_log`` is the logarithm (4, 4) of the affine from fixed to moving, mm: the moving image is reached by one
    half of it, the fixed image by the inverse of that half.
    """

    def __init__(self, affine_log: np.ndarray, shape: Sequence[int], spacing: int, device: torch.device) -> None:
        self.halves = [in_voxels(matrix_exponential(sign * affine_log / 2), spacing) for sign in (1, -1)]
        """(4, 4) each, mid-space to moving and to fixed, voxels about the middles."""
        self.positions = centred_positions(shape, 1.0, device)
        """(1, 3, i, j, k) of its voxels, about the middle."""

    def places(self, images: Sequence[FeatureRows], displacements: Tensor) -> list[Tensor]:
        """Where its voxels lie in moving and in fixed after ``displacements`` (2, 3, i, j, k): (3, i, j, k) each."""
        return [
            mapped(half, self.positions + displacements[side : side + 1], rows.shape)[0]
            for side, (rows, half) in enumerate(zip(images, self.halves, strict=True))
        ]

    @staticmethod
    def counted(ignored: Sequence[Tensor | None], places: Sequence[Tensor], around: int) -> Tensor | None:
        """(i, j, k) bool: the voxels, and ``around`` more, whose ``places`` are ignored in neither image; None where
        nothing is ignored. ``ignored`` (1, 1, I, J, K) or None, and ``places`` (3, i, j, k), of moving and of fixed."""
        hidden = [
            sample(mask, place[None], padding="border")
            for mask, place in zip(ignored, places, strict=True)
            if mask is not None
        ]
        if not hidden:
            return None
        return widened(torch.stack(hidden).amax(dim=0), around)[0, 0] == 0

    def brain(self, images: Sequence[FeatureRows], velocity: Tensor) -> Tensor:
        """(i, j, k) bool: where either image has its brain, and some voxels around it."""
        places = self.places(images, torch.cat([velocity, -velocity]) / 2)
        found = torch.zeros((1, 1, *velocity.shape[2:]), device=velocity.device)
        for rows, place in zip(images, places, strict=True):
            brain = (rows.table.sum(dim=1) > DARK).float().view(1, 1, *rows.shape)
            found = torch.maximum(found, sample(brain, place[None]))
        return widened(found, _AROUND)[0, 0] > 0
