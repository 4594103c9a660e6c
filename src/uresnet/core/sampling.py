"""Reading volumes at coordinates.

Volumes are channel-first, ``(B, C, I, J, K)``, with spatial axes in array (nibabel) order. Coordinates are voxel
indices, ``(B, 3, i, j, k)``, component c being the position along array axis c; 0 is the centre of the first voxel.
Coordinates are never below float32, whatever the volume is: half precision puts a voxel index near 200 on a 1/8 grid
(and bfloat16 on whole voxels). A float64 volume is read at float64 coordinates.
"""

from __future__ import annotations

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
