"""Reading volumes at coordinates.

Volumes are channel-first, ``(B, C, I, J, K)``, with spatial axes in array (nibabel) order. Coordinates are voxel
indices, ``(B, 3, i, j, k)``, component c being the position along array axis c; 0 is the centre of the first voxel.
Coordinates are never below float32, whatever the volume is: half precision puts a voxel index near 200 on a 1/8 grid
(and bfloat16 on whole voxels). A float64 volume is read at float64 coordinates.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from uresnet.core import ops
from uresnet.core.ops import Mode, Padding

_SCIPY_PADDING = {"zeros": "grid-constant", "border": "nearest"}
_SPLINE_MARGIN = 12


def sample(volume: Tensor, coordinates: Tensor, mode: Mode = "linear", padding: Padding = "zeros") -> Tensor:
    """Read ``volume`` (B, C, I, J, K) at ``coordinates`` (B, 3, i, j, k) in voxels: ``(B, C, i, j, k)``.

    ``padding="zeros"``: everything outside the array is 0 and is interpolated towards over one voxel.
    ``padding="border"``: the coordinate is clamped to the first and last voxel centre. Differentiable in both arguments
    (``mode="linear"``). Floating-point volumes keep their dtype, others come back as float32. A batch of one, on either
    side, is shared by the other side's batch.
    """
    if volume.ndim != 5 or coordinates.ndim != 5 or coordinates.shape[1] != 3:
        raise ValueError(
            f"volume must be (B, C, I, J, K) and coordinates (B, 3, i, j, k), not "
            f"{tuple(volume.shape)} and {tuple(coordinates.shape)}"
        )
    batch = max(volume.shape[0], coordinates.shape[0])
    volume, coordinates = _share_batch(volume, batch), _share_batch(coordinates, batch)
    return ops.read_volume(volume, coordinates, mode, padding)


def sample_points(volume: Tensor, voxels: Tensor, padding: Padding = "zeros") -> Tensor:
    """Read ``volume`` (C, I, J, K) linearly at ``voxels`` (N, 3), voxel indices: ``(N, C)``."""
    coordinates = voxels.T.reshape(1, 3, -1, 1, 1)
    return sample(volume[None], coordinates, padding=padding)[0, :, :, 0, 0].T


def sample_labels(labels: Tensor, coordinates: Tensor, majority: bool = True) -> Tensor:
    """Read ``labels`` (I, J, K), whole numbers, at ``coordinates`` (1, 3, i, j, k): ``(i, j, k)``, the same dtype.

    The label that holds the largest trilinear weight among the eight voxels around (the arg-max of trilinearly
    interpolated one-hot maps, whatever the number of labels; the smallest label wins a tie), or with
    ``majority=False`` the nearest voxel's. Beyond the edge the edge continues.
    """
    size = torch.tensor(labels.shape, device=labels.device).view(3, 1, 1, 1)
    where = torch.minimum(coordinates[0].float().clamp(min=0), (size - 1).float())
    if not majority:
        i, j, k = (where + 0.5).floor().long()
        return labels[i, j, k]
    return ops.read_labels(labels, where)


def sample_cubic(volume: Tensor, coordinates: Tensor, padding: Padding = "zeros", prefiltered: bool = False) -> Tensor:
    """As :func:`sample`, with the interpolating cubic B-spline of ``scipy.ndimage``: for final images, no gradient.

    ``prefiltered`` says that ``volume`` already holds spline coefficients (:func:`cubic_coefficients`).
    """
    batch = max(volume.shape[0], coordinates.shape[0])
    volume, coordinates = _share_batch(volume, batch), _share_batch(coordinates, batch)
    if not prefiltered:
        volume = cubic_coefficients(volume, padding)
    out = torch.empty((batch, volume.shape[1], *coordinates.shape[2:]), dtype=torch.float32)
    for b in range(batch):
        where = coordinates[b].detach().cpu().double().numpy() + _SPLINE_MARGIN
        for c in range(volume.shape[1]):
            values = ndimage.map_coordinates(
                volume[b, c].detach().cpu().numpy(),
                where,
                output=np.float32,
                order=3,
                mode=_SCIPY_PADDING[padding],
                prefilter=False,
            )
            out[b, c] = torch.from_numpy(values)
    return out.to(volume.device)


def cubic_coefficients(volume: Tensor, padding: Padding = "zeros") -> Tensor:
    """Cubic B-spline coefficients of each channel of ``volume`` (B, C, I, J, K), float32.

    They reach 12 voxels beyond the volume on every side, so that the spline sees what lies outside (the recursive
    filter forgets by a factor of 3.7 a voxel).
    """
    margin = ((_SPLINE_MARGIN, _SPLINE_MARGIN),) * 3
    outside: Literal["constant", "edge"] = "constant" if padding == "zeros" else "edge"
    filtered = [
        [
            ndimage.spline_filter(np.pad(plane, margin, mode=outside), 3, np.float32, _SCIPY_PADDING[padding])
            for plane in channels
        ]
        for channels in volume.detach().cpu().float().numpy()
    ]
    return torch.from_numpy(np.asarray(filtered)).to(volume.device)


def _share_batch(tensor: Tensor, batch: int) -> Tensor:
    if tensor.shape[0] == batch:
        return tensor
    if tensor.shape[0] != 1:
        raise ValueError(f"cannot pair a batch of {tensor.shape[0]} with a batch of {batch}")
    return tensor.expand(batch, *tensor.shape[1:])


# -- between two grids with the same centre and the same axes, axis by axis --------------------------------------------


def averaging_matrix(n: int, zoom: float, wide: float, points: int = 4) -> Tensor:
    """(m, n) float32: m voxels of ``wide`` mm, as many as cover n of ``zoom`` mm, each the mean over its width.

    The n voxels are read linearly at ``points`` points of each wide one; beyond them everything is 0.
    """
    count = _covering(n, zoom, wide)
    offsets = (np.arange(points) + 0.5) / points - 0.5
    centres = (np.arange(count)[:, None] + offsets - (count - 1) / 2) * wide
    weights = _linear_weights((centres / zoom + (n - 1) / 2).ravel(), n)
    return torch.from_numpy(weights.reshape(count, points, n).mean(axis=1)).float()


def interpolation_matrix(n: int, zoom: float, wide: float) -> Tensor:
    """(n, m) float32, the way back: m voxels of ``wide`` mm read linearly at n of ``zoom`` mm; the edge continues."""
    count = _covering(n, zoom, wide)
    points = (np.arange(n) - (n - 1) / 2) * zoom / wide + (count - 1) / 2
    return torch.from_numpy(_linear_weights(points.clip(0, count - 1), count)).float()


def along_axes(volume: Tensor, matrices: Sequence[Tensor]) -> Tensor:
    """``volume`` (I, J, K) with one matrix (m, n) applied along each axis."""
    for matrix in matrices:  # each takes the first axis and puts it last
        volume = torch.tensordot(volume, matrix, dims=([0], [1]))
    return volume


def _covering(n: int, zoom: float, wide: float) -> int:
    return int(np.ceil(n * zoom / wide))


def _linear_weights(points: np.ndarray, n: int) -> np.ndarray:
    """(P, n): the weight of each of n voxels at each of P points, in voxels."""
    weights: np.ndarray = (1 - np.abs(points[:, None] - np.arange(n))).clip(0)
    return weights
