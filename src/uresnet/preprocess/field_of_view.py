"""Where a brain was cut off by its field of view, and what lies beyond: no tissue was seen there, and no background."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from uresnet.core.grid import Grid, voxel_to_voxel

_SMALLEST_CUT_MM2 = 1500.0  # outermost slices of 26 whole brains with voxels of 1 mm have up to 500 mm²
_CUT_MM2_PER_MM = 1000.0  # the outermost slice of a whole brain is the larger, the thicker it is

_FACES = {"R": "right", "L": "left", "A": "front", "P": "back", "S": "top", "I": "bottom"}
_OPPOSITE = {"right": "left", "left": "right", "front": "back", "back": "front", "top": "bottom", "bottom": "top"}


@dataclass(frozen=True)
class Cut:
    """A face at which a brain ends in a plane: the brain's last slice ``index`` along array axis ``axis``; ``sign`` is
    1 where the brain ends towards higher indices. ``face`` says where that is ("top")."""

    axis: int
    sign: int
    index: int
    face: str


def find_cuts(brain: np.ndarray, grid: Grid) -> list[Cut]:
    """The faces at which ``brain`` (I, J, K) bool on ``grid`` is cut off: its outermost slice there is as large as no
    whole brain's. It does not matter whether the image ends there or holds background beyond."""
    cuts = []
    for axis in range(3):
        areas = brain.sum(axis=tuple(other for other in range(3) if other != axis)) * grid.voxel_volume
        areas = areas / grid.zooms[axis]
        limit = max(_SMALLEST_CUT_MM2, _CUT_MM2_PER_MM * float(grid.zooms[axis]))
        filled = np.flatnonzero(areas)
        upper = _FACES[grid.axis_codes[axis]]
        for sign, index, face in ((-1, int(filled[0]), _OPPOSITE[upper]), (1, int(filled[-1]), upper)):
            if areas[index] >= limit:
                cuts.append(Cut(axis, sign, index, face))
    return cuts


def beyond_cuts(cuts: list[Cut], grid: Grid, target: Grid) -> Tensor | None:
    """(I, J, K) bool on ``target``: what lies beyond the ``cuts`` of a brain on ``grid``; None where there is none."""
    if not cuts:
        return None
    matrix = voxel_to_voxel(target, grid)
    i, j, k = np.ogrid[tuple(slice(0, n) for n in target.shape)]
    beyond = np.zeros(target.shape, dtype=bool)
    for cut in cuts:
        row = matrix[cut.axis]
        beyond |= cut.sign * (row[0] * i + row[1] * j + row[2] * k + row[3] - cut.index) > 0.5
    return torch.from_numpy(beyond)
