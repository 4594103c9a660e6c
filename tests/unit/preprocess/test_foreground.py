"""What is background: its value, its holes, its specks, and the rim that interpolation leaves."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from grids import turned
from heads import ROOMY, ball, dice, image_of
from uresnet.core.grid import Grid
from uresnet.core.image import Image
from uresnet.errors import UserError
from uresnet.preprocess import find_foreground
from uresnet.transform import Affine, resample


@pytest.mark.parametrize("background", [0.0, -1024.0, 300.0])
def test_foreground_is_what_is_not_background(background: float) -> None:
    mask = ball(ROOMY, 1.4)
    found = find_foreground(image_of(mask, background=background))
    np.testing.assert_array_equal(found.mask, mask)
    assert found.value == background
    assert found.border == 1
    assert found.litres == pytest.approx(1.4, rel=0.01)


def test_holes_are_filled_and_specks_dropped() -> None:
    mask = ball(ROOMY, 1.4)
    holed = mask & ~ball(ROOMY, 0.05)
    holed[2, 3, 4] = True
    np.testing.assert_array_equal(find_foreground(image_of(holed)).mask, mask)
    # A second piece of some size is kept: brains come in two halves.
    other = mask | ball(ROOMY, 0.1, at=(80, 0, 0))
    np.testing.assert_array_equal(find_foreground(image_of(other)).mask, other)


def test_background_of_a_resampled_image_is_nearly_zero() -> None:
    mask = ball(ROOMY, 1.4)
    data = image_of(mask).data + torch.randn(ROOMY.shape, generator=torch.Generator().manual_seed(0)) * 1e-3
    np.testing.assert_array_equal(find_foreground(Image(data, ROOMY)).mask, mask)


def test_what_interpolation_blurred_into_the_background_is_background() -> None:
    """Linear interpolation widens a ball by a layer; its mask is the ball all the same."""
    grid = Grid.centred((60, 60, 60), (3.0, 3.0, 3.0), "RAS", (0.0, 0.0, 0.0))
    voxels = np.stack(np.meshgrid(*map(np.arange, grid.shape), indexing="ij"), axis=-1)
    for oblique in (False, True):
        to = turned(grid.rescaled(0.8), (7.0, -12.0, 9.0)) if oblique else grid.subgrid((0.5, 0.5, 0.5), grid.shape)
        for background in (0.0, -7.0):
            inside = np.linalg.norm(grid.points_to_world(voxels), axis=-1) < 70
            sharp = Image(torch.from_numpy(np.where(inside, 50.0 + voxels[..., 0], background)), grid)
            np.testing.assert_array_equal(find_foreground(sharp).mask, inside)  # not touched as it is
            moved = resample(Affine.identity(), Image(sharp.data - background, grid), to).data + background
            found = find_foreground(Image(moved, to)).mask
            there = resample(Affine.identity(), Image(torch.from_numpy(inside), grid), to).data.numpy()
            widened, expected = there > 1e-3, there >= 0.5
            assert dice(found, expected) > 0.985 > dice(widened, expected)


def test_negative_brain_is_foreground() -> None:
    mask = ball(ROOMY, 1.4)
    found = find_foreground(Image(image_of(mask).data - 100 * torch.from_numpy(mask), ROOMY))
    np.testing.assert_array_equal(found.mask, mask)


@pytest.mark.parametrize("value", [0.0, 7.0])
def test_one_value_everywhere(value: float) -> None:
    with pytest.raises(UserError, match="only zeros" if value == 0 else r"the same value everywhere \(7\)"):
        find_foreground(Image(torch.full(ROOMY.shape, value), ROOMY))
