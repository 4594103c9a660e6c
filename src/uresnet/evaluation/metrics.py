"""How good a registration is, from its outputs."""

from __future__ import annotations

import torch
from torch import Tensor


def folding_fraction(jacobian: Tensor, mask: Tensor) -> float:
    """Fraction of the voxels of ``mask`` where the Jacobian determinant, same shape, is not positive."""
    inside = jacobian[mask]
    return float((inside <= 0).float().mean()) if inside.numel() else 0.0


def sd_log_jacobian(jacobian: Tensor, mask: Tensor) -> float:
    """Standard deviation of log det J over ``mask``: how unevenly volume changes; folds count as log 1e-9."""
    inside = jacobian[mask].double()
    return float(inside.clamp(1e-9, 1e9).log().std(correction=0)) if inside.numel() else 0.0


def dice(a: Tensor, b: Tensor) -> float:
    """Dice overlap 2|a∩b| / (|a|+|b|) of two bool tensors of one shape; 1 when both are empty."""
    total = int(a.sum()) + int(b.sum())
    return 2 * int((a & b).sum()) / total if total else 1.0
