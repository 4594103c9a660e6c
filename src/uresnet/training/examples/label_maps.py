"""Label maps without images, from which images are synthesised."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage
from torch import Tensor

from uresnet.config import ConformSpec
from uresnet.core.coordinates import affine_coordinates
from uresnet.core.grid import voxel_to_voxel
from uresnet.core.image import Image, LabelMap
from uresnet.core.labels import FREESURFER, fold_parcels
from uresnet.core.sampling import sample_labels
from uresnet.errors import UserError
from uresnet.io import read_labels
from uresnet.preprocess import conform

_FLUID = 24

UNCERTAIN_IDS = (_FLUID, 25, 57, 30, 62, 72, 77, 78, 79, 80, 81, 82, 85)
"""FreeSurfer ids of label maps whose class is not known.

Outside the sulci, the fluid of these maps is not what manual labels call CSF; lesions and vessels have no class.
"""


_NAMES = (".nii.gz", ".nii", ".mgz")


def read_label_maps(folder: Path, spec: ConformSpec) -> Tensor:
    """FreeSurfer ids (M, 1, I, J, K) uint8 of all label maps of a folder, conformed; 0 outside the brain.

    Fluid outside the sulci is set to 0, as brain extraction does. Raises :class:`UserError` for a folder without label
    maps and for a file that cannot be read.
    """
    volumes = [
        _conformed_map(path, spec) for path in _files(folder, "label maps", "blocks.label_maps, or --label-maps")
    ]
    shape = tuple(max(volume.shape[axis] for volume in volumes) for axis in range(3))
    return torch.stack([_padded(volume, shape) for volume in volumes])[:, None]


def read_shapes(folder: Path) -> list[Tensor]:
    """The masks of a folder, cut out to what they hold: (i, j, k) uint8 each, on voxels of 1 mm along their own axes.

    Raises :class:`UserError` for a folder without masks, an empty mask and a file that cannot be read.
    """
    return [_shape(path) for path in _files(folder, "masks", "contrasts.stroke_masks, or --stroke-masks")]


def _files(folder: Path, what: str, setting: str) -> list[Path]:
    paths = sorted(path for path in folder.glob("*") if path.name.endswith(_NAMES))
    if not paths:
        raise UserError(f"{folder} holds no {what} (*.nii.gz, *.nii, *.mgz); check {setting}.")
    return paths


def _shape(path: Path) -> Tensor:
    mask = read_labels(path)
    inside = mask.data.numpy() > 0
    if not inside.any():
        raise UserError(f"{path} is empty, it has no voxel above 0; take it out of the folder.")
    part = inside[ndimage.find_objects(inside.astype(np.uint8))[0]]
    zooms = np.linalg.norm(mask.grid.voxel_to_world[:3, :3], axis=0)
    if not np.allclose(zooms, 1, atol=0.01):
        part = ndimage.zoom(part.astype(np.float32), zooms, order=1) > 0.5
    return torch.from_numpy(part.astype(np.uint8))


def _conformed_map(path: Path, spec: ConformSpec) -> Tensor:
    labels = read_labels(path)
    ids = fold_parcels(labels.data.numpy())
    ids = np.where(np.isin(ids, list(FREESURFER)), ids, 0).astype(np.uint8)
    tissue = (ids > 0) & (ids != _FLUID)
    brain = ndimage.binary_fill_holes(ndimage.binary_closing(np.pad(tissue, 4), iterations=3))[4:-4, 4:-4, 4:-4]
    ids[~brain] = 0
    image = Image(torch.from_numpy(ids), labels.grid, labels.path)  # conform needs intensities; only its grid is used
    mask = LabelMap(torch.from_numpy(brain.astype(np.uint8)), labels.grid, labels.path)
    grid = conform(image, mask, spec).grid
    coordinates = affine_coordinates(voxel_to_voxel(grid, labels.grid), grid.shape)
    return sample_labels(torch.from_numpy(ids), coordinates, majority=False)


def _padded(volume: Tensor, shape: Sequence[int]) -> Tensor:
    """``volume`` padded to ``shape`` about the same centre, voxel shape // 2."""
    before = [n // 2 - m // 2 for n, m in zip(shape, volume.shape, strict=True)]
    after = [n - m - b for n, m, b in zip(shape, volume.shape, before, strict=True)]
    widths = [width for pair in zip(reversed(before), reversed(after), strict=True) for width in pair]
    return F.pad(volume, widths)
