"""What pages and Figure 2 show of a transform: displacement, a deformed grid, growth, shrinkage and folds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from uresnet.core.grid import Grid
from uresnet.report.pictures import nice_limit
from uresnet.report.slices import PLANES, Plane, View, cut, dark_level, plane_grid
from uresnet.results.registration import RegisteredPair
from uresnet.transform import Affine, Transform, closest_rigid, map_grid, resample

GRID_MM = 10.0
"""The side of a square of the deformed grid, mm."""


@dataclass(frozen=True, eq=False)
class WarpSlice:
    """The middle slice of one plane; arrays are (rows, columns), ``displacement`` and ``position`` (3, rows, columns).

    ``position``, RAS mm, is the point of the moving brain that a point of the fixed brain is mapped to, after the best
    rigid alignment of the two; ``displacement``, RAS mm, is the way to it. ``log_jacobian`` is the logarithm of the
    local volume ratio, NaN where tissue folds; ``folded`` and ``inside`` (foreground) are masks; ``anatomy`` is the
    fixed image.
    """

    plane: Plane
    displacement: np.ndarray
    position: np.ndarray
    log_jacobian: np.ndarray
    folded: np.ndarray
    inside: np.ndarray
    anatomy: np.ndarray

    @property
    def distance(self) -> np.ndarray:
        """Length of the displacement, mm, (rows, columns)."""
        return np.asarray(np.linalg.norm(self.displacement, axis=0))

    def grid_lines(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """(values, levels), twice: grid lines are where the values (rows, columns) pass one of the levels."""
        lines = []
        for axis in sorted({0, 1, 2} - {self.plane.through}):
            values = self.position[axis]
            lines.append((values, np.arange(np.ceil(values.min() / GRID_MM) * GRID_MM, values.max(), GRID_MM)))
        return lines


@dataclass(frozen=True)
class MapLimits:
    """Ends of the colour scales over all planes: ±``displacement`` mm, 0–``distance`` mm, ±``log_jacobian``."""

    displacement: float
    distance: float
    log_jacobian: float


@dataclass(frozen=True)
class Placement:
    """The overall part of a transform: the best rigid alignment (``rigid``, (4, 4), RAS mm), its ``rotation_degrees``,
    and the ``scale`` that remains along each world axis."""

    rigid: np.ndarray
    rotation_degrees: float
    scale: tuple[float, float, float]


def map_limits(slices: Sequence[WarpSlice]) -> MapLimits:
    """Round limits that nearly all values inside the brain stay within."""
    displacements = np.concatenate([each.displacement[:, each.inside].ravel() for each in slices])
    distances = np.concatenate([each.distance[each.inside] for each in slices])
    logs = np.concatenate([each.log_jacobian[each.inside & ~each.folded] for each in slices])
    return MapLimits(nice_limit(displacements, 1.0), nice_limit(distances, 1.0), nice_limit(logs, 0.2))


def placement(transform: Transform, view: View) -> Placement:
    """Fit an affine to the transform over the middle of the view, and take the rotation nearest to it."""
    steps = np.linspace(-0.35, 0.35, 12)
    offsets = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), axis=-1).reshape(-1, 3)
    points = view.centre_mm + offsets * view.extent_mm
    mapped = transform.apply(torch.from_numpy(points)).double().numpy()
    design = np.column_stack([points - view.centre_mm, np.ones(len(points))])
    solution = np.linalg.lstsq(design, mapped, rcond=None)[0]
    affine = np.eye(4)
    affine[:3, :3] = solution[:3].T
    affine[:3, 3] = solution[3] - affine[:3, :3] @ view.centre_mm
    rigid = closest_rigid(affine, _three(view.centre_mm))
    rotation = float(np.degrees(np.arccos(np.clip((np.trace(rigid[:3, :3]) - 1) / 2, -1, 1))))
    scale = np.linalg.norm(affine[:3, :3], axis=0)
    return Placement(rigid, rotation, _three(scale))


def warp_slices(pair: RegisteredPair, view: View, overall: Placement) -> list[WarpSlice]:
    """The middle slice of every plane."""
    return [_slice(pair, plane, plane_grid(plane, view, slices=1), overall) for plane in PLANES]


def _slice(pair: RegisteredPair, plane: Plane, grid: Grid, overall: Placement) -> WarpSlice:
    mapped = map_grid(pair.transform, grid, device="cpu")[0, :, :, :, 0].double().numpy()
    back = np.linalg.inv(overall.rigid)
    position = np.tensordot(back[:3, :3], mapped, axes=1) + back[:3, 3, None, None]
    index = np.stack(np.meshgrid(*[np.arange(n) for n in grid.shape], indexing="ij"), axis=-1)
    here = np.moveaxis(grid.points_to_world(index)[:, :, 0], -1, 0)
    determinant = resample(Affine.identity(), pair.jacobian, grid, "nearest", fill=1).data[:, :, 0].numpy().T
    anatomy = cut(pair.background, grid)[0]
    folded = determinant <= 0
    log_jacobian = np.log(np.where(folded, np.nan, determinant))
    inside = anatomy > dark_level(pair.background)
    turned = (1, 0)
    return WarpSlice(
        plane=plane,
        displacement=np.stack([d.transpose(turned) for d in position - here]),
        position=np.stack([p.transpose(turned) for p in position]),
        log_jacobian=log_jacobian,
        folded=folded & inside,
        inside=inside,
        anatomy=anatomy,
    )


def _three(values: np.ndarray) -> tuple[float, float, float]:
    return (float(values[0]), float(values[1]), float(values[2]))
