"""Measures of agreement between label maps."""

from __future__ import annotations

import torch
from torch import Tensor


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
