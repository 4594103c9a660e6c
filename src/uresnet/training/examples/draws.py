"""Random numbers and random smooth fields, on the device of a generator."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def smooth_field(count: int, shape: torch.Size | tuple[int, ...], spacing: int, generator: torch.Generator) -> Tensor:
    """Smooth random fields (count, I, J, K) of mean 0 and standard deviation 1 with knots every ``spacing`` voxels."""
    knots = [math.ceil(n / spacing) + 1 for n in shape]
    noise = torch.randn((count, 1, *knots), generator=generator, device=generator.device)
    fine = [max(2, 4 * (n - 1)) for n in knots]
    # Two interpolations with a mean between them remove the creases that one linear interpolation leaves at the knots.
    field = F.interpolate(noise, size=fine, mode="trilinear", align_corners=True)
    field = F.avg_pool3d(field, 3, stride=1, padding=1, count_include_pad=False)
    field = F.interpolate(field, size=list(shape), mode="trilinear", align_corners=True)[:, 0]
    normalised: Tensor = field / field.std().clamp_min(1e-6)
    return normalised


def fraction(generator: torch.Generator) -> float:
    """Uniform in [0, 1)."""
    return float(torch.rand(1, generator=generator, device=generator.device))


def between(low: float, high: float, generator: torch.Generator) -> float:
    """Uniform in [low, high)."""
    return low + (high - low) * fraction(generator)


def chance(probability: float, generator: torch.Generator) -> bool:
    """True with that probability."""
    return fraction(generator) < probability


def uniform(shape: int | tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Uniform in [-1, 1], on the generator's device."""
    size = (shape,) if isinstance(shape, int) else shape
    return 2 * torch.rand(size, generator=generator, device=generator.device) - 1
