"""Random changes of training images, batched, on the device of the images."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage
from torch import Tensor

from uresnet.config import AugmentConfig
from uresnet.core.coordinates import identity_coordinates
from uresnet.core.sampling import sample
from uresnet.training.data.classes import mirror_table

_VENTRICLES = (4, 43)
_SLOPE_MM = 8.0  # blur of the ventricles' mask along whose slope they grow


@dataclass
class Augmenter:
    """Applies an :class:`AugmentConfig`; ``downsampling`` is the voxel size of the images it gets, in full voxels."""

    config: AugmentConfig
    downsampling: int = 1

    def __call__(
        self, images: Tensor, labels: Tensor, generator: torch.Generator, slope: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Images (B, 1, I, J, K) in [0, 1] with background 0, labels uint8 ids of the full voxels; each on its own.

        With ``slope``, the :func:`ventricle_slope` of the image, the ventricles may grow.
        """
        if self.config.moves:
            where = self._coordinates(images, generator)
            if slope is not None and chance(self.config.ventricles, generator):
                where = where + self._growth(slope, where, generator)
            images = sample(images, where)
            labels = _read_blocks(labels, where, self.downsampling)
        return self._intensities(images, generator), labels

    def flips(self, generator: torch.Generator) -> bool:
        """Whether the next pair is to be mirrored."""
        return self.config.flip > 0 and bool(uniform(1, generator).item() * 0.5 + 0.5 < self.config.flip)

    def _coordinates(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Where every voxel of the new image reads the old one: affine about the centre of (x + elastic)."""
        shape = images.shape[2:]
        x = identity_coordinates(shape, device=images.device)
        if self.config.elastic:
            x = x + self._elastic(images, generator)
        matrix, shift = self._affine(images.shape[0], generator)
        centre = torch.tensor([(n - 1) / 2 for n in shape], device=images.device).view(1, 3, 1, 1, 1)
        turned = torch.einsum("bcd,bdijk->bcijk", matrix, (x - centre).expand(images.shape[0], -1, -1, -1, -1))
        return turned + centre + shift.view(-1, 3, 1, 1, 1)

    def _affine(self, batch: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        c = self.config
        angles = uniform((batch, 3), generator) * math.radians(c.rotation)
        scales = torch.exp(uniform((batch, 3), generator) * c.scaling)
        shears = uniform((batch, 3), generator) * c.shear
        shift = uniform((batch, 3), generator) * (c.translation / self.downsampling)
        return linear_map(angles, scales, shears), shift

    def _elastic(self, images: Tensor, generator: torch.Generator) -> Tensor:
        spacing = max(2, self.config.elastic_spacing // self.downsampling)
        field = smooth_field(images.shape[0] * 3, images.shape[2:], spacing, generator)
        return field.view(images.shape[0], 3, *images.shape[2:]) * (self.config.elastic / self.downsampling)

    def _growth(self, slope: Tensor, where: Tensor, generator: torch.Generator) -> Tensor:
        """How much further inwards to read, in the images' voxels."""
        low, high = self.config.ventricle_growth
        growth = low + (high - low) * float(torch.rand(1, generator=generator, device=generator.device))
        return growth / self.downsampling * sample_slope(slope, where, self.downsampling)

    def _intensities(self, images: Tensor, generator: torch.Generator) -> Tensor:
        c, batch, shape = self.config, images.shape[0], images.shape[2:]
        inside = images > 0
        if c.gamma:
            images = images.clamp_min(0) ** (2 ** (uniform((batch, 1, 1, 1, 1), generator) * c.gamma))
        if c.brightness:
            images = images * 2 ** (uniform((batch, 1, 1, 1, 1), generator) * c.brightness)
        if c.bias:
            spacing = max(4, max(shape) // 4)
            images = images * torch.exp(c.bias * smooth_field(batch, shape, spacing, generator)[:, None])
        if c.noise:
            level = c.noise * (0.5 + 0.5 * uniform((batch, 1, 1, 1, 1), generator))
            images = images + level * torch.randn(images.shape, generator=generator, device=images.device)
        return torch.where(inside, images.clamp(0, 1), torch.zeros_like(images))


def _read_blocks(labels: Tensor, where: Tensor, side: int) -> Tensor:
    """Labels (B, 1, side·I, side·J, side·K) whose blocks of ``side`` voxels lay at ``where`` (B, 3, I, J, K).

    A block is read in one piece, beginning at the nearest whole voxel; the edge continues. A map that turns by degrees
    hardly changes what is in a block, and this takes an eighth of the time of finding every voxel.
    """
    shape = labels.shape[2:]
    corner = (side * where).round().long()
    out = torch.empty_like(labels)
    for step in product(range(side), repeat=3):
        i, j, k = ((corner[:, c] + step[c]).clamp(0, shape[c] - 1) for c in range(3))
        found = (i * shape[1] + j) * shape[2] + k
        part = labels.flatten(1).gather(1, found.flatten(1)).view_as(found)
        out[:, 0, step[0] :: side, step[1] :: side, step[2] :: side] = part
    return out


def ventricle_slope(labels: Tensor) -> Tensor:
    """(3, I/2, J/2, K/2) float16: the slope of the lateral ventricles' blurred mask, longest 1, towards the inside.

    Reading an image some way along it makes the ventricles of young people as wide as those of old ones. ``labels``
    (1, I, J, K) are FreeSurfer ids.
    """
    mask = torch.isin(labels[0].cpu(), torch.tensor(_VENTRICLES, dtype=labels.dtype)).float()
    blurred = ndimage.gaussian_filter(F.avg_pool3d(mask[None, None], 2)[0, 0].numpy(), _SLOPE_MM / 2)
    slope = torch.from_numpy(np.stack(np.gradient(blurred)))
    return (slope / slope.norm(dim=0).max().clamp(min=1e-6)).half().to(labels.device)


def sample_slope(slope: Tensor, where: Tensor, side: int = 1) -> Tensor:
    """A :func:`ventricle_slope` at ``where`` (1, 3, i, j, k), in blocks of ``side`` full voxels: the same shape."""
    voxel = side * where + (side - 1) / 2
    return sample(slope[None].float(), voxel / 2 - 0.25)


def mirror_slope(slope: Tensor) -> Tensor:
    """Of the image that :func:`mirror` makes."""
    flipped = slope.flip(1)
    flipped[0].neg_()
    return flipped


def linear_map(angles: Tensor, scales: Tensor, shears: Tensor) -> Tensor:
    """(B, 3, 3): a rotation about the axis ``angles`` (B, 3) by its length in radians, after a stretch by ``scales``
    (B, 3) and the ``shears`` (B, 3) of axes (0, 1), (0, 2) and (1, 2)."""
    a, b, c = angles.unbind(dim=1)
    zero = torch.zeros_like(a)
    spin = torch.stack([zero, -c, b, c, zero, -a, -b, a, zero], dim=1).view(-1, 3, 3)
    stretch = torch.diag_embed(scales)
    stretch[:, 0, 1], stretch[:, 0, 2], stretch[:, 1, 2] = shears.unbind(dim=1)
    return torch.linalg.matrix_exp(spin) @ stretch


def mirror(images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Exchange left and right: reverse the first spatial axis (conformed images have left–right there) and the ids."""
    return images.flip(2), mirror_table(labels.device)[labels.long()].flip(2)


def smooth_field(count: int, shape: torch.Size | tuple[int, ...], spacing: int, generator: torch.Generator) -> Tensor:
    """Smooth random fields (count, I, J, K) of mean 0 and standard deviation 1 with knots every ``spacing`` voxels."""
    knots = [math.ceil(n / spacing) + 1 for n in shape]
    noise = torch.randn((count, 1, *knots), generator=generator, device=generator.device)
    fine = [max(2, 4 * (n - 1)) for n in knots]
    # Interpolating twice with a mean between takes away the creases that linear interpolation leaves at the knots.
    field = F.interpolate(noise, size=fine, mode="trilinear", align_corners=True)
    field = F.avg_pool3d(field, 3, stride=1, padding=1, count_include_pad=False)
    field = F.interpolate(field, size=list(shape), mode="trilinear", align_corners=True)[:, 0]
    return field / field.std().clamp_min(1e-6)


def chance(probability: float, generator: torch.Generator) -> bool:
    """True with that probability."""
    return float(torch.rand(1, generator=generator, device=generator.device)) < probability


def uniform(shape: int | tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Uniform in [-1, 1], on the generator's device."""
    size = (shape,) if isinstance(shape, int) else shape
    return 2 * torch.rand(size, generator=generator, device=generator.device) - 1
