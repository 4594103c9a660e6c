"""The rigid baseline: one voxel index, two worlds."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from grids import made_from_scratch, turned
from uresnet.core.choices import Freedom
from uresnet.coupling import couple
from uresnet.model.checkpoint import load_model
from uresnet.preprocess import Conformed

MOVING = turned(made_from_scratch((12, 16, 8), (1.1, 1.0, 1.2), "LPS", (0.0, 7.0, 3.0)), (-5.0, 30.0, 8.0))
FIXED = made_from_scratch((12, 16, 8), (1.5, 0.8, 2.0), "RAS", (12.0, 0.0, -5.0))


@pytest.mark.parametrize("freedom", ["joint", "affine", "rigid", "deformable"])
def test_each_voxel_goes_to_the_voxel_of_its_index(freedom: Freedom) -> None:
    images = [
        Conformed(torch.zeros(1, 1, *grid.shape), grid, torch.ones(grid.shape, dtype=torch.bool))
        for grid in (MOVING, FIXED)
    ]
    coupling = couple(load_model("translation"), images[0], images[1], freedom)
    voxels = np.random.default_rng(0).uniform(-5, 20, (50, 3))
    found = coupling.transform.apply(torch.from_numpy(FIXED.points_to_world(voxels)))
    np.testing.assert_allclose(found.numpy(), MOVING.points_to_world(voxels), atol=1e-9)
    assert coupling.moving_segmented is None and coupling.fixed_segmented is None
