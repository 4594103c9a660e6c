from __future__ import annotations

import numpy as np
import pytest
import torch

from spatial_cases import ORIENTATIONS, grid_of, known_affine, points_in, smooth_field, smooth_image
from uresnet.core.grid import Grid
from uresnet.core.image import Image, LabelMap, ProbabilityMap
from uresnet.errors import UserError
from uresnet.transform import (
    Affine,
    Composite,
    displacement_on,
    folding_fraction,
    inverse_error,
    jacobian_determinant,
    map_grid,
    resample,
)


def mid_space(grid: Grid) -> Composite:
    half = known_affine().half()
    return Composite([half, smooth_field(grid), half])


def test_the_first_part_is_applied_first():
    double, shift = Affine(np.diag([2.0, 2, 2, 1])), Affine(np.eye(4) + np.eye(4, k=3))
    point = torch.tensor([[1.0, 1.0, 1.0]])
    assert Composite([double, shift]).apply(point).tolist() == [[3, 2, 2]]
    assert Composite([shift, double]).apply(point).tolist() == [[4, 2, 2]]
    assert Composite([double, shift]).inverse().apply(torch.tensor([[3.0, 2, 2]])).tolist() == [[1, 1, 1]]


def test_nested_composites_flatten_and_affines_merge():
    affine = known_affine()
    nested = Composite([Composite([affine, affine]), Composite([smooth_field(grid_of("RAS")), affine])])
    assert len(nested.parts) == 4
    simple = nested.simplified()
    assert len(simple.parts) == 3
    points = torch.from_numpy(points_in(grid_of("RAS"), 50))
    torch.testing.assert_close(simple.apply(points), nested.apply(points))


def test_parts_that_do_not_meet_are_refused():
    here, there = grid_of("RAS"), grid_of("oblique", shape=(20, 20, 20))
    first = Affine(np.eye(4), domain=here, codomain=there)
    assert Composite([first, first.inverse()]).codomain.same_as(here)
    with pytest.raises(UserError, match="another space"):
        Composite([first, first])
    far = Affine(np.array([[1.0, 0, 0, 500], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]), domain=here)
    with pytest.raises(UserError, match="no point of the fixed image"):
        Composite([far, smooth_field(here)])


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_mapping_a_grid_is_mapping_its_points(orientation):
    grid = grid_of(orientation)
    transform = mid_space(grid_of("oblique", shape=(30, 34, 28), zooms=(1.5, 1.4, 1.8)))
    world = torch.from_numpy(grid.points_to_world(np.moveaxis(np.indices(grid.shape), 0, -1)))
    expected = transform.apply(world).permute(3, 0, 1, 2)
    found = map_grid(transform, grid)[0]
    torch.testing.assert_close(found.double(), expected, atol=1e-4, rtol=0)
    torch.testing.assert_close(map_grid(transform, grid, rows=slice(3, 7))[0], found[:, 3:7], atol=2e-5, rtol=0)
    dense = displacement_on(transform, grid)
    torch.testing.assert_close(dense.displacement.double(), expected - world.permute(3, 0, 1, 2), atol=1e-4, rtol=0)


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_the_jacobian_is_the_product_of_its_parts(orientation):
    grid = grid_of(orientation)
    affine, field = known_affine(), smooth_field(grid)
    expected = np.linalg.det(affine.matrix) * field.jacobian_determinant()
    torch.testing.assert_close(jacobian_determinant(Composite([field, affine]), grid), expected, atol=2e-4, rtol=0)
    constant = jacobian_determinant(affine, grid)
    assert constant.numpy() == pytest.approx(np.linalg.det(affine.matrix))
    # With an affine before the field, on the grid that it maps onto the field's, the chain rule is exact as well.
    half = affine.half()
    before = Grid(grid.shape, half.inverse().matrix @ grid.voxel_to_world)
    found = jacobian_determinant(Composite([half, field, half]), before)
    torch.testing.assert_close(found, expected, atol=2e-4, rtol=0)


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_a_dense_map_says_the_same_at_the_voxels_of_its_grid(orientation):
    grid = grid_of(orientation, shape=(14, 17, 12))
    chain = mid_space(grid)
    dense = Composite([displacement_on(chain, grid)])
    np.testing.assert_allclose(map_grid(dense, grid), map_grid(chain, grid), atol=2e-4)
    part = map_grid(dense, grid, rows=slice(3, 8))
    np.testing.assert_allclose(part, map_grid(chain, grid, rows=slice(3, 8)), atol=2e-4)
    np.testing.assert_allclose(jacobian_determinant(dense, grid), jacobian_determinant(chain, grid), atol=1e-3)


def test_a_jacobian_does_not_depend_on_the_slabs(monkeypatch):
    grid = grid_of("LAS")
    transform = mid_space(grid)
    whole = jacobian_determinant(transform, grid)
    from uresnet.core import sampling

    monkeypatch.setattr(
        "uresnet.transform.composite.slabs", lambda shape, channels=1: sampling.slabs(shape, channels, budget=1)
    )
    torch.testing.assert_close(jacobian_determinant(transform, grid), whole, atol=1e-5, rtol=0)


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_a_mid_space_map_and_its_inverse(orientation):
    grid = grid_of(orientation, shape=(40, 44, 38), zooms=(1.5, 1.2, 1.4))
    half = known_affine().half()
    transform = Composite([half, smooth_field(grid, size_mm=1.2, sigma=5.0), half])
    inverse = transform.inverse()
    assert inverse.residual is not None
    mask = torch.zeros(grid.shape, dtype=torch.uint8)
    mask[8:-8, 8:-8, 8:-8] = 1
    error = inverse_error(transform, inverse, LabelMap(mask, grid))
    assert error.mean_mm < 0.01
    assert error.max_mm < 0.1
    assert folding_fraction(jacobian_determinant(transform, grid)) == 0


# -- resampling ----------------------------------------------------------------------------------------------------


def whole_voxel_shift(grid: Grid) -> Affine:
    """Moves every voxel two up along axis i and one down along axis k."""
    matrix = np.eye(4)
    matrix[:3, 3] = grid.vectors_to_world([2, 0, -1])
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
