"""Slices through images of any orientation, along the world's axes and at one scale.

The patient's right is on the left of axial and coronal pictures (radiological convention), the nose on the left of
sagittal ones.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from torch import Tensor

from uresnet.core.grid import AxisCodes, Grid
from uresnet.core.image import Image, LabelMap
from uresnet.transform import Affine, resample

SLICES_PER_PLANE = 11
LONGEST_PIXELS = 256
MARGIN_MM = 8.0


@dataclass(frozen=True)
class Plane:
    """A direction of slicing.

    ``axis_codes`` say to which side of the patient the picture's right, its bottom and the next slice lie; ``edges``
    are the letters on its left, right, top and bottom; ``through`` is the world axis (0–2) across the slices.
    """

    name: str
    axis_codes: AxisCodes
    edges: tuple[str, str, str, str]
    through: int


PLANES = (
    Plane("axial", ("L", "P", "S"), ("R", "L", "A", "P"), 2),
    Plane("coronal", ("L", "I", "A"), ("R", "L", "S", "I"), 1),
    Plane("sagittal", ("P", "I", "R"), ("A", "P", "S", "I"), 0),
)


@dataclass(frozen=True)
class View:
    """A box of the world, RAS+ mm, and the side of a pixel, mm: what is shown of a brain."""

    centre_mm: np.ndarray
    extent_mm: np.ndarray
    pixel_mm: float

    def centred_on(self, image: Image) -> View:
        """A box of the same size around the foreground of another image."""
        low, high = foreground_box(image)
        return replace(self, centre_mm=(low + high) / 2)


def view_of(image: Image, *others: Image) -> View:
    """The box around the foreground of an image, large enough for those of the ``others`` when centred on them."""
    low, high = foreground_box(image)
    boxes = [foreground_box(other) for other in others]
    extent = np.max([high - low, *(b - a for a, b in boxes)], axis=0) + 2 * MARGIN_MM
    finest = min(float(shown.grid.zooms.min()) for shown in (image, *others))
    return View((low + high) / 2, extent, max(finest, float(extent.max()) / LONGEST_PIXELS))


def foreground_box(image: Image) -> tuple[np.ndarray, np.ndarray]:
    """(lowest, highest) corner of the foreground, RAS+ mm, (3,) each; of the whole grid where all is dark."""
    data = image.data.cpu()
    step = max(1, round(float(np.cbrt(data.numel() / 250_000))))
    bright = (data[::step, ::step, ::step] > dark_level(image)).nonzero().numpy() * step
    if len(bright) < 10:
        return image.grid.corners_world.min(axis=0), image.grid.corners_world.max(axis=0)
    world = image.grid.points_to_world(bright)
    return np.percentile(world, 0.05, axis=0), np.percentile(world, 99.95, axis=0)


def dark_level(image: Image) -> float:
    """Below this a voxel is background: a tenth of the brightness of bright tissue."""
    sample = _sample(image)
    lit = sample[sample > 0]
    return 0.1 * float(np.percentile(lit, 95)) if len(lit) else 0.0


def plane_grid(plane: Plane, view: View, slices: int = SLICES_PER_PLANE) -> Grid:
    """The grid of ``slices`` pictures: axis 0 runs to the right of the picture, axis 1 down, axis 2 through them.

    Pictures are evenly spaced over the middle four fifths of the box; one slice alone is its middle.
    """
    extent = [float(view.extent_mm[["RL", "PA", "IS"].index(_axis_of(code))]) for code in plane.axis_codes]
    shape = [max(2, round(extent[0] / view.pixel_mm)), max(2, round(extent[1] / view.pixel_mm)), slices]
    step = 0.8 * (extent[2] - 2 * MARGIN_MM) / max(1, slices - 1)
    return Grid.centred(shape, (view.pixel_mm, view.pixel_mm, max(step, 1e-3)), plane.axis_codes, view.centre_mm)


def place_of(plane: Plane, grid: Grid, number: int) -> str:
    """Where slice ``number`` lies in the image's world: ``12 mm S``, to the right (R), front (A) or top (S) of 0."""
    mm = round(float(grid.points_to_world([0, 0, number])[plane.through]))
    return f"{abs(mm)} mm {('LR', 'PA', 'IS')[plane.through][mm >= 0]}"


def cut(image: Image, grid: Grid) -> np.ndarray:
    """Pictures of an image: (slices, rows, columns) float32."""
    return _as_pictures(resample(Affine.identity(), image, grid).data)


def cut_labels(labels: LabelMap, grid: Grid) -> np.ndarray:
    """Pictures of a label map: (slices, rows, columns), whole numbers."""
    return _as_pictures(resample(Affine.identity(), labels, grid, "nearest").data)


def grey_window(image: Image) -> tuple[float, float]:
    """The intensities of an image that are drawn (black, white); the brightest 0.5 % of the foreground are white."""
    sample = _sample(image)
    lit = sample[sample > dark_level(image)]
    if not len(lit):
        return float(sample.min()), float(sample.max()) + 1e-6
    return min(0.0, float(lit.min())), float(np.percentile(lit, 99.5)) + 1e-6


def _sample(image: Image) -> np.ndarray:
    """Some 200,000 voxels, evenly spaced in memory."""
    data = image.data.cpu().flatten()
    return data[:: max(1, len(data) // 200_000)].numpy()


def _as_pictures(data: Tensor) -> np.ndarray:
    return data.cpu().numpy().transpose(2, 1, 0)


def _axis_of(code: str) -> str:
    return next(pair for pair in ("RL", "PA", "IS") if code in pair)
