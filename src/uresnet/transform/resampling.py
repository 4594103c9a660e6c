"""Resampling of images, label maps and probabilities through a transform."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import overload

import numpy as np
import torch
from torch import Tensor

from uresnet.core.choices import Interpolation
from uresnet.core.coordinates import slabs
from uresnet.core.grid import Grid
from uresnet.core.image import Image, LabelMap, ProbabilityMap
from uresnet.core.sampling import cubic_coefficients, sample, sample_cubic, sample_labels
from uresnet.errors import UserError
from uresnet.transform.affine import Affine
from uresnet.transform.base import Transform
from uresnet.transform.composite import map_grid


@overload
def resample(
    transform: Transform, image: Image, like: Grid, interpolation: Interpolation = ..., fill: float = ...
) -> Image: ...
@overload
def resample(
    transform: Transform, image: LabelMap, like: Grid, interpolation: Interpolation = ..., fill: float = ...
) -> LabelMap: ...
@overload
def resample(
    transform: Transform, image: ProbabilityMap, like: Grid, interpolation: Interpolation = ..., fill: float = ...
) -> ProbabilityMap: ...
def resample(
    transform: Transform,
    image: Image | LabelMap | ProbabilityMap,
    like: Grid,
    interpolation: Interpolation | None = None,
    fill: float = 0,
) -> Image | LabelMap | ProbabilityMap:
    """Bring a moving image, label map or probabilities onto the fixed grid ``like`` through ``transform``.

    Works in slabs of axis i, on the device of the image. ``interpolation`` defaults to "label" for a label map and
    "linear" otherwise. "label" gives the value with the largest trilinear weight, which is the arg-max of trilinearly
    resampled one-hot probabilities: values are never mixed. "linear" and "cubic" (B-spline) on a label map are a
    ``UserError``. Outside the moving grid the value is ``fill``; for probabilities the missing mass goes to channel 0.
    A voxel whose centre maps into the moving grid's box (to half a voxel beyond the outermost centres) is inside, as in
    ITK.
    """
    chosen: Interpolation = interpolation or ("label" if isinstance(image, LabelMap) else "linear")
    if isinstance(image, LabelMap):
        if chosen not in ("label", "nearest"):
            raise UserError(f"labels cannot be interpolated as numbers: use label or nearest, not {chosen}")
        return _resample_labels(transform, image, like, chosen, int(fill))
    if chosen == "label":
        raise UserError("interpolation 'label' needs a label map: whole numbers, not intensities")
    channels = image.data if isinstance(image, ProbabilityMap) else image.data[None]
    if isinstance(image, ProbabilityMap):
        fill = 0
    source = cubic_coefficients(channels[None], "border") if chosen == "cubic" else channels[None]
    out = torch.empty((len(channels), *like.shape), dtype=channels.dtype, device=channels.device)
    for rows in slabs(like.shape, channels=len(channels)):
        where = map_grid(transform, like, image.grid.world_to_voxel, rows, channels.device)
        if chosen == "cubic":
            values = sample_cubic(source, where, "border", prefiltered=True)[0]
        else:
            values = sample(source, where, chosen, padding="border")[0]
        out[:, rows] = torch.where(_inside(where, image.grid)[0], values, torch.tensor(fill).to(values))
    if isinstance(image, ProbabilityMap):
        out[0] += 1 - out.sum(dim=0)
        return replace(image, data=out, grid=like)
    return Image(out[0], like, image.path)


def _resample_labels(
    transform: Transform, image: LabelMap, like: Grid, interpolation: Interpolation, fill: int
) -> LabelMap:
    matrix = _whole_voxels(transform, image.grid, like)
    if matrix is not None and np.array_equal(np.abs(matrix[:3, :3]).sum(axis=0), [1, 1, 1]):
        return replace(image, data=_picked(image.data, matrix, like.shape, fill), grid=like)
    if matrix is not None:
        interpolation = "nearest"  # the same voxels, at a fraction of the cost
    out = torch.empty(like.shape, dtype=image.data.dtype, device=image.data.device)
    for rows in slabs(like.shape, channels=4):
        where = map_grid(transform, like, image.grid.world_to_voxel, rows, image.data.device)
        values = sample_labels(image.data, where, majority=interpolation == "label")
        out[rows] = torch.where(_inside(where, image.grid)[0, 0], values, torch.tensor(fill).to(values))
    return replace(image, data=out, grid=like)


def _whole_voxels(transform: Transform, source: Grid, like: Grid) -> np.ndarray | None:
    """The matrix (4, 4) from voxels of ``like`` to voxels of the ``source`` lattice where it is whole numbers: every
    voxel falls onto the centre of one. None elsewhere."""
    matrix = like.voxel_to_world
    for part in transform.parts:
        if not isinstance(part, Affine):
            return None
        matrix = part.matrix @ matrix
    matrix = source.world_to_voxel @ matrix
    whole = np.rint(matrix)
    return whole.astype(int) if float(np.abs(matrix - whole).max()) < 1e-4 else None


def _picked(data: Tensor, matrix: np.ndarray, shape: Sequence[int], fill: int) -> Tensor:
    """``data`` (I, J, K) at the voxels of a lattice of ``shape`` through a ``matrix`` that turns axes and shifts."""
    axes = [int(np.flatnonzero(matrix[:3, axis])[0]) for axis in range(3)]
    out = data.permute(axes)
    for axis, (source, n) in enumerate(zip(axes, shape, strict=True)):
        wanted = torch.arange(n, device=data.device) * int(matrix[source, axis]) + int(matrix[source, 3])
        outside = (wanted < 0) | (wanted >= data.shape[source])
        out = out.index_select(axis, wanted.clamp(0, data.shape[source] - 1)).index_fill(
            axis, outside.nonzero()[:, 0], fill
        )
    return out.contiguous()


def _inside(where: Tensor, grid: Grid) -> Tensor:
    """(1, 1, i, j, k): whether a voxel position is in the grid's box."""
    size = torch.tensor(grid.shape, device=where.device).view(1, 3, 1, 1, 1)
    return ((where >= -0.5) & (where < size - 0.5)).all(dim=1, keepdim=True)
