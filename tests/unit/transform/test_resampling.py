"""Resampling through a transform, against whole shifts, linear images and one-hot maps."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from spatial_cases import ORIENTATIONS, grid_of, mid_space, smooth_image
from uresnet.core.grid import Grid
from uresnet.core.image import Image, LabelMap, ProbabilityMap
from uresnet.errors import UserError
from uresnet.transform import Affine, resample


def whole_voxel_shift(grid: Grid) -> Affine:
    """Moves every voxel two up along axis i and one down along axis k."""
    matrix = np.eye(4)
    matrix[:3, 3] = grid.voxel_to_world[:3, :3] @ [2, 0, -1]
    return Affine(matrix)


@pytest.mark.parametrize("interpolation", ["linear", "nearest", "cubic"])
@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_whole_voxel_shifts_move_values(orientation, interpolation):
    grid = grid_of(orientation)
    image = Image(smooth_image(grid), grid)
    shifted = resample(whole_voxel_shift(grid), image, grid, interpolation, fill=-7).data
    torch.testing.assert_close(shifted[:-2, :, 1:], image.data[2:, :, :-1], atol=1e-4, rtol=0)
    assert (shifted[-2:] == -7).all()
    assert (shifted[:, :, 0] == -7).all()


def test_a_linear_image_reads_the_map_itself():
    """An image whose intensity is its world x gives the x of the mapped point, so the resampler is held to `apply`."""
    moving, fixed = grid_of("oblique", shape=(50, 60, 40), zooms=(2, 2, 2.5)), grid_of("LPS")
    transform = mid_space(fixed)
    world = moving.points_to_world(np.moveaxis(np.indices(moving.shape), 0, -1))
    expected = transform.apply(torch.from_numpy(fixed.points_to_world(np.moveaxis(np.indices(fixed.shape), 0, -1))))
    for axis in range(3):
        image = Image(torch.from_numpy(world[..., axis]).float(), moving)
        for interpolation in ("linear", "cubic"):
            found = resample(transform, image, fixed, interpolation).data
            torch.testing.assert_close(found.double(), expected[..., axis], atol=2e-3, rtol=0)


def test_labels_keep_their_values_and_type():
    grid = grid_of("PIR")
    labels = LabelMap(torch.from_numpy(np.random.default_rng(0).choice([0, 2, 2035], grid.shape)).to(torch.int32), grid)
    moved = resample(mid_space(grid), labels, grid)
    assert moved.data.dtype == torch.int32
    assert set(moved.data.unique().tolist()) <= {0, 2, 2035}
    shifted = resample(whole_voxel_shift(grid), labels, grid, "label").data
    assert torch.equal(shifted[:-2, :, 1:], labels.data[2:, :, :-1])
    assert torch.equal(shifted, resample(whole_voxel_shift(grid), labels, grid, "nearest").data)
    with pytest.raises(UserError, match="label or nearest"):
        resample(mid_space(grid), labels, grid, "linear")
    with pytest.raises(UserError, match="label map"):
        resample(mid_space(grid), Image(labels.data.float(), grid), grid, "label")


@pytest.mark.parametrize("codes", ["LAS", "PIR", "SRA"])
def test_labels_are_copied_where_axes_only_turn_and_shift(codes):
    grid = grid_of("RAS")
    values = np.random.default_rng(0).choice([0, 2, 2035], grid.shape)
    like = grid.reoriented(tuple(codes)).subgrid((-2, 1, 3), (9, 7, 11))
    moved = resample(Affine.identity(), LabelMap(torch.from_numpy(values).to(torch.int32), grid), like, fill=7)
    assert moved.data.dtype == torch.int32 and moved.grid.same_as(like)
    index = np.indices(like.shape).reshape(3, -1).T
    source = np.rint(grid.points_to_voxel(like.points_to_world(index))).astype(int)
    inside = ((source >= 0) & (source < np.array(grid.shape))).all(axis=1)
    expected = np.full(len(source), 7)
    expected[inside] = values[tuple(source[inside].T)]
    assert np.array_equal(moved.data.numpy().ravel(), expected) and inside.any() and not inside.all()


def test_label_resampling_is_the_argmax_of_resampled_probabilities():
    grid = grid_of("oblique")
    classes = torch.from_numpy(np.random.default_rng(1).integers(0, 4, grid.shape))
    one_hot = torch.nn.functional.one_hot(classes, 4).permute(3, 0, 1, 2).float()
    transform = mid_space(grid)
    probabilities = resample(transform, ProbabilityMap(one_hot, grid), grid)
    torch.testing.assert_close(probabilities.data.sum(dim=0), torch.ones(grid.shape))
    labels = resample(transform, LabelMap(classes, grid), grid).data
    top = probabilities.data.topk(2, dim=0).values
    clear = top[0] - top[1] > 1e-4
    assert clear.float().mean() > 0.99
    assert torch.equal(labels[clear], probabilities.data.argmax(dim=0)[clear])
