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

_EXCLUDED = (*FLUID, 5, 44, 14, 15, 24, 7, 46, 8, 47, 16)
"""Fluid, cerebellum and brain stem: what is suspected there is thick in healthy brains too."""

_LEAST = 0.02
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
_GREY_TO_WHITE = 0.5
"""The same towards white matter, in T1-weighted images: what is suspected, darker, and connected to a mass belongs to
it. There a mass may be as bright as cortex."""
_BESIDE_MM = 4.0
EVERYWHERE = np.ones((3, 3, 3), dtype=bool)
"""Voxels that touch at a corner are connected."""

_ABOVE_CORTEX, _ABOVE_WHITE = 1.5, 2.0
"""In FLAIR, abnormal tissue is brighter than the median of cortex and of white matter by so many robust standard
deviations. White matter is darker than cortex in most FLAIR images; where slices are thick it may be brighter (72 ml
found instead of 22 ml by cortex alone, in a patient with a tumour of about 20 ml)."""


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
    brightness = _abnormal_brightness(image, classes, scheme, contrast, voxel_mm)
    if brightness is None:
        return nothing
    doubtful = ndimage.gaussian_filter(probability, _BLUR_MM / voxel_mm) > _LEAST
    doubtful &= (classes > 0) & ~np.isin(classes, scheme.classes_of(_EXCLUDED))
    if not doubtful.any():
        return nothing
    (box,) = ndimage.find_objects(doubtful.astype(np.uint8))
    inside, beside = (doubtful[box] & where[box] for where in brightness)
    side = 1 + 2 * round((_THICK_MM / voxel_mm - 1) / 2)
    core = ndimage.uniform_filter(inside.astype(np.float32), side, mode="constant") >= share - 1e-4
    thick = inside & ndimage.maximum_filter(core, side + 2 * round(_REACH_MM / voxel_mm))
    near = ndimage.maximum_filter(thick, 1 + 2 * round(_BESIDE_MM / voxel_mm))
    nothing[box] = connected(ndimage.binary_opening(beside & near), thick)
    return nothing


def connected(found: np.ndarray, mass: np.ndarray) -> np.ndarray:
    """(I, J, K) bool: the mass, and what is ``found`` and connected to it."""
    if not mass.any():
        return mass
    pieces, _ = ndimage.label(mass | found, EVERYWHERE)
    return np.asarray(np.isin(pieces, np.unique(pieces[mass])))


def probable_pieces(found: np.ndarray, probability: np.ndarray, least: float) -> np.ndarray:
    """(I, J, K) bool: the connected pieces of what is ``found`` whose mean ``probability`` (I, J, K) is ``least`` or
    more."""
    pieces, means = means_of_pieces(found, probability)
    return np.asarray((means >= least)[pieces] & found)


def means_of_pieces(found: np.ndarray, *values: np.ndarray) -> tuple[np.ndarray, ...]:
    """The number of the connected piece of each voxel, 0 where there is none, and by that number the mean of each of
    the ``values`` (I, J, K) in it."""
    pieces, number = ndimage.label(found, EVERYWHERE)
    return pieces, *(np.append(0.0, ndimage.mean(x, pieces, range(1, number + 1))) for x in values)


def flair_level(
    image: np.ndarray, classes: np.ndarray, scheme: LabelScheme, above_cortex: float = _ABOVE_CORTEX
) -> float | None:
    """The brightness above which tissue is abnormal in a FLAIR image, ``above_cortex`` in robust standard deviations;
    None where a tissue was not found."""
    levels = []
    for ids, deviations in ((GREY, above_cortex), (WHITE, _ABOVE_WHITE)):
        values = image[np.isin(classes, scheme.classes_of(ids))]
        if not len(values):
            return None
        median = np.median(values)
        levels.append(float(median + deviations * 1.4826 * np.median(np.abs(values - median))))
    return max(levels)


def _abnormal_brightness(
    image: np.ndarray, classes: np.ndarray, scheme: LabelScheme, contrast: Contrast, voxel_mm: float
) -> tuple[np.ndarray, np.ndarray] | None:
    """(I, J, K) bool: where brightness is that of abnormal tissue, and where it is so for what is connected to a mass;
    None where it says nothing."""
    smooth = ndimage.gaussian_filter(image, _SMOOTH_MM / voxel_mm)
    if contrast == "FLAIR":
        level = flair_level(image, classes, scheme)
        return None if level is None else (smooth > level, np.zeros_like(classes, dtype=bool))
    step = _GREY_TO_FLUID.get(contrast)
    tissues = [image[np.isin(classes, scheme.classes_of(ids))] for ids in (GREY, FLUID, WHITE)]
    if step is None or not all(map(len, tissues)):
        return None
    grey, fluid, white = (float(np.median(values)) for values in tissues)
    level = grey + step * (fluid - grey)
    if contrast == "T1":
        return smooth < level, smooth < grey + _GREY_TO_WHITE * (white - grey)
    return smooth > level, np.zeros_like(classes, dtype=bool)
