"""What a scanner and the steps before the network do to an image: slices, a bias field, noise, stripping, cuts."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from uresnet.core.coordinates import identity_coordinates
from uresnet.core.sampling import sample
from uresnet.training.examples.draws import between, chance, smooth_field
from uresnet.training.examples.intensities import blurred

_AT_MOST = 200_000  # voxels from which percentiles are taken


def random_direction(generator: torch.Generator) -> Tensor:
    """A unit vector (3,): along an axis, along which scans are mostly cut, or in four of ten cases tilted from it by up
    to some twenty degrees."""
    axis = int(torch.randint(3, (1,), generator=generator, device=generator.device))
    direction = torch.zeros(3, device=generator.device)
    direction[axis] = 1
    if chance(0.4, generator):
        direction = direction + 0.2 * torch.randn(3, generator=generator, device=generator.device).clamp(-1, 1)
    unit: Tensor = direction / direction.norm()
    return unit


def thick_slices_along(image: Tensor, direction: Tensor, thickness: float, noise: Tensor | None = None) -> Tensor:
    """``image`` (1, 1, I, J, K) as slices across ``direction`` (3,), ``thickness`` voxels each, show it, interpolated
    linearly between their centres. Each is the mean over its thickness.

    Slices lie side by side from the plane through the lower faces of the first voxel on. ``noise`` of the same shape is
    added before the interpolation, the same for all voxels of a slice along ``direction``.
    """
    steps = math.ceil(thickness - 1e-6)
    x = identity_coordinates(image.shape[2:], image.device)
    towards = direction.view(1, 3, 1, 1, 1)
    position = (x * towards).sum(dim=1, keepdim=True) + 0.5
    below = (position / thickness - 0.5).floor()
    share = position / thickness - 0.5 - below
    slices = []
    for number in (below, below + 1):
        away = (number + 0.5) * thickness - position
        offsets = [((step + 0.5) / steps - 0.5) * thickness for step in range(steps)]
        read = [sample(image, x + (away + offset) * towards, padding="border") for offset in offsets]
        values = torch.stack(read).mean(dim=0)
        slices.append(values if noise is None else values + sample(noise, x + away * towards, padding="border"))
    return (1 - share) * slices[0] + share * slices[1]


def coarse(image: Tensor, sides: tuple[float, float, float]) -> Tensor:
    """``image`` on voxels ``sides`` times as wide along the axes, blurred to suit, interpolated back."""
    size = [max(4, round(n / side)) for n, side in zip(image.shape[2:], sides, strict=True)]
    wide = F.interpolate(blurred(image, 0.35 * (sum(sides) / 3 - 1)), size=size, mode="trilinear")
    return F.interpolate(wide, size=list(image.shape[2:]), mode="trilinear")


def with_bias(image: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """``image`` times the exponential of a smooth field with the standard deviation ``strength``."""
    longest = max(image.shape[2:])
    spacing = max(8, int(longest / between(1.5, 5.0, generator)))
    return image * torch.exp(strength * smooth_field(1, image.shape[2:], spacing, generator)[None])


def stripped_unevenly(brain: Tensor, generator: torch.Generator) -> Tensor:
    """What brain extraction leaves instead of ``brain`` (1, 1, I, J, K), bool: a rim of two or three voxels here and
    there, or the outermost voxel missing; two of three times more is left."""
    field = smooth_field(1, brain.shape[2:], int(between(10, 32, generator)), generator)[None]
    near = blurred(brain.float(), between(1.0, 2.5, generator))
    if chance(2 / 3, generator):
        return brain | (near > (between(0.1, 0.5, generator) + 0.2 * field).clamp(0.04, 1))
    return brain & (near > (between(0.4, 0.6, generator) + 0.08 * field).clamp(0.3, 0.75))


def with_rim(image: Tensor, brain: Tensor, left: Tensor, value: float, generator: torch.Generator) -> Tensor:
    """``image`` where ``left`` holds, 0 elsewhere; outside ``brain``, where it is 0, it becomes about ``value``."""
    noise = 0.15 * value * torch.randn(image.shape, generator=generator, device=image.device)
    rim = (value + noise).clamp_min(1e-3)
    return torch.where(brain, image, rim) * left


def field_of_view(shape: torch.Size, most: float, generator: torch.Generator) -> Tensor:
    """Which voxels a scan that ends early holds, (1, 1, I, J, K) bool: a share of up to ``most`` is missing at one end
    of one axis."""
    axis = int(torch.randint(3, (1,), generator=generator, device=generator.device))
    n = shape[axis]
    missing = round(between(0.03, max(most, 0.03), generator) * n)
    kept = torch.ones(tuple(shape), dtype=torch.bool, device=generator.device)
    kept.narrow(axis, 0 if chance(0.5, generator) else n - missing, missing).fill_(False)
    return kept[None, None]


def to_unit_range(image: Tensor, inside: Tensor, low: float, high: float) -> Tensor:
    """The percentiles ``low`` and ``high`` (0 … 1) of what is ``inside`` go to 0 and 1, as conformed images have it;
    0 outside. At most 200,000 evenly spread voxels are looked at."""
    values = image[inside]
    if not len(values):
        return torch.zeros_like(image)
    some = values[:: max(1, len(values) // _AT_MOST)].float()
    dark, bright = torch.quantile(some, torch.tensor([low, high], device=image.device))
    scaled = ((image - dark) / (bright - dark).clamp_min(1e-5)).clamp(0, 1)
    return torch.where(inside, scaled, torch.zeros_like(scaled))
