"""Transforms, maps and images as stored: rounded as finely as the brain needs, and coarsely where there is none.

Digits that mean nothing do not compress. In the brain a displacement is rounded to multiples of 2⁻⁷ mm, an error of at
most 0.004 mm along each axis, and farther away more coarsely, to 0.125 mm: what a transform says there is extrapolated.
Nothing is cut off, so that a face or a neck is not torn. Where the reference is written, nothing is rounded.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from uresnet.core.choices import check_choices
from uresnet.core.exact import is_exact
from uresnet.core.grid import Grid
from uresnet.core.image import Image, LabelMap
from uresnet.errors import UserError
from uresnet.transform import Affine, Composite, DisplacementField, Transform, displacement_on, resample

_QUANTA_MM = ((0.0, 2.0**-7), (2.0, 2.0**-4), (np.inf, 2.0**-2))
"""Up to so many mm from where brain may be read → what a displacement is a multiple of, mm."""

_COMPACT_QUANTA_MM = (_QUANTA_MM[0], (np.inf, 2.0**-1))
"""The same for transforms of which there are many, or which are large: the disk is what is scarce."""

_JACOBIAN_QUANTA = ((0.0, 2.0**-9), (np.inf, 2.0**-4))
_SMALLEST_ROUNDED = 2.0**-3
"""Of a Jacobian determinant: what is smaller keeps all digits, and with them its sign."""

_LEVELS = 2**12
"""Grey levels of a stored image between its darkest and its brightest 0.5 %."""

_COARSER = 3  # distances are measured on voxels so many times as large


def stored_transform(
    transform: Composite, start: LabelMap, end: LabelMap, spacing: float | None = None, compact: bool = False
) -> Composite:
    """The transform with its displacements rounded, where ``compact`` to 0.25 mm far from the brain. ``start`` is the
    brain where points come from, ``end`` the one where they go. With a ``spacing``, displacements are on voxels of that
    many mm, and their inverse is less accurate.
    """
    if is_exact():
        return transform
    steps = _COMPACT_QUANTA_MM if compact else _QUANTA_MM
    parts = list(transform.parts)
    for n, part in enumerate(parts):
        if isinstance(part, DisplacementField):
            field = part if spacing is None else _at_spacing(part, spacing)
            before = Composite([Affine.identity(), *parts[:n]]).inverse() if n else Affine.identity()
            onto_end = Composite([*parts[n:], Affine.identity()])
            quanta = _quanta(steps, field.grid, (before, start), (onto_end, end))
            parts[n] = replace(field, displacement=_rounded(field.displacement, quanta))
    return Composite(parts)


def stored_jacobian(jacobian: Image, brain: LabelMap) -> Image:
    """The Jacobian rounded to 0.002 in and around the ``brain``, and to 0.06 elsewhere; small values are kept."""
    if is_exact():
        return jacobian
    quanta = _quanta(_JACOBIAN_QUANTA, jacobian.grid, (Affine.identity(), brain))
    rounded = _rounded(jacobian.data[None], quanta)[0]
    return replace(jacobian, data=torch.where(jacobian.data.abs() < _SMALLEST_ROUNDED, jacobian.data, rounded))


def stored_image(image: Image) -> Image:
    """The image rounded by at most 1/8192 of the span of its values, without the outermost 0.5 % at either end: what
    interpolation makes of the digits below does not compress. Whole numbers are kept."""
    if is_exact():
        return image
    values = image.data.flatten()
    sample = values[:: max(1, len(values) // 200_000)].double()
    low, high = torch.quantile(sample, torch.tensor([0.005, 0.995], dtype=torch.float64)).tolist()
    if not 0 < high - low < np.inf:
        return image
    quantum = min(1.0, 2.0 ** np.floor(np.log2((high - low) / _LEVELS)))
    return replace(image, data=torch.round(image.data / quantum) * quantum)


def check_spacing(function: str, spacing: float | None) -> None:
    """Raises :class:`UserError` for a spacing that is no sensible size of a voxel, mm."""
    check_choices(function, field_spacing=(spacing, float | int | None))
    if spacing is not None and not 0.3 <= spacing <= 8:
        raise UserError(f"{function}: field_spacing is {spacing:g} mm; give 0.3 to 8.")


def _at_spacing(field: DisplacementField, spacing: float) -> DisplacementField:
    grid = field.grid.rescaled([spacing / float(zoom) for zoom in field.grid.zooms])
    return displacement_on(Composite([replace(field, inverse_field=None)]), grid)


def _quanta(steps: tuple[tuple[float, float], ...], grid: Grid, *brains: tuple[Transform, LabelMap]) -> Tensor:
    """(I, J, K) float32: of what the values at the voxels of ``grid`` are multiples, by ``steps`` of their distance
    from what is read in some brains, each given with the transform that brings it onto the grid's world."""
    coarse = grid.rescaled(_COARSER)
    inside = torch.zeros(coarse.shape, dtype=torch.bool)
    for onto, brain in brains:
        inside |= resample(onto, replace(brain, data=brain.mask.to(torch.uint8)), coarse, "nearest").mask
    sizes = np.array([size for _, size in steps], dtype=np.float32)
    if not inside.any():
        return torch.full(grid.shape, float(sizes[0]))  # nowhere to be coarse
    distance = ndimage.distance_transform_edt(~inside.numpy(), sampling=coarse.zooms)
    # To a block's middle and from one; and a point of the brain is read between voxels.
    distance = (distance - np.linalg.norm(coarse.zooms) - np.linalg.norm(grid.zooms)).clip(min=0)
    quanta = sizes[np.searchsorted([edge for edge, _ in steps[:-1]], distance)]
    for axis, n in enumerate(grid.shape):
        quanta = np.repeat(quanta, _COARSER, axis).take(range(n), axis)
    return torch.from_numpy(quanta)


def _rounded(values: Tensor, quanta: Tensor) -> Tensor:
    """(C, I, J, K) to multiples of ``quanta`` (I, J, K)."""
    out = torch.empty_like(values, device="cpu")
    for channel, rounded in zip(values.cpu(), out, strict=True):
        torch.div(channel, quanta, out=rounded).round_().mul_(quanta)
    return out
