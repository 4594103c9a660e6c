"""Transforms in sequence, and what one does with them: resample images, measure Jacobians and inverses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import overload

import numpy as np
import torch
from torch import Tensor

from uresnet.core.choices import Interpolation
from uresnet.core.grid import Grid
from uresnet.core.image import Image, LabelMap, ProbabilityMap
from uresnet.core.sampling import affine_coordinates, cubic_coefficients, sample, sample_cubic, sample_labels, slabs
from uresnet.errors import UserError
from uresnet.transform.affine import Affine
from uresnet.transform.base import Transform
from uresnet.transform.deformation import DisplacementField, lattice_determinant
from uresnet.transform.inversion import InverseResidual


@dataclass(frozen=True, eq=False)
class Composite(Transform):
    """``parts[0]`` is applied first to a fixed point, ``parts[-1]`` gives the moving point.

    The paper's model is ``Composite((field, affine))``, T(x) = A(x + d(x)); a mid-space model is
    ``Composite((half, field, half))``. Nested composites are flattened. Raises ``UserError`` where one part's codomain
    is tagged as another space than the next part's domain, and where a field lies nowhere near the points it would get.
    """

    sequence: tuple[Transform, ...]

    def __init__(self, parts: Sequence[Transform]) -> None:
        flat = tuple(one for part in parts for one in part.parts)
        if not flat:
            raise ValueError("a composite has at least one part")
        object.__setattr__(self, "sequence", flat)
        _check_meeting(flat)

    @property
    def parts(self) -> tuple[Transform, ...]:
        return self.sequence

    @property
    def domain(self) -> Grid | None:  # type: ignore[override]
        """The tag of the first part."""
        return self.parts[0].domain

    @property
    def codomain(self) -> Grid | None:  # type: ignore[override]
        """The tag of the last part."""
        return self.parts[-1].codomain

    @property
    def residual(self) -> InverseResidual | None:
        """The worst residual among the parts that were solved for (an inverse), mm; None where none was."""
        found = [part.residual for part in self.parts if isinstance(part, DisplacementField) and part.residual]
        return max(found, key=lambda one: one.max_mm, default=None)

    def apply(self, points: Tensor) -> Tensor:
        for part in self.parts:
            points = part.apply(points)
        return points

    def inverse(self) -> Composite:
        """The parts' inverses in the opposite order."""
        return Composite([part.inverse() for part in reversed(self.parts)])

    def simplified(self) -> Composite:
        """The same map with neighbouring affines multiplied into one."""
        merged: list[Transform] = []
        for part in self.parts:
            if merged and isinstance(part, Affine) and isinstance(merged[-1], Affine):
                merged[-1] = merged[-1].then(part)
            else:
                merged.append(part)
        return Composite(merged)


def _check_meeting(parts: Sequence[Transform]) -> None:
    for number, (first, second) in enumerate(pairwise(parts), start=1):
        if first.codomain is not None and second.domain is not None and not first.codomain.same_as(second.domain):
            raise UserError(
                f"part {number} of the transform ends in another space than part {number + 1} starts from; "
                "check the order of the parts and which way each one maps"
            )
    _check_reach(parts)


def _check_reach(parts: Sequence[Transform]) -> None:
    """A tagged fixed grid whose points never enter a field is a wrong order or an inverse taken for its forward."""
    start = parts[0].domain
    matrix = np.eye(4)
    for number, part in enumerate(parts, start=1):
        if isinstance(part, Affine):
            matrix = part.matrix @ matrix
        elif not isinstance(part, DisplacementField) or start is None:
            continue
        elif not Grid(start.shape, matrix @ start.voxel_to_world).overlaps(part.grid):
            raise UserError(
                f"the deformation in part {number} of the transform lies where no point of the fixed image goes; "
                "check the order of the parts and which way each one maps"
            )


def map_grid(
    transform: Transform,
    grid: Grid,
    world_to_out: np.ndarray | None = None,
    rows: slice | None = None,
    device: torch.device | str | None = None,
) -> Tensor:
    """Where ``transform`` sends every voxel of ``grid``: (1, 3, I, J, K) float32.

    In mm of the moving world, or in voxels where ``world_to_out`` (4×4) is a moving image's ``world_to_voxel``.
    ``rows`` restricts it to a slice of axis i. Runs of affines, with the grids' own matrices, are multiplied in float64
    first, so an affine alone costs one rounding.
    """
    rows = rows or slice(0, grid.shape[0])
    shape = (rows.stop - rows.start, *grid.shape[1:])
    pending, where = grid.voxel_to_world, None
    for part in transform.parts:
        if isinstance(part, Affine):
            pending = part.matrix @ pending
        elif isinstance(part, DisplacementField):
            home = part.displacement.device
            own_voxels = where is None and part.grid.same_as(Grid(grid.shape, pending))
            where = _advance(pending, where, shape, rows.start, home)
            if own_voxels:
                where = where + part.displacement[None, :, rows]
            else:
                where = where + part.read(_advance(part.grid.world_to_voxel, where, shape, 0, home))
            pending = np.eye(4)
        else:
            raise TypeError(f"no way to map a grid through a {type(part).__name__}")
    final = pending if world_to_out is None else world_to_out @ pending
    out = _advance(final, where, shape, rows.start, where.device if where is not None else device)
    return out.to(device) if device is not None else out


