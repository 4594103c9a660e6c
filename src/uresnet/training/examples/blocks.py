"""What the flagship's segmenter learns from: random blocks of scans, and of images synthesised from label maps.

Every block is moved (turned, scaled, sheared, bent, its ventricles blown up or shrunk), read in one interpolation, and
its intensities are changed. Synthetic blocks take the grey values that the structures have in the scans, varied, so
that shapes which the scans lack are seen in a contrast that they have.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage
from torch import Tensor

from uresnet.config import BlockConfig, ConformSpec
from uresnet.core.coordinates import affine_coordinates, identity_coordinates
from uresnet.core.grid import voxel_to_voxel
from uresnet.core.image import Image, LabelMap
from uresnet.core.labels import FREESURFER, LabelScheme, fold_parcels
from uresnet.core.sampling import sample, sample_labels
from uresnet.errors import UserError
from uresnet.io import read_labels
from uresnet.preprocess import conform
from uresnet.training.data.classes import class_table, mirror_table
from uresnet.training.data.store import DeviceStore
from uresnet.training.examples.augment import (
    chance,
    linear_map,
    mirror,
    sample_slope,
    smooth_field,
    uniform,
    ventricle_slope,
)

NOT_JUDGED = 255
"""The class of voxels whose truth is not known: they are shown to the network and left out of the loss."""

_FLUID = 24
# Outside the sulci, the fluid of these maps is not what manual labels call CSF; lesions and vessels have no class.
_UNSURE = (_FLUID, 25, 57, 30, 62, 72, 77, 78, 79, 80, 81, 82, 85)
_FADED = 1e-3
_SEEN = 100  # voxels, for a grey value to be known


@dataclass(frozen=True, eq=False)
class Block:
    """A training example: ``image`` (1, 1, I, J, K) in [0, 1] with background 0, ``classes`` of the same shape, uint8,
    ``NOT_JUDGED`` where the truth is not known."""

    image: Tensor
    classes: Tensor


def read_label_maps(folder: Path, spec: ConformSpec) -> Tensor:
    """FreeSurfer ids (M, 1, I, J, K) uint8 of all label maps of a folder, conformed; what is no brain is 0.

    Fluid farther than the sulci reach is left out, as a brain extraction does. Raises :class:`UserError` for a folder
    without label maps and for a file that cannot be read.
    """
    paths = sorted(p for p in folder.glob("*") if p.name.endswith((".nii.gz", ".nii", ".mgz")))
    if not paths:
        raise UserError(f"{folder} holds no label maps (*.nii.gz, *.nii, *.mgz); check blocks.label_maps.")
    volumes = [_conformed_map(path, spec) for path in paths]
    shape = tuple(max(v.shape[axis] for v in volumes) for axis in range(3))
    return torch.stack([_centred(v, shape) for v in volumes])[:, None]


def _conformed_map(path: Path, spec: ConformSpec) -> Tensor:
    labels = read_labels(path)
    ids = fold_parcels(labels.data.numpy())
    ids = np.where(np.isin(ids, list(FREESURFER)), ids, 0).astype(np.uint8)
    tissue = (ids > 0) & (ids != _FLUID)
    brain = ndimage.binary_fill_holes(ndimage.binary_closing(np.pad(tissue, 4), iterations=3))[4:-4, 4:-4, 4:-4]
    ids[~brain] = 0
    image = Image(torch.from_numpy(ids), labels.grid, labels.path)  # conforming wants some intensities
    mask = LabelMap(torch.from_numpy(brain.astype(np.uint8)), labels.grid, labels.path)
    grid = conform(image, mask, spec).grid
    where = affine_coordinates(voxel_to_voxel(grid, labels.grid), grid.shape)
    return sample_labels(torch.from_numpy(ids), where, majority=False)


def _centred(volume: Tensor, shape: Sequence[int]) -> Tensor:
    """Padded to ``shape``, voxel shape // 2 staying the centre."""
    before = [n // 2 - m // 2 for n, m in zip(shape, volume.shape, strict=True)]
    after = [n - m - b for n, m, b in zip(shape, volume.shape, before, strict=True)]
    widths = [w for pair in zip(reversed(before), reversed(after), strict=True) for w in pair]
    return F.pad(volume, widths)


class BlockMaker:
    """Makes random :class:`Block` s from a store of scans and from ``label_maps`` (M, 1, I, J, K), if any."""

    def __init__(self, config: BlockConfig, store: DeviceStore, label_maps: Tensor | None, scheme: LabelScheme) -> None:
        self.config = config
        self.store = store
        self.label_maps = label_maps
        device = store.images.device
        self.classes = class_table(scheme, device).to(torch.uint8)
        self.unsure = self.classes.clone()
        self.unsure[list(_UNSURE)] = NOT_JUDGED
        self.greys = _grey_values(store)
        self.slopes = [ventricle_slope(volume) for volume in store.labels]
        self.map_slopes = [] if label_maps is None else [ventricle_slope(volume) for volume in label_maps]

    def __call__(self, generator: torch.Generator) -> Block:
        """One block; the generator decides everything."""
        c = self.config
        synthetic = self.label_maps is not None and chance(c.synthetic, generator)
        volumes = self.label_maps if synthetic and self.label_maps is not None else self.store.labels
        slopes = self.map_slopes if synthetic else self.slopes
        chosen = int(torch.randint(len(volumes), (1,), generator=generator, device=generator.device))
        where = self._coordinates(volumes.shape[2:], slopes[chosen], generator)
        labels = sample(volumes[chosen : chosen + 1], where, mode="nearest").to(torch.uint8)
        if synthetic:
            image = self._painted(labels, generator)
        else:
            image = sample(self.store.images[chosen : chosen + 1].float() * self.store.image_scale, where)
        if chance(c.flip, generator):
            image, labels = mirror(image, labels)
        table = self.unsure if synthetic else self.classes
        return Block(self._intensities(image, generator), table[labels.long()])

    # -- shape ---------------------------------------------------------------------------------------------------

    def _coordinates(self, shape: Sequence[int], slope: Tensor, generator: torch.Generator) -> Tensor:
        """Where every voxel of the block reads the volume, (1, 3, i, j, k) voxels."""
        c = self.config
        device = generator.device
        size = [min(n, m) for n, m in zip(c.shape, shape, strict=True)]
        free = torch.tensor([n - m for n, m in zip(shape, size, strict=True)], device=device)
        start = (torch.rand(3, generator=generator, device=device) * free).view(1, 3, 1, 1, 1)
        x = identity_coordinates(size, device=device)
        if chance(c.elastic, generator):
            low, high = c.knots
            knots = low + (high - low) * float(torch.rand(1, generator=generator, device=device))
            spacing = max(4, round(max(size) / knots))
            strength = c.elastic_strength * spacing * float(torch.rand(1, generator=generator, device=device))
            x = x + strength * smooth_field(3, tuple(size), spacing, generator)[None]
        centre = torch.tensor([(n - 1) / 2 for n in shape], device=device).view(1, 3, 1, 1, 1)
        matrix = self._matrix(generator)
        shift = (c.translation * uniform(3, generator)).view(1, 3, 1, 1, 1)
        where = torch.einsum("cd,bdijk->bcijk", matrix, x + start - centre) + centre + shift
        if chance(c.ventricles, generator):
            low, high = c.ventricle_growth
            growth = low + (high - low) * float(torch.rand(1, generator=generator, device=device))
            where = where + growth * sample_slope(slope, where)
        return where

    def _matrix(self, generator: torch.Generator) -> Tensor:
        c = self.config
        degrees = c.rare_rotation if chance(c.rare, generator) else c.rotation
        angles = uniform((1, 3), generator) * math.radians(degrees)
        scales = torch.exp(uniform((1, 3), generator) * c.scaling)
        return linear_map(angles, scales, uniform((1, 3), generator) * c.shear)[0]

    # -- intensities ---------------------------------------------------------------------------------------------

    def _painted(self, labels: Tensor, generator: torch.Generator) -> Tensor:
        """An image from ids: a grey value a structure, drawn about that of the scans, with grain and partial volume."""
        device = labels.device
        greys = self.greys
        drawn = greys[0] + self.config.grey_variation * torch.randn(256, generator=generator, device=device)
        # One drawing for both sides: a scan's grey does not change at the midline.
        drawn = (drawn + drawn[mirror_table(device).long()]) / 2
        grain = greys[1] * (0.2 + 0.6 * torch.rand(256, generator=generator, device=device))
        noise = smooth_field(1, labels.shape[2:], 4, generator)[None]
        noise = 0.5 * noise + torch.randn(labels.shape, generator=generator, device=device)
        index = labels.long()
        image = (drawn[index] + grain[index] * noise).clamp(_FADED, 1)
        image = torch.where(labels > 0, image, torch.zeros_like(image))
        return _blurred(image, 0.4 + 0.5 * float(torch.rand(1, generator=generator, device=device)))

    def _intensities(self, image: Tensor, generator: torch.Generator) -> Tensor:
        c, inside, device = self.config, image > 0, image.device
        image = image.clamp(0, 1) ** (2 ** (float(uniform(1, generator)) * c.gamma))
        image = image * 2 ** (float(uniform(1, generator)) * c.brightness)
        spacing = max(8, max(image.shape[2:]) // 3)
        strength = c.bias * float(torch.rand(1, generator=generator, device=device))
        image = image * torch.exp(strength * smooth_field(1, image.shape[2:], spacing, generator)[None])
        if chance(c.blur, generator):
            image = _blurred(image, float(torch.rand(1, generator=generator, device=device)))
        if chance(c.thick_slices, generator):
            image = _thick(image, generator)
        level = c.noise * float(torch.rand(1, generator=generator, device=device))
        image = image + level * torch.randn(image.shape, generator=generator, device=device)
        return torch.where(inside, image.clamp(0, 1), torch.zeros_like(image))


def _grey_values(store: DeviceStore) -> Tensor:
    """(2, 256): mean and standard deviation of the scans' intensities in every FreeSurfer id.

    An id that no scan has takes that of the other side; else white matter, darker, for lesions and chiasm, and cortex
    for the rest.
    """
    count, total, square = (torch.zeros(256, dtype=torch.float64) for _ in range(3))
    for image, labels in zip(store.images, store.labels, strict=True):
        index = labels.flatten().long().cpu()
        value = image.flatten().double().cpu() * store.image_scale
        for held, what in ((count, torch.ones_like(value)), (total, value), (square, value * value)):
            held += torch.bincount(index, what, minlength=256)
    mean = total / count.clamp(min=1)
    deviation = (square / count.clamp(min=1) - mean**2).clamp(min=0).sqrt()
    partner = mirror_table().long()
    for value in ((count < _SEEN) & (count[partner] >= _SEEN)).nonzero()[:, 0]:
        for held in (count, mean, deviation):
            held[value] = held[partner[value]]
    missing = count < _SEEN
    cortex, white = 3, 2
    mean[missing], deviation[missing] = mean[cortex], deviation[cortex]
    for value in (25, 57, 77, 85):
        if missing[value]:
            mean[value], deviation[value] = 0.8 * mean[white], deviation[white]
    return torch.stack([mean, deviation]).float().to(store.images.device)


def _blurred(image: Tensor, sigma: float) -> Tensor:
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


def _thick(image: Tensor, generator: torch.Generator) -> Tensor:
    """Slices of two to five voxels across one axis, interpolated back."""
    axis = int(torch.randint(3, (1,), generator=generator, device=generator.device))
    factor = int(torch.randint(2, 6, (1,), generator=generator, device=generator.device))
    size = [1, 1, 1]
    size[axis] = factor
    slices = F.avg_pool3d(image, size, ceil_mode=True, count_include_pad=False)
    return F.interpolate(slices, size=list(image.shape[2:]), mode="trilinear")
