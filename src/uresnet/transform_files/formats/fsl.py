"""FSL: FLIRT matrices and FNIRT-style warps, which live in scaled voxels of the two images instead of a world.

FSL's coordinates are S·i: voxel index times voxel size, with x counted from the other end where the image is stored
"neurologically" (determinant above 0). A FLIRT matrix maps moving → fixed; a warp maps fixed → moving, and holds the
affine. Neither says anything about the images: reading one needs both grids.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import torch

from uresnet.core.grid import Grid
from uresnet.core.sampling import identity_coordinates
from uresnet.errors import UserError
from uresnet.transform.affine import Affine
from uresnet.transform.base import Transform
from uresnet.transform.composite import map_grid
from uresnet.transform.deformation import DisplacementField
from uresnet.transform_files.formats.matrices import read_matrix, write_matrix
from uresnet.transform_files.formats.pair import TransformPair, Writers, affine_part, is_affine
from uresnet.transform_files.formats.vectors import FSL_INTENT, field_of, read_vectors, write_vectors


def fsl_files(pair: TransformPair) -> Writers:
    """``flirt.mat`` (the affine part), ``warp.nii.gz`` and ``inverse_warp.nii.gz`` (all of it)."""
    fixed, moving = pair.grid("fixed"), pair.grid("moving")
    out: Writers = {"flirt.mat": partial(write_matrix, flirt_matrix(affine_part(pair.forward), fixed, moving))}
    if not is_affine(pair.forward):
        out["warp.nii.gz"] = lambda path: write_fsl_warp(pair.forward, fixed, moving, path)
        if pair.backward is not None:
            backward = pair.backward
            out["inverse_warp.nii.gz"] = lambda path: write_fsl_warp(backward, moving, fixed, path)
    return out


def voxel_to_fsl(grid: Grid) -> np.ndarray:
    """(4, 4): voxel index → FSL's coordinates, mm."""
    matrix = np.diag([*grid.zooms, 1.0])
    if np.linalg.det(grid.voxel_to_world[:3, :3]) > 0:
        matrix[0, 0] *= -1
        matrix[0, 3] = (grid.shape[0] - 1) * grid.zooms[0]
    return matrix


def world_to_fsl(grid: Grid) -> np.ndarray:
    """(4, 4): world mm → FSL's coordinates of that image, mm."""
    return voxel_to_fsl(grid) @ grid.world_to_voxel


def flirt_matrix(affine: Affine, fixed: Grid, moving: Grid) -> np.ndarray:
    """(4, 4) of ``flirt -init``: moving → fixed, FSL's coordinates."""
    return world_to_fsl(fixed) @ np.linalg.inv(affine.matrix) @ np.linalg.inv(world_to_fsl(moving))


def read_flirt(path: Path, fixed: Grid, moving: Grid) -> Affine:
    """A FLIRT matrix between two images as an affine fixed world → moving world."""
    moving_to_fixed = np.linalg.inv(world_to_fsl(fixed)) @ read_matrix(path) @ world_to_fsl(moving)
    return Affine(np.linalg.inv(moving_to_fixed))


def write_fsl_warp(transform: Transform, fixed: Grid, moving: Grid, path: str | Path) -> None:
    """Write the relative warp for ``applywarp``: 4D, intent 2006, on the fixed grid. Exact at its voxels."""
    arrived = map_grid(transform, fixed, world_to_fsl(moving), device="cpu")[0].double()
    started = _through(voxel_to_fsl(fixed), identity_coordinates(fixed.shape, dtype=torch.float64)[0])
    write_vectors((arrived - started).permute(1, 2, 3, 0).numpy(), fixed, path, FSL_INTENT, five=False)


def read_fsl_warp(path: Path, moving: Grid) -> DisplacementField:
    """A dense FSL warp as a field on its own grid.

    Relative or absolute is not in the file. Taken the wrong way, the map between the worlds stretches or flattens; the
    way that keeps sizes more nearly is the right one. (FSL's tools compare standard deviations, which says nothing when
    the two images are stored in different orientations.) ``UserError`` for anything but vectors, and for FNIRT's spline
    coefficients.
    """
    volume = read_vectors(path)
    if volume.intent not in (FSL_INTENT, 0):
        raise UserError(f"{path} has {volume.meaning}: it is not a dense FSL warp")
    fixed = volume.grid
    started = _through(voxel_to_fsl(fixed), identity_coordinates(fixed.shape, dtype=torch.float64)[0])
    values = torch.from_numpy(np.moveaxis(volume.values, -1, 0).astype(np.float64))
    origin = _through(fixed.voxel_to_world, identity_coordinates(fixed.shape, dtype=torch.float64)[0])
    candidates = [_through(np.linalg.inv(world_to_fsl(moving)), arrived) for arrived in (started + values, values)]
    world = min(candidates, key=lambda one: _stretch(origin, one))
    return field_of(path, (world - origin).permute(1, 2, 3, 0).numpy(), fixed.voxel_to_world)


def _stretch(points: torch.Tensor, arrived: torch.Tensor) -> float:
    """How far the best linear map from points to points (3, I, J, K) is from keeping sizes: 0 for a rotation."""
    a, b = (one.flatten(1).T - one.flatten(1).mean(dim=1) for one in (points, arrived))
    scales = torch.linalg.svdvals(torch.linalg.lstsq(a, b).solution)
    return float(scales.clamp(min=1e-9).log().abs().sum())


def _through(matrix: np.ndarray, points: torch.Tensor) -> torch.Tensor:
    """A (4, 4) on points (3, I, J, K)."""
    m = torch.from_numpy(np.array(matrix))  # a grid's own is locked, which torch would warn about
    return (m[:3, :3] @ points.flatten(1) + m[:3, 3:]).view_as(points)
