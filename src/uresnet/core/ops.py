"""Operations on voxels that exist twice: compiled by Numba for the CPU, and made of PyTorch's operators.

The compiled form is chosen here, and nowhere else, for float32 tensors in the CPU's memory when no gradients are wanted
(:func:`is_plain`); everything else (GPUs, float64, training, the reference of :mod:`uresnet.core.exact`) takes
PyTorch's. Both give the same values up to rounding, which a test holds them to. Volumes and fields are channel-first
with spatial axes (I, J, K); positions are voxel indices.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from uresnet.core.coordinates import identity_coordinates
from uresnet.core.exact import is_exact
from uresnet.core.kernels import classes, correlation, filters, interpolation
from uresnet.core.kernels import folds as fold_kernels
from uresnet.core.kernels.compiling import in_parallel

Mode = Literal["linear", "nearest"]
Padding = Literal["zeros", "border"]

_TORCH_MODE = {"linear": "bilinear", "nearest": "nearest"}


def is_plain(*tensors: Tensor) -> bool:
    """Whether the compiled form takes these: float32, in the CPU's memory, no gradients and no exact results wanted."""
    return not is_exact() and all(
        tensor.device.type == "cpu"
        and tensor.dtype == torch.float32
        and not (tensor.requires_grad and torch.is_grad_enabled())
        for tensor in tensors
    )


# -- reading between voxels --------------------------------------------------------------------------------------------


def read_volume(volume: Tensor, coordinates: Tensor, mode: Mode = "linear", padding: Padding = "zeros") -> Tensor:
    """``volume`` (B, C, I, J, K) at ``coordinates`` (B, 3, i, j, k): ``(B, C, i, j, k)``.

    What :func:`uresnet.core.sampling.sample` promises, of arguments of one batch. The only place that calls
    ``grid_sample``, whose axes are (k, j, i).
    """
    if mode == "linear" and is_plain(volume, coordinates):
        out = torch.empty((*volume.shape[:2], *coordinates.shape[2:]))
        border = padding == "border"
        for source, where, to in zip(_at_least_two(volume, padding).contiguous(), coordinates, out, strict=True):
            arrays = source.numpy(), where.flatten(1).contiguous().numpy(), border, to.flatten(1).numpy()
            in_parallel(interpolation.read_volume, to[0].numel(), *arrays)
        return out
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


def read_labels(labels: Tensor, where: Tensor) -> Tensor:
    """``labels`` (I, J, K), integers, at ``where`` (3, i, j, k), inside the volume: ``(i, j, k)``, the same dtype.

    The label that holds the largest trilinear weight among the eight voxels around; the smallest label wins a tie.
    """
    labels = labels.contiguous()
    if is_plain(where) and min(labels.shape) > 1:
        out = torch.empty(where.shape[1:], dtype=labels.dtype)
        arrays = labels.numpy(), where.flatten(1).contiguous().numpy(), out.flatten().numpy()
        in_parallel(interpolation.read_labels, out.numel(), *arrays)
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
    best[undecided] = _heaviest_label(corners[:, undecided], (where - low)[:, undecided])
    return best.view(shape)


@dataclass(frozen=True, eq=False)
class FeatureRows:
    """Features of an image: a row of ``table`` (V, C) for each voxel of a lattice of ``shape``, last axis fastest.

    Features that lie side by side in memory are read faster than channels that lie apart.
    """

    table: Tensor
    shape: tuple[int, ...]

    @classmethod
    def of(cls, features: Tensor) -> FeatureRows:
        """From channels (1, C, I, J, K)."""
        return cls(features[0].flatten(1).T.contiguous(), tuple(features.shape[2:]))


