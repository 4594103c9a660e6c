"""Changes of intensity: blurring and thick slices."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def blurred(image: Tensor, sigma: float) -> Tensor:
    """A Gaussian of ``sigma`` voxels, one axis at a time."""
    if sigma < 0.2:
        return image
    reach = max(1, math.ceil(2.5 * sigma))
    x = torch.arange(-reach, reach + 1, device=image.device, dtype=image.dtype)
    kernel = torch.exp(-0.5 * (x / sigma) ** 2)
    kernel = kernel / kernel.sum()
    for axis in range(3):
        size, padding = [1, 1, 1], [0, 0, 0]
        size[axis], padding[axis] = len(kernel), reach
        image = F.conv3d(image, kernel.view(1, 1, *size), padding=padding)
    return image


def thick_slices(image: Tensor, generator: torch.Generator) -> Tensor:
    """Slices of two to five voxels across one axis, interpolated back."""
    axis = int(torch.randint(3, (1,), generator=generator, device=generator.device))
    factor = int(torch.randint(2, 6, (1,), generator=generator, device=generator.device))
    size = [1, 1, 1]
    size[axis] = factor
    slices = F.avg_pool3d(image, size, ceil_mode=True, count_include_pad=False)
    return F.interpolate(slices, size=list(image.shape[2:]), mode="trilinear")
