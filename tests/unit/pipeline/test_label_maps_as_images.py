"""A label map in the place of a scan is told: a network makes a brain of it too."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch

from grids import GRIDS
from uresnet.core.image import Image
from uresnet.errors import InputWarning
from uresnet.pipeline.steps import warn_of_labels


@pytest.mark.parametrize("name", GRIDS)
def test_a_label_map_is_told_and_a_scan_is_not(name: str) -> None:
    grid = GRIDS[name]
    blocks = np.indices(grid.shape) // 4
    labels = (1 + blocks[0] + 5 * blocks[1] + 20 * blocks[2]).astype(np.float32)
    with pytest.warns(InputWarning, match=r"looks like a label map .* give the scan"):
        warn_of_labels(Image(torch.from_numpy(labels), grid, "aseg.mgz"))
    scan = np.random.default_rng(0).integers(0, 255, grid.shape).astype(np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_labels(Image(torch.from_numpy(scan), grid), Image(torch.from_numpy(labels + 0.3), grid))
