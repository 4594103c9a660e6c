"""Examples for the network that finds the brain: whole heads of any contrast on voxels of 2 mm, made from label maps.

A head is turned, stretched, bent and painted: the brain's tissues in the order of a contrast or in none, everything
around them in any brightness. Then comes what scanners and other programs do: lesions and masses, a head that is
stripped or defaced already, bias, slices, noise, a field of view that ends early.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from uresnet.config import BlockConfig, HeadConfig
from uresnet.core.coordinates import identity_coordinates
from uresnet.core.sampling import sample
from uresnet.training.data.label_maps import FLUID, OUTSIDE
from uresnet.training.data.store import DeviceStore
from uresnet.training.examples import abnormal, acquisition
from uresnet.training.examples.blocks import Block, bent_voxels, random_matrix
from uresnet.training.examples.contrasts import FAMILIES, any_table, draw_tissues, grained, grey_table, painted
from uresnet.training.examples.draws import between, chance, fraction, smooth_field, uniform
from uresnet.training.examples.intensities import blurred

SIDE = 2
"""Millimetres, and voxels of the label maps, of a voxel that the network sees (``preprocess.skull`` shows it those)."""

BONES = tuple(OUTSIDE.start + n for n in (11, 15, 16))
"""Ids of what looks like bone in the label maps of SynthSeg: 511, 515 and 516."""


class HeadMaker:
    """Makes random :class:`Block` s of the heads of a store, whose images are brain masks; class 1 is the brain."""

    def __init__(self, config: HeadConfig, blocks: BlockConfig, store: DeviceStore) -> None:
        self.config, self.blocks, self.store = config, blocks, store
        self.centres = [_centre(brain) for brain in store.images]
        self.shape = block_shape(blocks.shape, store.labels.shape[2:])

    def __call__(self, generator: torch.Generator, number: int | None = None) -> Block:
        """One block, of a random head or that with a ``number``; all that is random comes from the generator."""
        c, number = self.config, self._number(generator) if number is None else number
        volume, mask = self.store.labels[number][None], self.store.images[number][None]
        coordinates = self._coordinates(number, generator)
        labels = sample(volume, coordinates, mode="nearest").to(torch.uint8)
        brain = sample(mask.float() * self.store.image_scale, coordinates) > 0.5
        image = self._painted(volume, coordinates, labels, generator)
        if chance(c.abnormal, generator):
            image = with_abnormal_tissue(image, labels, generator)
        if chance(c.stripped, generator):
            image = image * acquisition.stripped_unevenly(brain, generator)
        elif chance(c.defaced, generator):
            image = image * _without_face(brain, generator)
        image = self._acquired(image, generator)
        if chance(c.cut, generator):
            held = acquisition.field_of_view(image.shape[2:], c.cut_share, generator)
            image, brain = image * held, brain & held
        everywhere = torch.ones_like(brain)
        image = acquisition.to_unit_range(image, everywhere, between(0, 0.01, generator), between(0.985, 1, generator))
        if chance(self.blocks.flip, generator):
            image, brain = image.flip(2), brain.flip(2)
        return Block(image, brain.to(torch.uint8))

    def _number(self, generator: torch.Generator) -> int:
        return int(torch.randint(len(self.centres), (1,), generator=generator, device=generator.device))

    def _coordinates(self, number: int, generator: torch.Generator) -> Tensor:
        """Where every voxel of the block reads the label map, about the middle of the brain, (1, 3, i, j, k)."""
        x = bent_voxels(self.blocks, self.shape, generator)
        middle = x.new_tensor([(n - 1) / 2 for n in self.shape]).view(1, 3, 1, 1, 1)
        shift = SIDE * self.blocks.translation * uniform(3, generator)
        matrix = SIDE * random_matrix(self.blocks, generator)
        turned = torch.einsum("cd,bdijk->bcijk", matrix, x - middle)
        return turned + (self.centres[number] + shift).view(1, 3, 1, 1, 1)

    def _painted(self, volume: Tensor, coordinates: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
        table = self._grey_values(generator)
        image = grained(painted(volume, coordinates, table), labels, between(0.02, 0.14, generator), generator)
        # Muscle, fat and skin share labels: what is around the brain is uneven.
        field = smooth_field(1, labels.shape[2:], int(between(3, 14, generator)), generator)[None]
        uneven = between(0, 0.3, generator) * field * _is_outside(labels)
        shade = smooth_field(1, labels.shape[2:], int(between(8, 30, generator)), generator)[None]
        return (image + uneven + between(0, 0.06, generator) * shade * (labels > 0)).clamp_min(0)

    def _grey_values(self, generator: torch.Generator) -> Tensor:
        """(256,) a grey value for every id, and one for the air."""
        device = generator.device
        if chance(self.config.families, generator):
            others = int(torch.randint(1, len(FAMILIES), (1,), generator=generator, device=device))
            family = FAMILIES[0 if chance(self.config.t1, generator) else others]
            table = grey_table(draw_tissues(family, generator), between(0, 0.4, generator), generator)
        else:
            table = any_table(generator)
        table[table == 0] = fraction(generator)
        around = torch.rand(len(OUTSIDE), generator=generator, device=device)
        table[OUTSIDE.start : OUTSIDE.stop] = around * between(0.3, 1.2, generator)
        if chance(self.config.dark_bone, generator):
            table[list(BONES)] = 0.25 * torch.rand(len(BONES), generator=generator, device=device)
        if chance(0.3, generator):  # the fluid of label maps holds vessels and membranes too
            table[FLUID] = fraction(generator)
        table[0] = 0.0 if chance(0.5, generator) else between(0, 0.25, generator)
        return table

    def _acquired(self, image: Tensor, generator: torch.Generator) -> Tensor:
        c = self.config
        image = acquisition.with_bias(image, c.bias * fraction(generator), generator)
        if chance(0.5, generator):
            image = blurred(image, between(0.2, 0.7, generator))
        if chance(c.slices, generator):
            thickness = between(*c.thickness, generator) / SIDE
            image = acquisition.thick_slices_along(image, acquisition.random_direction(generator), thickness)
        noise = torch.randn(image.shape, generator=generator, device=image.device)
        return (image + c.noise * fraction(generator) * noise).clamp_min(0)


def block_shape(most: tuple[int, ...], shape: Sequence[int]) -> tuple[int, ...]:
    """The shape of a block: ``most``, or what label maps of this shape need, in multiples of 16."""
    return tuple(min(n, 16 * math.ceil(m / (16 * SIDE))) for n, m in zip(most, shape, strict=True))


def _is_outside(labels: Tensor) -> Tensor:
    return (labels >= OUTSIDE.start) & (labels < OUTSIDE.stop)


def _centre(brain: Tensor) -> Tensor:
    """(3,) the mean voxel of a mask (1, I, J, K)."""
    means = []
    for axis in range(3):
        counts = (brain[0] > 0).sum(dim=[other for other in range(3) if other != axis]).float()
        means.append((counts * torch.arange(len(counts), device=counts.device)).sum() / counts.sum())
    return torch.stack(means)


def with_abnormal_tissue(image: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
    """Blobs of one brightness, anywhere in the brain: lesions of any kind."""
    field = smooth_field(1, image.shape[2:], int(between(3, 12, generator)), generator)[None]
    share = (field > between(1.0, 2.5, generator)) & (labels > 0) & ~_is_outside(labels)
    return abnormal.blended(image, share.float(), between(0, 1.1, generator), 0.1, generator)


def _without_face(brain: Tensor, generator: torch.Generator) -> Tensor:
    """What defacing leaves, bool: all but what lies in front of and below a plane that the ``brain`` does not reach."""
    x = identity_coordinates(brain.shape[2:], brain.device)
    forwards = x[:, 1:2] - x[:, 2:3] * between(0.5, 1.5, generator)
    reached = forwards[brain]
    if not len(reached):
        return torch.ones_like(brain)
    return forwards <= reached.max() + between(1, 8, generator)
