"""Learn2Reg's displacement: (X, Y, Z, 3) at the fixed voxels, in **voxels**, pull-back.

Fixed voxel i takes its value from moving voxel i + u(i). The file knows neither world: reading it needs both grids.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import torch

from uresnet.core.coordinates import identity_coordinates
from uresnet.core.grid import Grid
from uresnet.errors import UserError
from uresnet.transform import DisplacementField, Transform, map_grid
from uresnet.transform_files.formats.nifti import NO_INTENT, VectorVolume, field_of, write_vectors
from uresnet.transform_files.formats.pair import TransformPair, Writers


def learn2reg_files(pair: TransformPair) -> Writers:
    """``disp.nii.gz`` and ``inverse_disp.nii.gz``."""
    fixed, moving = pair.grid("fixed"), pair.grid("moving")
    out: Writers = {"disp.nii.gz": partial(write_voxel_displacement, pair.forward, fixed, moving)}
    if pair.backward is not None:
        out["inverse_disp.nii.gz"] = partial(write_voxel_displacement, pair.backward, moving, fixed)
    return out


def write_voxel_displacement(transform: Transform, fixed: Grid, moving: Grid, path: str | Path) -> None:
    """Write moving voxel − fixed voxel at every fixed voxel, float32, 4D. Exact at the voxels."""
    arrived = map_grid(transform, fixed, moving.world_to_voxel, device="cpu")[0]
    values = (arrived - identity_coordinates(fixed.shape)[0]).permute(1, 2, 3, 0).numpy()
    write_vectors(values, fixed, path, NO_INTENT, five=False)


def read_voxel_displacement(volume: VectorVolume, moving: Grid, fixed: Grid | None = None) -> DisplacementField:
    """The field between two images; ``fixed`` defaults to the grid that the file states. ``UserError`` where the shapes
    differ."""
    path, grid = volume.path, fixed or volume.grid
    if grid.shape != volume.values.shape[:3]:
        raise UserError(
            f"{path} has {volume.values.shape[:3]} voxels and the fixed image {grid.shape}: "
            "it is a warp on another grid; give the image it was made for."
        )
    moved = torch.from_numpy(volume.values.astype(np.float64)).movedim(-1, 0)
    voxels = (identity_coordinates(grid.shape, dtype=torch.float64)[0] + moved).movedim(0, -1).numpy()
    start = grid.points_to_world(np.moveaxis(identity_coordinates(grid.shape, dtype=torch.float64)[0].numpy(), 0, -1))
    return field_of(path, moving.points_to_world(voxels) - start, grid)
