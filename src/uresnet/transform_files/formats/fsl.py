"""FSL: FLIRT matrices and FNIRT-style warps, in FSL's own coordinates of the two images instead of world coordinates.

FSL's coordinates are S·i: voxel index times voxel size, mm, with x counted from the other end where the image is stored
"neurologically" (determinant above 0). A FLIRT matrix maps moving → fixed; a warp maps fixed → moving, and holds the
affine. Neither says where the images lie: reading one needs both grids.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import torch

from uresnet.core.coordinates import identity_coordinates
from uresnet.core.grid import Grid
from uresnet.errors import warn_about_input
from uresnet.transform import Affine, DisplacementField, Transform, map_grid
from uresnet.transform_files.formats.matrices import read_matrix, write_matrix
from uresnet.transform_files.formats.nifti import (
    DOUBT,
    FSL_INTENT,
    VectorVolume,
    field_of,
    stretch,
    write_vectors,
)
from uresnet.transform_files.formats.pair import TransformPair, Writers, affine_part, is_affine


def fsl_files(pair: TransformPair) -> Writers:
    """``flirt.mat`` (the affine part), ``warp.nii.gz`` and ``inverse_warp.nii.gz`` (all of it)."""
    fixed, moving = pair.grid("fixed"), pair.grid("moving")
    out: Writers = {"flirt.mat": partial(write_matrix, flirt_matrix(affine_part(pair.forward), fixed, moving))}
    if not is_affine(pair.forward):
        out["warp.nii.gz"] = partial(write_fsl_warp, pair.forward, fixed, moving)
        if pair.backward is not None:
            out["inverse_warp.nii.gz"] = partial(write_fsl_warp, pair.backward, moving, fixed)
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
    return np.asarray(voxel_to_fsl(grid) @ grid.world_to_voxel)


def flirt_matrix(affine: Affine, fixed: Grid, moving: Grid) -> np.ndarray:
    """(4, 4) of ``flirt -init``: moving → fixed, FSL's coordinates."""
    return np.asarray(world_to_fsl(fixed) @ np.linalg.inv(affine.matrix) @ np.linalg.inv(world_to_fsl(moving)))


def read_flirt(path: Path, fixed: Grid, moving: Grid) -> Affine:
    """A FLIRT matrix between two images as an affine fixed world → moving world."""
    moving_to_fixed = np.linalg.inv(world_to_fsl(fixed)) @ read_matrix(path) @ world_to_fsl(moving)
    return Affine(np.linalg.inv(moving_to_fixed))


def write_fsl_warp(transform: Transform, fixed: Grid, moving: Grid, path: str | Path) -> None:
    """Write the relative warp for ``applywarp``: 4D, intent 2006, on the fixed grid. Exact at its voxels."""
    arrived = map_grid(transform, fixed, world_to_fsl(moving), device="cpu")[0].double()
    started = _through(voxel_to_fsl(fixed), identity_coordinates(fixed.shape, dtype=torch.float64)[0])
    write_vectors((arrived - started).permute(1, 2, 3, 0).numpy(), fixed, path, FSL_INTENT, five=False)


def read_fsl_warp(volume: VectorVolume, moving: Grid) -> DisplacementField:
    """A dense FSL warp as a field on its own grid.

    The file does not say whether its vectors are relative or absolute; FSL's tools compare standard deviations where
    nobody tells them (--rel, --abs), which fails when the two images are stored in different orientations. Read the
    wrong way, the map between the worlds stretches or flattens: the reading that better keeps sizes is taken. Where
    neither clearly does, it is the one that sends more of the image into the moving one, else relative, which is what
    FNIRT, convertwarp and invwarp write unless they are told otherwise; then a warning says so.
    """
    fixed = volume.grid
    started = _through(voxel_to_fsl(fixed), identity_coordinates(fixed.shape, dtype=torch.float64)[0])
    values = torch.from_numpy(np.moveaxis(volume.values, -1, 0).astype(np.float64))
    origin = _through(fixed.voxel_to_world, identity_coordinates(fixed.shape, dtype=torch.float64)[0])
    relative, absolute = (
        _through(np.linalg.inv(world_to_fsl(moving)), arrived) for arrived in (started + values, values)
    )
    stretches = [stretch(_last(origin), _last(reading)) for reading in (relative, absolute)]
    chosen = relative if stretches[0] <= stretches[1] else absolute
    if abs(stretches[0] - stretches[1]) < DOUBT:
        shares = [_share_inside(_last(reading), moving) for reading in (relative, absolute)]
        chosen = absolute if shares[1] > shares[0] + _MORE else relative
        warn_about_input(
            f"{volume.path} does not say whether its vectors are relative or absolute, and could be either; taken as "
            f"{'absolute' if chosen is absolute else 'relative'}: check the result, or write it again with FSL's "
            "convertwarp --relout."
        )
    return field_of(volume.path, _last(chosen - origin), fixed)


_MORE = 0.2  # share of the voxels


def _share_inside(world: np.ndarray, grid: Grid) -> float:
    voxels = grid.points_to_voxel(world.reshape(-1, 3))
    return float(((voxels >= -0.5) & (voxels < np.array(grid.shape) - 0.5)).all(axis=-1).mean())


def _last(points: torch.Tensor) -> np.ndarray:
    """(3, I, J, K) as (I, J, K, 3)."""
    return np.asarray(points.permute(1, 2, 3, 0).numpy())


def _through(matrix: np.ndarray, points: torch.Tensor) -> torch.Tensor:
    """A (4, 4) on points (3, I, J, K)."""
    m = torch.from_numpy(np.array(matrix))  # a copy: torch warns about the locked arrays of a grid
    return (m[:3, :3] @ points.flatten(1) + m[:3, 3:]).view_as(points)
