"""How far an image lies outside the distribution of the training images: by its shape, its histogram, and by how bright
the brain is at which depth below its surface. Needs a brain mask and no model."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy import ndimage

PROFILE = (0.10, 0.20, 0.30, 0.40, 0.60, 0.70, 0.80, 0.90)
"""Quantiles of the brain's intensities that make its histogram's profile."""

SHELLS_MM = (0.0, 3.0, 5.0, 7.0, 10.0, 14.0, 18.0, 24.0)
"""Between two of these depths below the surface lies a shell, whose median intensity is taken."""

RIM_MM, DEEP_MM = (3.0, 10.0), (14.0, 24.0)
"""Mostly cortex, and mostly white matter, in an adult's brain."""

REFERENCE = (
    # Shape: logarithm of the volume in ml, width / length, height / length.
    *((7.263, 0.0853), (0.770, 0.0253), (0.734, 0.0168)),
    # Profile.
    *((-0.379, 0.0191), (-0.252, 0.0162), (-0.167, 0.0141), (-0.090, 0.0091)),
    *((0.119, 0.0120), (0.262, 0.0196), (0.385, 0.0204), (0.467, 0.0245)),
    # Shells, from the surface inwards.
    *((-0.281, 0.0323), (-0.093, 0.0225), (-0.041, 0.0152), (-0.004, 0.0101)),
    *((0.071, 0.0114), (0.159, 0.0195), (0.236, 0.0270)),
)
"""(mean, standard deviation) of every number of :meth:`Features.numbers` over the 21 ``train`` scans of OASIS
(``benchmarks/asymmetry.py`` prints them)."""


@dataclass(frozen=True, eq=False)
class Features:
    """``shape`` (3,): logarithm of the brain's volume in ml, width / length, height / length; ``profile`` (8,) and
    ``shells`` (7,): intensities less the median, in units of the span from the 5th to the 95th percentile, so that
    neither scale nor offset of the image matters; NaN where a brain has no such depth. ``deep_over_rim`` is how much
    brighter, in the same units, the brain is ``DEEP_MM`` below its surface than ``RIM_MM``, medians: positive where
    white matter is brighter than cortex; None for a brain without such depths."""

    shape: np.ndarray
    profile: np.ndarray
    shells: np.ndarray
    deep_over_rim: float | None

    @property
    def brain_ml(self) -> float:
        """The brain's volume."""
        return float(np.exp(self.shape[0]))

    @property
    def numbers(self) -> np.ndarray:
        """All of them, (18,)."""
        return np.concatenate([self.shape, self.profile, self.shells])

    @property
    def distance(self) -> float:
        """From the training images, in their standard deviations: the root mean square of shape, profile and shells,
        each of which counts a third. 1 is usual."""
        mean, spread = np.array(REFERENCE).T
        squares = ((self.numbers - mean) / spread) ** 2
        ends = np.cumsum([len(self.shape), len(self.profile)])
        return float(np.sqrt(np.mean([np.nanmean(part) for part in np.split(squares, ends)])))


def features_of(
    values: np.ndarray, inside: np.ndarray, zooms: np.ndarray, shape: tuple[float, float, float]
) -> Features:
    """The features of an image (I, J, K) with a brain mask, voxels of ``zooms`` mm, and a brain of ``shape``: its
    volume in ml, width / length and height / length."""
    depth = ndimage.distance_transform_edt(np.pad(inside, 1), sampling=zooms)[1:-1, 1:-1, 1:-1][inside]
    found = values[inside].astype(np.float64)
    low, middle, high = np.quantile(found, (0.05, 0.5, 0.95))
    scaled = (found - middle) / max(high - low, 1e-12)
    shells = [_median(scaled, depth, ends) for ends in pairwise(SHELLS_MM)]
    contrast = _median(scaled, depth, DEEP_MM) - _median(scaled, depth, RIM_MM)
    return Features(
        shape=np.array([np.log(max(shape[0], 1e-3)), *shape[1:]]),
        profile=np.quantile(scaled, PROFILE),
        shells=np.array(shells),
        deep_over_rim=None if np.isnan(contrast) else float(contrast),
    )


def _median(values: np.ndarray, depth: np.ndarray, ends: tuple[float, float]) -> float:
    shell = values[(depth > ends[0]) & (depth <= ends[1])]
    return float(np.median(shell)) if len(shell) >= 20 else float("nan")
