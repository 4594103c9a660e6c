"""The benchmark of other contrasts: people who moved between scans."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from contrasts import agreement, agreement_moved, best_move
from uresnet.core.grid import Grid
from uresnet.core.image import LabelMap


def ball(centre: tuple[float, float, float], axis_codes: tuple[str, str, str]) -> LabelMap:
    """Lateral ventricles of 12 mm radius in a ball of white matter round a place in the world, on voxels of 1 mm."""
    grid = Grid.centred((56, 60, 52), (1, 1, 1), axis_codes, (0, 0, 0))
    world = grid.points_to_world(np.indices(grid.shape).reshape(3, -1).T)
    away = np.linalg.norm(world - np.array(centre), axis=1).reshape(grid.shape)
    ids = np.where(away < 12, 4, np.where(away < 20, 2, 0)).astype(np.uint8)
    return LabelMap(torch.from_numpy(ids), grid)


@pytest.mark.parametrize("axis_codes", [("R", "A", "S"), ("L", "P", "S"), ("L", "A", "S")])
def test_a_move_between_scans_is_found(axis_codes: tuple[str, str, str]) -> None:
    found, truth = ball((0.0, 0.0, 0.0), axis_codes), ball((0.6, -0.4, 0.0), ("R", "A", "S"))
    move = best_move(found, truth)
    assert move == pytest.approx([0.6, -0.4, 0.0], abs=0.12)
    assert agreement_moved(found, truth, (0.6, -0.4, 0.0)) > agreement(found, truth) + 0.005
    assert agreement_moved(found, truth, (0.0, 0.0, 0.0)) == agreement(found, truth)
