"""Grids against nibabel, ITK and numbers worked out by hand."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from grids import GRIDS, rotation, turned
from uresnet.core.grid import Grid, axis_order, directions, voxel_to_voxel


def as_itk(grid: Grid) -> sitk.Image:
    """The grid as ITK has it: LPS, origin, spacing, direction."""
    lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ grid.voxel_to_world
    zooms = np.linalg.norm(lps[:3, :3], axis=0)
    image = sitk.Image(list(grid.shape), sitk.sitkUInt8)
    image.SetOrigin(lps[:3, 3].tolist())
    image.SetSpacing(zooms.tolist())
    image.SetDirection((lps[:3, :3] / zooms).ravel().tolist())
    return image


def test_points_agree_with_itk(grid: Grid) -> None:
    image = as_itk(grid)
    for voxel in [(0.0, 0.0, 0.0), (3.25, 1.5, 7.75), (-2.0, 20.0, 0.5)]:
        x, y, z = image.TransformContinuousIndexToPhysicalPoint(voxel)
        world = grid.points_to_world(voxel)
        np.testing.assert_allclose(world, [-x, -y, z], atol=1e-9)
        np.testing.assert_allclose(grid.points_to_voxel(world), voxel, atol=1e-9)


def test_axis_codes_and_zooms_agree_with_nibabel(grid: Grid) -> None:
    assert grid.axis_codes == nib.aff2axcodes(grid.voxel_to_world)
    np.testing.assert_allclose(grid.zooms, nib.affines.voxel_sizes(grid.voxel_to_world))
    assert grid.voxel_volume == pytest.approx(np.prod(nib.affines.voxel_sizes(grid.voxel_to_world)))


def test_points_keep_their_leading_axes(grid: Grid) -> None:
    points = np.random.default_rng(0).normal(size=(2, 4, 5, 3))
    world = grid.points_to_world(points)
    assert world.shape == points.shape
    np.testing.assert_allclose(world[1, 2, 3], grid.points_to_world(points[1, 2, 3]))


def test_centre_and_corners(grid: Grid) -> None:
    np.testing.assert_allclose(grid.corners_world.mean(axis=0), grid.centre_world, atol=1e-9)
    low, high = (
        grid.points_to_voxel(grid.corners_world).min(axis=0),
        grid.points_to_voxel(grid.corners_world).max(axis=0),
    )
    np.testing.assert_allclose(low, -0.5, atol=1e-9)
    np.testing.assert_allclose(high, np.array(grid.shape) - 0.5, atol=1e-9)


def test_centred_by_hand() -> None:
    grid = Grid.centred((4, 6, 8), (1, 2, 3), "LIA", (10, 20, 30))
    # x falls along i from 10 + 1.5, z falls along j from 30 + 2·2.5, y grows along k from 20 - 3·3.5.
    np.testing.assert_array_equal(grid.voxel_to_world, [[-1, 0, 0, 11.5], [0, 0, 3, 9.5], [0, -2, 0, 35], [0, 0, 0, 1]])
    assert grid.axis_codes == ("L", "I", "A")
    np.testing.assert_allclose(grid.centre_world, [10, 20, 30])


def test_rescaled_keeps_the_box_and_moves_the_centres() -> None:
    grid = Grid.centred((8, 6, 4), (1, 1, 1), "RAS", (0, 0, 0))
    half = grid.rescaled(2)
    assert half.shape == (4, 3, 2)
    np.testing.assert_allclose(half.zooms, 2)
    np.testing.assert_allclose(half.corners_world, grid.corners_world)
    # The centre of a big voxel lies between the centres of the two small ones.
    np.testing.assert_allclose(half.points_to_world([0, 0, 0]), grid.points_to_world([0.5, 0.5, 0.5]))
    np.testing.assert_allclose(half.rescaled(0.5).voxel_to_world, grid.voxel_to_world)


def test_rescaled_covers_what_does_not_divide(grid: Grid) -> None:
    coarse = grid.rescaled((2, 3, 4))
    assert coarse.shape == tuple(-(-n // f) for n, f in zip(grid.shape, (2, 3, 4), strict=True))
    np.testing.assert_allclose(coarse.points_to_world([-0.5] * 3), grid.points_to_world([-0.5] * 3), atol=1e-9)
    far = coarse.points_to_voxel(grid.corners_world).max(axis=0)
    assert (far <= np.array(coarse.shape) - 0.5 + 1e-9).all()


@pytest.mark.parametrize("codes", ["RAS", "LPS", "LIA", "PSR", "AIL"])
def test_reoriented_agrees_with_nibabel(grid: Grid, codes: str) -> None:
    image = nib.Nifti1Image(np.zeros(grid.shape, np.uint8), grid.voxel_to_world)
    turn = nib.orientations.ornt_transform(
        nib.orientations.io_orientation(grid.voxel_to_world), nib.orientations.axcodes2ornt(codes)
    )
    expected = image.as_reoriented(turn)
    mine = grid.reoriented(codes)
    assert mine.shape == expected.shape
    np.testing.assert_allclose(mine.voxel_to_world, expected.affine, atol=1e-9)


def test_axis_order_turns_an_array_as_nibabel_does(grid: Grid) -> None:
    data = np.arange(np.prod(grid.shape)).reshape(grid.shape)
    expected = nib.as_closest_canonical(nib.Nifti1Image(data.astype(np.int16), grid.voxel_to_world))
    order, sign = axis_order(grid.axis_codes, "RAS")
    mine = data.transpose(order)[tuple(slice(None, None, s) for s in sign)]
    np.testing.assert_array_equal(mine, np.asarray(expected.dataobj))


def test_subgrid(grid: Grid) -> None:
    part = grid.subgrid((2, -3, 1), (5, 6, 7))
    assert part.shape == (5, 6, 7)
    np.testing.assert_allclose(part.points_to_world([0, 3, 0]), grid.points_to_world([2, 0, 1]), atol=1e-9)
    np.testing.assert_allclose(part.zooms, grid.zooms)


def test_voxel_to_voxel_goes_through_the_world(grid: Grid) -> None:
    other = GRIDS["oblique"]
    world_map = np.eye(4)
    world_map[:3, :3] = rotation((5, 6, 7)) * 1.1
    world_map[:3, 3] = (3, -4, 5)
    point = np.array([1.0, 2.0, 3.0])
    moved = world_map[:3, :3] @ grid.points_to_world(point) + world_map[:3, 3]
    matrix = voxel_to_voxel(grid, other, world_map)
    np.testing.assert_allclose(matrix[:3, :3] @ point + matrix[:3, 3], other.points_to_voxel(moved), atol=1e-9)
    np.testing.assert_allclose(voxel_to_voxel(grid, grid), np.eye(4), atol=1e-12)


def test_same_as(grid: Grid) -> None:
    nudged = grid.voxel_to_world.copy()
    nudged[0, 3] += 5e-4
    assert grid.same_as(Grid(grid.shape, nudged))
    nudged[0, 3] += 5e-3
    assert not grid.same_as(Grid(grid.shape, nudged))
    # A scale so small that the origins agree, and the far corner does not.
    stretched = grid.voxel_to_world.copy()
    stretched[:3, :3] *= 1.001
    assert not grid.same_as(Grid(grid.shape, stretched))
    assert not grid.same_as(Grid((grid.shape[0], grid.shape[1], grid.shape[2] + 1), grid.voxel_to_world))


def test_overlap_of_boxes() -> None:
    box = Grid.centred((10, 10, 10), (1, 1, 1), "RAS", (0, 0, 0))
    assert box.overlaps(box)
    assert box.overlaps(Grid.centred((10, 10, 10), (1, 1, 1), "LPS", (9.9, 0, 0)))
    assert not box.overlaps(Grid.centred((10, 10, 10), (1, 1, 1), "LPS", (10.1, 0, 0)))
    # Turned by 45°, a corner reaches 7.07 mm: boxes whose bounds overlap along x, y and z need not touch.
    diamond = turned(Grid.centred((10, 10, 10), (1, 1, 1), "RAS", (0, 0, 0)), (0, 0, 45))
    assert not Grid.centred((2, 2, 2), (1, 1, 1), "RAS", (6.0, 6.0, 0)).overlaps(diamond)
    assert Grid.centred((2, 2, 2), (1, 1, 1), "RAS", (7.0, 0, 0)).overlaps(diamond)


def test_shear() -> None:
    matrix = np.eye(4)
    matrix[:3, :3] = rotation((10, 20, 30)) * [1, 2, 3]
    assert Grid((2, 2, 2), matrix).shear < 1e-12
    slanted = np.eye(4)
    slanted[1, 2] = np.tan(np.radians(30))  # the third axis leans 30° towards the second
    assert Grid((2, 2, 2), slanted).shear == pytest.approx(0.5)


def test_a_grid_cannot_be_changed(grid: Grid) -> None:
    with pytest.raises(ValueError, match="read-only"):
        grid.voxel_to_world[0, 0] = 5
    mine = np.eye(4)
    copied = Grid((2, 2, 2), mine)
    mine[0, 0] = 7
    assert copied.voxel_to_world[0, 0] == 1


@pytest.mark.parametrize(
    ("shape", "matrix"),
    [
        ((2, 2), np.eye(4)),
        ((2, 2, 0), np.eye(4)),
        ((2, 2, 2), np.eye(3)),
        ((2, 2, 2), np.diag([1.0, 1.0, 0.0, 1.0])),
        ((2, 2, 2), np.diag([1.0, np.nan, 1.0, 1.0])),
        ((2, 2, 2), np.array([[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])),
        ((2, 2, 2), np.ones((4, 4))),
    ],
)
def test_what_is_no_grid_is_refused(shape: tuple, matrix: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"axes|affine"):
        Grid(shape, matrix)


@pytest.mark.parametrize("codes", ["RAA", "XYZ", "RA", "RLS"])
def test_what_are_no_axes_is_refused(codes: str) -> None:
    with pytest.raises(ValueError, match="axis codes"):
        directions(codes)


def test_micrometre_voxels_are_not_singular() -> None:
    assert Grid((2, 2, 2), np.diag([1e-3, 1e-3, 1e-3, 1.0])).voxel_volume == pytest.approx(1e-9)
