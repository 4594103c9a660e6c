"""What in an image is not background, and the shapes that are cut out of such masks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from uresnet.core.background import border_values
from uresnet.core.image import Image
from uresnet.errors import UserError

ALL_NEIGHBOURS = np.ones((3, 3, 3), dtype=bool)
"""Voxels that share a face, an edge or a corner belong to one piece."""

_BLURRED_LAYERS, _RIM_WINDOW = 2, 7  # voxels
_BLURRED_SHARE = 0.7  # of the outermost voxels; five brains as stripped: 0.02 to 0.51, one interpolated: 0.86 to 0.92


@dataclass(frozen=True)
class Foreground:
    """What is not background: ``mask`` (I, J, K) bool, of volume ``litres``.

    ``value``: the background's; ``border``: the share of the outermost voxels that have it.
    """

    mask: np.ndarray
    value: float
    border: float
    litres: float


def find_foreground(image: Image) -> Foreground:
    """Everything that is not background: the pieces that matter, with their holes filled.

    Background is the commonest value on the border of the volume (0, or what a file holds instead), exactly where the
    border is exact, and within a thousandth of the intensity range where it is not (resampled or compressed images).
    Where interpolation has blurred the edge of what was stripped, the half that was background before is background.
    Raises :class:`UserError` when all voxels have one value.
    """
    data = image.data.numpy()
    low, high = float(data.min()), float(data.max())
    if low == high:
        what = "only zeros" if low == 0 else f"the same value everywhere ({low:g})"
        raise UserError(f"{image.name} holds {what}; check that it is the image you mean.")
    border = border_values(data)
    values, counts = np.unique(border, return_counts=True)
    value = float(values[counts.argmax()])
    tolerance = 1e-3 * float(np.quantile(np.abs(data[:: max(1, data.shape[0] // 64)] - value), 0.995))
    near = np.abs(border - value) <= tolerance
    exact = counts.max() >= 0.9 * near.sum()
    rough = data != value if exact else np.abs(data - value) > tolerance
    mask = _without_blurred_rim(without_holes(_without_specks(rough)), np.abs(data - value))
    litres = float(mask.sum()) * image.grid.voxel_volume / 1e6
    return Foreground(mask, value, float(near.mean()), litres)


# -- shapes ----------------------------------------------------------------------------------------------------------


def largest_piece(mask: np.ndarray) -> np.ndarray:
    """The largest connected piece of a mask (I, J, K)."""
    labels, count = ndimage.label(mask, ALL_NEIGHBOURS)
    if count <= 1:
        return mask
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    return np.asarray(labels == sizes.argmax())


def _without_specks(mask: np.ndarray) -> np.ndarray:
    """The pieces that have at least a hundredth of the largest one's voxels."""
    labels, count = ndimage.label(mask, ALL_NEIGHBOURS)
    if count <= 1:
        return mask
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    return np.asarray((sizes >= 0.01 * sizes.max())[labels] & mask)


def without_holes(mask: np.ndarray) -> np.ndarray:
    """The mask with its holes filled: background that is cut off from the border of the volume."""
    if not mask.any():
        return mask
    box = ndimage.find_objects(mask.astype(np.uint8))[0]
    out = mask.copy()
    # A layer of background around the box keeps a brain that touches its border from closing off the outside.
    out[box] |= ndimage.binary_fill_holes(np.pad(mask[box], 1))[1:-1, 1:-1, 1:-1]
    return out


def _without_blurred_rim(mask: np.ndarray, height: np.ndarray) -> np.ndarray:
    """The mask without the voxels that interpolation made from background, where there are such.

    They are dimmer than two fifths of what lies further in: half of what the edge had, which is dimmer than the inside.
    ``height`` (I, J, K) is the distance from the background's value. Masks whose outermost voxels are not nearly all
    dim are returned as they are: stripped brains that were never resampled, with fluid around them or without.
    """
    if not mask.any():
        return mask
    box = ndimage.find_objects(mask.astype(np.uint8))[0]
    inside, height = np.pad(mask[box], 1), np.pad(height[box], 1)
    core = ndimage.binary_erosion(inside, iterations=_BLURRED_LAYERS)
    weight = ndimage.uniform_filter(core.astype(np.float32), _RIM_WINDOW)
    further_in = ndimage.uniform_filter(np.where(core, height, 0).astype(np.float32), _RIM_WINDOW)
    dim = inside & ~core & (height * weight < 0.4 * further_in) & (weight > 1e-4)
    outermost = inside & ~ndimage.binary_erosion(inside)
    if dim[outermost].mean() < _BLURRED_SHARE:
        return mask
    out = mask.copy()
    out[box] &= ~ndimage.binary_propagation(~inside, mask=~inside | dim)[1:-1, 1:-1, 1:-1]
    return out