def read_rows(rows: FeatureRows, voxels: Tensor) -> Tensor:
    """All features at ``voxels`` (3, N), trilinearly, clamped to the lattice: ``(N, C)``. No gradients."""
    table, shape = rows.table, rows.shape
    if is_plain(table, voxels) and min(shape) > 1:
        out = torch.empty((voxels.shape[1], table.shape[1]))
        arrays = (table.contiguous().numpy(), tuple(int(n) for n in shape), voxels.contiguous().numpy(), out.numpy())
        in_parallel(interpolation.read_rows, len(out), *arrays)
        return out
    last = torch.tensor([n - 1 for n in shape], device=voxels.device).view(3, 1)
    where = torch.minimum(voxels.float().clamp(min=0), last.float())
    low = torch.minimum(where.int(), (last - 1).clamp(min=0).int())
    fraction = where - low
    strides = (shape[1] * shape[2], shape[2], 1)
    first = low[0] * strides[0] + low[1] * strides[1] + low[2] * strides[2]
    # A lattice of one voxel has no second one to go to.
    up = [stride if n > 1 else 0 for stride, n in zip(strides, shape, strict=True)]
    steps = torch.tensor([a * up[0] + b * up[1] + c * up[2] for a, b, c in product((0, 1), repeat=3)])
    indices = (first + steps.to(first)[:, None]).T.contiguous()
    weights = _corner_weights(fraction).T.contiguous()
    return F.embedding_bag(indices, table, mode="sum", per_sample_weights=weights)


def _at_least_two(volume: Tensor, padding: Padding) -> Tensor:
    """Give an axis of one voxel a second one: a single voxel has no extent that [-1, 1] could be scaled to.

    The second voxel repeats what lies outside (zeros, or the border), so no value read anywhere changes.
    """
    for axis in (2, 3, 4):
        if volume.shape[axis] == 1:
            outside = torch.zeros_like(volume) if padding == "zeros" else volume
            volume = torch.cat([volume, outside], dim=axis)
    return volume


def _normalised(coordinates: Tensor, shape: Sequence[int]) -> Tensor:
    """Voxel indices (B, 3, ...) to [-1, 1] with align_corners=True, components last and still in (i, j, k) order.

    Centring first (``x - (n-1)/2`` is exact near the identity) and scaling after loses less than ``2x/(n-1) - 1``.
    """
    half = torch.tensor([(max(int(n), 2) - 1) / 2 for n in shape], dtype=coordinates.dtype, device=coordinates.device)
    half = half.view(1, 3, 1, 1, 1)
    return (coordinates - half).div_(half).movedim(1, -1)


def _corner_weights(fraction: Tensor) -> Tensor:
    """Trilinear weights (8, N) of the voxels around, last axis fastest, at ``fraction`` (3, N) of the way."""
    # The points stay the last axis: short last axes are slow.
    sides = torch.stack([1 - fraction, fraction])
    return (sides[:, None, None, 0] * sides[None, :, None, 1] * sides[None, None, :, 2]).flatten(0, 2)


def _heaviest_label(corners: Tensor, fraction: Tensor) -> Tensor:
    """The label (N,) with the largest trilinear weight among ``corners`` (8, N), last axis fastest, at ``fraction``
    (3, N) of the way from the first; the smallest wins a tie."""
    weights = _corner_weights(fraction)
    best, best_weight = corners[0], torch.full_like(weights[0], -1.0)
    for candidate in corners:
        weight = (weights * (corners == candidate)).sum(dim=0)
        wins = (weight > best_weight) | ((weight == best_weight) & (candidate < best))
        best, best_weight = torch.where(wins, candidate, best), torch.where(wins, weight, best_weight)
    return best


# -- sums over neighbours ----------------------------------------------------------------------------------------------


def weighted_rows(x: Tensor, axis: int, first: np.ndarray, weights: np.ndarray) -> Tensor:
    """Weighted sums of neighbouring rows along one ``axis`` of ``x``, one for each of P places.

    Row p of the result is the sum over t of ``weights`` (P, T) times row ``first`` (P,) + t; beyond the ends the ends
    are repeated.
    """
    if is_plain(x):
        before, after = x.shape[:axis], x.shape[axis + 1 :]
        source = x.contiguous().view(before.numel(), x.shape[axis], after.numel())
        out = torch.empty((len(source), len(first), source.shape[2]))
        how = first.astype(np.int64), weights.astype(np.float32)
        if source.shape[2] == 1:
            arrays = (source[..., 0].numpy(), *how, out[..., 0].numpy())
            in_parallel(filters.sum_values, len(source), *arrays, each=len(first))
        else:
            arrays = (source.numpy(), *how, out.numpy())
            in_parallel(filters.sum_rows, len(source) * len(first), *arrays, each=source.shape[2])
        return out.view(*before, len(first), *after)
    rows = torch.from_numpy(first).to(x.device)
    shape = [-1 if a == axis else 1 for a in range(x.ndim)]
    parts = [
        x.index_select(axis, (rows + t).clamp(0, x.shape[axis] - 1)) * torch.tensor(column).to(x).view(shape)
        for t, column in enumerate(weights.T)
    ]
    return torch.stack(parts).sum(dim=0)