def _advance(
    matrix: np.ndarray, where: Tensor | None, shape: Sequence[int], first_slice: int, device: torch.device | str | None
) -> Tensor:
    """``matrix`` applied to positions (1, 3, i, j, k), or to the voxel indices themselves while there are none yet."""
    if where is None:
        return affine_coordinates(matrix, shape, device, first_slice=first_slice)
    if np.array_equal(matrix, np.eye(4)):
        return where.to(device)
    where = where.to(device)
    m = torch.tensor(matrix).to(where)
    return torch.addmm(m[:3, 3:], m[:3, :3], where[0].flatten(1)).view_as(where)


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


# -- measures ------------------------------------------------------------------------------------------------------


def displacement_on(transform: Transform, grid: Grid) -> DisplacementField:
    """T(x) − x at every voxel of ``grid`` as one dense field: bakes the affine in, which is lost outside ``grid``."""
    out = torch.empty((3, *grid.shape), dtype=torch.float32)
    for rows in slabs(grid.shape, channels=3):
        shape = (rows.stop - rows.start, *grid.shape[1:])
        here = affine_coordinates(grid.voxel_to_world, shape, first_slice=rows.start)
        out[:, rows] = (map_grid(transform, grid, rows=rows, device="cpu") - here)[0]
    return DisplacementField(out, grid, domain=transform.domain, codomain=transform.codomain)


def jacobian_determinant(transform: Transform, grid: Grid) -> Tensor:
    """det ∂T/∂x with respect to the world at every voxel of ``grid``, (I, J, K) float32, on the CPU.

    Affine parts enter exactly: a composite of affines gives its constant, the last affines their factor. What is left
    is differentiated on ``grid`` by central differences. SimpleITK's ``DisplacementFieldJacobianDeterminant`` gives the
    same on grids along LPS; on others it is wrong, because it takes the grid's axes for the world's.
    """
    parts = list(transform.parts)
    factor = 1.0
    while parts and isinstance(last_part := parts[-1], Affine):
        factor *= float(np.linalg.det(last_part.matrix[:3, :3]))
        parts.pop()
    out = torch.full(grid.shape, factor, dtype=torch.float32)
    if not parts:
        return out
    inner = Composite(parts)
    last = grid.shape[0] - 1
    for rows in slabs(grid.shape, channels=12):
        halo = slice(max(0, rows.start - 1), min(last, rows.stop) + 1)
        moved = map_grid(inner, grid, grid.world_to_voxel, halo, "cpu")[0]
        index = affine_coordinates(np.eye(4), moved.shape[1:], first_slice=halo.start)[0]
        determinant = lattice_determinant(moved - index)
        out[rows] *= determinant[rows.start - halo.start : rows.stop - halo.start]
    return out


def folding_fraction(determinant: Tensor, mask: Tensor | None = None) -> float:
    """Share of the voxels (of ``mask``, bool) whose Jacobian determinant is not positive."""
    values = determinant if mask is None else determinant[mask.to(determinant.device)]
    if values.numel() == 0:
        raise ValueError("the mask is empty")
    return float((values <= 0).double().mean())


def log_jacobian_std(determinant: Tensor, mask: Tensor | None = None) -> float:
    """SDlogJ: standard deviation of log(clip(det, 1e-9, 1e9)) over ``mask`` (bool), or everywhere."""
    values = determinant if mask is None else determinant[mask.to(determinant.device)]
    if values.numel() == 0:
        raise ValueError("the mask is empty")
    return float(values.double().clamp(1e-9, 1e9).log().std(correction=0))


@dataclass(frozen=True)
class InverseError:
    """Distance between a point and backward(forward(point)), mm."""

    mean_mm: float
    max_mm: float


def inverse_error(
    forward: Transform, backward: Transform, mask: LabelMap, points: int | None = 20_000, seed: int = 0
) -> InverseError:
    """How far ``backward ∘ forward`` moves the voxel centres of ``mask``, mm.

    At most ``points`` of them, drawn with ``seed``; all of them with None.
    """
    voxels = mask.mask.nonzero().cpu()
    if len(voxels) == 0:
        raise ValueError("the mask is empty")
    if points is not None and len(voxels) > points:
        order = torch.randperm(len(voxels), generator=torch.Generator().manual_seed(seed))
        voxels = voxels[order[:points]]
    world = torch.from_numpy(mask.grid.points_to_world(voxels.numpy()))
    distance = (backward.apply(forward.apply(world)) - world).norm(dim=1)
    return InverseError(float(distance.mean()), float(distance.max()))
