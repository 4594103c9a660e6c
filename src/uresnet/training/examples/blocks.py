"""Examples for the segmenter: random blocks of scans, and of images synthesised from label maps.

The shape of every block is changed (rotation, scaling, shear, a smooth displacement, wider or narrower ventricles) in
one interpolation, then its intensities. Synthetic blocks show shapes that the scans lack, in the contrast of the scans.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from uresnet.config import BlockConfig
from uresnet.core.coordinates import identity_coordinates
from uresnet.core.labels import LabelScheme
from uresnet.core.sampling import sample
from uresnet.training.data.classes import class_table
from uresnet.training.data.label_maps import UNCERTAIN_IDS
from uresnet.training.data.store import DeviceStore
from uresnet.training.examples.draws import chance, fraction, smooth_field, uniform
from uresnet.training.examples.geometry import grown_ventricles, linear_map, mirror, ventricle_slope
from uresnet.training.examples.intensities import blurred, thick_slices
from uresnet.training.examples.synthesis import grey_values, synthesise

NOT_JUDGED = 255
"""The class of voxels whose true class is not known: the network sees them, and the loss leaves them out."""


@dataclass(frozen=True, eq=False)
class Block:
    """A training example: ``image`` (1, 1, I, J, K) in [0, 1] with background 0, and its ``classes``, uint8,
    ``NOT_JUDGED`` where the true class is not known. ``t1``, where it is known, is the T1-weighted image of the same
    brain on the same voxels, 0 where the image is."""

    image: Tensor
    classes: Tensor
    t1: Tensor | None = None


@dataclass(frozen=True, eq=False)
class _Volumes:
    """Labels (N, 1, I, J, K) of scans or label maps, their :func:`ventricle_slope` s, and the class of every id."""

    labels: Tensor
    slopes: list[Tensor]
    class_of_id: Tensor

    @classmethod
    def of(cls, labels: Tensor, class_of_id: Tensor) -> _Volumes:
        return cls(labels, [ventricle_slope(volume) for volume in labels], class_of_id)


def bent_voxels(config: BlockConfig, size: Sequence[int], generator: torch.Generator) -> Tensor:
    """The voxels of a block (1, 3, i, j, k), perhaps moved by a smooth displacement."""
    x = identity_coordinates(size, device=generator.device)
    if not chance(config.elastic, generator):
        return x
    low, high = config.knots
    knots = low + (high - low) * fraction(generator)
    spacing = max(4, round(max(size) / knots))
    strength = config.elastic_strength * spacing * fraction(generator)
    return x + strength * smooth_field(3, tuple(size), spacing, generator)[None]


def random_matrix(config: BlockConfig, generator: torch.Generator) -> Tensor:
    """(3, 3): a random stretch and rotation."""
    degrees = config.rare_rotation if chance(config.rare, generator) else config.rotation
    angles = uniform((1, 3), generator) * math.radians(degrees)
    scales = torch.exp(uniform((1, 3), generator) * config.scaling)
    return linear_map(angles, scales, uniform((1, 3), generator) * config.shear)[0]


class BlockMaker:
    """Makes random :class:`Block` s from a store of scans and from ``label_maps`` (M, 1, I, J, K), if any."""

    def __init__(self, config: BlockConfig, store: DeviceStore, label_maps: Tensor | None, scheme: LabelScheme) -> None:
        self.config = config
        self.store = store
        classes = class_table(scheme, store.images.device).to(torch.uint8)
        certain = classes.clone()
        certain[list(UNCERTAIN_IDS)] = NOT_JUDGED
        self.greys = grey_values(store)
        self.scans = _Volumes.of(store.labels, classes)
        self.label_maps = None if label_maps is None else _Volumes.of(label_maps, certain)

    def __call__(self, generator: torch.Generator) -> Block:
        """One block; all that is random in it comes from the generator."""
        c = self.config
        synthetic = self.label_maps is not None and chance(c.synthetic, generator)
        volumes = self.label_maps if self.label_maps is not None and synthetic else self.scans
        number = int(torch.randint(len(volumes.labels), (1,), generator=generator, device=generator.device))
        chosen = slice(number, number + 1)
        coordinates = self.coordinates(volumes.labels.shape[2:], volumes.slopes[number], generator)
        labels = sample(volumes.labels[chosen], coordinates, mode="nearest").to(torch.uint8)
        if synthetic:
            image = synthesise(labels, self.greys, c.grey_variation, generator)
        else:
            image = sample(self.store.images[chosen].float() * self.store.image_scale, coordinates)
        if chance(c.flip, generator):
            image, labels = mirror(image, labels)
        return Block(self._intensities(image, generator), volumes.class_of_id[labels.long()])

    # -- shape ---------------------------------------------------------------------------------------------------

    def coordinates(self, shape: Sequence[int], slope: Tensor, generator: torch.Generator) -> Tensor:
        """Where every voxel of the block reads the volume, (1, 3, i, j, k) voxels."""
        c = self.config
        device = generator.device
        size = [min(n, m) for n, m in zip(c.shape, shape, strict=True)]
        free = torch.tensor([n - m for n, m in zip(shape, size, strict=True)], device=device)
        start = (torch.rand(3, generator=generator, device=device) * free).view(1, 3, 1, 1, 1)
        x = bent_voxels(c, size, generator)
        centre = torch.tensor([(n - 1) / 2 for n in shape], device=device).view(1, 3, 1, 1, 1)
        matrix = random_matrix(c, generator)
        shift = (c.translation * uniform(3, generator)).view(1, 3, 1, 1, 1)
        coordinates = torch.einsum("cd,bdijk->bcijk", matrix, x + start - centre) + centre + shift
        if chance(c.ventricles, generator):
            coordinates = grown_ventricles(coordinates, slope, c.ventricle_growth, generator)
        return coordinates

    # -- intensities ---------------------------------------------------------------------------------------------

    def _intensities(self, image: Tensor, generator: torch.Generator) -> Tensor:
        c, inside = self.config, image > 0
        image = image.clamp(0, 1) ** (2 ** (float(uniform(1, generator)) * c.gamma))
        image = image * 2 ** (float(uniform(1, generator)) * c.brightness)
        spacing = max(8, max(image.shape[2:]) // 3)
        strength = c.bias * fraction(generator)
        image = image * torch.exp(strength * smooth_field(1, image.shape[2:], spacing, generator)[None])
        if chance(c.blur, generator):
            image = blurred(image, fraction(generator))
        if chance(c.thick_slices, generator):
            image = thick_slices(image, generator)
        level = c.noise * fraction(generator)
        image = image + level * torch.randn(image.shape, generator=generator, device=image.device)
        return torch.where(inside, image.clamp(0, 1), torch.zeros_like(image))