def separable_filter(x: Tensor, weights: np.ndarray) -> Tensor:
    """``x`` (B, C, I, J, K) filtered along all three axes by the same odd number of ``weights``; the edge continues."""
    if is_plain(x):
        x, out = x.contiguous(), torch.empty_like(x, memory_format=torch.contiguous_format)
        for source, result in zip(x, out, strict=True):
            arrays = source.numpy(), weights.astype(np.float32), result.numpy()
            in_parallel(filters.separable, x.shape[2], *arrays, each=source[:, 0].numel(), pieces=1)
        return out
    for axis in (4, 3, 2):
        n = x.shape[axis]
        x = weighted_rows(x, axis, np.arange(n) - len(weights) // 2, np.tile(weights, (n, 1)))
    return x


def box_mean(x: Tensor, window: int) -> Tensor:
    """Mean of (B, C, I, J, K) over a cube of ``window`` voxels, zeros beyond the border; differentiable."""
    for axis in range(3):  # one axis at a time costs 3·window instead of window³
        size, padding = [1, 1, 1], [0, 0, 0]
        size[axis], padding[axis] = window, window // 2
        x = F.avg_pool3d(x, size, stride=1, padding=padding)
    return x


# -- displacements -----------------------------------------------------------------------------------------------------


def compose(
    first: Tensor, second: Tensor, weight_first: float = 1.0, weight_second: float = 1.0, where: Tensor | None = None
) -> Tensor:
    """``weight_first`` · u(x) + ``weight_second`` · d(x + u(x)) of displacements u = ``first`` and d = ``second``.

    All (B, 3, I, J, K), voxels. ``where`` (I, J, K) bool saves time: elsewhere d is read at x instead, unless the
    reference is computed.
    """
    if not is_plain(first, second) or min(second.shape[2:]) < 2:
        identity = identity_coordinates(second.shape[2:], device=second.device, dtype=second.dtype)
        read = read_volume(second, identity + first, padding="border")
        if where is not None and not is_exact():
            read = torch.where(where, read, second)
        return weight_first * first + weight_second * read
    inside = torch.ones(first.shape[2:], dtype=torch.bool) if where is None else where
    weights = np.float32(weight_first), np.float32(weight_second)
    out = torch.empty_like(first, memory_format=torch.contiguous_format)
    for u, d, o in zip(first.contiguous(), second.contiguous(), out, strict=True):
        arrays = (u.numpy(), d.numpy(), *weights, inside.numpy(), o.numpy())
        in_parallel(interpolation.compose, len(u[0]), *arrays, each=u[0, 0].numel())
    return out


def newton_half_steps(both: Tensor, inside: Tensor, steps: int, tolerance: float) -> None:
    """Bring two displacements ``both`` (2, 3, I, J, K), voxels, closer to inverting each other, in place.

    Each of the ``steps`` moves both by half of Newton's step, which keeps them exchangeable: where ``inside`` (I, J, K)
    bool, and after the first step only where a residual was above ``tolerance`` voxels. The residual of a voxel is the
    mean of its own and of those half-way to its neighbours, since a field is also read between its voxels.
    """
    pending = inside.clone()
    if is_plain(both) and min(both.shape[2:]) > 1:
        fields, points = both.numpy(), pending.numpy()
        for _ in range(steps):
            if not pending.any():
                return
            box = bounding_box(pending)
            low = np.array([side.start for side in box])
            out = np.empty((2, 3, *(side.stop - side.start for side in box)), np.float32)
            done, each = np.empty_like(points), out[0, 0, 0].size
            in_parallel(
                interpolation.newton_half_step, out.shape[2], fields, points, np.float32(tolerance), low, out, done,
                each=each,
            )  # fmt: skip
            in_parallel(interpolation.accept, out.shape[2], out, low, points, done, fields, each=each)
            del out, done  # as large as the fields
        return
    voxels = identity_coordinates(both.shape[2:], device=both.device)
    for _ in range(steps):
        residual = _there_and_back(both, voxels)
        if min(both.shape[2:]) > 2:
            between = _there_and_back(both, voxels[..., :-1, :-1, :-1] + 0.5, half_way=True)
            inner = residual[..., 1:-1, 1:-1, 1:-1]
            inner.add_(F.avg_pool3d(between, 2, stride=1)).div_(2)
            del between  # as large as the fields
        change = residual.clone()
        for axis in range(3):
            change += residual[:, axis : axis + 1] * torch.gradient(both, dim=axis + 2)[0]
        both.copy_(torch.where(pending, both - change / 2, both))
        pending &= residual.square().sum(dim=1).amax(dim=0) > tolerance**2


def _there_and_back(both: Tensor, start: Tensor, half_way: bool = False) -> Tensor:
    """How far a step from ``start`` (1, 3, i, j, k) along each of two displacements ``both``, and back along the other,
    ends from there; ``half_way`` starts between eight voxels."""
    found = F.avg_pool3d(both, 2, stride=1) if half_way else both.clone()
    for side in range(2):  # one at a time: the fields are large
        back = read_volume(both[1 - side : 2 - side], start + found[side : side + 1], padding="border")
        found[side] += back[0]
    return found


def bounding_box(mask: Tensor) -> tuple[slice, ...]:
    """The box of (i, j, k) bool that holds all that is True, at least three voxels wide: slopes need two neighbours."""
    return tuple(_extent(mask.any(dim=others[0]).any(dim=others[1])) for others in ((2, 1), (2, 0), (1, 0)))


def _extent(line: Tensor) -> slice:
    """From the first True to the last, at least three where there are so many."""
    found = line.nonzero()[:, 0]
    start = max(0, min(int(found[0]), len(line) - 3))
    return slice(start, min(max(int(found[-1]) + 1, start + 3), len(line)))


def folds(displacement: Tensor) -> Tensor:
    """Where a ``displacement`` (3, I, J, K), voxels, folds: (I, J, K) bool, False on the faces.

    A voxel folds where the Jacobian determinant of x + u(x), by central differences, is not positive, or not a number.
    """
    out = torch.zeros(displacement.shape[1:], dtype=torch.bool, device=displacement.device)
    if is_plain(displacement):
        arrays = displacement.contiguous().numpy(), out.numpy()
        in_parallel(fold_kernels.find_folds, len(out), *arrays, each=out[0].numel())
        return out
    inner = (slice(1, -1),) * 3
    slopes = torch.stack([torch.stack(torch.gradient(u), dim=-1)[inner] for u in displacement.float()], dim=-2)
    slopes = slopes + torch.eye(3, device=slopes.device)
    out[inner] = ~(torch.linalg.det(slopes) > 0)
    return out


# -- forces ------------------------------------------------------------------------------------------------------------


def structure_forces(
    moving: FeatureRows, fixed: FeatureRows, places: Sequence[Tensor], weights: Tensor, region: Tensor
) -> tuple[Tensor, list[Tensor]]:
    """Half the sum over features of weight · (a − b) · ∇(a + b), for features a and b read at ``places``.

    ``places`` (3, i, j, k) of a lattice's voxels in ``moving`` and in ``fixed``; ``weights`` (C - 1,) of all features
    but the last, the intensity. → force (1, 3, i, j, k), and both intensities (1, 1, i, j, k); 0 outside of ``region``
    (i, j, k) bool. What pulls one image forwards pulls the other back as much, so the two slopes are added first.
    """
    lattice = places[0].shape[1:]
    force = torch.zeros((1, 3, *lattice), device=places[0].device)
    if is_plain(force) and min(*moving.shape, *fixed.shape) > 1:
        images = [torch.zeros((1, 1, *lattice)) for _ in range(2)]
        inputs = [tensor.contiguous().numpy() for tensor in (*places, region, weights)]
        outputs = [tensor.numpy() for tensor in (force[0], images[0][0, 0], images[1][0, 0])]
        rows = moving.table.numpy(), fixed.table.numpy(), moving.shape, fixed.shape
        each = region[0].numel()
        in_parallel(interpolation.structure_forces, lattice[0], *rows, *inputs, *outputs, each=each, pieces=1)
        return force, images
    a, b = (
        read_rows(rows, place.flatten(1)).view(*lattice, -1) * region[..., None]
        for rows, place in zip((moving, fixed), places, strict=True)
    )
    both, apart = (a + b)[..., :-1], (a - b)[..., :-1] * weights / 2
    for axis, n in enumerate(lattice):
        change = both.narrow(axis, 2, n - 2) - both.narrow(axis, 0, n - 2)
        force[0, axis].narrow(axis, 1, n - 2).copy_((apart.narrow(axis, 1, n - 2) * change).sum(-1))
    return force, [features[None, None, ..., -1] for features in (a, b)]


def correlation_slopes(
    a: Tensor, b: Tensor, counted: Tensor, window: int = 9, epsilon: float = 1e-9
) -> tuple[Tensor, Tensor]:
    """Derivatives by ``a`` and ``b`` of the sum of the squared local correlation over the voxels ``counted`` (bool).

    The correlation is that of :func:`uresnet.model.losses.squared_correlation`. All (1, 1, I, J, K) → two of the same
    shape, float32. In closed form, which a CPU does several times as fast as automatic differentiation.
    """
    if is_plain(a, b):
        out = torch.empty_like(a), torch.empty_like(b)
        inputs = [tensor[0, 0].contiguous().numpy() for tensor in (a, b, counted)]
        slopes = [tensor[0, 0].numpy() for tensor in out]
        arrays = (*inputs, window // 2, np.float32(epsilon), *slopes)
        in_parallel(correlation.correlation_slopes, a.shape[2], *arrays, each=a[0, 0, 0].numel(), pieces=1)
        return out
    moments = box_mean(torch.cat([a, b, a * a, b * b, a * b], dim=1), window)
    mean_a, mean_b, square_a, square_b, product_ab = moments.chunk(5, dim=1)
    variance_a = square_a.addcmul_(mean_a, mean_a, value=-1).clamp_min_(0)
    variance_b = square_b.addcmul_(mean_b, mean_b, value=-1).clamp_min_(0)
    covariance = product_ab.addcmul_(mean_a, mean_b, value=-1)
    scale = 2 * covariance * counted / (variance_a * variance_b).add_(epsilon)  # by the covariance
    shrink = scale * covariance / (variance_a * variance_b).add_(epsilon)
    by_square_a, by_square_b = shrink * variance_b / -2, shrink * variance_a / -2
    by_mean_a = -(scale * mean_b + 2 * by_square_a * mean_a)
    by_mean_b = -(scale * mean_a + 2 * by_square_b * mean_b)
    # A mean over cubes is its own adjoint.
    adjoint = box_mean(torch.cat([by_mean_a, by_mean_b, by_square_a, by_square_b, scale], dim=1), window)
    of_a, of_b, of_aa, of_bb, of_ab = adjoint.chunk(5, dim=1)
    return of_a + 2 * a * of_aa + b * of_ab, of_b + 2 * b * of_bb + a * of_ab


# -- classes -----------------------------------------------------------------------------------------------------------


def classify(logits: Tensor) -> tuple[Tensor, Tensor]:
    """logits (V, P, C) → most probable class (V, P) uint8, and probabilities averaged over P, (V, C) float32."""
    if not is_plain(logits):
        return logits.argmax(dim=-1).to(torch.uint8), logits.float().softmax(dim=-1).mean(dim=1)
    chosen, probabilities = torch.empty(logits.shape[:2], dtype=torch.uint8), torch.empty_like(logits[:, 0])
    arrays = logits.contiguous().numpy(), chosen.numpy(), probabilities.numpy()
    in_parallel(classes.classify, len(logits), *arrays, each=logits.shape[1])
    return chosen, probabilities


def common_voxels(chosen: Tensor, probabilities: Tensor) -> tuple[Tensor, Tensor]:
    """``chosen`` classes (I, J, K) uint8 and ``probabilities`` (C, I/2, J/2, K/2), means over blocks of 2×2×2 voxels →
    how many voxels each class has, and how many it shares with what is probable, (C,) float64 each: in every block the
    smaller of its number of voxels and eight times its probability."""
    if is_plain(probabilities) and chosen.device.type == "cpu":
        sums = np.zeros((2, probabilities.shape[1], len(probabilities)))
        arrays = chosen.contiguous().numpy(), probabilities.contiguous().numpy(), *sums
        in_parallel(classes.common, sums.shape[1], *arrays, each=chosen[0].numel() * 2)
        count, shared = torch.from_numpy(sums.sum(axis=1))
        return count, shared
    chosen, found = chosen.to(probabilities.device), []
    for c, probability in enumerate(probabilities):
        voxels = 8 * F.avg_pool3d((chosen[None] == c).float(), 2)[0]
        found.append(torch.stack([voxels.sum(), torch.minimum(voxels, 8 * probability).sum()]))
    count, shared = torch.stack(found).double().cpu().unbind(dim=1)
    return count, shared
