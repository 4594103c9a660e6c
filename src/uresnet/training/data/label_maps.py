"""Label maps without images, from which images are synthesised."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from scipy import ndimage
from torch import Tensor

from uresnet.config import ConformSpec
from uresnet.core.coordinates import affine_coordinates
from uresnet.core.grid import AxisCodes, Grid, voxel_to_voxel
from uresnet.core.image import Image, LabelMap
from uresnet.core.labels import FREESURFER, fold_parcels
from uresnet.core.sampling import sample_labels
from uresnet.errors import UserError
from uresnet.io import read_labels
from uresnet.preprocess import conform

FLUID = 24
"""FreeSurfer's id of cerebrospinal fluid outside the ventricles."""

UNCERTAIN_IDS = (FLUID, 25, 57, 30, 62, 72, 77, 78, 79, 80, 81, 82, 85)
"""FreeSurfer ids of label maps whose class is not known.

Outside the sulci, the fluid of these maps is not what manual labels call CSF; lesions and vessels have no class.
"""


OUTSIDE = range(200, 250)
"""Ids of tissues outside the brain: 500 to 549, as SynthSeg's label maps have them, less 300; any other value that is
no FreeSurfer id becomes one of them."""

HEAD_AXES: AxisCodes = ("R", "A", "S")
"""Where the array axes of a :class:`Head` point."""

_NAMES = (".nii.gz", ".nii", ".mgz")
_MOST_LABELS = 200  # of a label map: those of SynthSeg have 54 values, whole heads as images 256 and more
_CLOSED_MM, _AROUND_MM = 6.0, 2.0  # what FreeSurfer's brain masks hold beside tissue, about


@dataclass(frozen=True, eq=False)
class Head:
    """A whole head without an image, on voxels of 1 mm: ``ids`` (I, J, K) uint8, FreeSurfer's and those of ``OUTSIDE``;
    ``brain`` (I, J, K) bool, its tissue, the fluid in and between the folds, and 2 mm around; where they lie."""

    ids: npt.NDArray[np.uint8]
    brain: npt.NDArray[np.bool_]
    grid: Grid


def read_label_maps(folder: Path, spec: ConformSpec) -> Tensor:
    """FreeSurfer ids (M, 1, I, J, K) uint8 of all label maps of a folder, conformed; 0 outside the brain.

    Fluid outside the sulci is set to 0, as brain extraction does. Raises :class:`UserError` for a folder without label
    maps and for a file that cannot be read.
    """
    paths = label_map_files(folder, "label maps", "blocks.label_maps, or --label-maps")
    volumes = [_conformed_map(path, spec) for path in paths]
    shape = tuple(max(volume.shape[axis] for volume in volumes) for axis in range(3))
    return torch.stack([_padded(volume, shape) for volume in volumes])[:, None]


def read_shapes(folder: Path) -> list[Tensor]:
    """The masks of a folder, cut out to what they hold: (i, j, k) uint8 each, on voxels of 1 mm along their own axes.

    Raises :class:`UserError` for a folder without masks, an empty mask and a file that cannot be read.
    """
    return [_shape(path) for path in label_map_files(folder, "masks", "contrasts.stroke_masks, or --stroke-masks")]


def read_head(path: Path) -> Head:
    """A label map of a whole head, in right-anterior-superior axes, cut out to what it holds.

    Raises :class:`UserError` for a file that cannot be read, for an image, and for a map that holds no brain or nothing
    around it.
    """
    labels = read_labels(path)
    values = len(np.unique(labels.data.numpy()))
    if values > _MOST_LABELS:
        raise UserError(f"{path} has {values} different values: it is an image, not a label map; give label maps.")
    ids = fold_parcels(labels.data.numpy().astype(int))
    ids = np.where(np.isin(ids, list(FREESURFER)), ids, OUTSIDE.start + (ids - 500) % len(OUTSIDE)).astype(np.uint8)
    if not _tissue(ids).any() or not np.isin(ids, OUTSIDE).any():
        raise UserError(f"{path} does not show a brain inside of a head; give label maps with the tissues around it.")
    aligned = labels.grid.reoriented(HEAD_AXES)
    box = ndimage.find_objects((ids > 0).astype(np.uint8))[0]
    corners = np.array(np.meshgrid(*[(side.start, side.stop - 1) for side in box])).reshape(3, -1).T
    voxels = aligned.points_to_voxel(labels.grid.points_to_world(corners))
    low, size = voxels.min(axis=0), np.ptp(voxels, axis=0) + 1
    head = aligned.subgrid(low, np.round(size).astype(int).tolist()).rescaled((1 / aligned.zooms).tolist())
    coordinates = affine_coordinates(voxel_to_voxel(head, labels.grid), head.shape)
    found = sample_labels(torch.from_numpy(ids), coordinates, majority=False).numpy()
    return Head(found, _brain_in(found), head)


def _brain_in(ids: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    """The brain among ids on voxels of 1 mm: tissue, closed by ``_CLOSED_MM``, without holes, ``_AROUND_MM`` larger."""
    tissue = _tissue(ids)
    margin = round(2 * _CLOSED_MM)
    box = ndimage.find_objects(tissue.astype(np.uint8))[0]
    inside = np.pad(tissue[box], margin)
    near = ndimage.distance_transform_edt(~inside) <= _CLOSED_MM
    closed = ndimage.binary_fill_holes((ndimage.distance_transform_edt(near) > _CLOSED_MM) | inside)
    around = ndimage.distance_transform_edt(~closed) <= _AROUND_MM
    brain = np.zeros(np.array(ids.shape) + 2 * margin, dtype=bool)
    brain[tuple(slice(side.start, side.stop + 2 * margin) for side in box)] = around
    kept: npt.NDArray[np.bool_] = brain[margin:-margin, margin:-margin, margin:-margin]
    return kept


def _tissue(ids: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    tissue: npt.NDArray[np.bool_] = (ids > 0) & (ids != FLUID) & ~np.isin(ids, OUTSIDE)
    return tissue


def label_map_files(folder: Path, what: str, setting: str) -> list[Path]:
    """The files of a folder that may be label maps. Raises :class:`UserError`, which names ``what`` is missing and the
    ``setting`` to check, where there is none."""
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
    tissue = (ids > 0) & (ids != FLUID)
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
