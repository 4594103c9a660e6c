"""Whether left and right are where the file says: brains are not symmetric, and nearly all in the same way.

The right frontal and the left occipital lobe reach further and are wider in most people (the torque; LeMay 1976,
Toga & Thompson 2003). An image whose asymmetry runs against the mean one is either of a rare brain or of a brain that
was mirrored on its way, which nothing else in an image of a brain gives away.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from scipy import ndimage, optimize
from torch.nn import functional

from uresnet.core.grid import Grid
from uresnet.core.image import Image, LabelMap
from uresnet.transform import Affine, resample

TEMPLATE = Path(__file__).parent / "asymmetry.npz"

FINE_MM, COARSE_MM = 3.0, 6.0
BOX_MM = (180.0, 216.0, 180.0)
SMOOTHING_MM = 4.5
NEIGHBOURHOOD_MM = 30.0
"""Brightness that varies more slowly than this (Gaussian) is the scanner's."""

EMPTY = 0.08
"""Below this is background, where the brain is from 0.1 to 1."""

FAINT = 0.3
"""A brain less than this share as asymmetric as the training images are on average (a symmetric template) has no
handedness."""


def handedness(image: Image, brain: LabelMap) -> float | None:
    """How far the asymmetry of a brain is the mean one of the training images (:meth:`Usual.likeness`), in [-1, 1].

    Below 0 it looks mirrored. None where a brain is too symmetric, or too empty, to tell.
    """
    pattern = asymmetry_pattern(image, brain, _template()["extents"])
    if pattern is None or np.linalg.norm(pattern) < FAINT * float(_template()["strength"]):
        return None
    return Usual(_template()["mean"], _template()["weight"]).likeness(pattern)


@dataclass(frozen=True, eq=False)
class Usual:
    """The asymmetry that most brains have: ``mean`` of patterns of length 1, and the ``weight`` of every voxel, high
    where people are alike."""

    mean: np.ndarray
    weight: np.ndarray

    @classmethod
    def of(cls, patterns: Sequence[np.ndarray]) -> Usual:
        """What is usual among some people's patterns."""
        alike = np.stack([pattern / np.linalg.norm(pattern) for pattern in patterns])
        mean = alike.mean(axis=0)
        variance = ndimage.gaussian_filter(((alike - mean) ** 2).mean(axis=0), 1)
        # The variance of so few people is itself uncertain: drawn towards its mean.
        return cls(mean, 1 / np.sqrt(variance / variance.mean() + 0.3))

    def likeness(self, pattern: np.ndarray) -> float:
        """Weighted cosine: 1 for the usual asymmetry, -1 for its mirror image."""
        weighted, mean = pattern * self.weight, self.mean * self.weight
        return float((weighted * mean).sum() / (np.linalg.norm(weighted) * np.linalg.norm(mean)))


