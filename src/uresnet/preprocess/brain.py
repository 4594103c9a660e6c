"""Where the brain is in an image: the whole of it, what remains of a stripped head, or a given mask."""

from __future__ import annotations

from typing import get_args

import numpy as np
import torch
from scipy import ndimage

from uresnet.core.background import border_values
from uresnet.core.choices import BrainMethod
from uresnet.core.grid import AxisCodes
from uresnet.core.image import Image, LabelMap
from uresnet.errors import UserError, warn_about_input
from uresnet.preprocess.foreground import ALL_NEIGHBOURS, Foreground, find_foreground
from uresnet.preprocess.skull import apparent_axes, strip_skull

# A brain with the fluid around it has at most about 2 litres, a head of the same person more than twice that.
_CERTAINLY_BRAIN_LITRES = 2.1
_CERTAINLY_HEAD_LITRES = 2.8
_PLAUSIBLE_BRAIN_LITRES = (0.4, 2.8)
_MOSTLY_BACKGROUND = 0.9  # of the outermost voxels, in an image without skull
_BRAIN_SHARE = 0.8  # of what is not background, in an image without skull

_MIN_VOXELS = 8
_MIN_EXTENT_MM = 60.0
_MAX_ZOOM_MM = 10.0
_REMARKABLE_ZOOM_MM = 4.0
_LARGEST_REPAIRABLE_HOLE = 27  # voxels


def extract_brain(
    image: Image,
    method: BrainMethod = "auto",
    mask: LabelMap | None = None,
    device: str | torch.device = "cpu",
    threads: int | None = None,
) -> tuple[LabelMap, str]:
    """The brain as a mask on the image's own grid, and a sentence that says how it was found.

    A given ``mask`` is used as it is and must lie on the image's grid. Otherwise ``method`` "auto" strips the skull
    where there is one (on ``device``), and "none" takes everything that is not background for brain.
    Raises :class:`UserError` for an image that holds no whole head: empty, few slices, coarse voxels, voxels inside
    the brain that are no numbers; and for a mask that is empty or on another grid.
    """
    methods = get_args(BrainMethod)
    if method not in methods:
        raise UserError(f"Unknown way to find the brain '{method}'; choose one of {', '.join(methods)}.")
    _check_whole_head(image)
    axis_codes: AxisCodes | None = None
    if mask is not None:
        found, how = _given_mask(image, mask), f"brain taken from {mask.name}"
    else:
        foreground = find_foreground(image)
        if method == "none":
            found, how = foreground.mask, "everything that is not background taken for brain"
        elif has_skull(image, foreground, device, threads):
            axis_codes = None if image.oriented else apparent_axes(image, device, threads)
            found, how = strip_skull(image, device, threads, axis_codes), "skull found and stripped"
        else:
            found, how = foreground.mask, "no skull found, image used as it is"
    _check_brain(image, found, by_volume=mask is None and method == "auto")
    return LabelMap(torch.from_numpy(found.astype(np.uint8)), image.grid, image.path, axis_codes), how


def has_skull(
    image: Image, foreground: Foreground, device: str | torch.device = "cpu", threads: int | None = None
) -> bool:
    """Whether the image shows a head rather than a brain: by its size, else by a look for the brain."""
    if foreground.litres >= _CERTAINLY_HEAD_LITRES:
        return True
    if foreground.litres <= _CERTAINLY_BRAIN_LITRES and foreground.border >= _MOSTLY_BACKGROUND:
        return False
    # A tightly cropped brain, a large one, a small head, or a head cut by its field of view.
    brain = strip_skull(image, device, threads)
    return float((brain & foreground.mask).sum()) < _BRAIN_SHARE * float(foreground.mask.sum())


# -- checks ----------------------------------------------------------------------------------------------------------


def _check_whole_head(image: Image) -> None:
    shape, zooms = image.grid.shape, image.grid.zooms
    axis = int(np.argmin(shape * zooms))
    fewest = int(np.argmin(shape))
    if shape[fewest] < _MIN_VOXELS:
        slices = "1 slice" if shape[fewest] == 1 else f"{shape[fewest]} slices"
        raise UserError(f"{image.name} has only {slices} along one axis; give an image of the whole brain.")
    extent = shape[axis] * zooms[axis]
    if extent < _MIN_EXTENT_MM:
        raise UserError(f"{image.name} covers only {extent:.0f} mm along one axis; give an image of the whole brain.")
    if zooms.max() > _MAX_ZOOM_MM:
        raise UserError(f"{image.name} has voxels of {zooms.max():.1f} mm; give an image with a finer resolution.")
    if zooms.max() > _REMARKABLE_ZOOM_MM:
        warn_about_input(f"{image.name} has voxels of {zooms.max():.1f} mm: expect a coarse result.")
    if image.invalid is not None and _largest_hole(image.invalid.numpy()) > _LARGEST_REPAIRABLE_HOLE:
        raise _not_numbers(image)


def _largest_hole(invalid: np.ndarray) -> int:
    """Voxels of the largest piece that does not touch the border, where some programs write it for background."""
    labels, _ = ndimage.label(invalid, ALL_NEIGHBOURS)
    sizes = np.bincount(labels.ravel())
    sizes[np.unique(border_values(labels))] = 0
    sizes[0] = 0
    return int(sizes.max())


def _check_brain(image: Image, brain: np.ndarray, by_volume: bool) -> None:
    if image.invalid is not None and (brain & image.invalid.numpy()).any():
        raise _not_numbers(image)
    litres = float(brain.sum()) * image.grid.voxel_volume / 1e6
    low, high = _PLAUSIBLE_BRAIN_LITRES
    if by_volume and not low <= litres <= high:
        raise UserError(
            f"{image.name} seems to hold a brain of {litres:.2f} litres, which cannot be; give a brain mask for it."
        )


def _not_numbers(image: Image) -> UserError:
    count = int(image.invalid.sum()) if image.invalid is not None else 0
    return UserError(
        f"{image.name} has voxels in the brain that are not a number or infinite ({count}); repair it first."
    )


def check_mask(image: Image, mask: LabelMap, marks: str = "the brain") -> None:
    """Raises :class:`UserError` for a mask that is empty or on another grid than its image."""
    if not mask.grid.same_as(image.grid, atol_mm=0.1):
        raise UserError(f"{mask.name} lies on another grid than {image.name}; resample the mask to the image first.")
    if not mask.mask.any():
        raise UserError(f"{mask.name} is empty; give a mask that marks {marks}.")


def _given_mask(image: Image, mask: LabelMap) -> np.ndarray:
    check_mask(image, mask)
    return mask.mask.numpy()
