"""Brains and models made on the spot: known in closed form, coarse enough to register in a second."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import torch

from grids import turned
from uresnet.config import ConformSpec, ModelConfig
from uresnet.core.grid import Grid
from uresnet.model.checkpoint import save_model, uresnet_card
from uresnet.model.network import UResNet

RADII_MM = np.array([66.0, 84.0, 60.0])
COARSE = ConformSpec(shape=(24, 24, 32), zooms=(6.0, 6.0, 6.0))

FIELDS_OF_VIEW: dict[str, Grid] = {
    "RAS": Grid.centred((46, 54, 44), (3.9, 3.8, 3.6), "RAS", (3.0, -7.0, 12.0)),
    "LAS": Grid.centred((52, 56, 40), (3.2, 3.9, 3.8), "LAS", (-4.0, 5.0, -6.0)),
    "LPS": Grid.centred((48, 52, 45), (3.7, 3.9, 3.5), "LPS", (8.0, 2.0, 1.0)),
    "oblique": turned(Grid.centred((58, 50, 52), (3.9, 3.7, 3.8), "PSR", (-2.0, 4.0, 0.0)), (12.0, -20.0, 16.0)),
}


def intensity(world: np.ndarray) -> np.ndarray:
    """Grey value at world mm (..., 3): an ellipsoid with a dark, off-centre hollow and a gradient; 0 outside."""
    inside = ((world / RADII_MM) ** 2).sum(axis=-1) <= 1
    hollow = (((world - [10.0, -6.0, 8.0]) / [14.0, 24.0, 12.0]) ** 2).sum(axis=-1) <= 1
    value = 100 + 0.2 * world[..., 0] + 0.15 * world[..., 1] + 15 * np.cos(world[..., 2] / 12)
    return np.where(inside, np.where(hollow, 30.0, value), 0.0)


def brain_on(grid: Grid, shift_mm: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> np.ndarray:
    """The brain, moved by ``shift_mm``, sampled on a grid, float32."""
    voxels = np.stack(np.meshgrid(*map(np.arange, grid.shape), indexing="ij"), axis=-1)
    return intensity(grid.points_to_world(voxels) - np.array(shift_mm)).astype(np.float32)


def write_nifti(data: np.ndarray, grid: Grid, path: Path) -> Path:
    """With nibabel alone, so that nothing of the package stands on both sides of a comparison."""
    image = nib.Nifti1Image(data, grid.voxel_to_world)
    image.set_sform(grid.voxel_to_world, code=1)
    image.set_qform(grid.voxel_to_world, code=1)
    nib.save(image, path)
    return path


def write_tiny_model(path: Path, deforms: bool, segmentation: bool = True, spec: ConformSpec = COARSE) -> Path:
    """A network of a few hundred weights: at the identity, or one that turns, shifts and deforms."""
    torch.manual_seed(0)
    config = ModelConfig(channels=(2, 4), segmentation=segmentation)
    network = UResNet(config)
    if deforms:
        with torch.no_grad():
            network.deformable_head.layers[-1].weight.normal_(0, 0.02)  # type: ignore[operator]
            offsets = [0.02, 0.05, 0.0, 0.5, -0.05, 0.01, 0.0, -0.3, 0.0, 0.0, -0.01, 0.2]
            network.affine_head.dense.bias.copy_(torch.tensor(offsets))
    save_model(path, network, uresnet_card("tiny", config, spec, licence="none", trained_on="nothing"))
    return path
