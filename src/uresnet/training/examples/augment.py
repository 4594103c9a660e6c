"""Random changes of the images and labels of pairs, in batches, on the device of the images."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor

from uresnet.config import AugmentConfig
from uresnet.core.coordinates import identity_coordinates
from uresnet.core.sampling import sample
from uresnet.training.examples.draws import chance, smooth_field, uniform
from uresnet.training.examples.geometry import grown_ventricles, linear_map


@dataclass
class Augmenter:
    """Applies an :class:`AugmentConfig` to images whose voxels are ``downsampling`` full voxels wide."""

    config: AugmentConfig
    downsampling: int = 1

    def __call__(
        self, images: Tensor, labels: Tensor, generator: torch.Generator, slope: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Changed images (B, 1, I, J, K) in [0, 1] with background 0, and labels, uint8 ids of the full voxels.

        Every image gets its own change. With ``slope``, its :func:`ventricle_slope`, the ventricles may grow.
        """
        if self.config.moves:
            coordinates = self._coordinates(images, generator)
            if slope is not None and chance(self.config.ventricles, generator):
                growth_mm = self.config.ventricle_growth
                coordinates = grown_ventricles(coordinates, slope, growth_mm, generator, self.downsampling)
            images = sample(images, coordinates)
            labels = _read_blocks(labels, coordinates, self.downsampling)
        return self._intensities(images, generator), labels

    def flips(self, generator: torch.Generator) -> bool:
        """Whether the next pair is to be mirrored."""
        return self.config.flip > 0 and bool(uniform(1, generator).item() * 0.5 + 0.5 < self.config.flip)

    def _coordinates(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Where every voxel of the new image reads the old one: an elastic displacement, then an affine map."""
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


def _read_blocks(labels: Tensor, coordinates: Tensor, side: int) -> Tensor:
    """Labels (B, 1, side·I, side·J, side·K) read in blocks of ``side`` voxels at ``coordinates`` (B, 3, I, J, K).

    A block is copied from the nearest whole voxel on, and edge voxels are repeated outside the volume. A rotation by
    some degrees hardly changes a block, and for side 2 this takes an eighth of the time of sampling every voxel.
    """
    shape = labels.shape[2:]
    corner = (side * coordinates).round().long()
    out = torch.empty_like(labels)
    for step in product(range(side), repeat=3):
        i, j, k = ((corner[:, c] + step[c]).clamp(0, shape[c] - 1) for c in range(3))
        index = (i * shape[1] + j) * shape[2] + k
        part = labels.flatten(1).gather(1, index.flatten(1)).view_as(index)
        out[:, 0, step[0] :: side, step[1] :: side, step[2] :: side] = part
    return out
