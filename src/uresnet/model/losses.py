"""The losses of the paper (Eq. 4–7). All sums are float32 whatever the network's precision."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from uresnet.core.ops import box_mean


def mean_squared_error(warped: Tensor, fixed: Tensor, weight: Tensor | None = None) -> Tensor:
    """Mean over voxels of the squared difference, first term of Eq. 4. Any equal shapes → scalar.

    ``weight`` of the same shape, in [0, 1], is what each voxel counts; all count 1 without it.
    """
    if weight is None:
        return F.mse_loss(warped.float(), fixed.float())
    return _weighted_mean((warped.float() - fixed.float()).square(), weight)


def local_cross_correlation(
    warped: Tensor, fixed: Tensor, window: int = 9, epsilon: float = 1e-9, weight: Tensor | None = None
) -> Tensor:
    """Mean over voxels of the squared correlation in a cube of ``window`` voxels, second term of Eq. 4; 1 is best.

    warped, fixed (B, 1, I, J, K) → scalar; ``weight`` as in :func:`mean_squared_error`, in the windows and in the mean.
    See :func:`squared_correlation`.
    """
    squared = squared_correlation(warped, fixed, window, epsilon, weight)
    return squared.mean() if weight is None else _weighted_mean(squared, weight)


def squared_correlation(
    a: Tensor, b: Tensor, window: int = 9, epsilon: float = 1e-9, weight: Tensor | None = None
) -> Tensor:
    """Squared correlation in the cube of ``window`` voxels about every voxel, (B, 1, I, J, K) → the same shape.

    Covariance² / (variance · variance + ``epsilon``), the moments being means over the window; beyond the border the
    images are 0 and windows keep their size. Images are expected in [0, 1] with background 0: there float32 moments are
    exact enough, and ``epsilon`` silences windows that hold only noise (standard deviation below 0.005). ``weight``
    (B, 1, I, J, K) in [0, 1] is what each voxel counts in the moments; voxels beyond the border count 1.
    """
    a, b = a.float(), b.float()
    with torch.autocast(device_type=a.device.type, enabled=False):
        # Together, because pooling divides its work among threads by channels.
        products = torch.cat([a, b, a * a, b * b, a * b], dim=1)
        if weight is None:
            moments = box_mean(products, window)
        else:
            counted = (1 - box_mean(1 - weight, window)).clamp_min(1 / window**3)
            moments = box_mean(products * weight, window) / counted
        mean_a, mean_b, square_a, square_b, product = moments.chunk(5, dim=1)
        # Rounding can leave a variance a little below zero where an image is flat.
        variance_a = (square_a - mean_a * mean_a).clamp_min(0)
        variance_b = (square_b - mean_b * mean_b).clamp_min(0)
        covariance = product - mean_a * mean_b
        squared: Tensor = covariance * covariance / (variance_a * variance_b + epsilon)
        return squared


def _weighted_mean(values: Tensor, weight: Tensor) -> Tensor:
    return (values * weight).sum() / weight.sum().clamp_min(1)


def affine_distance(affine: Tensor) -> Tensor:
    """||A - A_I||₁ of Eq. 5: sum over the twelve numbers, mean over the batch. (B, 3, 4) → scalar."""
    identity = torch.eye(3, 4, dtype=affine.dtype, device=affine.device)
    return (affine - identity).abs().sum(dim=(1, 2)).mean()


def gradient_distance(spatial_gradients: Tensor) -> Tensor:
    """||∇Φ - ∇Φ_I||₁ of Eq. 5, as a mean over voxels and axes so that the grid's size does not matter. → scalar."""
    return (spatial_gradients - 1).abs().mean()


def roughness(spatial_gradients: Tensor) -> Tensor:
    """Mean square of the change of the spatial gradients from voxel to voxel, over the three axes. → scalar."""
    g = spatial_gradients
    terms = [(g.narrow(a, 1, g.shape[a] - 1) - g.narrow(a, 0, g.shape[a] - 1)).square().mean() for a in (2, 3, 4)]
    return torch.stack(terms).mean()


def dice_loss(predicted: Tensor, target: Tensor, epsilon: float = 1e-5) -> Tensor:
    """1 - soft Dice, mean over structures and batch, of probabilities without the background channel (Eq. 6).

    predicted, target (B, C-1, I, J, K) in [0, 1] → scalar. Dice is 2 Σ p·t / (Σ p + Σ t); a structure that neither has
    counts as perfect agreement.
    """
    p, t = predicted.float().flatten(2), target.float().flatten(2)
    both = (p * t).sum(-1)
    either = p.sum(-1) + t.sum(-1)
    return 1 - ((2 * both + epsilon) / (either + epsilon)).mean()


def share_dice_loss(predicted: Tensor, target: Tensor, epsilon: float = 1e-5) -> Tensor:
    """:func:`dice_loss` for a ``target`` of shares of blocks, which may lie between 0 and 1. → scalar.

    Dice is 2 Σ p·t / (Σ p² + Σ t²) (Milletari et al. 2016, V-Net), 1 only where p = t; that of :func:`dice_loss` is
    largest where p is 1 in every voxel with a share above about a half, which loses where in it the border lies.
    """
    p, t = predicted.float().flatten(2), target.float().flatten(2)
    both = (p * t).sum(-1)
    either = p.square().sum(-1) + t.square().sum(-1)
    return 1 - ((2 * both + epsilon) / (either + epsilon)).mean()
