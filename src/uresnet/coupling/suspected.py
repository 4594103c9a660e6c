"""Masses that the network merely suspects.

A glioma of low grade has no rim and may be as bright as cortex: the network gives it a small probability of being
abnormal, no larger than it gives elsewhere to healthy tissue. But healthy tissue that is suspected and as dark as
cortex (in T1-weighted images) or brighter than cortex (in T2-weighted and FLAIR images) is thin; a mass is thick.
docs/models/any.md has what was measured.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from uresnet.core.choices import Contrast
from uresnet.core.labels import LabelScheme

WHITE, GREY, FLUID = (2, 41), (3, 42), (4, 43)
"""FreeSurfer ids of cerebral white matter, cortex and lateral ventricles, whose brightness tells a contrast."""

_ALL_FLUID = (*FLUID, 5, 44, 14, 15, 24)

_LEAST = 0.01
"""Of the probability of abnormal tissue, blurred: below it nothing is suspected."""
_BLUR_MM = 3.0
_SMOOTH_MM = 0.7  # of the image, against noise
_THICK_MM = 9.0
_SHARE = 0.85
"""Of a cube of that side: where so much of it is suspected and has the brightness, tissue is thick."""
_REACH_MM = 4.0
"""What is suspected and has the brightness belongs to a mass up to this distance from such a cube."""

_GREY_TO_FLUID = {"T1": 0.0, "T2": 0.1}
"""The step in brightness from cortex towards fluid, as a share of it, from which on tissue is no white matter."""
_FLAIR = ((GREY, 1.5), (WHITE, 2.0))
"""In FLAIR, abnormal tissue is brighter than the median of these tissues by so many robust standard deviations. White
matter is darker than cortex in most FLAIR images; where slices are thick it may be brighter (72 ml found instead of
22 ml by cortex alone, in a patient with a tumour of about 20 ml)."""


def suspected(
    image: np.ndarray,
    classes: np.ndarray,
    probability: np.ndarray,
    scheme: LabelScheme,
    contrast: Contrast,
    voxel_mm: float,
    share: float = _SHARE,
) -> np.ndarray:
    """(I, J, K) bool: thick tissue that the network suspects to be abnormal and whose brightness says the same.

    ``image``, ``classes`` of ``scheme`` and the ``probability`` of abnormal tissue lie on the same cubic voxels of
    ``voxel_mm``. ``share`` is how much of a cube must be so. Nothing where the contrast is not known.
    """
    nothing = np.zeros(image.shape, dtype=bool)
    abnormal = _has_brightness(image, classes, scheme, contrast, voxel_mm)
    if abnormal is None:
        return nothing
    candidates = abnormal & (classes > 0) & ~np.isin(classes, scheme.classes_of(_ALL_FLUID))
    candidates &= ndimage.gaussian_filter(probability, _BLUR_MM / voxel_mm) > _LEAST
    if not candidates.any():
        return nothing
    (box,) = ndimage.find_objects(candidates.astype(np.uint8))
    inside, side = candidates[box], 1 + 2 * round((_THICK_MM / voxel_mm - 1) / 2)
    core = ndimage.uniform_filter(inside.astype(np.float32), side, mode="constant") >= share - 1e-4
    nothing[box] = inside & ndimage.maximum_filter(core, side + 2 * round(_REACH_MM / voxel_mm))
    return nothing


def flair_level(image: np.ndarray, classes: np.ndarray, scheme: LabelScheme) -> float | None:
    """The brightness above which tissue is abnormal in a FLAIR image; None where a tissue was not found."""
    levels = []
    for ids, deviations in _FLAIR:
        values = image[np.isin(classes, scheme.classes_of(ids))]
        if not len(values):
            return None
        median = np.median(values)
        levels.append(float(median + deviations * 1.4826 * np.median(np.abs(values - median))))
    return max(levels)


def _has_brightness(
    image: np.ndarray, classes: np.ndarray, scheme: LabelScheme, contrast: Contrast, voxel_mm: float
) -> np.ndarray | None:
    """(I, J, K) bool: where brightness does not exclude abnormal tissue; None where it says nothing."""
    smooth = ndimage.gaussian_filter(image, _SMOOTH_MM / voxel_mm)
    if contrast == "FLAIR":
        level = flair_level(image, classes, scheme)
        return None if level is None else smooth > level
    step = _GREY_TO_FLUID.get(contrast)
    grey, fluid = (image[np.isin(classes, scheme.classes_of(ids))] for ids in (GREY, FLUID))
    if step is None or not len(grey) or not len(fluid):
        return None
    start, end = float(np.median(grey)), float(np.median(fluid))
    level = start + step * (end - start)
    beyond: np.ndarray = smooth > level if end > start else smooth < level
    return beyond