def asymmetry_pattern(image: Image, brain: LabelMap, extents_mm: np.ndarray) -> np.ndarray | None:
    """Left half less mirrored right half of a brain, smoothed, every 6 mm, float32: (15, 37, 31), RAS axes.

    Brightness is relative to the neighbourhood's. The brain is turned so that its middle plane is the middle of the
    array, and stretched along the world's axes to ``extents_mm`` (3,). None for a brain without extent.
    """
    small = _small(image, brain)
    upright = _upright(small)
    if upright is None:
        return None
    still = resample(upright, small, _box(FINE_MM)).data.numpy()
    inside = np.argwhere(still > EMPTY)
    if len(inside) < 1000:
        return None
    low, high = (np.percentile(inside, share, axis=0) * FINE_MM for share in (1, 99))
    centre = (low + high) / 2 - np.array(still.shape) * FINE_MM / 2 + FINE_MM / 2
    stretch = np.diag([*((high - low) / extents_mm), 1.0])
    stretch[1:3, 3] = centre[1:]  # never along left-right: the middle plane stays where it is
    both = resample(Affine(upright.matrix @ stretch), small, _box(FINE_MM)).data.numpy()
    both = _relative_to_neighbourhood(both)
    smooth: np.ndarray = ndimage.gaussian_filter(both - both[::-1], SMOOTHING_MM / FINE_MM)
    return smooth[: both.shape[0] // 2 : 2, ::2, ::2].astype(np.float32)


def brain_extents(image: Image, brain: LabelMap) -> np.ndarray | None:
    """Extents of a brain, mm, (3,), once it is turned so that its middle plane is the middle of the array."""
    small = _small(image, brain)
    upright = _upright(small)
    if upright is None:
        return None
    inside = np.argwhere(resample(upright, small, _box(FINE_MM)).data.numpy() > EMPTY)
    return np.asarray(np.ptp(np.percentile(inside, (1, 99), axis=0), axis=0) * FINE_MM)


# -- steps -----------------------------------------------------------------------------------------------------------


def _relative_to_neighbourhood(values: np.ndarray) -> np.ndarray:
    """Brightness as a share of the mean brightness around, 0 outside the brain."""
    brain, reach = (values > EMPTY).astype(np.float32), NEIGHBOURHOOD_MM / FINE_MM
    around = ndimage.gaussian_filter(values * brain, reach) / np.maximum(ndimage.gaussian_filter(brain, reach), 0.05)
    return np.asarray(brain * values / np.maximum(around, 0.05))


def _small(image: Image, brain: LabelMap) -> Image:
    """Voxels of about 3 mm: brain from 0.1 to 1 by its 2nd to 98th percentile, 0 elsewhere."""
    mask = brain.mask.cpu()
    values = image.data.cpu()
    some = values[mask].numpy()
    low, high = np.percentile(some[:: max(1, len(some) // 200_000)], (2, 98)) if len(some) else (0.0, 1.0)
    scaled = ((values - float(low)) / max(float(high - low), 1e-9)).clamp(0, 1) * 0.9 + 0.1
    scaled = torch.where(mask, scaled, torch.zeros(()))
    factor = [max(1, round(FINE_MM / float(zoom))) for zoom in image.grid.zooms]
    shape = [-(-n // f) for n, f in zip(image.grid.shape, factor, strict=True)]
    missing = [s * f - n for s, f, n in zip(shape, factor, image.grid.shape, strict=True)]
    padded = functional.pad(scaled, (0, missing[2], 0, missing[1], 0, missing[0]))
    pooled = functional.avg_pool3d(padded[None, None], factor)[0, 0]
    return Image(pooled, image.grid.rescaled(factor))


def _upright(small: Image) -> Affine | None:
    """From a box whose middle plane is the brain's to the world: the turn and shift that make it most symmetric."""
    bright = small.data.numpy() > EMPTY
    if bright.sum() < 100:
        return None
    middle = small.grid.points_to_world(np.argwhere(bright).mean(axis=0))
    box = _box(COARSE_MM)

    def placed(settings: np.ndarray) -> Affine:
        roll, yaw, shift = settings[0] / 20, settings[1] / 20, settings[2] * 3
        about_y = np.array([[np.cos(roll), 0, np.sin(roll)], [0, 1, 0], [-np.sin(roll), 0, np.cos(roll)]])
        about_z = np.array([[np.cos(yaw), -np.sin(yaw), 0], [np.sin(yaw), np.cos(yaw), 0], [0, 0, 1]])
        matrix = np.eye(4)
        matrix[:3, :3] = about_z @ about_y
        matrix[:3, 3] = middle
        matrix[0, 3] += shift
        return Affine(matrix)

    def unlike_its_mirror(settings: np.ndarray) -> float:
        values = resample(placed(settings), small, box).data.numpy()
        if values.std() == 0:
            return 1.0
        return -float(np.corrcoef(values.ravel(), values[::-1].ravel())[0, 1])

    options = {"maxfev": 150, "xtol": 1e-2, "ftol": 1e-4}
    return placed(optimize.minimize(unlike_its_mirror, np.zeros(3), method="Powell", options=options).x)


def _box(spacing: float) -> Grid:
    shape = [round(side / spacing) + 1 for side in BOX_MM]
    return Grid.centred(shape, (spacing, spacing, spacing), "RAS", (0, 0, 0))


@cache
def _template() -> dict[str, np.ndarray]:
    with np.load(TEMPLATE, allow_pickle=False) as file:
        return {name: file[name].astype(np.float64) for name in file.files}
