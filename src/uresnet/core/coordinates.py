"""Positions of voxels as tensors, and large grids in slabs.

Coordinates are voxel indices, ``(B, 3, i, j, k)``: component c is the position along array axis c, and 0 is the centre
of the first voxel.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from uresnet.core.kernels.compiling import in_parallel
from uresnet.core.kernels.interpolation import affine_positions


def identity_coordinates(
    shape: Sequence[int], device: torch.device | str | None = None, dtype: torch.dtype = torch.float32
) -> Tensor:
    """Voxel index of every voxel of a grid: ``(1, 3, I, J, K)``, voxels."""
    axes = [torch.arange(n, device=device, dtype=dtype) for n in shape]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"))[None]


def affine_coordinates(
    matrix: np.ndarray, shape: Sequence[int], device: torch.device | str | None = None, first_slice: int = 0
) -> Tensor:
    """Where an affine map sends every voxel of a grid: ``(1, 3, I, J, K)`` float32, voxels.

    ``matrix`` is the 4×4 ``out_voxel_to_in_voxel``. The three per-axis terms are formed in float64 and added once, so
    the only float32 rounding is that of the result (6e-8 relative). ``first_slice`` starts axis i further along, for
    callers that work through a large grid in slabs of ``shape``.
    """
    out = torch.empty((1, 3, *(int(n) for n in shape)))
    rows = np.array(matrix, dtype=np.float64)[:3]
    each = out[0, 0, :1].numel()
    in_parallel(affine_positions, out.shape[2], rows, int(first_slice), out[0].numpy(), each=each)
    return out.to(device) if device is not None else out


def coarser_map(where: Tensor, block: int) -> Tensor:
    """A voxel map (B, 3, I, J, K) as a map between the grids whose voxels are blocks of ``block`` voxels."""
    # The centre of block n lies at voxel block·n + (block - 1) / 2.
    return where if block == 1 else (F.avg_pool3d(where, block) - (block - 1) / 2) / block


def finer_map(where: Tensor, block: int) -> Tensor:
    """The converse of :func:`coarser_map`: a map between blocks as one between the voxels they are made of.

    Linear between the blocks' centres; the outer half of the outer blocks moves as their centres do.
    """
    if block == 1:
        return where
    moved = where - identity_coordinates(where.shape[2:], where.device, where.dtype)
    fine = F.interpolate(moved, scale_factor=block, mode="trilinear", align_corners=False) * block
    return fine + identity_coordinates(fine.shape[2:], where.device, where.dtype)


def slabs(shape: Sequence[int], channels: int = 1, budget: int = 1_500_000) -> Iterator[slice]:
    """Slices along axis i that cover ``shape`` with at most about ``budget`` voxels × channels each."""
    step = max(1, budget // max(1, int(shape[1]) * int(shape[2]) * channels))
    for start in range(0, int(shape[0]), step):
        yield slice(start, min(start + step, int(shape[0])))
