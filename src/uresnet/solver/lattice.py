"""Lattices about a common middle, and smoothing and resampling on them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from uresnet.core.coordinates import identity_coordinates
from uresnet.core.ops import separable_filter, weighted_rows


def centred_positions(shape: Sequence[int], spacing: float, device: torch.device) -> Tensor:
    """Voxel centres (1, 3, i, j, k) about the middle of a lattice with voxels of ``spacing``."""
    half = torch.tensor([(n - 1) / 2 for n in shape], device=device).view(1, 3, 1, 1, 1)
    return (identity_coordinates(shape, device=device) - half) * spacing


def in_voxels(matrix: np.ndarray, spacing: int) -> np.ndarray:
    """An affine (4, 4) of mm as one of voxels of ``spacing`` mm."""
    scaled = matrix.copy()
    scaled[:3, 3] /= spacing
    return scaled


def mapped(matrix: np.ndarray, positions: Tensor, shape: Sequence[int]) -> Tensor:
    """Positions (1, 3, i, j, k) about the middle through ``matrix`` (4, 4), as voxel indices of a lattice of
    ``shape``."""
    m = torch.tensor(matrix).to(positions)
    middle = torch.tensor([(n - 1) / 2 for n in shape]).to(positions)
    return torch.addmm((m[:3, 3] + middle)[:, None], m[:3, :3], positions[0].flatten(1)).view_as(positions)


def doubled(box: tuple[slice, ...]) -> tuple[slice, ...]:
    """The box in voxels half as large, as an index of (B, C, I, J, K)."""
    return (slice(None), slice(None), *(slice(2 * side.start, 2 * side.stop) for side in box))


def upsampled(x: Tensor) -> Tensor:
    """(B, C, I, J, K) on voxels half as large, linearly; beyond the outer centres the outer values continue."""
    for axis in (4, 3, 2):
        places = np.arange(2 * x.shape[axis])
        weights = np.where(places[:, None] % 2 == 0, (0.25, 0.75), (0.75, 0.25))
        x = weighted_rows(x, axis, (places - 1) // 2, weights)
    return x


def with_midpoints(x: Tensor) -> Tensor:
    """(B, C, 2 I - 1, 2 J - 1, 2 K - 1): the voxels of ``x`` and the points half-way between them.

    Half-way the value is that of the polynomial through the six nearest voxels of the line.
    """
    voxel, between = (0, 0, 1, 0, 0, 0), np.array((3, -25, 150, 150, -25, 3)) / 256
    for axis in (4, 3, 2):
        places = np.arange(2 * x.shape[axis] - 1)
        x = weighted_rows(x, axis, places // 2 - 2, np.where(places[:, None] % 2 == 0, voxel, between))
    return x


def spline_resampled(x: Tensor, shape: Sequence[int], step: float) -> Tensor:
    """The cubic B-spline with coefficients ``x`` (B, C, I, J, K), on a lattice of ``shape`` with the same middle.

    The new voxels are ``step`` old ones wide. The result is smooth, and for that a little below ``x`` where it bends.
    """
    out = x.new_empty((*x.shape[:2], *shape))
    for channels, resampled in zip(x, out, strict=True):
        for values, into in zip(channels, resampled, strict=True):  # one at a time, as this is the largest of fields
            into.copy_(_resampled(values[None, None], shape, step)[0, 0])
    return out


def _resampled(x: Tensor, shape: Sequence[int], step: float) -> Tensor:
    """:func:`spline_resampled`, of one channel."""
    for axis, size in reversed(list(enumerate(shape, start=2))):
        n = x.shape[axis]
        position = (np.arange(size) - (size - 1) / 2) * step + (n - 1) / 2
        first = np.floor(position).astype(np.int64) - 1
        t = (position - np.floor(position))[:, None]
        weights = np.hstack([(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3]) / 6
        x = weighted_rows(x, axis, first, weights)
    return x


def gaussian_smoothed(x: Tensor, sigma: float) -> Tensor:
    """Gaussian of ``sigma`` voxels over (B, C, i, j, k); the edge continues."""
    if sigma <= 0:
        return x
    reach = max(1, round(2.5 * sigma))
    weights = np.exp(-((np.arange(-reach, reach + 1) / sigma) ** 2) / 2)
    return separable_filter(x, weights / weights.sum())


def neighbours_mixed(x: Tensor, weight: float) -> Tensor:
    """(B, C, I, J, K) with the ``weight`` of either neighbour along every axis, a third for means over 3×3×3 voxels;
    the edge continues."""
    return separable_filter(x, np.array([weight, 1 - 2 * weight, weight])) if weight > 0 else x


def widened(mask: Tensor, reach: int) -> Tensor:
    """1 in cubes of 2 · ``reach`` + 1 voxels around what is above 0 in ``mask`` (B, C, I, J, K), none of which is below
    0; 0 elsewhere."""
    return (separable_filter(mask, np.ones(2 * reach + 1)) > 0).to(mask.dtype)
