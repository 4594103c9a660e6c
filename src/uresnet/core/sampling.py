"""Reading volumes at coordinates: the only place that calls ``grid_sample`` and reverses axes to (k, j, i).

Volumes are channel-first, ``(B, C, I, J, K)``, with spatial axes in array (nibabel) order. Coordinates are voxel
indices, ``(B, 3, i, j, k)``, component c being the position along array axis c; 0 is the centre of the first voxel.
Coordinates are never below float32, whatever the volume is: half precision puts a voxel index near 200 on a 1/8 grid
(and bfloat16 on whole voxels). A float64 volume is read at float64 coordinates.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage
from torch import Tensor

from uresnet.core import kernels

Mode = Literal["linear", "nearest"]
PointMode = Literal["linear", "nearest", "cubic"]
Padding = Literal["zeros", "border"]

_TORCH_MODE = {"linear": "bilinear", "nearest": "nearest"}
_SCIPY_PADDING = {"zeros": "grid-constant", "border": "nearest"}
_SPLINE_MARGIN = 12


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
    kernels.in_parallel(kernels.affine_positions, out.shape[2], rows, int(first_slice), out[0].numpy(), each=each)
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
    if mode == "linear" and kernels.is_plain(volume, coordinates):
        return _read_plainly(volume, coordinates, padding)
    dtype = torch.float64 if volume.dtype == torch.float64 else torch.float32
    with torch.autocast(device_type=volume.device.type, enabled=False):
        values = F.grid_sample(
            # grid_sample reads (x, y, z) as (k, j, i): the flip is to hand it the volume with its axes reversed.
            _at_least_two(volume.to(dtype), padding).permute(0, 1, 4, 3, 2),
            _normalised(coordinates.to(dtype), volume.shape[2:]),
            mode=_TORCH_MODE[mode],
            padding_mode=padding,
            align_corners=True,
        )
    return values.to(volume.dtype) if volume.is_floating_point() else values


def _read_plainly(volume: Tensor, coordinates: Tensor, padding: Padding) -> Tensor:
    """:func:`sample` of what :func:`kernels.is_plain`."""
    out = torch.empty((*volume.shape[:2], *coordinates.shape[2:]))
    for source, where, to in zip(_at_least_two(volume, padding).contiguous(), coordinates, out, strict=True):
        arrays = (source.numpy(), where.flatten(1).contiguous().numpy(), padding == "border", to.flatten(1).numpy())
        kernels.in_parallel(kernels.read, to[0].numel(), *arrays)
    return out


def sample_points(volume: Tensor, voxels: Tensor, mode: PointMode = "linear", padding: Padding = "zeros") -> Tensor:
    """Read ``volume`` (C, I, J, K) at ``voxels`` (N, 3), voxel indices: ``(N, C)``.

    ``mode="cubic"`` is the interpolating cubic B-spline (scipy), not differentiable.
    """
    coordinates = voxels.T.reshape(1, 3, -1, 1, 1)
    if mode == "cubic":
        return sample_cubic(volume[None], coordinates, padding)[0, :, :, 0, 0].T
    return sample(volume[None], coordinates, mode, padding)[0, :, :, 0, 0].T


def gather(table: Tensor, shape: Sequence[int], voxels: Tensor) -> Tensor:
    """Trilinear reading of many features at once: rows of ``table`` (V, C), a voxel of ``shape`` each (last axis
    fastest), at ``voxels`` (3, N), clamped to the lattice: ``(N, C)``. No gradients.

    The same values as :func:`sample` with ``padding="border"``; features that lie side by side in memory are read
    faster.
    """
    if kernels.is_plain(table, voxels) and min(shape) > 1:
        out = torch.empty((voxels.shape[1], table.shape[1]))
        arrays = (table.contiguous().numpy(), tuple(int(n) for n in shape), voxels.contiguous().numpy(), out.numpy())
        kernels.in_parallel(kernels.read_rows, len(out), *arrays)
        return out
    last = torch.tensor([n - 1 for n in shape], device=voxels.device).view(3, 1)
    where = torch.minimum(voxels.float().clamp(min=0), last.float())
    low = torch.minimum(where.int(), (last - 1).clamp(min=0).int())
    fraction = where - low
    strides = (shape[1] * shape[2], shape[2], 1)
    first = low[0] * strides[0] + low[1] * strides[1] + low[2]
    # A lattice of one voxel has no second one to go to.
    up = [stride if n > 1 else 0 for stride, n in zip(strides, shape, strict=True)]
    steps = torch.tensor([a * up[0] + b * up[1] + c * up[2] for a, b, c in product((0, 1), repeat=3)])
    # The points stay the last axis until the end: short last axes are slow.
    sides = torch.stack([1 - fraction, fraction])
    weights = sides[:, None, None, 0] * sides[None, :, None, 1] * sides[None, None, :, 2]
    rows = (first + steps.to(first)[:, None]).T.contiguous()
    return F.embedding_bag(rows, table, mode="sum", per_sample_weights=weights.flatten(0, 2).T.contiguous())


def weighted_rows(x: Tensor, axis: int, first: np.ndarray, weights: np.ndarray) -> Tensor:
    """Along one ``axis`` of ``x``: row p of the result is the sum over t of ``weights`` (P, T) times row ``first`` (P,)
    + t; beyond the ends the ends are repeated."""
    if kernels.is_plain(x):
        before, after = x.shape[:axis], x.shape[axis + 1 :]
        source = x.contiguous().view(before.numel(), x.shape[axis], after.numel())
        out = torch.empty((len(source), len(first), source.shape[2]))
        how = first.astype(np.int64), weights.astype(np.float32)
        if source.shape[2] == 1:
            arrays = (source[..., 0].numpy(), *how, out[..., 0].numpy())
            kernels.in_parallel(kernels.sum_values, len(source), *arrays, each=len(first))
        else:
            arrays = (source.numpy(), *how, out.numpy())
            kernels.in_parallel(kernels.sum_rows, len(source) * len(first), *arrays, each=source.shape[2])
        return out.view(*before, len(first), *after)
    rows = torch.from_numpy(first).to(x.device)
    shape = [-1 if a == axis else 1 for a in range(x.ndim)]
    parts = [
        x.index_select(axis, (rows + t).clamp(0, x.shape[axis] - 1)) * torch.tensor(column).to(x).view(shape)
        for t, column in enumerate(weights.T)
    ]
    return torch.stack(parts).sum(dim=0)


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
    labels = labels.contiguous()
    if kernels.is_plain(where) and min(labels.shape) > 1:
        out = torch.empty(where.shape[1:], dtype=labels.dtype)
        arrays = labels.numpy(), where.flatten(1).contiguous().numpy(), out.flatten().numpy()
        kernels.in_parallel(kernels.read_labels, out.numel(), *arrays)
        return out
    flat, strides = labels.flatten(), labels.stride()
    where, shape = where.flatten(1), where.shape[1:]
    low = where.long()
    first = low[0] * strides[0] + low[1] * strides[1] + low[2] * strides[2]
    up = [(low[axis] < labels.shape[axis] - 1) * strides[axis] for axis in range(3)]
    corners = torch.stack([flat[first + a * up[0] + b * up[1] + c * up[2]] for a, b, c in product((0, 1), repeat=3)])
    best = corners[0].clone()
    # Nearly everywhere all eight agree.
    undecided = (corners != best).any(dim=0).nonzero()[:, 0]
    best[undecided] = _majority(corners[:, undecided], (where - low)[:, undecided])
    return best.view(shape)


def _majority(corners: Tensor, fraction: Tensor) -> Tensor:
    """The label (N,) with the largest trilinear weight among ``corners`` (8, N), last axis fastest, at ``fraction``
    (3, N) of the way from the first; the smallest wins a tie."""
    sides = torch.stack([1 - fraction, fraction])
    weights = (sides[:, None, None, 0] * sides[None, :, None, 1] * sides[None, None, :, 2]).flatten(0, 2)
    best, best_weight = corners[0], torch.full_like(weights[0], -1.0)
    for candidate in corners:
        weight = (weights * (corners == candidate)).sum(dim=0)
        wins = (weight > best_weight) | ((weight == best_weight) & (candidate < best))
        best, best_weight = torch.where(wins, candidate, best), torch.where(wins, weight, best_weight)
    return best


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
            for plane in one
        ]
        for one in volume.detach().cpu().float().numpy()
    ]
    return torch.from_numpy(np.asarray(filtered)).to(volume.device)


def slabs(shape: Sequence[int], channels: int = 1, budget: int = 4_000_000) -> Iterator[slice]:
    """Slices along axis i that cover ``shape`` with at most about ``budget`` voxels × channels each."""
    step = max(1, budget // max(1, int(shape[1]) * int(shape[2]) * channels))
    for start in range(0, int(shape[0]), step):
        yield slice(start, min(start + step, int(shape[0])))


def _normalised(coordinates: Tensor, shape: Sequence[int]) -> Tensor:
    """Voxel indices (B, 3, ...) to [-1, 1] with align_corners=True, components last and still in (i, j, k) order.

    Centring first (``x - (n-1)/2`` is exact near the identity) and scaling after loses less than ``2x/(n-1) - 1``.
    """
    half = torch.tensor([(max(int(n), 2) - 1) / 2 for n in shape], dtype=coordinates.dtype, device=coordinates.device)
    half = half.view(1, 3, 1, 1, 1)
    return (coordinates - half).div_(half).movedim(1, -1)


def _at_least_two(volume: Tensor, padding: Padding) -> Tensor:
    """Give an axis of one voxel a second one: a single voxel has no extent that [-1, 1] could be scaled to.

    The second voxel repeats what lies outside (zeros, or the border), so no value read anywhere changes.
    """
    for axis in (2, 3, 4):
        if volume.shape[axis] == 1:
            outside = torch.zeros_like(volume) if padding == "zeros" else volume
            volume = torch.cat([volume, outside], dim=axis)
    return volume


def _share_batch(tensor: Tensor, batch: int) -> Tensor:
    if tensor.shape[0] == batch:
        return tensor
    if tensor.shape[0] != 1:
        raise ValueError(f"cannot pair a batch of {tensor.shape[0]} with a batch of {batch}")
    return tensor.expand(batch, *tensor.shape[1:])
