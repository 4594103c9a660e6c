"""Measures of agreement between label maps."""

from __future__ import annotations

import torch
from torch import Tensor

from uresnet.core.ops import common_voxels


def dice_per_class(a: Tensor, b: Tensor, classes: int) -> Tensor:
    """Dice coefficient of every class but the background: (classes - 1,) float64.

    ``a`` and ``b`` hold classes 0 … classes - 1 in one shape. A class that neither holds is NaN: it says nothing, and
    a mean over structures must leave it out (``nanmean``) instead of counting it as right or wrong.
    """
    if a.shape != b.shape:
        raise ValueError(f"the label maps have different shapes, {tuple(a.shape)} and {tuple(b.shape)}")
    joint = torch.bincount(a.flatten().long() * classes + b.flatten().long(), minlength=classes * classes)
    table = joint.view(classes, classes).double()
    return (2 * table.diagonal() / (table.sum(0) + table.sum(1)))[1:]


def expected_dice(classes: Tensor, probabilities: Tensor) -> Tensor:
    """Dice of every class but the background with a truth that is as ``probabilities`` say: (C - 1,) float64.

    ``classes`` is (I, J, K) uint8; ``probabilities`` (C, I/2, J/2, K/2) are means over blocks of 2×2×2 voxels. What is
    uncertain inside of a block is not seen, so that this is too high, and has to be calibrated. A class that no voxel
    has is NaN.
    """
    count, shared = common_voxels(classes, probabilities)
    expected = 8 * probabilities.flatten(1).sum(dim=1).double().cpu()
    return torch.where(count > 0, 2 * shared / (count + expected), torch.nan)[1:]
