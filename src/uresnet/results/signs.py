"""The signs that a verdict is made from, as :mod:`uresnet.quality.signs` measures them and ``run.json`` keeps them.

A sign is None where it could not be measured.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

AnySigns = TypeVar("AnySigns", bound="ImageSigns | PairSigns")


@dataclass(frozen=True, kw_only=True)
class ImageSigns:
    """How one image compares with the brains that the networks were trained on.

    ``brain_ml`` is the brain's volume; ``width`` and ``height`` are the extents right–left and foot–head of its box as
    a share of the front–back one; ``distance`` and ``deep_over_rim`` are those of
    :class:`~uresnet.quality.distribution.Features`: how far shape and intensities lie from those of the training
    images, and how much brighter the brain is deep inside than below its surface; ``handedness`` is the likeness of
    its asymmetry to the usual one, negative when mirrored, None for a symmetric brain.

    From the segmentation, None without one: ``white_over_grey`` is how much brighter white matter is than cortex,
    ``grey_over_csf`` cortex than ventricle, in standard deviations of the brain; ``labelled`` is the structures'
    volume as a share of the brain's; ``missing`` is how many structures of the scheme were not found at all;
    ``lopsided`` is the difference between all left and all right structures, as a share of their mean, None where the
    scheme does not distinguish sides. ``contrast`` is what the image was recognised as, None where nothing looked for
    it; ``mass_ml`` is the volume of masses, cavities and strokes and of what a mask of the user's calls abnormal, None
    where none was found or looked for; ``drawn_ml`` that of such a mask alone, None without one; ``lesion_ml`` that of
    lesions of the white matter, None where they were not looked for.
    """

    brain_ml: float | None
    width: float | None
    height: float | None
    distance: float | None
    deep_over_rim: float | None
    handedness: float | None
    white_over_grey: float | None
    grey_over_csf: float | None
    labelled: float | None
    missing: int | None
    lopsided: float | None
    contrast: str | None = None
    mass_ml: float | None = None
    lesion_ml: float | None = None
    drawn_ml: float | None = None


@dataclass(frozen=True, kw_only=True)
class PairSigns:
    """The signs of a pair.

    ``dice`` by structure and ``mean_dice``: warped against predicted fixed segmentation; ``overlap``: Dice of the
    warped moving brain and the fixed brain; ``correlation``: Pearson's, of the warped and the fixed image where both
    have brain; ``folding_fraction``, ``inverse_mean_mm`` and ``inverse_max_mm`` as in
    :class:`~uresnet.results.record.Measures`; ``crossed``: the share of the warped image's sided structures that lands
    on the fixed image's structures of the other side, None where the scheme does not distinguish sides. ``scheme`` and
    ``model`` are the names of what segmented.
    """

    mean_dice: float | None
    dice: Mapping[str, float | None]
    overlap: float | None
    correlation: float | None
    folding_fraction: float | None
    inverse_mean_mm: float | None
    inverse_max_mm: float | None
    moving: ImageSigns
    fixed: ImageSigns
    crossed: float | None
    scheme: str
    model: str


def rounded(signs: AnySigns) -> AnySigns:
    """The same signs with five decimals, as the record keeps them; what is not a finite number is None."""
    return replace(signs, **{field.name: _rounded(getattr(signs, field.name)) for field in fields(signs)})


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 5) if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {name: _rounded(item) for name, item in value.items()}
    return rounded(value) if isinstance(value, ImageSigns) else value
