"""What the transform does, seen: displacement, a deformed grid, and where tissue grows, shrinks or folds (Figure 2)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from uresnet.core.grid import Grid
from uresnet.report.slices import PLANES, Plane, View, cut, dark_level, plane_grid
from uresnet.results.registration import RegisteredPair
from uresnet.transform import Affine, Transform, closest_rigid, map_grid, resample

GRID_MM = 10.0


@dataclass(frozen=True, eq=False)
class WarpSlice:
    """One plane's middle slice, (rows, columns) each.

    ``displacement`` (3, rows, columns), RAS mm, is how far a point of the fixed brain has to go after the best rigid
    alignment; ``position`` (3, rows, columns), RAS mm, is where it comes from; ``log_jacobian`` is the logarithm of the
    local volume ratio, NaN where tissue folds; ``folded`` and ``inside`` (not background) are masks; ``anatomy`` is the
    fixed image.
    """

    plane: Plane
    displacement: np.ndarray
    position: np.ndarray
    log_jacobian: np.ndarray
    folded: np.ndarray
    inside: np.ndarray
    anatomy: np.ndarray


@dataclass(frozen=True)
class Placement:
    """The overall part of a transform: the best rigid alignment as (4, 4) RAS mm, its ``rotation_degrees``, how far it
    moves the middle of the fixed brain (``shift_mm``, RAS), and the ``scale`` that remains along each world axis."""

    rigid: np.ndarray
    rotation_degrees: float
    shift_mm: tuple[float, float, float]
    scale: tuple[float, float, float]


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
    turn = float(np.degrees(np.arccos(np.clip((np.trace(rigid[:3, :3]) - 1) / 2, -1, 1))))
    shift = solution[3] - view.centre_mm
    scale = np.linalg.norm(affine[:3, :3], axis=0)
    return Placement(rigid, turn, _three(shift), _three(scale))


def warp_slices(results: RegisteredPair, view: View, overall: Placement) -> list[WarpSlice]:
    """The middle slice of every plane."""
    return [_slice(results, plane, plane_grid(plane, view, slices=1), overall) for plane in PLANES]


def _slice(results: RegisteredPair, plane: Plane, grid: Grid, overall: Placement) -> WarpSlice:
    mapped = map_grid(results.transform, grid, device="cpu")[0, :, :, :, 0].double().numpy()
    back = np.linalg.inv(overall.rigid)
    position = np.tensordot(back[:3, :3], mapped, axes=1) + back[:3, 3, None, None]
    index = np.stack(np.meshgrid(*[np.arange(n) for n in grid.shape], indexing="ij"), axis=-1)
    here = np.moveaxis(grid.points_to_world(index)[:, :, 0], -1, 0)
    determinant = resample(Affine.identity(), results.jacobian, grid, "nearest", fill=1).data[:, :, 0].numpy().T
    anatomy = cut(results.background, grid)[0]
    folded = determinant <= 0
    log_jacobian = np.log(np.where(folded, np.nan, determinant))
    inside = anatomy > dark_level(results.background)
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
